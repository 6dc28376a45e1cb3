# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every driver: what it renders says the same intent again, and differences with a running switch are told apart."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.config import Config, vlan_list, vlan_set
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intent, intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import DRIVERS, drift, parse, render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.intent import FabricError, Intent, Vlan
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE, dual_sites, sites, with_os

SYSTEMS = sorted(DRIVERS)


def tor1(os: str) -> Intent:
    return intent(load_site(with_os(os, mlag=os != "linux")), "tor1")


@settings(max_examples=200)
@given(st.one_of(sites(), dual_sites()))
def test_what_is_rendered_says_the_same_again(data: dict[str, Any]) -> None:
    site = load_site(data)
    for switch in site.switches:
        wanted = intents(site)[switch.name]
        if switch.os == "sonic" and wanted.bgp:
            wanted = replace(wanted, bgp=replace(wanted.bgp, bfd_interval=300, bfd_multiplier=3))
        rendered = render(switch.os, wanted)
        assert parse(switch.os, switch.name, rendered) == wanted
        assert render(switch.os, wanted) == rendered
        found = drift(switch.os, rendered, rendered, exclusive=True)
        assert (found.add, found.remove, found.foreign) == ((), (), ())


@given(st.sets(st.integers(1, 4094)))
def test_sets_of_vlans(numbers: set[int]) -> None:
    assert set(vlan_set(vlan_list(numbers))) == numbers


def test_what_a_system_cannot_say_is_refused() -> None:
    pair = tor1("eos")
    with pytest.raises(FabricError, match="Open vSwitch has no MLAG"):
        render("linux", pair)
    with pytest.raises(FabricError, match="no table for BFD timers"):
        render("sonic", replace(pair, bgp=replace(pair.bgp, bfd_interval=100)))
    with pytest.raises(FabricError, match="tor1: EOS has no MTU above 9214; the network of VLAN 20 has 9216"):
        render("eos", replace(pair, svis=(replace(pair.svis[0], mtu=9216),)))
    for number in (3968, 4094):
        with pytest.raises(FabricError, match=f"VLANs 3968 to 4094 for itself; give the network of VLAN {number}"):
            render("nxos", replace(tor1("nxos"), vlans=(Vlan(number, "KIBAN-node"),), mlag=None))
    render("nxos", replace(tor1("nxos"), vlans=(Vlan(3967, "KIBAN-node"),)))


@pytest.mark.parametrize("os", SYSTEMS)
def test_a_server_that_left_takes_all_of_its_own_with_it(os: str) -> None:
    """No record is kept: what the collection made is known by its mark."""
    before = render(os, tor1(os))
    data = with_os(os, mlag=os != "linux")
    data["racks"][0]["servers"][1]["name"] = "node[1:2]"
    for port, far in data["racks"][0]["servers"][1]["cables"].items():
        shorter = far.replace("[4:12:4]", "[4:8:4]") if os == "sonic" else far.replace(":4]", ":3]")
        data["racks"][0]["servers"][1]["cables"][port] = shorter
    after = render(os, intent(load_site(data), "tor1"))
    found = drift(os, after, before)
    assert found.foreign == ()
    assert found.add == ()
    left = str(found.remove)
    assert "node3" in left
    assert "4200000023" in left
    assert "node2" not in left


FOREIGN = {
    "linux": (
        "text",
        "interface lo\n ip address 203.0.113.1/32\n ipv6 address 2001:db8::1/128\nexit\n",
        "2001:db8::1/128",
    ),
    "eos": ("text", "interface Ethernet30\n   description somebody else\n   speed 10g\n", "speed 10g"),
    "nxos": ("text", "interface Ethernet1/30\n  description somebody else\n  shutdown\n", "shutdown"),
    "sonic": ("tables", {"VLAN": {"Vlan99": {"vlanid": "99", "description": "somebody else"}}}, "Vlan99"),
}


def with_foreign(os: str, config: Config) -> Config:
    kind, more, _told = FOREIGN[os]
    if kind == "text":
        return Config(config.tables, config.text + str(more))
    tables: dict[str, Any] = copy.deepcopy(dict(config.tables))
    for table, entries in more.items():
        tables[table] |= entries
    return Config(tables)


