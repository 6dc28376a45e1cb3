# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a finished rack: nothing to do means nothing is done, quickly; bad access is told and touches nothing."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import rack
import yaml

pytestmark = pytest.mark.rack

SECOND_RUN_SECONDS = 20
PLAN_SECONDS = 8


@pytest.mark.parametrize("mode", [[], ["--check", "--diff"]])
def test_a_run_with_nothing_to_do_changes_nothing(mode: list[str]) -> None:
    began = time.monotonic()
    done = rack.playbook("site", *mode)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout[-4000:]
    counters = rack.recap(done.stdout)
    assert counters and all(host["changed"] == 0 and host["failed"] == 0 for host in counters.values()), counters
    assert "everything is in order: nothing to do" in done.stdout
    assert seconds < SECOND_RUN_SECONDS, f"{seconds:.1f} s"


@pytest.mark.slow  # a figure of a quiet machine, so not for CI
def test_the_plan_of_a_finished_rack_is_quick(tmp_path: Path) -> None:
    """Under 8 s, of which a playbook with one task and without an inventory is the fixed cost of starting Ansible."""
    nothing = tmp_path / "nothing.yml"
    nothing.write_text("- hosts: localhost\n  gather_facts: false\n  tasks: [{ansible.builtin.debug: {}}]\n")

    def seconds(*words: str) -> float:
        began = time.monotonic()
        done = rack.run([*rack.CONTROL, str(rack.BIN / "ansible-playbook"), *words])
        assert done.returncode == 0, done.stdout[-4000:]
        return time.monotonic() - began

    fixed = seconds(str(nothing), "-i", "localhost,")
    whole = seconds("kiban.baremetal.plan", "-i", "inventories/lab")
    print(f"plan of a finished rack: {whole:.1f} s, of which {fixed:.1f} s are the start of Ansible with one task")
    assert whole < PLAN_SECONDS, f"{whole:.1f} s, of which {fixed:.1f} s are the start of Ansible"


def test_servers_know_as_what_they_were_installed() -> None:
    for name in rack.ready_nodes():
        installed = json.loads(rack.ssh(name, "cat /etc/kiban/installed.json") or "")
        assert (installed["site"], installed["server"], installed["reinstall"]) == ("lab", name, "")


def test_the_plan_of_one_server() -> None:
    done = rack.playbook("plan", "--limit", "node1")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "everything is in order" in done.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"address": "192.0.2.99"}, "192.0.2.99"),
        ({"ca_path": "/etc/ssl/certs/ca-certificates.crt"}, "certificate"),
        ({"fingerprint": "0" * 64}, "fingerprint"),
    ],
)
def test_a_bmc_that_can_not_be_used_is_named_and_left_alone(tmp_path: Path, options: dict, text: str) -> None:
    done = rack.playbook("site", "--check", inventory=rack.variant(tmp_path, **options))
    # The server runs, so nothing has to be done through its BMC: the rest of the site is still in order.
    assert done.returncode == 0, done.stdout[-4000:]
    assert "node2" in done.stdout
    assert text in done.stdout


def test_json_of_the_plan() -> None:
    done = rack.playbook("plan", "-v", ANSIBLE_CALLBACK_RESULT_FORMAT="json")
    text = done.stdout.partition("TASK [Compare the site with its model]")[2]
    result, _end = json.JSONDecoder().raw_decode(text, text.index("=> {") + 3)
    assert result["changes"] == [] and result["problems"] == []


def test_the_plan_as_a_step_of_ansible_runner(tmp_path: Path) -> None:
    shutil.copytree(rack.ROOT / "inventories/lab", tmp_path / "inventory")
    (tmp_path / "env").mkdir()
    environment = {"ANSIBLE_CONFIG": str(rack.ROOT / "ansible.cfg"), "KIBAN_WORK": str(rack.WORK)}
    (tmp_path / "env/envvars").write_text(yaml.safe_dump(environment))
    done = rack.run(
        [*rack.CONTROL, str(rack.BIN / "ansible-runner"), "run", str(tmp_path)]
        + ["-p", "kiban.baremetal.plan", "--ident", "plan"]
    )
    assert done.returncode == 0, done.stdout[-4000:]
    artifacts = tmp_path / "artifacts/plan"
    assert (artifacts / "status").read_text() == "successful"
    events = [json.loads(path.read_text()) for path in (artifacts / "job_events").glob("*.json")]
    results = [one["event_data"]["res"] for one in events if one["event"] == "runner_on_ok"]
    (plan,) = [one for one in results if "changes" in one]
    assert (plan["changes"], plan["problems"]) == ([], [])
    assert plan["summary"] == "everything is in order: nothing to do"
