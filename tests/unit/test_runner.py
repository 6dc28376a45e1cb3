# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs start the playbooks through ansible-runner: its exit status and artifacts say what happened."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ansible_runner
import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

Run = Callable[..., Any]
CANARY = "canary-of-the-runner-test"


@pytest.fixture
def run(tmp_path: Path, checkout: Path) -> Run:
    """Runs a playbook as docs/runner.md says, on a copy of the lab's inventory with the password in a vault."""
    shutil.copytree(checkout / "inventories" / "lab", tmp_path / "inventory")
    vault = VaultLib([("default", VaultSecret(b"opens the vault"))])
    secrets = vault.encrypt(yaml.safe_dump({"kiban_bmc_password": CANARY}))
    (tmp_path / "inventory" / "group_vars" / "servers.yml").write_bytes(secrets)
    (tmp_path / "vault-password").write_text("opens the vault")

    def start(playbook: str, **more: Any) -> Any:
        environment = {
            "ANSIBLE_CONFIG": str(checkout / "ansible.cfg"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / "vault-password"),
            "KIBAN_WORK": str(tmp_path / "work"),
        }
        return ansible_runner.run(
            private_data_dir=str(tmp_path), playbook=playbook, envvars=environment, quiet=True, ident="run", **more
        )

    return start


def change_site(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = tmp_path / "inventory" / "site.yml"
    site = yaml.safe_load(path.read_text())
    change(site)
    path.write_text(yaml.safe_dump(site, sort_keys=False))


def artifact(tmp_path: Path, name: str) -> str:
    return (tmp_path / "artifacts" / "run" / name).read_text()


def test_a_good_site_yields_its_hosts(run: Run, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "say.yml").write_text(
        yaml.safe_dump(
            [
                {
                    "name": "Say the rack",
                    "hosts": "servers",
                    "gather_facts": False,
                    "tasks": [{"name": "Say", "ansible.builtin.debug": {"msg": "{{ kiban_server.rack }}"}}],
                }
            ]
        )
    )
    result = run("say.yml")
    assert (result.status, result.rc) == ("successful", 0)
    assert result.stats["ok"] == {"cp1": 1, "node1": 1, "node2": 1}
    said = {
        event["event_data"]["host"]: event["event_data"]["res"]["msg"]
        for event in result.events
        if event["event"] == "runner_on_ok"
    }
    assert said == {"cp1": "a01", "node1": "a01", "node2": "a01"}
    assert artifact(tmp_path, "rc") == "0"


@pytest.mark.parametrize("playbook", ["plan", "site", "verify"])
def test_a_playbook_is_found_by_its_full_name(run: Run, tmp_path: Path, playbook: str) -> None:
    result = run(f"kiban.baremetal.{playbook}", cmdline="--list-hosts")
    assert (result.status, result.rc) == ("successful", 0)
    assert re.search(r"hosts \([1-9]", artifact(tmp_path, "stdout"))


def test_a_bad_site_fails_and_the_artifacts_name_every_problem(run: Run, tmp_path: Path) -> None:
    def spoil(site: dict[str, Any]) -> None:
        site["racks"][0]["servers"][0]["profile"] = "no-such-profile"
        site["networks"]["node"]["mtuu"] = 9000

    change_site(tmp_path, spoil)
    result = run("kiban.baremetal.plan")
    assert result.status == "failed"
    assert result.rc != 0
    assert artifact(tmp_path, "rc") == str(result.rc)
    output = artifact(tmp_path, "stdout")
    assert "no-such-profile" in output
    assert "mtuu" in output
    assert not result.stats, "a bad site file must end the run before anything is done"


def test_an_unreachable_rack_fails_and_the_artifacts_name_the_servers(run: Run, tmp_path: Path) -> None:
    def to_loopback(site: dict[str, Any]) -> None:
        # Nothing listens there: refused at once, whatever else this machine can reach.
        site["networks"] = {
            "bmc": {"cidr": "127.77.1.0/24"},
            "node": {"cidr": "127.77.2.0/24", "gateway": "127.77.2.1"},
        }
        site["deploy"] |= {"address": "127.77.2.2", "bmc_address": "127.77.1.2"}
        site["cluster"]["endpoint"] = "127.77.2.11"
        for server, last in zip(site["racks"][0]["servers"], (11, 21), strict=True):
            server |= {"bmc": f"127.77.1.{last}", "addresses": {"node": f"127.77.2.{last}"}}

    change_site(tmp_path, to_loopback)
    work = tmp_path / "work"
    (work / "lab").mkdir(parents=True)
    (work / "image").mkdir()
    (work / "image" / "manifest.json").write_text(json.dumps({"node": {"id": "0123456789abcdef"}}))
    new = ["openssl", "req", "-x509", "-newkey", "ed25519", "-noenc", "-subj", "/CN=nobody"]
    subprocess.run(
        [*new, "-keyout", work / "key.pem", "-out", work / "lab" / "ca.pem"], check=True, capture_output=True
    )
    result = run("kiban.baremetal.site", verbosity=3)
    output = artifact(tmp_path, "stdout")
    for name, address in (("cp1", "127.77.1.11"), ("node1", "127.77.1.21"), ("node2", "127.77.1.22")):
        assert name in output
        assert address in output
    assert result.status == "failed"
    assert result.rc != 0

    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in left if CANARY.encode() in path.read_bytes()] == []
