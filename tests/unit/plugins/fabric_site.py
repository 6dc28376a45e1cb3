# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sites with a fabric: one by hand for each kind of it, and any number by hypothesis."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site


def edited(data: Mapping[str, Any], edits: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A copy of a site with values set at dotted paths; ... removes one."""
    data = copy.deepcopy(dict(data))
    for path, value in edits:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        place: Any = data
        for step in steps:
            place = place[step] if isinstance(place, list) else place.setdefault(step, {})
        if value is ...:
            del place[last]
        elif isinstance(place, list) and last == len(place):
            place.append(value)
        else:
            place[last] = value
    return data


BASE = yaml.safe_load("""
plugin: kiban.baremetal.site
site: {name: lab, domain: lab.example.net}
networks:
  bmc: {cidr: 192.0.2.0/24, vlan: 10}
  node: {cidr: 198.51.100.0/24, gateway: 198.51.100.1, vlan: 20, untagged: true}
  storage: {cidr: 10.1.0.0/24, vlan: 30, mtu: 9000}
deploy: {address: 198.51.100.10, bmc_address: 192.0.2.10}
fabric: {server_asn: 4200000000}
profiles:
  compute:
    disks: {system: {select: "protocol == 'VirtIO'"}}
racks:
  - name: a01
    switches:
      - name: tor1
        unit: 41
        os: linux
        address: 192.0.2.3
        asn: 65101
        loopback: 203.0.113.1
        addresses: {node: 198.51.100.1}
        cables: {swp49: "spine1:swp1"}
      - name: tor2
        unit: 42
        os: linux
        address: 192.0.2.4
        asn: 65102
        loopback: 203.0.113.2
        addresses: {node: 198.51.100.2}
        cables: {swp49: "spine1:swp2"}
      - {name: mgmt1, unit: 40, os: linux, address: 192.0.2.5}
    servers:
      - name: cp1
        unit: 1
        roles: [control_plane]
        profile: compute
        bmc: 192.0.2.11
        addresses: {node: 198.51.100.11}
        cables: {eno1: "tor1:swp1", eno2: "tor2:swp1", bmc: "mgmt1:swp1"}
      - name: node[1:3]
        unit: 2
        roles: [worker]
        profile: compute
        bmc: 192.0.2.21
        addresses: {node: 198.51.100.21, storage: 10.1.0.21}
        cables: {eno1: "tor1:swp[2:4]", eno2: "tor2:swp[2:4]", bmc: "mgmt1:swp[2:4]"}
  - name: a02
    switches:
      - {name: spine1, unit: 30, os: linux, address: 192.0.2.6, asn: 65001, loopback: 203.0.113.3}
    servers: []
cluster:
  kubernetes: v1.36.3
  sdn: {driver: bgp, pods: 10.244.0.0/16, services: 10.96.0.0/16}
  load_balancer: {pools: [203.0.113.64/26]}
""")

# The n-th front port of each operating system.
PORTS = {
    "linux": lambda number: f"swp{number}",
    "sonic": lambda number: f"Ethernet{4 * (number - 1)}",
    "eos": lambda number: f"Ethernet{number}",
    "nxos": lambda number: f"Ethernet1/{number}",
}


def with_os(os: str, mlag: bool = False) -> dict[str, Any]:
    """The site with switches of this system; with MLAG its top-of-rack switches are a pair, and servers use LACP."""
    data = copy.deepcopy(BASE)
    name = PORTS[os]
    tor1, tor2, mgmt = data["racks"][0]["switches"]
    spine = data["racks"][1]["switches"][0]
    for switch in (tor1, tor2, mgmt, spine):
        switch["os"] = os
    tor1["cables"], tor2["cables"] = {name(49): f"spine1:{name(1)}"}, {name(49): f"spine1:{name(2)}"}
    if mlag:
        tor1["mlag"] = tor2["mlag"] = 7
        tor1["cables"] |= {name(51): f"tor2:{name(51)}", name(52): f"tor2:{name(52)}"}
        data["profiles"]["compute"]["network"] = {"mode": "802.3ad"}
    cp1, nodes = data["racks"][0]["servers"]
    for port, switch in {"eno1": "tor1", "eno2": "tor2", "bmc": "mgmt1"}.items():
        cp1["cables"][port] = f"{switch}:{name(1)}"
        head = name(1).rstrip("0123456789")
        step = ":4" if os == "sonic" else ""
        first, last = name(2)[len(head) :], name(4)[len(head) :]
        nodes["cables"][port] = f"{switch}:{head}[{first}:{last}{step}]"
    return data


def with_routed_servers(site: Site) -> Site:
    """Each port of a server is a link with BGP; no site file can ask for that yet."""
    profiles = {name: replace(one, network=replace(one.network, mode="bgp")) for name, one in site.profiles.items()}
    return replace(site, profiles=profiles)


def with_overlay(data: dict[str, Any]) -> dict[str, Any]:
    """The same site with its pods in VXLAN; a site whose servers have a bond speaks with no switch then."""
    data = copy.deepcopy(data)
    data["cluster"]["sdn"]["overlay"] = "vxlan"
    data["fabric"]["server_asn"] = None
    return data


def with_ipv6(data: dict[str, Any]) -> dict[str, Any]:
    """The same site with IPv6 addresses of servers, pods and Services."""
    data = copy.deepcopy(data)
    for number, (name, network) in enumerate(sorted(data["networks"].items())):
        if name != "bmc":
            network["ipv6"] = {"cidr": f"2001:db8:{number:x}::/64"}
    data["cluster"]["sdn"]["ipv6"] = {"pods": "fd00:10:244::/48", "services": "fd00:10:96::/112"}
    if "fabric" in data:
        data["fabric"].pop("links", None)
    return data


@st.composite
def dual_sites(draw: st.DrawFn) -> dict[str, Any]:
    """Sites of any shape whose servers, pods and Services have IPv6 too, in networks of any size that is allowed."""
    data = with_ipv6(draw(sites(systems=("linux",))))
    for number, network in enumerate(data["networks"].values()):
        if "ipv6" in network:
            length = draw(st.integers(48, 128 - (32 - int(network["cidr"].partition("/")[2]))))
            network["ipv6"]["cidr"] = f"2001:db8:{number + 1:x}::/{length}"
    pods = draw(st.integers(32, 116))
    data["cluster"]["sdn"]["ipv6"] = {
        "pods": f"fd00:1::/{pods}",
        "node_prefix": draw(st.integers(pods + 8, min(124, pods + 60))),
        "services": f"fd00:2::/{draw(st.integers(108, 124))}",
    }
    return data


def lab_with_two_control_planes(checkout: Path, name: str, **cluster: Any) -> Site:
    """A lab with a server more, cp2, which a site file can't make a second control plane of yet."""
    data: dict[str, Any] = yaml.safe_load((checkout / f"inventories/{name}/site.yml").read_text())
    data["cluster"]["sdn"] |= cluster.pop("sdn", {})
    data["cluster"] |= cluster
    if "fabric" in data:
        data["fabric"] |= {"bfd_interval": 300, "bfd_multiplier": 3}
    servers = data["racks"][0]["servers"]
    second = copy.deepcopy(servers[0]) | {"name": "cp2", "roles": ["worker"], "bmc": "192.0.2.12"}
    second["addresses"]["node"] = "198.51.100.12"
    if "cables" in second:
        second["cables"] = {"enp1s0": "tor1:swp9", "enp2s0": "tor2:swp9"}
    servers.append(second)
    site = load_site(data)
    made = tuple(replace(one, roles=("control_plane",)) if one.name == "cp2" else one for one in site.servers)
    return replace(site, servers=made)


def with_balancer(site: Site) -> Site:
    """MetalLB gives Services the addresses of the pools."""
    return replace(site, cluster=replace(site.cluster, load_balancer="metallb"))


@st.composite
def sites(draw: st.DrawFn, systems: tuple[str, ...] = ("linux", "sonic", "eos", "nxos")) -> dict[str, Any]:
    """Racks of one or two top-of-rack switches, spines, and servers with one or two uplinks, in any mixture."""
    data = copy.deepcopy(BASE)
    data["racks"], address, port_of = [], iter(range(60, 250)), {}
    data["fabric"] = {
        "server_asn": draw(st.sampled_from([None, 4200000000, 64512])),
        "links": draw(st.sampled_from([None, "10.255.0.0/24"])),
        "bfd_interval": draw(st.integers(50, 999)),
        "bfd_multiplier": draw(st.integers(2, 9)),
    }
    data["networks"]["node"]["untagged"] = draw(st.booleans())
    data["networks"]["node"]["mtu"] = draw(st.sampled_from([1500, 9000]))
    data["profiles"]["compute"]["network"] = {"mode": draw(st.sampled_from(["active-backup", "802.3ad"]))}
    data["cluster"]["load_balancer"] = {"pools": draw(st.sampled_from([[], ["203.0.113.64/26", "203.0.113.128/32"]]))}
    switches = iter(range(1, 100))

    def switch(name: str, os: str) -> dict[str, Any]:
        number, place = next(switches), next(address)
        port_of[name] = (PORTS[os], iter(range(1, 200)))
        return {
            "name": name,
            "os": os,
            "unit": draw(st.sampled_from([None, 42])),
            "address": f"192.0.2.{place}",
            "asn": 70000 + number,
            "loopback": f"203.0.113.{number}" if number < 64 else f"203.0.114.{number}",
            "addresses": {},
            "cables": {},
        }

    def free(name: str) -> str:
        make, numbers = port_of[name]
        return str(make(next(numbers)))

    spines = [switch(f"spine{number}", draw(st.sampled_from(systems))) for number in range(draw(st.integers(0, 2)))]
    host = iter(range(11, 60))
    for rack in range(draw(st.integers(1, 3))):
        os = draw(st.sampled_from(systems))
        pair = draw(st.booleans())
        tors = [switch(f"tor{rack}{letter}", os) for letter in ("ab" if pair else "a")]
        for tor in tors:
            tor["addresses"] = {"node": f"198.51.100.{next(address)}"}
            for spine in spines:
                tor["cables"][free(tor["name"])] = f"{spine['name']}:{free(spine['name'])}"
        if pair and os != "linux" and draw(st.booleans()):
            for tor in tors:
                tor["mlag"] = rack + 1
            for _link in range(draw(st.integers(1, 2))):
                tors[0]["cables"][free(tors[0]["name"])] = f"{tors[1]['name']}:{free(tors[1]['name'])}"
        servers = []
        for number in range(draw(st.integers(0 if rack else 1, 3))):
            place, first = next(host), not (rack or number)
            used = tors if draw(st.booleans()) else tors[-1:]
            if pair and data["profiles"]["compute"]["network"]["mode"] == "802.3ad" and "mlag" not in tors[0]:
                used = tors[:1]
            cables = {f"eno{n}": f"{tor['name']}:{free(tor['name'])}" for n, tor in enumerate(used, 1)}
            extra = {"storage": f"10.1.0.{place}"} if draw(st.booleans()) else {}
            servers.append(
                {
                    "name": f"w{rack}{number}",
                    "roles": ["control_plane"] if first else ["worker"],
                    "profile": "compute",
                    "bmc": f"192.0.2.{place}",
                    "addresses": {"node": f"198.51.100.{place}", **extra},
                    "cables": cables,
                }
            )
        data["racks"].append({"name": f"r{rack}", "switches": tors, "servers": servers})
    data["racks"].append({"name": "spines", "switches": spines, "servers": []})
    return data