@pytest.mark.parametrize("os", SYSTEMS)
def test_foreign_lines_are_shown_and_kept_unless_exclusive(os: str) -> None:
    wanted = render(os, tor1(os))
    running = with_foreign(os, wanted)
    found = drift(os, wanted, running)
    assert FOREIGN[os][2] in str(found.foreign)
    assert (found.add, found.remove) == ((), ())
    assert FOREIGN[os][2] in str(drift(os, wanted, running, exclusive=True).remove)


@pytest.mark.parametrize("os", SYSTEMS)
def test_a_changed_setting_is_replaced(os: str) -> None:
    one = tor1(os)
    other = replace(one, ports=(replace(one.ports[0], mtu=9000), *one.ports[1:]))
    found = drift(os, render(os, one), render(os, other))
    assert len(found.add) == len(found.remove) == 1
    assert "9000" in str(found.remove)
    assert found.foreign == ()


def test_facts_of_the_hardware_are_nobodys_business() -> None:
    wanted = render("sonic", tor1("sonic"))
    running: dict[str, Any] = copy.deepcopy(dict(wanted.tables))
    running["PORT"]["Ethernet0"] |= {"lanes": "0,1,2,3", "speed": "100000"}
    running["PORT"]["Ethernet124"] = {"lanes": "124", "speed": "100000", "admin_status": "down"}
    running["DEVICE_METADATA"]["localhost"] |= {"hwsku": "x", "mac": "00:00:00:00:00:01"}
    running["FEATURE"] = {"bgp": {"state": "enabled"}}
    found = drift("sonic", wanted, Config(running), exclusive=True)
    assert found.remove == (("PORT", "Ethernet124", 'admin_status="down"'),)


def test_ports_of_eos_have_the_largest_mtu_that_it_takes() -> None:
    text = render("eos", tor1("eos")).text
    assert "interface Port-Channel2\n   description KIBAN node1\n   mtu 9214\n" in text
    assert "interface Ethernet1\n   description KIBAN cp1 eno1\n   mtu 1500\n" in text
    assert "interface Ethernet49\n   description KIBAN spine1 Ethernet1\n   mtu 9214\n" in text
    assert "l2 mtu" not in text


@pytest.mark.parametrize("links", [None, "10.255.0.0/28"])
def test_eos_routes_ipv6_where_its_links_have_no_addresses(links: str | None) -> None:
    """It looks for no neighbor on a port otherwise; where links have addresses, next hops are of IPv4."""
    data = with_os("eos")
    data["fabric"]["links"] = links
    lines = [line.strip() for line in render("eos", intent(load_site(data), "tor1")).text.splitlines()]
    assert ("ip routing" in lines) == bool(links)
    for line in (
        "ipv6 unicast-routing",
        "ip routing ipv6 interfaces",
        "neighbor KIBAN-LINKS next-hop address-family ipv6 originate",
    ):
        assert (line in lines) == (not links)


def test_a_pair_of_nxos_has_no_vlan_of_its_own() -> None:
    text = render("nxos", tor1("nxos")).text
    assert "4094" not in text
    assert "  switchport trunk allowed vlan 20,30\n  vpc peer-link\n" in text


def test_members_of_a_port_channel_of_nxos_have_its_vlans() -> None:
    """It takes only ports whose mode, VLANs and MTU are the same."""
    blocks = dict(
        part.split("\n", 1) for part in render("nxos", tor1("nxos")).text.split("interface ") if "description" in part
    )
    for group, port in ((1, 1), (2, 2), (2000, 51)):
        of_group, of_port = (
            [line for line in blocks[name].splitlines() if re.match("  (mtu|switchport)", line)]
            for name in (f"port-channel{group}", f"Ethernet1/{port}")
        )
        assert of_group == of_port
        assert len(of_group) >= 4
        assert f"  channel-group {group} mode active\n" in blocks[f"Ethernet1/{port}"]


def test_lines_of_the_top_of_rack_switch() -> None:
    text = render("linux", intent(load_site(BASE), "tor1")).text
    assert "ip prefix-list KIBAN-node1 seq 5 permit 10.244.21.0/24\n" in text
    assert "ip prefix-list KIBAN-node1 seq 10 permit 203.0.113.64/26 le 32\n" in text
    assert "  neighbor 198.51.100.21 prefix-list KIBAN-node1 in\n" in text
    assert " neighbor swp49 interface peer-group KIBAN-LINKS\n" in text
