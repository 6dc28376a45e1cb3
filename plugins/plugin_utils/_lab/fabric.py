# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""The switches of a site as namespaces, and its cables. The playbook fabric configures them as it does real ones.

Each cable is a bridge of two ports in one namespace, so that cables can be pulled and swapped with all ports still up.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._fabric.cables import cables
from .._fabric.derive import intents, ipv6
from .._fabric.intent import FabricError
from .._site.ipam import address6
from .._site.model import Network, Site, Switch
from .daemons import database, switch_daemons, switch_files

__all__ = ["Fabric", "LayoutError", "both", "end", "fabric"]

_INTERFACE_LENGTH = 15
_SWITCH = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.fib_multipath_hash_policy": "1",
    # What comes by one way may be answered by another one.
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    # The kernel sees what ports receive beside Open vSwitch in user space, and would answer for the switch's addresses
    # on whatever port it was asked.
    "net.ipv4.conf.all.arp_ignore": "1",
}
_SWITCH6 = {"net.ipv6.conf.all.forwarding": "1", "net.ipv6.fib_multipath_hash_policy": "1"}
_NO_IPV6 = {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}


class LayoutError(ValueError):
    """The rack cannot be built as it is described."""


@dataclass(frozen=True)
class Fabric:
    network: dict[str, Any]
    switches: list[dict[str, Any]]
    files: list[dict[str, str]]
    daemons: list[dict[str, Any]]


def end(name: str, netns: str, addresses: list[str] | None = None) -> dict[str, Any]:
    return {"name": name, "netns": netns, "addresses": addresses or []}


def both(network: Network, address: str) -> list[str]:
    """With prefix length: the address, and the IPv6 one in its place where the network has them."""
    found = [f"{address}/{network.cidr.partition('/')[2]}"]
    if network.ipv6:
        found.append(f"{address6(network, address)}/{network.ipv6.cidr.partition('/')[2]}")
    return found


def fabric(
    site: Site, settings: Mapping[str, Any], spaces: dict[str, str], servers: Sequence[Mapping[str, Any]]
) -> Fabric:
    """Namespaces of the switches are added to `spaces`. What is outside of the rack is on one switch's port."""
    strange = sorted(switch.name for switch in site.switches if switch.os != "linux")
    if strange:
        raise LayoutError(f"the lab's switches run Linux, and {', '.join(strange)} do not (os)")
    wires, names = spaces["tor"], [switch.name for switch in site.switches]
    for name in names:
        if name in spaces:
            raise LayoutError(f"a switch of the lab cannot be called {name}")
        spaces[name] = f"{settings['prefix']}-{name}"
    links, bridges = _cables(site, spaces, servers)
    bmc = ipaddress.ip_network(site.networks["bmc"].cidr)
    controllers = [f"{site.deploy.bmc_address}/{bmc.prefixlen}"]
    for port, space, addresses in (
        ("p-ctl-bmc", spaces["control"], controllers),
        ("p-bmc", spaces["bmc"], [f"{server.bmc.address}/{bmc.prefixlen}" for server in site.servers]),
    ):
        links.append({"mtu": 1500, "ends": [end(port, wires), end("bmc0", space, addresses)]})
    bridges.append({"name": "bmc", "netns": wires, "members": ["p-ctl-bmc", "p-bmc"]})
    router, network = _outside(site)
    outside = ipaddress.ip_network(network.cidr)
    gateway = router.addresses[network.name]
    ports = []
    # The last address that a host can have is that of "outside".
    for port, space, address in (
        ("p-control", spaces["control"], site.deploy.address),
        ("p-uplink", spaces["uplink"], str(outside[-2])),
    ):
        name = "node0" if port == "p-control" else "uplink0"
        ends = [end(port, spaces[router.name]), end(name, space, both(network, address))]
        links.append({"mtu": network.mtu, "ends": ends})
        ports.append({"name": port, "tag": network.vlan})
    routes = [{"netns": spaces["uplink"], "to": "default", "via": gateway}]
    if network.name != "node":
        routes.append({"netns": spaces["control"], "to": site.networks["node"].cidr, "via": gateway})
    if network.ipv6:
        gateway6, node6 = str(address6(network, gateway)), site.networks["node"].ipv6
        routes.append({"netns": spaces["uplink"], "to": "::/0", "via": gateway6})
        if network.name != "node" and node6:
            routes.append({"netns": spaces["control"], "to": node6.cidr, "via": gateway6})
    switch = {**_SWITCH, **_SWITCH6} if ipv6(site) else _SWITCH
    quiet = {name: {} if network.ipv6 and name in ("control", "uplink") else _NO_IPV6 for name in spaces}
    place = database(settings["directory"], router.name)
    return Fabric(
        network={
            "namespaces": [
                {"name": space, "sysctl": dict(switch if name in names else quiet[name])}
                for name, space in spaces.items()
            ],
            "links": links,
            "bridges": bridges,
            "routes": routes,
        },
        switches=[{"database": place, "netns": spaces[router.name], "ports": ports, "exclusive": False}],
        files=[item for name in names for item in switch_files(settings["directory"], name, spaces[name], settings)],
        daemons=[
            item for name in names for item in switch_daemons(settings["directory"], name, spaces[name], settings)
        ],
    )


def _cables(
    site: Site, spaces: Mapping[str, str], servers: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Links, and a bridge for each cable. Cables of BMCs are left out: those have a network of their own."""
    try:
        mtu = {(name, port.name): port.mtu for name, intent in intents(site).items() for port in intent.ports}
    except FabricError as exc:
        raise LayoutError(str(exc)) from exc
    taps = {server["name"]: iter(server["ports"]) for server in servers}
    wires, links, bridges = spaces["tor"], [], []
    for number, cable in enumerate((cable for cable in cables(site) if cable.kind != "bmc"), 1):
        members = []
        size = mtu[cable.far.device, cable.far.port]
        for place in (cable.near, cable.far):
            if place.device in taps:
                port = next(taps[place.device])
                links.append({"mtu": size, "ends": [end(port["tap"], wires)]})
                members.append(port["tap"])
                continue
            wire = _short(place.device, place.port)
            front = {**end(place.port, spaces[place.device]), "keep_addresses": True}
            links.append({"mtu": size, "ends": [front, end(wire, wires)]})
            members.append(wire)
        bridges.append({"name": f"cable{number}", "netns": wires, "members": members})
    for server in servers:
        # Ports without a cable are ports all the same.
        links += [{"mtu": port["mtu"], "ends": [end(port["tap"], wires)]} for port in taps[server["name"]]]
    return links, bridges


def _short(device: str, port: str) -> str:
    plain = f"{device}-{port}"
    if len(plain) <= _INTERFACE_LENGTH:
        return plain
    return f"{plain[:8]}{hashlib.sha256(plain.encode()).hexdigest()[:7]}"


def _outside(site: Site) -> tuple[Switch, Network]:
    """The switch that the control host is at, and the network."""
    address = ipaddress.ip_address(site.deploy.address)
    for network in site.networks.values():
        for switch in site.switches:
            if address in ipaddress.ip_network(network.cidr) and network.name in switch.addresses and network.vlan:
                return switch, network
    raise LayoutError(
        f"deploy.address {address} is in no network that a switch has an address in, so the lab has no place for the "
        "control host"
    )
