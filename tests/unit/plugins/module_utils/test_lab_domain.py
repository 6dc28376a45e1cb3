# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt is told of a virtual server."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._lab_domain import METADATA, QEMU, domain_xml
from ansible_collections.kiban.baremetal.plugins.module_utils._lab_servers import virtual_size

SERVER: dict[str, Any] = {
    "name": "node1",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "cpus": 2,
    "memory_mib": 2048,
    "disks": [
        {"bus": "virtio", "size_gib": 12, "serial": "SYS-NODE1"},
        {"bus": "scsi", "size_gib": 4, "serial": "DATA-NODE1-1"},
        {"bus": "nvme", "size_gib": 4, "serial": "DATA-NODE1-2"},
    ],
    "ports": [
        {"mac": "52:54:00:00:00:01", "tap": "node1-p1", "mtu": 1500},
        {"mac": "52:54:00:00:00:02", "tap": "node1-p2", "mtu": 1500},
    ],
}
LAB: dict[str, Any] = {
    "disk_dir": "/lab/disks",
    "console_dir": "/lab/console",
    "firmware": "/fw/code",
    "firmware_variables": "/fw/vars",
    "kvm": False,
    "emulator": "/usr/bin/qemu",
}


def parsed(server: dict[str, Any] | None = None, **lab: Any) -> ET.Element:
    return ET.fromstring(domain_xml(server or SERVER, {**LAB, **lab}))


def arguments(domain: ET.Element) -> list[str]:
    return [arg.attrib["value"] for arg in domain.iter(f"{{{QEMU}}}arg")]


def test_disks_on_three_buses_and_the_first_is_booted() -> None:
    domain = parsed()
    found = {
        disk.findtext("serial"): (disk.find("target").attrib["bus"], disk.find("boot") is not None)  # type: ignore[union-attr]
        for disk in domain.iter("disk")
    }
    assert found == {"SYS-NODE1": ("virtio", True), "DATA-NODE1-1": ("scsi", False)}
    assert any("serial=DATA-NODE1-2" in value and value.startswith("nvme") for value in arguments(domain))
    assert any(value.endswith("file=/lab/disks/node1/2.qcow2") for value in arguments(domain))


def test_ports_leave_nothing_to_hardware() -> None:
    ports = list(parsed().iter("interface"))
    assert [port.find("target").attrib["dev"] for port in ports] == ["node1-p1", "node1-p2"]  # type: ignore[union-attr]
    for port in ports:
        assert port.find("rom").attrib["enabled"] == "no"  # type: ignore[union-attr]
        for side in ("host", "guest"):
            element = port.find(f"driver/{side}")
            assert element is not None
            assert set(element.attrib.values()) == {"off"}
            assert {"csum", "tso4", "tso6", "ufo"} <= set(element.attrib)


@pytest.mark.parametrize(("kvm", "kind", "mode"), [(True, "kvm", "host-passthrough"), (False, "qemu", "maximum")])
def test_acceleration(kvm: bool, kind: str, mode: str) -> None:
    domain = parsed(kvm=kvm)
    assert domain.attrib["type"] == kind
    assert domain.find("cpu").attrib["mode"] == mode  # type: ignore[union-attr]
    settings = {value.partition(".")[2] for value in arguments(domain) if value.startswith("max-x86_64-cpu.")}
    assert settings == (set() if kvm else {"vendor=GenuineIntel", "avx=off", "avx2=off"})


def test_the_definition_carries_a_checksum_that_changes_with_it() -> None:
    def stamp(domain: ET.Element) -> str:
        element = domain.find(f"metadata/{{{METADATA}}}definition")
        assert element is not None
        return element.attrib["sha256"]

    assert len(stamp(parsed())) == 64
    assert stamp(parsed()) == stamp(parsed())
    assert stamp(parsed({**SERVER, "memory_mib": 4096})) != stamp(parsed())


def test_firmware_variables_are_the_servers_own() -> None:
    nvram = parsed().find("os/nvram")
    assert nvram is not None
    assert (nvram.attrib["template"], nvram.text) == ("/fw/vars", "/lab/disks/node1/variables.nosecboot.fd")


def test_virtual_size(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    assert virtual_size(str(disk)) is None
    disk.write_bytes(b"QFI\xfb" + struct.pack(">IQIIQ", 3, 0, 0, 16, 12 << 30))
    assert virtual_size(str(disk)) == 12 << 30
    disk.write_bytes(b"something else that is long enough for a header")
    assert virtual_size(str(disk)) is None
