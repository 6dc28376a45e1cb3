# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows for each switch from the model, for one site by hand and for any site."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import (
    announcements,
    intent,
    intents,
    owned,
    server_asn,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.host import frr_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.intent import (
    Bgp,
    FabricError,
    Filter,
    Lag,
    Mlag,
    Neighbor,
    Port,
    Rule,
    Svi,
    Vlan,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.ipam import address6
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import SiteError
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import (
    BASE,
    dual_sites,
    sites,
    with_os,
    with_routed_servers,
)

POOL = Rule("203.0.113.64/26", 32)


def test_a_top_of_rack_switch() -> None:
    tor1 = intent(load_site(BASE), "tor1")
    assert tor1.vlans == (Vlan(20, "KIBAN-node"), Vlan(30, "KIBAN-storage"))
    assert tor1.ports[0] == Port("swp1", "KIBAN cp1 eno1", 1500, untagged=20)
    assert tor1.ports[1] == Port("swp2", "KIBAN node1 eno1", 9216, untagged=20, tagged=(30,))
    assert tor1.ports[-1] == Port("swp49", "KIBAN spine1 swp1", 9216, routed=True)
    assert tor1.svis == (Svi(20, "198.51.100.1/24", 1500),)
    assert tor1.bgp == Bgp(
        asn=65101,
        router_id="203.0.113.1",
        networks=("198.51.100.0/24", "203.0.113.1/32"),
        neighbors=(
            Neighbor("198.51.100.11", 4200000011, "KIBAN-cp1"),
            *(Neighbor(f"198.51.100.{20 + n}", 4200000020 + n, f"KIBAN-node{n}") for n in (1, 2, 3)),
            Neighbor("swp49", 65001, None),
        ),
        filters=(
            Filter("KIBAN-cp1", (Rule("10.244.11.0/24", 24), POOL)),
            *(Filter(f"KIBAN-node{n}", (Rule(f"10.244.{20 + n}.0/24", 24), POOL)) for n in (1, 2, 3)),
        ),
        bfd_interval=300,
        bfd_multiplier=3,
    )


def test_a_switch_for_bmcs_only() -> None:
    mgmt = intent(load_site(BASE), "mgmt1")
    assert mgmt.bgp is None
    assert mgmt.vlans == (Vlan(10, "KIBAN-bmc"),)
    assert {port.untagged for port in mgmt.ports} == {10}


def test_numbered_links() -> None:
    site = load_site({**BASE, "fabric": {"links": "10.255.0.0/28"}})
    found = intents(site)
    assert found["tor2"].ports[-1].address == "10.255.0.2/31"
    assert [port.address for port in found["spine1"].ports] == ["10.255.0.1/31", "10.255.0.3/31"]
    assert found["spine1"].bgp is not None
    assert [neighbor.peer for neighbor in found["spine1"].bgp.neighbors] == ["10.255.0.0", "10.255.0.2"]
    assert "10.255.0.2/31" in found["spine1"].bgp.networks


def test_a_pair_has_one_lag_a_server() -> None:
    tor1, tor2 = (intent(load_site(with_os("eos", mlag=True)), name) for name in ("tor1", "tor2"))
    assert tor1.lags[0] == tor2.lags[0] == Lag(1, "KIBAN cp1", 1500, untagged=20, mlag=True)
    assert tor1.lags[-1].peer_link
    assert tor1.lags[-1].tagged == (20, 30, 4094)
    assert tor1.mlag == Mlag(7, first=True, keepalive="192.0.2.4")
    assert tor2.mlag == Mlag(7, first=False, keepalive="192.0.2.3")


def test_a_bond_over_two_switches_that_are_no_pair_is_refused() -> None:
    data = with_os("linux")
    data["profiles"]["compute"]["network"] = {"mode": "802.3ad"}
    with pytest.raises(FabricError, match=r"cp1 has a bond with 802\.3ad over tor1 and tor2, which are no pair"):
        intents(load_site(data))


@settings(max_examples=200)
@given(st.one_of(sites(), dual_sites()), st.booleans())
def test_underlay_and_servers_agree(data: dict[str, Any], routed: bool) -> None:
    site = load_site(data)
    if routed and site.fabric.server_asn and all(switch.os == "linux" for switch in site.switches):
        site = with_routed_servers(site)
    found = intents(site)

    # No AS number and no address twice.
    numbers = [switch.asn for switch in site.switches if switch.asn]
    numbers += [asn for server in site.servers if (asn := server_asn(site, server))]
    assert len(numbers) == len(set(numbers))
    dual, node = site.cluster.sdn.ipv6 is not None, site.networks["node"]
    addresses = [server.addresses["node"] for server in site.servers]
    if dual:
        addresses += [str(address6(node, server.addresses["node"])) for server in site.servers]
        assert len(addresses) == 2 * len(site.servers)
    for one in found.values():
        addresses += [svi.address.split("/")[0] for svi in one.svis]
        addresses += [svi.address6.split("/")[0] for svi in one.svis if svi.address6]
        addresses += [port.address.split("/")[0] for port in one.ports if port.address and not port.guest]
        addresses += [one.loopback] if one.loopback else []
    assert len(addresses) == len(set(addresses))
    pods = [ipaddress.ip_network(pods) for server in site.servers for pods in server.pod_cidrs]
    assert len(pods) == (2 if dual else 1) * len(site.servers)
    assert not any(a.overlaps(b) for place, a in enumerate(pods) for b in pods[:place] if a.version == b.version)

    # Each end of a session expects the other.
    sessions = set()
    for name, one in found.items():
        assert [port.name for port in one.ports] == list(dict.fromkeys(port.name for port in one.ports))
        for neighbor in one.bgp.neighbors if one.bgp else ():
            sessions.add((name, one.bgp.asn, neighbor.asn, neighbor.accept))
    for _name, own, other, accept in sessions:
        if accept is None:
            assert any((other, own) == (theirs[1], theirs[2]) for theirs in sessions)

    # Every route that a server announces passes the filter of its own session on each of its switches, and no other's.
    if site.fabric.server_asn is None:
        return
    for server in site.servers:
        mine = {far.partition(":")[0] for port, far in server.cables.items() if port != "bmc"}
        for rule in announcements(site, server):
            for route in (rule.prefix, f"{ipaddress.ip_network(rule.prefix)[0]}/{rule.longest}"):
                accepting = {
                    (name, one_filter.name)
                    for name, one in found.items()
                    for one_filter in (one.bgp.filters if one.bgp else ())
                    if permits(one_filter, route)
                }
                assert {(name, f"KIBAN-{server.name}") for name in mine} <= accepting
                if rule.prefix in (*server.pod_cidrs, f"{server.addresses['node']}/32"):
                    assert accepting == {(name, f"KIBAN-{server.name}") for name in mine}


POOLS = ["203.0.113.128/26", "203.0.113.160/28", "203.0.112.0/24", "10.0.0.0/8", "198.51.100.128/25", "203.0.113.1/32"]


@settings(max_examples=200)
@given(sites(systems=("linux",)), st.lists(st.sampled_from(POOLS), min_size=1, max_size=3, unique=True))
def test_pools_overlap_nothing_and_are_in_the_filter_of_every_server(data: dict[str, Any], pools: list[str]) -> None:
    data["profiles"]["compute"]["network"] = {"mode": "bgp"}
    data["fabric"]["server_asn"] = 4200000000
    data["cluster"]["load_balancer"] = {"driver": "metallb", "pools": pools}
    for rack in data["racks"]:
        for server in rack["servers"]:
            server["addresses"].pop("storage", None)
    others = ["198.51.100.0/24", "192.0.2.0/24", "10.1.0.0/24", "10.244.0.0/16", "10.96.0.0/16"]
    others += [data["fabric"]["links"]] if data["fabric"]["links"] else []
    others += [f"{switch['loopback']}/32" for rack in data["racks"] for switch in rack["switches"]]
    ranges = [ipaddress.ip_network(text) for text in (*others, *pools)]
    clash = any(a.overlaps(b) for number, a in enumerate(ranges[len(others) :], len(others)) for b in ranges[:number])
    try:
        site = load_site(data)
    except SiteError as error:
        assert clash and "overlaps" in str(error)
        return
    assert not clash
    rules = tuple(Rule(pool, 32) for pool in pools)
    for server in site.servers:
        for name in {far.partition(":")[0] for far in server.cables.values()}:
            found = intent(site, name)
            assert found.bgp is not None
            (one,) = (one for one in found.bgp.filters if one.name == f"KIBAN-{server.name}")
            assert one.rules == (*owned(site, server), *rules)
        # The speaker's own filter on the server, which comes before.
        text = frr_config(site, server)
        said = [line.split(maxsplit=5)[-1] for line in text.splitlines() if "prefix-list KIBAN-POOLS seq" in line]
        assert said == [f"permit {pool}{'' if pool.endswith('/32') else ' le 32'}" for pool in pools]


def permits(one: Filter, route: str) -> bool:
    wanted: Any = ipaddress.ip_network(route)
    return any(
        wanted.subnet_of(ipaddress.ip_network(rule.prefix)) and wanted.prefixlen <= rule.longest
        for rule in one.of(wanted.version)
    )
