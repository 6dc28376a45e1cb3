# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program of block_target on a directory that makes, like configfs, what belongs to each object."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles/block_target/files/kiban-block-target"
IQN, NQN = "iqn.2003-01.org.example:array1", "nqn.2014-08.org.example:fast1"
HOST = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"
CONFIG = {
    "targets": [
        {
            "target": IQN,
            "portals": ["127.0.0.1", "[::1]:3261"],
            "luns": [{"device": "/dev/vg0/a"}, {"device": "/dev/vg0/b", "serial": "B-1"}],
            "initiators": [{"name": "iqn.x:node1", "chap": {"username": "node1", "password": "a long secret"}}],
        }
    ],
    "subsystems": [
        {
            "subsystem": NQN,
            "portals": ["127.0.0.1", "127.0.0.2"],
            "namespaces": [{"device": "/dev/vg0/c"}],
            "hosts": [HOST],
        }
    ],
}
# What the kernel makes with an object, by what its path ends in.
CHILDREN = {
    "tpgt_1": ("attrib", "acls", "lun", "np"),
    "iqn.x:node1": ("auth",),
    NQN: ("namespaces", "allowed_hosts"),
    "ports/1": ("subsystems",),
    "ports/2": ("subsystems",),
}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # In this order: the directory is removed by an os that is itself again.
    loader = importlib.machinery.SourceFileLoader("kiban_block_target", str(PROGRAM))
    spec = importlib.util.spec_from_loader("kiban_block_target", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)

    def made(path: str) -> None:
        Path(path).mkdir(parents=True)
        if "/core/iblock_" in path:
            Path(path, "wwn").mkdir()
        for end, names in CHILDREN.items():
            for name in names if path.endswith(end) else ():
                os.mkdir(f"{path}/{name}")

    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module, "free", lambda device: None)
    monkeypatch.setattr(module.os, "makedirs", made)
    return module


def run(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str, config: Any = CONFIG
) -> tuple[int, list[str]]:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    sys.argv = ["kiban-block-target", *words, str(path)]
    status = program.main()
    return status, capsys.readouterr().out.split("\n")[:-1]


def test_what_is_offered_and_once(program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _status, foreseen = run(program, tmp_path, capsys, "--check")
    assert os.listdir(tmp_path) == ["config.json"]
    status, done = run(program, tmp_path, capsys)
    assert status == 0 and set(done) == set(foreseen) and len(done) == len(foreseen)
    assert f"{IQN}: listen at [::1]:3261" in done and not any("secret" in line for line in done)
    group = tmp_path / "target/iscsi" / IQN / "tpgt_1"
    assert (group / "attrib/authentication").read_text() == "1" and (group / "enable").read_text() == "1"
    assert (group / "acls/iqn.x:node1/auth/password").read_text() == "a long secret"
    assert os.readlink(group / "lun/lun_1/disk") == str(tmp_path / "target/core/iblock_1/B-1")
    assert (tmp_path / "target/core/iblock_1/B-1/control").read_text() == "udev_path=/dev/vg0/b"
    assert sorted(os.listdir(group / "np")) == ["127.0.0.1:3260", "[::1]:3261"]
    assert os.readlink(group / "acls/iqn.x:node1/lun_0/disk") == str(group / "lun/lun_0")
    subsystem = tmp_path / "nvmet/subsystems" / NQN
    assert (subsystem / "namespaces/1/device_path").read_text() == "/dev/vg0/c"
    assert (subsystem / "attr_allow_any_host").read_text() == "0" and os.listdir(subsystem / "allowed_hosts") == [HOST]
    addresses = [(tmp_path / f"nvmet/ports/{port}/addr_traddr").read_text() for port in (1, 2)]
    assert addresses == ["127.0.0.1", "127.0.0.2"]
    assert run(program, tmp_path, capsys) == run(program, tmp_path, capsys, "--check") == (0, [])


def test_a_target_is_withdrawn_and_others_are_not(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """configfs removes an object with all that the kernel made in it, but not what others made in it."""

    def removed(path: str) -> None:
        entries = [entry for entry in Path(path).rglob("*") if entry.is_symlink() or entry.name.startswith("lun_")]
        assert not entries, f"{path} still has {entries}"
        Path(path).rename(tmp_path / f"gone{len(list(tmp_path.iterdir()))}")

    monkeypatch.setattr(program.os, "rmdir", removed)
    other = json.loads(json.dumps(CONFIG["targets"][0]).replace("array1", "array2").replace("B-1", "B-2"))
    run(program, tmp_path, capsys, config={"targets": [*CONFIG["targets"], other]})
    one = {"targets": CONFIG["targets"]}
    assert run(program, tmp_path, capsys, "--withdraw", "--check", config=one) == (0, [f"withdraw target {IQN}"])
    assert (tmp_path / "target/iscsi" / IQN).is_dir()
    assert run(program, tmp_path, capsys, "--withdraw", config=one) == (0, [f"withdraw target {IQN}"])
    assert os.listdir(tmp_path / "target/iscsi") == [other["target"]]
    left = {path.name for path in (tmp_path / "target/core").glob("iblock_*/*")}
    assert len(left) == 2 and "B-2" in left and "B-1" not in left
    assert run(program, tmp_path, capsys, "--withdraw", config=one) == (0, [])


def test_a_changed_password_is_set_and_not_shown(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(program, tmp_path, capsys)
    changed = json.loads(json.dumps(CONFIG))
    changed["targets"][0]["initiators"][0]["chap"]["password"] = "another secret"
    assert run(program, tmp_path, capsys, config=changed) == (0, [f"{IQN}: set password of iqn.x:node1"])


def test_a_device_that_the_kernel_refuses(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(device: str) -> None:
        raise OSError(16, "Device or resource busy", device)

    monkeypatch.setattr(program, "free", busy)
    for words in (("--check",), ()):
        assert run(program, tmp_path, capsys, *words)[0] == 1
    assert not (tmp_path / "target/core").exists()
