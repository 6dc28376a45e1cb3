# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Checks of meaning: switches, cables, AS numbers and what routing between them needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import netaddr  # type: ignore[import-untyped, unused-ignore]

from .balancer import ASNS
from .check_networks import read_network
from .draft import Draft, Entry, cables_of
from .expand import RangeError
from .model import SDN_DRIVERS, SdnDriver
from .shape import nearest

__all__ = ["PORT_NAMES", "check_fabric"]

# What a front port is called: pattern and example.
PORT_NAMES = {
    "linux": (r"[a-z][a-z0-9._-]{0,14}", "swp1"),
    "sonic": (r"Ethernet(0|[1-9][0-9]*)", "Ethernet0"),
    "eos": (r"Ethernet[1-9][0-9]*(/[1-9][0-9]*){0,2}", "Ethernet1"),
    "nxos": (r"Ethernet[1-9][0-9]*/[1-9][0-9]*(/[1-9][0-9]*)?", "Ethernet1/1"),
}
_MLAG = ("sonic", "eos", "nxos")
# 50 bytes of headers, and what IPv6 wants of every link (RFC 8200).
_OVERLAY_MTU = 1330


@dataclass(frozen=True)
class _Found:
    path: str
    raw: dict[str, Any]


def check_fabric(draft: Draft) -> None:
    switches = _switches(draft)
    ports: dict[tuple[str, str], str] = {}
    for found in switches.values():
        _own(draft, found)
        for port, far in (found.raw.get("cables") or {}).items():
            path = f"{found.path}.cables.{port}"
            _end(draft, switches, ports, path, found.raw["name"], port)
            _far_end(draft, switches, ports, path, far)
    for path, far in _server_cables(draft):
        _far_end(draft, switches, ports, path, far)
    _pairs(draft, switches)
    _as_numbers(draft, switches)
    _links(draft)
    _vlans(draft)
    _outside(draft, switches)
    _routed_servers(draft, switches)
    _ipv6(draft, switches)
    _overlay(draft)
    _network_driver(draft)
    _load_balancer(draft, switches)
    if (draft.part("fabric") or {}).get("server_asn"):
        _servers_have_peers(draft, switches)


def _switches(draft: Draft) -> dict[str, _Found]:
    taken = {name: entry.key("name") for entry in draft.entries for name in entry.names}
    found: dict[str, _Found] = {}
    for number, rack in enumerate(draft.part("racks")):
        for place, raw in enumerate((rack or {}).get("switches") or []):
            path = f"racks[{number}].switches[{place}]"
            name = (raw or {}).get("name")
            if not name:
                continue
            if name in taken:
                draft.problem(f"{path}.name", f"the name '{name}' is used twice", f"see {taken[name]}")
                continue
            taken[name] = f"{path}.name"
            found[name] = _Found(path, raw)
    return found


def _own(draft: Draft, found: _Found) -> None:
    raw, path = found.raw, found.path
    for network, address in (raw.get("addresses") or {}).items():
        where = f"{path}.addresses.{network}"
        if network not in draft.declared_networks:
            draft.problem(where, f"there is no network '{network}'", nearest(network, draft.declared_networks))
        elif network in draft.networks and netaddr.IPAddress(address) not in draft.networks[network]:
            draft.problem(where, f"{address} is outside networks.{network} ({draft.networks[network]})", "")
        elif (draft.part("networks", network)).get("vlan") is None:
            draft.problem(where, f"networks.{network} has no vlan", f"state networks.{network}.vlan")
    if raw.get("addresses") and raw.get("asn") is None and "asn" not in raw:
        draft.problem(f"{path}.asn", "missing", "a switch with addresses in networks routes, and needs an AS number")
    if raw.get("asn") and not raw.get("loopback"):
        draft.problem(f"{path}.loopback", "missing", "BGP needs an address of its own as router id")
    if raw.get("mlag") and raw.get("os") and raw["os"] not in _MLAG:
        draft.problem(
            f"{path}.mlag", f"os {raw['os']} has no MLAG", "give servers two BGP uplinks or an active-backup bond"
        )


