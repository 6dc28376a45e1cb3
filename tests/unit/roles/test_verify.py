# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped playbook against a kubectl that tells of a cluster which is not as it should be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site, site_text
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_kubectl import Call, FakeKubectl

SERVERS = ["cp1", "node1", "node2"]
CLUSTER = {"kubernetes": "v1.36.3", "sdn": {"driver": "bgp"}, "sds": [{"driver": "local"}]}


def node(name: str, version: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True"}]
    status = {"nodeInfo": {"kubeletVersion": version}, "conditions": conditions}
    return {"kind": "Node", "metadata": {"name": name}, "status": status}


def inventory(fake: FakeKubectl, result: Path, outside: tuple[str, ...], site: str) -> dict[str, Any]:
    return {
        "all": {
            "children": {
                "servers": {"hosts": {name: {} for name in SERVERS}},
                "workers": {"hosts": {"node1": {}, "node2": {}}},
                "outside": {"hosts": {name: {"ansible_connection": "local"} for name in outside}},
            },
            "vars": {
                "ansible_python_interpreter": sys.executable,
                "kiban_site": {"site": {"name": "lab"}, "cluster": CLUSTER},
                "kiban_site_json": site,
                "kiban_work": str(fake.folder),
                "kiban_site_dir": str(fake.folder),
                "verify_kubectl": str(fake.path),
                "verify_kubeconfig": str(fake.kubeconfig),
                "verify_result_path": str(result),
                "verify_image": "agnhost:x",
                "verify_pod_timeout": 5,
                "verify_node_timeout": 5,
            },
        }
    }


@pytest.fixture
def play(tmp_path: Path, checkout: Path) -> Any:
    def run(
        fake: FakeKubectl, *options: str, outside: tuple[str, ...] = ("uplink",)
    ) -> tuple[subprocess.CompletedProcess[str], dict[str, Any] | None]:
        result = tmp_path / "verify.json"
        path = tmp_path / "inventory.yml"
        lab = load_site(yaml.safe_load((checkout / "inventories/lab/site.yml").read_text()))
        path.write_text(yaml.safe_dump(inventory(fake, result, outside, site_text(lab))))
        program = [sys.executable, "-m", "ansible.cli.playbook", "kiban.baremetal.verify", "-i", str(path), *options]
        env = {**os.environ, "ANSIBLE_CONFIG": str(checkout / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path / "home")}
        done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=checkout, env=env)
        return done, json.loads(result.read_text()) if result.exists() else None

    return run


@pytest.mark.slow
def test_a_node_of_another_version_fails_the_run_and_what_needs_it(play: Any, tmp_path: Path, checkout: Path) -> None:
    nodes = json.dumps(
        {"kind": "List", "items": [node("cp1", "v1.36.3"), node("node1", "v1.36.3"), node("node2", "v1.35.0")]}
    )
    fake = FakeKubectl(
        tmp_path / "fake",
        Call(("get", "node", "cp1", "node1", "node2"), out=nodes),
        Call(("get", "node"), out=nodes),
        Call(("get", "--filename=-"), out=""),
        Call(("get", "nodes", "--output=wide"), out="NAME STATUS\ncp1 Ready\n"),
    )
    done, result = play(fake)
    assert done.returncode == 2, done.stdout + done.stderr
    assert result is not None
    jsonschema.validate(result, json.loads((checkout / "roles/verify/files/result.schema.json").read_text()))
    assert result["ok"] is False
    assert result["finished"] is not None
    details = {check["name"]: (check["ok"], check["detail"]) for check in result["checks"]}
    assert details["nodes"] == (
        False,
        "The nodes are the servers of the model, with the declared version: "
        "node node2 runs kubelet v1.35.0, the model says v1.36.3",
    )
    assert details["web"] == (False, "Refuse a check whose ground is missing: not tried, as it needs nodes")
    assert details["pod_network"][1].endswith("not tried, as it needs web")
    assert details["sds:local"][1].endswith("not tried, as it needs web")
    assert details["sds_power:local"][1].endswith("not tried, as it needs sds_count:local, worker_on")
    assert details["cleanup"][0] is True
    assert not any(ok for name, (ok, _detail) in details.items() if name != "cleanup")
    assert "cp1 Ready" in done.stdout
    assert "11 of 12 checks failed" in done.stdout
    fake.assert_all_made()


@pytest.mark.slow
def test_check_mode_proves_nothing_and_says_so(play: Any, tmp_path: Path) -> None:
    fake = FakeKubectl(tmp_path / "fake")
    done, result = play(fake, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert result is None
    assert "does and proves nothing" in done.stdout
    assert fake.calls == []


@pytest.mark.slow
@pytest.mark.parametrize("outside", [(), ("one", "two")])
def test_without_a_place_to_look_from_nothing_is_proved(play: Any, tmp_path: Path, outside: tuple[str, ...]) -> None:
    done, result = play(FakeKubectl(tmp_path / "fake"), outside=outside)
    assert done.returncode == 2
    assert "The inventory must have one host in the group 'outside'" in done.stdout + done.stderr
    assert result is None
