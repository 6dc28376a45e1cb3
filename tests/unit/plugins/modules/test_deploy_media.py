# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Media of servers, made and read again with the real tools around a small ramdisk."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._deploy_media import MediaError
from ansible_collections.kiban.baremetal.plugins.modules import deploy_media


def call(*argv: str, cwd: Path | None = None, data: bytes | None = None) -> bytes:
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1", "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    return subprocess.run(argv, cwd=cwd, input=data, check=True, capture_output=True, env=environment).stdout


@pytest.fixture
def params(tmp_path: Path) -> dict[str, Any]:
    ramdisk = tmp_path / "ramdisk"
    (ramdisk / "loader/entries").mkdir(parents=True)
    (ramdisk / "kiban").mkdir()
    (ramdisk / "ramdisk.json").write_text('{"id": "abc", "kernel_args": "console=ttyS0 quiet"}')
    esp = ramdisk / "esp.img"
    esp.touch()
    os.truncate(esp, 2 << 20)
    call("mkfs.vfat", str(esp))
    call("mcopy", "-s", "-i", str(esp), str(ramdisk / "loader"), str(ramdisk / "kiban"), "::")
    esp.chmod(0o444)  # as in the store
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "ca"))
    return {
        "dest": str(tmp_path / "node1.iso"),
        "ramdisk_dir": str(ramdisk),
        "name": "node1",
        "address": "198.51.100.21/24",
        "gateway": "198.51.100.1",
        "vlan": None,
        "mtu": 1500,
        "dns": [],
        "authorized_keys": ["ssh-ed25519 AAAA admin"],
        "host_key_ca": str(tmp_path / "ca"),
        "kernel_args": "",
    }


def unpacked(iso: str, place: Path) -> Path:
    """The part of the server that an image holds, and its start entry."""
    place.mkdir()
    call("xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/esp.img", str(place / "esp.img"))
    for name in ("/kiban/server", "/loader/entries/kiban.conf"):
        call("mcopy", "-i", str(place / "esp.img"), f"::{name}", str(place))
    archive = (place / "server").read_bytes()
    (place / "server").unlink()
    call("cpio", "-id", "--quiet", cwd=place, data=archive)
    return place


def test_the_image_is_for_uefi_and_private(params: dict[str, Any]) -> None:
    assert deploy_media.present(params, check_mode=False)["changed"]
    report = call("xorriso", "-indev", params["dest"], "-report_el_torito", "plain").decode()
    assert "UEFI" in report
    assert "/esp.img" in report
    assert os.stat(params["dest"]).st_mode & 0o777 == 0o640
    assert b"OPENSSH PRIVATE KEY" not in Path(f"{params['dest']}.json").read_bytes()


def test_the_host_key_is_signed_for_name_and_address_for_a_day(params: dict[str, Any], tmp_path: Path) -> None:
    result = deploy_media.present(params, check_mode=False)
    assert 23 * 3600 < result["valid_until"] - time.time() <= 24 * 3600
    place = unpacked(params["dest"], tmp_path / "out")
    ssh = place / "server/etc/ssh"
    said = call("ssh-keygen", "-L", "-f", str(ssh / "ssh_host_ed25519_key-cert.pub")).decode()
    assert "host certificate" in said
    principals = said.split("Principals:")[1].split("Critical")[0].split()
    assert principals == ["node1", "198.51.100.21"]
    public = call("ssh-keygen", "-y", "-f", str(ssh / "ssh_host_ed25519_key")).split()[:2]
    assert public == (ssh / "ssh_host_ed25519_key.pub").read_bytes().split()[:2]
    assert "options console=ttyS0 quiet\n" in (place / "kiban.conf").read_text()


def test_the_same_inputs_keep_the_image(params: dict[str, Any]) -> None:
    first = deploy_media.present(params, check_mode=False)
    inode = os.stat(params["dest"]).st_ino
    second = deploy_media.present(params, check_mode=False)
    assert (second["changed"], os.stat(params["dest"]).st_ino) == (False, inode)
    assert second["valid_until"] == first["valid_until"]


@pytest.mark.parametrize("change", [{"address": "198.51.100.22/24"}, {"vlan": 20}, {"authorized_keys": ["ssh-rsa B"]}])
def test_other_inputs_make_another_image(params: dict[str, Any], change: dict[str, Any]) -> None:
    deploy_media.present(params, check_mode=False)
    assert deploy_media.present({**params, **change}, check_mode=True)["changed"]


def test_a_certificate_that_ends_soon_is_renewed(params: dict[str, Any]) -> None:
    deploy_media.present(params, check_mode=False)
    sidecar = Path(f"{params['dest']}.json")
    known = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**known, "valid_until": int(time.time()) + 2 * 3600 + 60}))
    assert not deploy_media.present(params, check_mode=False)["changed"]
    sidecar.write_text(json.dumps({**known, "valid_until": int(time.time()) + 2 * 3600 - 60}))
    assert deploy_media.present(params, check_mode=False)["changed"]
    assert json.loads(sidecar.read_text())["valid_until"] > time.time() + 23 * 3600


@pytest.mark.parametrize("damage", ["cut", "gone", "undescribed", "garbled"])
def test_an_image_that_is_not_whole_is_made_again(params: dict[str, Any], damage: str) -> None:
    deploy_media.present(params, check_mode=False)
    dest, sidecar = Path(params["dest"]), Path(f"{params['dest']}.json")
    if damage == "cut":
        os.truncate(dest, 1000)
    elif damage == "gone":
        dest.unlink()
    elif damage == "undescribed":
        sidecar.unlink()
    else:
        sidecar.write_text("[]")
    assert deploy_media.present(params, check_mode=False)["changed"]
    assert dest.stat().st_size > 2 << 20


def test_check_mode_makes_nothing(params: dict[str, Any]) -> None:
    result = deploy_media.present(params, check_mode=True)
    assert result["changed"]
    assert "ramdisk abc for node1" in result["diff"]["after"]
    assert not os.path.exists(params["dest"])


def test_nothing_is_left_when_a_tool_fails(params: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("not a key\n")
    with pytest.raises(MediaError, match="ssh-keygen ended with"):
        deploy_media.present(params, check_mode=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca", "ca.pub", "ramdisk"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ramdisk_dir": "/none"}, r"deploy ramdisk cannot be read: /none/ramdisk.json.*Run the playbook"),
        ({"host_key_ca": "/none/ca"}, r"public key of the authority cannot be read: /none/ca.pub"),
        ({"address": "198.51.100.21", "mtu": 9}, r"length of its network.*; mtu 9"),
    ],
)
def test_what_is_missing_or_wrong_is_said(params: dict[str, Any], change: dict[str, Any], said: str) -> None:
    with pytest.raises(MediaError, match=said):
        deploy_media.present({**params, **change}, check_mode=False)


def test_absent_removes_image_and_description(params: dict[str, Any]) -> None:
    deploy_media.present(params, check_mode=False)
    assert deploy_media.absent(params, check_mode=True)["changed"]
    assert os.path.exists(params["dest"])
    assert deploy_media.absent(params, check_mode=False)["changed"]
    assert not os.path.exists(params["dest"])
    assert not os.path.exists(f"{params['dest']}.json")
    assert not deploy_media.absent(params, check_mode=False)["changed"]
