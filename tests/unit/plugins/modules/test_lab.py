# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of the virtual rack, as far as they go without root."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._lab_network import End, parse_features
from ansible_collections.kiban.baremetal.plugins.modules import (
    lab_accelerator_info,
    lab_credentials,
    lab_info,
    lab_processes,
    lab_switch,
)

RunModule = Callable[..., dict[str, Any]]
Port = lab_switch.Port

# Stands for a Python with the bcrypt library: "hashes" by reversing.
FAKE_PYTHON = """#!/bin/sh
case "$2" in
*hashpw*) printf '$2b$04$'; rev ;;
*) IFS= read -r password; IFS= read -r digest
   if [ "\\$2b\\$04\\$$(printf %s "$password" | rev)" = "$digest" ]; then echo True; else echo False; fi ;;
esac
"""


def switch_steps(has: str | None, ports: dict[str, Port], **wanted: int) -> list[str]:
    index = {"a": "1", "b": "2"}
    return [what for what, _arguments in lab_switch.plan("br", "netdev", wanted, has, ports, index)]


def test_switch_plan() -> None:
    assert switch_steps("netdev", {"a": Port(10, "1"), "b": Port(20, "2")}, a=10, b=20) == []
    assert switch_steps(None, {}, a=10) == ["add bridge br", "add port a in VLAN 10"]
    assert switch_steps("netdev", {"a": Port(10, "1"), "x": Port(10, "9")}, a=10) == ["remove port x"]
    assert switch_steps("netdev", {"a": Port(None, "1")}, a=10) == ["move port a to VLAN 10"]
    assert switch_steps("system", {"a": Port(10, "1")}, a=10) == ["set the datapath of br to netdev"]


def test_switch_takes_a_new_interface_for_a_new_port() -> None:
    steps = lab_switch.plan("br", "netdev", {"a": 10}, "netdev", {"a": Port(10, "7")}, {"a": "1"})
    assert [arguments[0] for _what, arguments in steps] == ["del-port", "add-port"]
    assert "external_ids:ifindex=1" in steps[1][1]


def test_switch_removes_before_it_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(lab_switch, "run", lambda argv: calls.append(argv) or "")
    lab_switch.Switch("/db").apply([("", ["del-port", "br", "a"]), ("", ["add-port", "br", "a"])])
    assert [[word for word in call if word.endswith("-port")] for call in calls] == [["del-port"], ["add-port"]]


def test_features_that_can_be_turned_off() -> None:
    text = """Features for x:
rx-checksumming: on
tx-checksumming: on
\ttx-checksum-ipv4: off [fixed]
tcp-segmentation-offload: off
generic-segmentation-offload: on [fixed]
generic-receive-offload: on
"""
    assert parse_features(text) == {"tx-checksumming", "generic-receive-offload"}


def test_links_keep_their_hardware_address() -> None:
    assert End("eth0", "left").mac() == End("eth0", "left").mac() != End("eth0", "right").mac()
    assert End("eth0", "left").mac().startswith("02:")


