# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ansible_collections.kiban.baremetal.plugins.modules import verify_result

Step = Callable[..., dict[str, Any]]


@pytest.fixture
def step(run_module: Callable[..., dict[str, Any]], tmp_path: Path) -> Step:
    def run(state: str, **params: Any) -> dict[str, Any]:
        return run_module(verify_result, path=str(tmp_path / "verify.json"), state=state, **params)

    return run


@pytest.fixture
def schema(checkout: Path) -> dict[str, Any]:
    return dict(json.loads((checkout / "roles/verify/files/result.schema.json").read_text()))


def start(step: Step, *checks: str) -> dict[str, Any]:
    return step("started", site="lab", kubernetes="v1.36.3", checks=list(checks))


def test_a_verification_that_shows_all(step: Step, tmp_path: Path, schema: dict[str, Any]) -> None:
    start(step, "nodes", "web")
    for name in ("nodes", "web"):
        step("running", check=name)
        step("passed", check=name, detail="shown", figures={"requests": 40})
    result = step("finished")
    assert not result["failed"]
    written = json.loads((tmp_path / "verify.json").read_text())
    assert written == result["result"]
    assert written["ok"] is True
    jsonschema.validate(written, schema)


def test_a_verification_with_a_failure_fails_and_is_written(step: Step, tmp_path: Path, schema: dict[str, Any]) -> None:
    start(step, "nodes", "web")
    step("running", check="nodes")
    step("passed", check="nodes")
    step("running", check="web")
    assert step("failed", check="web", detail="no answer")["unproved"] == ["web"]
    result = step("finished")
    assert result["failed"] is True
    assert result["msg"] == "1 of 2 checks failed. web: no answer"
    written = json.loads((tmp_path / "verify.json").read_text())
    assert written["ok"] is False
    jsonschema.validate(written, schema)


def test_each_step_is_on_disk(step: Step, tmp_path: Path, schema: dict[str, Any]) -> None:
    """A run that is killed leaves a result that says so."""
    start(step, "nodes")
    step("running", check="nodes")
    written = json.loads((tmp_path / "verify.json").read_text())
    assert written["ok"] is False
    assert written["finished"] is None
    assert written["checks"][0]["detail"] == "was begun and did not finish"
    jsonschema.validate(written, schema)
    assert [path.name for path in tmp_path.iterdir()] == ["verify.json"]


def test_no_check_ran(step: Step) -> None:
    start(step, "nodes")
    result = step("finished")
    assert result["failed"] is True
    assert "nodes: did not run" in result["msg"]


def test_a_new_verification_drops_the_old_result(step: Step, tmp_path: Path) -> None:
    start(step, "nodes")
    step("running", check="nodes")
    step("passed", check="nodes")
    step("finished")
    start(step, "nodes")
    assert json.loads((tmp_path / "verify.json").read_text())["ok"] is False


def test_nothing_to_go_on_with(step: Step) -> None:
    result = step("running", check="nodes")
    assert "there is no result to go on with" in result["msg"]


def test_a_place_that_cannot_be_written(run_module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "verify.json")
    result = run_module(verify_result, path=path, state="started", site="s", kubernetes="v1", checks=["a"])
    assert result["msg"] == f"{path} cannot be written, and is as it was: No such file or directory"


def test_check_mode_writes_nothing(run_module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "verify.json"
    run_module(verify_result, check_mode=True, path=str(path), state="started", site="s", kubernetes="v1", checks=["a"])
    assert not path.exists()


def test_the_schema_refuses_a_result_that_says_too_little(schema: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"site": "lab", "ok": True, "checks": []}, schema)