def _end(
    draft: Draft, switches: dict[str, _Found], ports: dict[tuple[str, str], str], path: str, switch: str, port: str
) -> None:
    """One end of a cable at a switch: the switch is there, the port is one of it, and free."""
    if switch not in switches:
        draft.problem(path, f"there is no switch '{switch}'", nearest(switch, switches))
        return
    pattern, example = PORT_NAMES.get(switches[switch].raw.get("os", ""), (r".*", ""))
    if not re.fullmatch(pattern, port):
        os = switches[switch].raw["os"]
        draft.problem(path, f"'{port}' is no port of {switch} (os {os})", f"for example {example}")
    earlier = ports.setdefault((switch, port), path)
    if earlier != path:
        draft.problem(path, f"port {port} of {switch} has a cable already", f"see {earlier}; each cable once")


def _far_end(draft: Draft, switches: dict[str, _Found], ports: dict[tuple[str, str], str], path: str, far: str) -> None:
    switch, _colon, port = far.partition(":")
    _end(draft, switches, ports, path, switch, port)


def _server_cables(draft: Draft) -> Iterator[tuple[str, str]]:
    for entry in draft.entries:
        for port, far in (entry.raw.get("cables") or {}).items():
            path = entry.key("cables", port)
            try:
                yield from ((path, end) for end in cables_of(far, len(entry.names)))
            except RangeError as error:
                if entry.names:
                    draft.problem(path, error.message, error.hint)


def _pairs(draft: Draft, switches: dict[str, _Found]) -> None:
    domains: dict[int, list[_Found]] = {}
    for found in switches.values():
        if found.raw.get("mlag"):
            domains.setdefault(found.raw["mlag"], []).append(found)
    for domain, members in domains.items():
        path = f"{members[-1].path}.mlag"
        names = [member.raw["name"] for member in members]
        if len(members) != 2:
            draft.problem(path, f"MLAG domain {domain} has {len(members)} switches ({', '.join(names)})", "exactly two")
        elif len({member.raw.get("os") for member in members}) > 1:
            draft.problem(path, f"the pair {names[0]} and {names[1]} runs two operating systems", "one for both")
        elif not _cabled(members[0], names[1]) and not _cabled(members[1], names[0]):
            draft.problem(path, f"no cable joins the pair {names[0]} and {names[1]}", f"under {members[0].path}.cables")


def _cabled(found: _Found, other: str) -> bool:
    return any(far.partition(":")[0] == other for far in (found.raw.get("cables") or {}).values())


def _as_numbers(draft: Draft, switches: dict[str, _Found]) -> None:
    seen: dict[int, str] = {}
    first, node = draft.part("fabric").get("server_asn"), draft.networks.get("node")
    last = first + node.size - 1 if first and node is not None else 0
    if node is not None and last > 4294967294:
        draft.problem("fabric.server_asn", f"AS numbers of {node.size} servers end at {last}", "start lower")
    for found in switches.values():
        asn, path = found.raw.get("asn"), f"{found.path}.asn"
        if not asn:
            continue
        if seen.setdefault(asn, path) is not path:
            draft.problem(path, f"AS number {asn} is used twice", f"see {seen[asn]}")
        if first and first <= asn <= last:
            draft.problem(path, f"AS number {asn} is one of the servers' ({first} to {last})", "see fabric.server_asn")


def _links(draft: Draft) -> None:
    text = draft.part("fabric").get("links")
    if not text:
        return
    network, path = read_network(draft, text, "fabric.links"), "fabric.links"
    count = 2 * sum(len((raw or {}).get("cables") or {}) for raw in _raw_switches(draft))
    if network is not None and count > network.size:
        draft.problem(path, f"{network} has {network.size} addresses for {count} ends of links", "a larger one")


def _raw_switches(draft: Draft) -> Iterator[dict[str, Any]]:
    for rack in draft.part("racks"):
        yield from (raw or {} for raw in (rack or {}).get("switches") or [])


def _vlans(draft: Draft) -> None:
    seen: dict[int, str] = {}
    for name, raw in draft.part("networks").items():
        path = f"networks.{name}.vlan"
        if raw.get("untagged") and raw.get("vlan") is None:
            draft.problem(f"networks.{name}.untagged", "there is no vlan to leave untagged", f"state {path}")
        if raw.get("vlan") is not None and seen.setdefault(raw["vlan"], path) is not path:
            draft.problem(path, f"VLAN {raw['vlan']} is used twice", f"see {seen[raw['vlan']]}")
    for entry in draft.entries:
        used = [name for name in entry.raw.get("addresses") or {} if draft.part("networks", name).get("untagged")]
        if len(used) > 1:
            draft.problem(entry.key("addresses"), f"{' and '.join(used)} are both untagged", "one at most on a port")
        if not any(port != "bmc" for port in entry.raw.get("cables") or {}):
            continue
        if _routed(draft, entry):
            continue
        for name in entry.raw.get("addresses") or {}:
            if name in draft.networks and draft.part("networks", name).get("vlan") is None:
                draft.problem(f"networks.{name}.vlan", "missing", "switches that servers are cabled to need it")