def test_console_without_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\x1b[2J\x1b[01;01H\x1b[=3hone\r\n\r\n two\x07 \xc3\xa9\r\nthree\n")
    assert lab_info.tail(str(path), 10) == ["one", " two é", "three"]
    assert lab_info.tail(str(path), 1) == ["three"]
    assert lab_info.tail(str(tmp_path / "none"), 1) == []


def test_info_answers_when_nothing_is_there(run_module: RunModule, tmp_path: Path) -> None:
    result = run_module(lab_info, uri="qemu+unix:///system?socket=/nowhere", directory=str(tmp_path), servers=["a"])
    assert result["servers"]["a"] == {"power": "unknown", "console": [], "bmc_log": []}
    assert result["daemons"] == {}


def process_options(tmp_path: Path, *processes: dict[str, Any]) -> dict[str, Any]:
    return {"run_dir": str(tmp_path / "run"), "log_dir": str(tmp_path / "log"), "processes": list(processes)}


def test_processes_run_exactly_what_is_listed(run_module: RunModule, tmp_path: Path) -> None:
    one = {"name": "one", "argv": ["/usr/bin/sleep", "300"]}
    two = {"name": "two", "argv": ["/usr/bin/sleep", "301"], "requires": ["one"]}
    both = process_options(tmp_path, one, two)
    checked = run_module(lab_processes, check_mode=True, **both)
    assert checked["actions"] == ["start one: not running", "start two: not running"]
    assert checked["pids"] == {}
    try:
        first = run_module(lab_processes, **both)
        assert first["changed"] and sorted(first["pids"]) == ["one", "two"]
        again = run_module(lab_processes, **both)
        assert not again["changed"] and again["pids"] == first["pids"]
        os.kill(first["pids"]["one"], 9)
        os.waitpid(first["pids"]["one"], 0)
        healed = run_module(lab_processes, **both)
        assert [action.split(":")[0] for action in healed["actions"]] == ["start one", "start two"]
        fewer = run_module(lab_processes, **process_options(tmp_path, one))
        assert fewer["actions"] == ["stop two"]
    finally:
        gone = run_module(lab_processes, state="stopped", **process_options(tmp_path))
    assert gone["actions"] == ["stop one"]
    assert not run_module(lab_processes, state="stopped", **process_options(tmp_path))["changed"]


def test_a_process_that_does_not_start_fails_the_module(run_module: RunModule, tmp_path: Path) -> None:
    result = run_module(lab_processes, **process_options(tmp_path, {"name": "x", "argv": ["/nowhere/x"]}))
    assert result["failed"] and "x cannot be started" in result["msg"]


@pytest.fixture
def credentials(tmp_path: Path) -> dict[str, Any]:
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    return {
        "directory": str(tmp_path / "lab"),
        "username": "kiban",
        "python": str(python),
        "bmcs": [{"name": "cp1", "address": "192.0.2.11"}],
    }


def test_credentials_are_made_once(run_module: RunModule, credentials: dict[str, Any], tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    assert run_module(lab_credentials, check_mode=True, **credentials)["changed"]
    assert not lab.exists()
    made = run_module(lab_credentials, **credentials)
    assert len(made["actions"]) == 4
    secret = (lab / "bmc_password").read_text().strip()
    assert secret not in json.dumps(made)
    for name in ("ca.key", "bmc_password", "htpasswd", "tls/cp1.key"):
        assert (lab / name).stat().st_mode & 0o777 == 0o600, name
    call = ["openssl", "verify", "-CAfile", str(lab / "ca.pem"), "-verify_ip", "192.0.2.11", str(lab / "tls/cp1.pem")]
    subprocess.run(call, check=True, capture_output=True)
    before = {path: path.read_bytes() for path in lab.rglob("*") if path.is_file()}
    assert not run_module(lab_credentials, **credentials)["changed"]
    assert {path: path.read_bytes() for path in lab.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("damage", "action"),
    [
        (lambda lab: (lab / "tls/cp1.pem").unlink(), "make a certificate for cp1"),
        (lambda lab: (lab / "tls/cp1.key").write_text("x"), "make a certificate for cp1"),
        (lambda lab: (lab / "htpasswd").write_text("kiban:$2b$04$other\n"), "make the password file"),
        (lambda lab: (lab / "htpasswd").write_text(""), "make the password file"),
    ],
    ids=["certificate gone", "key damaged", "password differs", "file cut"],
)
def test_credentials_are_repaired(
    run_module: RunModule, credentials: dict[str, Any], tmp_path: Path, damage: Callable[[Path], Any], action: str
) -> None:
    run_module(lab_credentials, **credentials)
    damage(tmp_path / "lab")
    result = run_module(lab_credentials, **credentials)
    assert len(result["actions"]) == 1 and result["actions"][0].startswith(action)


def test_a_new_address_needs_a_new_certificate(run_module: RunModule, credentials: dict[str, Any]) -> None:
    run_module(lab_credentials, **credentials)
    credentials["bmcs"] = [{"name": "cp1", "address": "192.0.2.12"}]
    assert run_module(lab_credentials, **credentials)["actions"] == ["make a certificate for cp1 (192.0.2.12)"]


def fake_qemu(tmp_path: Path, script: str) -> str:
    path = tmp_path / "qemu"
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "kvm", "text"),
    [
        ('for a; do case "$a" in file:*) echo hello > "${a#file:}";; esac; done; exec sleep 30', True, "runs with KVM"),
        ('echo "KVM internal error. Suberror: 1" >&2; exec sleep 30', False, "internal error"),
        ("echo qemu: failed to set MSR >&2; exit 1", False, "failed to set MSR"),
        ("exec sleep 30", False, "did not come up"),
    ],
    ids=["works", "stops inside", "ends", "hangs"],
)
def test_acceleration_is_believed_when_the_firmware_runs(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, kvm: bool, text: str
) -> None:
    monkeypatch.setattr(lab_accelerator_info, "ask_kernel", lambda: "")
    cache = tmp_path / "cache"
    options = {"emulator": fake_qemu(tmp_path, script), "timeout": 0.5 if "hangs" in text or not kvm else 10}
    result = run_module(lab_accelerator_info, cache=str(cache), **options)
    assert (result["kvm"], text in result["reason"], result["changed"]) == (kvm, True, False)
    monkeypatch.setattr(lab_accelerator_info, "try_firmware", lambda *_: pytest.fail("it was asked already"))
    assert run_module(lab_accelerator_info, cache=str(cache), **options)["kvm"] is kvm


def test_acceleration_needs_a_device_that_works(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device = tmp_path / "kvm"
    monkeypatch.setattr(lab_accelerator_info, "DEVICE", str(device))
    assert "does not exist" in run_module(lab_accelerator_info)["reason"]
    device.write_text("")
    result = run_module(lab_accelerator_info)
    assert not result["kvm"] and "makes no virtual machine" in result["reason"]
    assert run_module(lab_accelerator_info, accelerator="kvm")["kvm"]
