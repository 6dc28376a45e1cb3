# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines with context: reading, comparing, and what has to be typed; FRR's own parser reads that too."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._switch_lines import (
    FRR,
    OVS,
    commands,
    difference,
    paths,
    tables_of,
    tables_paths,
    text,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._switch_linux import ovs_steps
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE

RUNNING = """\
frr version 8.4.4
hostname tor1
!
interface vlan20
 description KIBAN vlan 20
 ip address 198.51.100.9/24
exit
!
router bgp 65101
 neighbor KIBAN-SERVERS peer-group
 neighbor 198.51.100.99 remote-as 4200000099
 neighbor 198.51.100.99 peer-group KIBAN-SERVERS
 neighbor 10.0.0.1 remote-as 64999
 !
 address-family ipv4 unicast
  neighbor 198.51.100.99 prefix-list KIBAN-node9 in
  maximum-paths 8
 exit-address-family
exit
!
ip prefix-list KIBAN-node9 seq 5 permit 10.244.99.0/24
end
"""
WANTED = """\
interface vlan20
 description KIBAN vlan 20
 ip address 198.51.100.1/24
exit
router bgp 65101
 neighbor KIBAN-SERVERS peer-group
 address-family ipv4 unicast
  maximum-paths 64
 exit-address-family
exit
"""


def test_a_configuration_of_frr() -> None:
    read = paths(RUNNING, FRR)
    assert read[:2] == [("interface vlan20",), ("interface vlan20", "description KIBAN vlan 20")]
    assert ("router bgp 65101", "address-family ipv4 unicast", "maximum-paths 8") in read
    assert not any("hostname" in line for path in read for line in path)


def test_what_is_typed() -> None:
    change = difference(paths(WANTED, FRR), paths(RUNNING, FRR), FRR)
    assert change.foreign == (("router bgp 65101", "neighbor 10.0.0.1 remote-as 64999"),)
    typed = [line.strip() for line in commands(change, FRR).splitlines() if "exit" not in line]
    assert typed == [
        *("interface vlan20", "no ip address 198.51.100.9/24"),
        *("router bgp 65101", "no neighbor 198.51.100.99"),
        "no ip prefix-list KIBAN-node9 seq 5 permit 10.244.99.0/24",
        *("interface vlan20", "ip address 198.51.100.1/24"),
        *("router bgp 65101", "address-family ipv4 unicast", "maximum-paths 64"),
    ]
    assert set(change.after) == {*paths(WANTED, FRR), *change.foreign}


def test_lines_become_a_configuration_again() -> None:
    read = paths(WANTED, FRR)
    assert paths(text(read, "exit"), FRR) == read


@pytest.mark.skipif(
    not shutil.which("vtysh", path="/usr/bin") or os.geteuid() != 0, reason="needs FRR's vtysh and root"
)
@pytest.mark.parametrize("name", ["tor1", "tor2", "spine1", "mgmt1"])
def test_frr_reads_what_is_rendered_and_typed(name: str, tmp_path: Path) -> None:
    rendered = render("linux", intents(load_site(BASE))[name]).text
    there = commands(difference(paths(rendered, FRR), paths(RUNNING, FRR), FRR, exclusive=True), FRR)
    back = commands(difference(paths(RUNNING, FRR), paths(rendered, FRR), FRR, exclusive=True), FRR)
    nothing = commands(difference([], paths(rendered, FRR), FRR, exclusive=True), FRR)
    for number, what in enumerate((rendered, there, back, nothing)):
        file = tmp_path / f"{number}.conf"
        file.write_text(what)
        done = subprocess.run(["vtysh", "-C", "-f", str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{what}"


def test_steps_of_open_vswitch() -> None:
    access = {"description": "KIBAN node1 eno1", "mtu": 1500, "mode": "access", "tag": 20}
    before = {"VLAN": {"20": {"name": "KIBAN-node"}}, "PORT": {"swp1": access}, "MEMBER": {}, "LINK": {}}
    assert ovs_steps("br0", before, before) == []
    trunk = {"description": "KIBAN node1 eno1", "mtu": 1500, "mode": "trunk", "trunks": [20, 30]}
    after = {**before, "PORT": {"swp1": trunk}, "VLAN": {}}
    assert ovs_steps("br0", before, after) == [
        ["set", "port", "swp1", "vlan_mode=trunk"],
        ["clear", "port", "swp1", "tag"],
        ["set", "port", "swp1", "trunks=[20,30]"],
        ["set", "interface", "swp1", "mtu_request=1500", 'external_ids:description="KIBAN node1 eno1"'],
        ["remove", "bridge", "br0", "external_ids", "kiban-vlan-20"],
    ]


def test_tables_as_paths_and_back() -> None:
    tables = {"PORT": {"swp1": {"mode": "trunk", "trunks": [30, 20]}}, "VLAN": {"20": {}}}
    assert tables_of(tables_paths(tables, OVS)) == {
        "PORT": {"swp1": {"mode": "trunk", "trunks": [20, 30]}},
        "VLAN": {"20": {}},
    }