def _outside(draft: Draft, switches: dict[str, _Found]) -> None:
    """Loopbacks, links and pools are in no other network."""
    ranges = [(f"networks.{name}.cidr", network) for name, network in draft.networks.items()]
    ranges += [(f"networks.{name}.ipv6.cidr", network) for name, network in draft.networks6.items()]
    for keys in (("pods",), ("services",), ("ipv6", "pods"), ("ipv6", "services")):
        if text := draft.part("cluster", "sdn", *keys):
            ranges.append((".".join(("cluster", "sdn", *keys)), netaddr.IPNetwork(text).cidr))
    mine = []
    if draft.part("fabric").get("links"):
        mine.append(("fabric.links", netaddr.IPNetwork(draft.part("fabric")["links"]).cidr))
    for number, pool in enumerate(draft.part("cluster", "load_balancer").get("pools") or []):
        if pool:
            path = f"cluster.load_balancer.pools[{number}]"
            mine.append((path, read_network(draft, pool, path)))
    for found in switches.values():
        if found.raw.get("loopback"):
            mine.append((f"{found.path}.loopback", netaddr.IPNetwork(found.raw["loopback"])))
    for path, network in mine:
        for other_path, other in ranges:
            if network in other or other in network:
                draft.problem(path, f"{network} overlaps {other_path} ({other})", "addresses of its own")
                break
        ranges.append((path, network))


def _routed(draft: Draft, entry: Entry) -> bool:
    """The server's ports are links with BGP and no bond."""
    network = draft.part("profiles", entry.raw.get("profile", "")).get("network") or {}
    return network.get("mode") == "bgp"


def _routed_servers(draft: Draft, switches: dict[str, _Found]) -> None:
    """What servers whose ports are links need: AS numbers, cables, switches that have routed links to servers."""
    entries = [entry for entry in draft.entries if _routed(draft, entry)]
    if not entries:
        return
    if not draft.part("fabric").get("server_asn"):
        draft.problem("fabric.server_asn", "missing", "profiles with network.mode bgp need AS numbers of servers")
    if draft.part("networks", "node") and not draft.part("networks", "node").get("gateway"):
        draft.problem("networks.node.gateway", "missing", "servers with network.mode bgp are installed through it")
    for entry in entries:
        cables = {port: far for port, far in (entry.raw.get("cables") or {}).items() if port != "bmc"}
        if not cables:
            draft.problem(entry.key("cables"), "missing", "the links of a server with network.mode bgp are its cables")
        for port, far in cables.items():
            found = switches.get(far.partition(":")[0])
            if found and (found.raw.get("os") != "linux" or not found.raw.get("asn")):
                message = f"{found.raw['name']} has no routed links to servers: os linux and an asn are needed"
                draft.problem(entry.key("cables", port), message, "another switch, or a bond in the profile")
        for name in entry.raw.get("addresses") or {}:
            if name != "node":
                draft.problem(
                    entry.key("addresses", name), "a server with network.mode bgp is in the network node only"
                )


def _ipv6(draft: Draft, switches: dict[str, _Found]) -> None:
    """Which switches are told of IPv6 routes."""
    if not draft.part("cluster", "sdn", "ipv6") and not draft.networks6:
        return
    for found in switches.values():
        if found.raw.get("asn") and found.raw.get("os") not in (None, "linux"):
            message = f"IPv6 routes are rendered for switches with os linux only, and {found.raw['name']} routes"
            draft.problem(f"{found.path}.os", message, "leave out ipv6 under networks and cluster.sdn")
    if draft.part("fabric").get("links"):
        message = "with IPv6 BGP between switches is unnumbered: these links have IPv4 addresses only"
        draft.problem("fabric.links", message, "leave it out")


