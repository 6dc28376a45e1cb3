# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site file may say about switches and cables, and every refusal by its path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import site_vars
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE, edited, with_os
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import sites as fabric_sites

TOR1, TOR2, NODES = "racks.0.switches.0", "racks.0.switches.1", "racks.0.servers.1"


def changed(*edits: tuple[str, Any]) -> dict[str, Any]:
    return edited(BASE, edits)


def test_ports_and_units_count_up_with_the_names() -> None:
    site = load_site(BASE)
    node3 = site.server("node3")
    assert node3.unit == 4
    assert node3.cables == {"eno1": "tor1:swp4", "eno2": "tor2:swp4", "bmc": "mgmt1:swp4"}
    assert [switch.name for switch in site.switches] == ["tor1", "tor2", "mgmt1", "spine1"]
    assert site.switches[0].rack == "a01"


def test_ports_may_count_in_steps() -> None:
    assert load_site(with_os("sonic")).server("node3").cables["eno1"] == "tor1:Ethernet12"


@pytest.mark.parametrize("os", ["linux", "sonic", "eos", "nxos"])
def test_each_system_loads(os: str) -> None:
    site = load_site(with_os(os, mlag=os != "linux"))
    assert load_site(site_vars(site)) == site


@settings(max_examples=30)
@given(fabric_sites())
def test_the_normal_form_is_the_same_site(data: dict[str, Any]) -> None:
    site = load_site(data)
    assert load_site(site_vars(site)) == site


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ([(f"{TOR1}.name", "cp1")], "racks[0].switches[0].name: the name 'cp1' is used twice"),
        ([(f"{TOR1}.os", "ios")], "racks[0].switches[0].os: 'ios' is not supported"),
        ([(f"{TOR1}.address", "192.0.2.4")], "racks[0].switches[1].address: 192.0.2.4 of tor2 is already"),
        ([(f"{TOR1}.loopback", "203.0.113.2")], "203.0.113.2 of tor2 is already the address of tor1"),
        (
            [(f"{TOR1}.loopback", "10.244.1.1")],
            "racks[0].switches[0].loopback: 10.244.1.1/32 overlaps cluster.sdn.pods",
        ),
        ([(f"{TOR1}.loopback", ...)], "racks[0].switches[0].loopback: missing"),
        ([(f"{TOR1}.asn", ...)], "racks[0].switches[0].asn: missing"),
        ([(f"{TOR1}.asn", 65102)], "racks[0].switches[1].asn: AS number 65102 is used twice"),
        ([(f"{TOR1}.asn", 4200000021)], "racks[0].switches[0].asn: AS number 4200000021 is one of the servers'"),
        ([("fabric.server_asn", 4294967290)], "fabric.server_asn: AS numbers of 256 servers end at"),
        ([(f"{TOR1}.addresses", {"nod": "198.51.100.1"})], "addresses.nod: there is no network 'nod'; did you mean"),
        ([(f"{TOR1}.addresses.node", "10.0.0.1")], "racks[0].switches[0].addresses.node: 10.0.0.1 is outside"),
        ([(f"{TOR1}.addresses.node", "198.51.100.21")], "198.51.100.21 of tor1 is already the address of node1"),
        ([(f"{TOR2}.addresses.node", "198.51.100.1")], "198.51.100.1 of tor2 is already the address of the gateway"),
        ([(f"{TOR1}.mlag", 1)], "racks[0].switches[0].mlag: os linux has no MLAG"),
        (
            [(f"{TOR1}.cables", {"swp49": "spine9:swp1"})],
            "racks[0].switches[0].cables.swp49: there is no switch 'spine9'",
        ),
        (
            [(f"{TOR1}.cables", {"Ethernet1/1": "spine1:swp1"})],
            "'Ethernet1/1' is no port of tor1 (os linux); for example",
        ),
        ([(f"{TOR1}.cables", {"swp49": "spine1"})], "cables.swp49: 'spine1' is not a switch and its port"),
        ([(f"{TOR1}.cables", {"swp49": "spine1:swp2"})], "port swp2 of spine1 has a cable already"),
        ([(f"{NODES}.cables.eno1", "tor1:swp[1:3]")], "racks[0].servers[1].cables.eno1: port swp1 of tor1 has a cable"),
        (
            [(f"{NODES}.cables.eno1", "tor1:swp[2:5]")],
            "racks[0].servers[1].cables.eno1: 'tor1:swp[2:5]' names 4 ports for 3",
        ),
        (
            [(f"{NODES}.cables", {"bmc": "mgmt1:swp[2:4]"})],
            "node1 has no cable to a switch that routes the network node",
        ),
        ([("networks.storage.vlan", ...)], "networks.storage.vlan: missing"),
        ([("networks.storage.vlan", 20)], "networks.storage.vlan: VLAN 20 is used twice"),
        ([("networks.storage.untagged", True)], "racks[0].servers[1].addresses: node and storage are both untagged"),
        ([("networks.node.vlan", ...)], "networks.node.untagged: there is no vlan to leave untagged"),
        ([("fabric.links", "10.255.0.0/31")], "fabric.links: 10.255.0.0/31 has 2 addresses for 4 ends of links"),
        ([("fabric.links", "10.255.0.1/24")], "fabric.links: 10.255.0.1/24 is an address inside a network"),
        ([("fabric.links", "10.244.0.0/24")], "fabric.links: 10.244.0.0/24 overlaps cluster.sdn.pods"),
        ([("cluster.load_balancer.pools", ["10.96.1.0/24"])], "pools[0]: 10.96.1.0/24 overlaps cluster.sdn.services"),
    ],
)
def test_refused(edits: list[tuple[str, Any]], told: str) -> None:
    with pytest.raises(SiteError) as error:
        load_site(changed(*edits))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda tor1, tor2: tor2.pop("mlag"), "MLAG domain 7 has 1 switches (tor1); exactly two"),
        (lambda tor1, tor2: tor2.update(os="nxos"), "the pair tor1 and tor2 runs two operating systems"),
        (
            lambda tor1, tor2: tor1.update(cables={"Ethernet49": "spine1:Ethernet1"}),
            "no cable joins the pair tor1 and tor2",
        ),
    ],
)
def test_a_pair_is_two_alike_with_a_cable(spoil: Any, told: str) -> None:
    data = with_os("eos", mlag=True)
    spoil(*data["racks"][0]["switches"][:2])
    with pytest.raises(SiteError) as error:
        load_site(data)
    assert told in str(error.value)
