# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site file that asks for servers with routed links: what it needs, and what follows on switches and servers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.module_utils._switch_lines import FRR, commands, difference, paths
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import parse, render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site, SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import node_files


@pytest.fixture(scope="module")
def data(checkout: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((checkout / "inventories/lab-fabric/site.yml").read_text()))


@pytest.fixture(scope="module")
def site(data: dict[str, Any]) -> Site:
    return load_site(data)


def test_a_server_has_its_address_on_no_port(site: Site) -> None:
    files = node_files(site, site.server("node1"), "key")
    assert "Name=lo\n\n[Network]\nAddress=198.51.100.21/32\n" in files["/etc/systemd/network/30-lo.network"]
    assert "Name=enp1s0 enp2s0\n" in files["/etc/systemd/network/20-links.network"]
    assert not [path for path in files if "bond0" in path]
    assert "router bgp 4200000021\n" in files["/etc/frr/frr.conf"]
    assert "  network 198.51.100.21/32\n  network 10.244.21.0/24\n  neighbor" in files["/etc/frr/frr.conf"]
    assert "  network 10.96.0.0/16\n" in node_files(site, site.server("cp1"), "key")["/etc/frr/frr.conf"]


def test_the_load_balancer_has_a_device_without_a_wire(site: Site) -> None:
    files = node_files(site, site.server("node1"), "key")
    assert files["/etc/systemd/network/10-kiban-lb.netdev"] == "[NetDev]\nName=kiban-lb\nKind=dummy\n"
    assert files["/etc/systemd/network/30-kiban-lb.network"].endswith(
        "[Address]\nAddress=169.254.100.1/30\nScope=link\n"
    )
    without = replace(site, cluster=replace(site.cluster, load_balancer=None))
    assert not [path for path in node_files(without, site.server("node1"), "key") if "kiban-lb" in path]


def test_other_sites_have_no_routing_daemon(checkout: Path) -> None:
    plain = load_site(yaml.safe_load((checkout / "inventories/lab/site.yml").read_text()))
    files = node_files(plain, plain.server("node1"), "key")
    assert not [path for path in files if "frr" in path or "sysctl" in path]


def test_a_guest_is_on_the_first_cable_only(site: Site) -> None:
    found = intents(site)
    guests = {(name, port.name): port.guest for name, one in found.items() for port in one.ports if port.guest}
    assert guests == {
        ("tor1", "swp1"): "198.51.100.11",
        ("tor1", "swp2"): "198.51.100.21",
        ("tor1", "swp3"): "198.51.100.22",
    }
    for name, one in found.items():
        assert parse("linux", name, render("linux", one)) == one


def test_the_route_of_a_server_that_left_goes_and_others_stay(data: dict[str, Any], site: Site) -> None:
    smaller = copy.deepcopy(data)
    smaller["racks"][0]["servers"][1] |= {
        "name": "node1",
        "cables": {"enp1s0": "tor1:swp2", "enp2s0": "tor2:swp2"},
    }
    foreign = "ip route 192.0.2.128/25 blackhole\nroute-map OURS permit 10\n set local-preference 50\nexit\n"
    before = paths(render("linux", intents(site)["tor1"]).text + foreign, FRR)
    after = paths(render("linux", intents(load_site(smaller))["tor1"]).text, FRR)
    typed = commands(difference(after, before, FRR), FRR).splitlines()
    assert "no ip route 198.51.100.22/32 swp3 tag 4933954 250" in typed
    assert not [line for line in typed if "192.0.2.128" in line or "OURS" in line or "198.51.100.21" in line]


def without_asn(data: dict[str, Any]) -> None:
    del data["fabric"]["server_asn"]


def without_gateway(data: dict[str, Any]) -> None:
    del data["networks"]["node"]["gateway"]


def without_cables(data: dict[str, Any]) -> None:
    del data["racks"][0]["servers"][0]["cables"]


def without_switch_asn(data: dict[str, Any]) -> None:
    del data["racks"][0]["switches"][1]["asn"]


def without_pools(data: dict[str, Any]) -> None:
    data["cluster"]["load_balancer"]["pools"] = []


def with_a_bond(data: dict[str, Any]) -> None:
    data["profiles"]["compute"]["network"] = {"mode": "active-backup"}


def with_the_api_in_a_pool(data: dict[str, Any]) -> None:
    data["cluster"]["load_balancer"]["pools"] = ["198.51.0.0/16"]


def with_the_speakers_number(data: dict[str, Any]) -> None:
    data["racks"][1]["switches"][0]["asn"] = 4294967294


def with_one_pool_in_another(data: dict[str, Any]) -> None:
    data["cluster"]["load_balancer"]["pools"] += ["203.0.113.160/28"]


def with_two_networks(data: dict[str, Any]) -> None:
    data["racks"][0]["servers"][0]["addresses"]["outside"] = "203.0.113.20"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_asn, "fabric.server_asn: missing; profiles with network.mode bgp need AS numbers"),
        (without_gateway, "networks.node.gateway: missing; servers with network.mode bgp are installed through it"),
        (without_cables, "servers[0].cables: missing; the links of a server with network.mode bgp are its cables"),
        (without_switch_asn, "tor2 has no routed links to servers: os linux and an asn are needed"),
        (without_pools, "cluster.load_balancer.pools: missing; metallb gives Services addresses of them"),
        (with_a_bond, "metallb needs servers with routed links, which cp1 does not have"),
        (with_the_api_in_a_pool, "pools[0]: 198.51.0.0/16 holds cluster.endpoint (198.51.100.11)"),
        (with_the_speakers_number, "AS number 4294967294 is one that metallb speaks with on every server"),
        (with_one_pool_in_another, "203.0.113.160/28 overlaps cluster.load_balancer.pools[0] (203.0.113.128/26)"),
        (with_two_networks, "a server with network.mode bgp is in the network node only"),
    ],
)
def test_what_is_missing_is_named(data: dict[str, Any], change: Callable[[dict[str, Any]], None], message: str) -> None:
    broken = copy.deepcopy(data)
    change(broken)
    with pytest.raises(SiteError) as caught:
        load_site(broken)
    assert message in str(caught.value)
