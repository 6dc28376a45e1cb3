# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.kiban.baremetal.plugins.modules import node_taints
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_kubectl import Call, FakeKubectl

RunModule = Callable[..., dict[str, Any]]

A = {"key": "example.net/a", "value": "true", "effect": "NoSchedule"}
B = {"key": "example.net/b", "value": "", "effect": "NoExecute"}


def nodes(**taints: list[dict[str, str]]) -> str:
    items = [{"metadata": {"name": name}, "spec": {"taints": own}} for name, own in taints.items()]
    return json.dumps({"kind": "List", "items": items})


def test_only_what_is_missing_is_set(tmp_path: Path, run_module: RunModule) -> None:
    fake = FakeKubectl(
        tmp_path / "fake",
        Call(("get", "nodes", "n1", "n2", "n3"), out=nodes(n1=[A], n2=[{**A, "value": "false"}, B], n3=[])),
        Call(("taint", "nodes", "n2", "example.net/a=true:NoSchedule", "--overwrite")),
        Call(("taint", "nodes", "n3", "example.net/a=true:NoSchedule", "example.net/b:NoExecute", "--overwrite")),
    )
    result = run_module(node_taints, taints={"n1": [A], "n2": [A], "n3": [A, B]}, **fake.options)
    assert result["changed"] and result["changed_nodes"] == ["n2", "n3"]
    fake.assert_all_made()


def test_nothing_to_do(tmp_path: Path, run_module: RunModule) -> None:
    fake = FakeKubectl(tmp_path / "fake", Call(("get",), out=nodes(n1=[B, A])))
    assert run_module(node_taints, taints={"n1": [A]}, **fake.options)["changed"] is False


def test_check_mode_sets_nothing(tmp_path: Path, run_module: RunModule) -> None:
    fake = FakeKubectl(tmp_path / "fake", Call(("get",), out=nodes(n1=[])))
    assert run_module(node_taints, check_mode=True, taints={"n1": [A]}, **fake.options)["changed_nodes"] == ["n1"]
    fake.assert_all_made()


def test_an_unknown_node_changes_none(tmp_path: Path, run_module: RunModule) -> None:
    fake = FakeKubectl(tmp_path / "fake", Call(("get",), out=nodes(n1=[])))
    result = run_module(node_taints, taints={"n1": [A], "n2": [A]}, **fake.options)
    assert result["failed"] and "there is no node n2" in result["msg"]
    fake.assert_all_made()


def test_an_error_says_what_was_done_before(tmp_path: Path, run_module: RunModule) -> None:
    fake = FakeKubectl(
        tmp_path / "fake",
        Call(("get",), out=nodes(n1=[], n2=[])),
        Call(("taint",)),
        Call(("taint",), rc=1, err="error: forbidden"),
    )
    result = run_module(node_taints, taints={"n1": [A], "n2": [A]}, **fake.options)
    assert result["failed"] and "Done before: n1" in result["msg"]