def _overlay(draft: Draft) -> None:
    if not draft.part("cluster", "sdn").get("overlay"):
        return
    if draft.part("cluster", "sdn").get("masquerade") is False:
        message = "with an overlay nobody outside knows a way back to a pod"
        draft.problem("cluster.sdn.masquerade", message, "leave it out")
    mtu = draft.part("networks", "node").get("mtu")
    if mtu and mtu < _OVERLAY_MTU:
        draft.problem(
            "networks.node.mtu", f"{mtu} leaves packets of pods less than 1280 bytes", f"{_OVERLAY_MTU} or more"
        )
    # Rendered for those too and shown in namespaces, but not on servers yet.
    routed = next((entry for entry in draft.entries if entry.names and _routed(draft, entry)), None)
    if routed:
        message = f"not for servers with routed links yet, which {routed.names[0]} has"
        draft.problem(
            "cluster.sdn.overlay", message, "leave it out: there the fabric knows pods; or a bond in the profile"
        )
    elif draft.part("fabric").get("server_asn"):
        draft.problem("fabric.server_asn", "with an overlay servers speak BGP with no switch", "leave it out")


def _network_driver(draft: Draft) -> None:
    """What it brings others are given, and what it cannot be together with."""
    sdn = draft.part("cluster", "sdn")
    driver = sdn.get("driver")
    own = SDN_DRIVERS.get(driver, SdnDriver())
    refused = {
        "overlay": own.overlay and "is an overlay itself",
        "masquerade": own.masquerade and "gives packets to outside their server's address itself",
        "policies": own.policies and "enforces NetworkPolicy objects itself",
        "ipv6": not own.ipv6 and "is set up for IPv4 only so far",
    }
    for name, why in refused.items():
        if why and sdn.get(name) is not None:
            draft.problem(f"cluster.sdn.{name}", f"the network driver {driver} {why}", "leave it out")
    if not own.load_balancer and draft.part("cluster", "load_balancer").get("driver"):
        draft.problem("cluster.load_balancer.driver", f"not with the network driver {driver} yet", "leave it out")
    routed = next((entry for entry in draft.entries if entry.names and _routed(draft, entry)), None)
    if routed and not own.routed_links:
        message = f"{driver} is not for servers with routed links yet, which {routed.names[0]} has"
        draft.problem("cluster.sdn.driver", message, "bgp, or a bond in the profile")


def _load_balancer(draft: Draft, switches: dict[str, _Found]) -> None:
    """MetalLB speaks BGP with the FRR of each server, which tells the switches."""
    balancer, path = draft.part("cluster", "load_balancer"), "cluster.load_balancer"
    for number, pool in enumerate(balancer.get("pools") or []):
        for key, address in (("endpoint", draft.part("cluster").get("endpoint")), *draft.part("deploy").items()):
            where = "cluster.endpoint" if key == "endpoint" else f"deploy.{key}"
            if pool and key != "port" and address and netaddr.IPAddress(address) in netaddr.IPNetwork(pool):
                draft.problem(f"{path}.pools[{number}]", f"{pool} holds {where} ({address})", "addresses of its own")
        if pool and ":" in pool and not draft.part("cluster", "sdn", "ipv6"):
            draft.problem(f"{path}.pools[{number}]", f"{pool} is for Services with IPv6", "state cluster.sdn.ipv6")
    driver = balancer.get("driver")
    if not driver:
        return
    pools = [pool for pool in balancer.get("pools") or [] if pool]
    if pools and all(":" in pool for pool in pools):
        draft.problem(f"{path}.pools", "none of them is of IPv4", f"{driver} needs one, beside those of IPv6")
    if not balancer.get("pools"):
        draft.problem(f"{path}.pools", "missing", f"{driver} gives Services addresses of them")
    bonded = next((entry for entry in draft.entries if entry.names and not _routed(draft, entry)), None)
    if bonded:
        message = f"{driver} needs servers with routed links, which {bonded.names[0]} does not have"
        draft.problem(f"{path}.driver", message, "network.mode bgp in its profile; or no driver")
    taken = [(f"{found.path}.asn", found.raw.get("asn")) for found in switches.values()]
    for where, asn in taken:
        if asn in ASNS:
            draft.problem(where, f"AS number {asn} is one that {driver} speaks with on every server", "another one")


def _servers_have_peers(draft: Draft, switches: dict[str, _Found]) -> None:
    for entry in (entry for entry in draft.entries if not _routed(draft, entry)):
        far = {text.partition(":")[0] for port, text in (entry.raw.get("cables") or {}).items() if port != "bmc"}
        peers = [name for name in far if name in switches and _routes_node(switches[name])]
        if not peers and entry.names:
            message = f"{entry.names[0]} has no cable to a switch that routes the network node"
            draft.problem(entry.key("cables"), message, "a switch with asn and addresses.node; or no fabric.server_asn")


def _routes_node(found: _Found) -> bool:
    return bool(found.raw.get("asn") and (found.raw.get("addresses") or {}).get("node"))
