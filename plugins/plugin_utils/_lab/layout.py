# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""The virtual rack that stands for a site: namespaces, links, switch ports, servers. Nothing here touches a machine."""

from __future__ import annotations

import hashlib
import ipaddress
import uuid
from collections.abc import Mapping
from typing import Any

from .._fabric.derive import ipv6
from .._site.ipam import address6
from .._site.model import Server, Site
from .daemons import daemons, database, files, libvirt_uri, only_switch_daemons, router_files
from .fabric import LayoutError, both, end, fabric

__all__ = ["LayoutError", "layout"]

_NAMESPACE = uuid.UUID("6f0f3c1e-5d0c-5c60-9d2b-0d6a4b8d7a10")
_SERIAL_LENGTH = 20
_INTERFACE_LENGTH = 15
_FORWARD = {"net.ipv4.ip_forward": "1"}
_FORWARD6 = {"net.ipv6.conf.all.forwarding": "1"}
# Switch ports have no business with addresses of their own.
_NO_IPV6 = {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}


def layout(site: Site, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the lab modules get. The settings are described with the filter lab_layout.

    A site with switches gets those, with the cables of the model; another one gets one switch for all.
    """
    vlans, prefix, directory = settings["vlans"], settings["prefix"], settings["directory"]
    for name in ("bmc", "node"):
        if name not in site.networks or (name not in vlans and not site.switches):
            raise LayoutError(f"the lab needs a network '{name}' in the site model and in lab_vlans")
    spaces = {name: f"{prefix}-{name}" for name in ("control", "tor", "bmc", "uplink")}
    servers = [_server(site, server, settings["hardware"]) for server in site.servers]
    taps = [port["tap"] for server in servers for port in server["ports"]]
    if len(set(taps)) != len(taps):
        raise LayoutError("two servers have names that give the same interface name")
    common = {
        "namespaces": spaces,
        "servers": servers,
        "bmcs": [{"name": server["name"], "address": server["bmc"]} for server in servers],
        "uri": libvirt_uri(directory),
    }
    if site.switches:
        made = fabric(site, settings, spaces, servers)
        return {
            **common,
            "network": made.network,
            "switches": made.switches,
            "files": [*files(directory, servers, {}, settings), *made.files],
            "daemons": daemons(directory, spaces, servers, made.daemons),
        }
    bmc, node = (ipaddress.ip_network(site.networks[name].cidr) for name in ("bmc", "node"))
    gateway = {
        "bmc": f"{_first(bmc)}/{bmc.prefixlen}",
        "node": f"{site.networks['node'].gateway or _first(node)}/{node.prefixlen}",
    }
    gateways = [gateway["node"]]
    if six := site.networks["node"].ipv6:
        gateways.append(f"{six.gateway or _first(ipaddress.ip_network(six.cidr))}/{six.cidr.partition('/')[2]}")
    outside = ipaddress.ip_network(settings["uplink"])
    tor_uplink, uplink_address = (str(outside[1]), str(outside[2]))
    tor = spaces["tor"]

    # Each link into the switch: port, VLAN, and the interface at its other end.
    cables: list[tuple[str, str, str, str, list[str]]] = [
        ("p-ctl-bmc", "bmc", spaces["control"], "bmc0", [f"{site.deploy.bmc_address}/{bmc.prefixlen}"]),
        ("p-ctl-node", "node", spaces["control"], "node0", both(site.networks["node"], site.deploy.address)),
        ("p-bmc", "bmc", spaces["bmc"], "bmc0", [f"{server.bmc.address}/{bmc.prefixlen}" for server in site.servers]),
        ("p-vlan-bmc", "bmc", tor, f"vlan{vlans['bmc']}", [gateway["bmc"]]),
        ("p-vlan-node", "node", tor, f"vlan{vlans['node']}", gateways),
    ]
    links: list[dict[str, Any]] = [
        {"mtu": site.networks[network].mtu, "ends": [end(port, tor), end(name, space, addresses)]}
        for port, network, space, name, addresses in cables
    ]
    links.append(
        {
            "mtu": site.networks["node"].mtu,
            "ends": [
                end("uplink0", tor, [f"{tor_uplink}/{outside.prefixlen}"]),
                end("uplink0", spaces["uplink"], [f"{uplink_address}/{outside.prefixlen}"]),
            ],
        }
    )
    links += [{"mtu": site.networks["node"].mtu, "ends": [end(tap, tor)]} for tap in taps]
    ports = [{"name": port, "tag": vlans[network]} for port, network, *_rest in cables]
    ports += [{"name": tap, "tag": vlans["node"]} for tap in taps]
    return {
        **common,
        "network": {
            "namespaces": [{"name": space, "sysctl": _sysctl(name, ipv6(site))} for name, space in spaces.items()],
            "links": links,
            "bridges": [],
            "routes": [{"netns": spaces["uplink"], "to": "default", "via": tor_uplink}, *_ways_in(site, spaces)],
        },
        "switches": [{"database": database(directory), "netns": tor, "ports": ports, "exclusive": True}],
        "files": files(
            directory,
            servers,
            router_files("", "tor", settings, [] if site.cluster.sdn.hidden else _static_routes(site)),
            settings,
        ),
        "daemons": daemons(directory, spaces, servers, only_switch_daemons(directory, tor, settings)),
    }


def _sysctl(name: str, six: bool) -> dict[str, str]:
    """Of a namespace of a rack with one switch for all; C(six): of a site with IPv6."""
    if name == "tor":
        return {**_FORWARD, **(_FORWARD6 if six else _NO_IPV6)}
    return {} if six and name == "control" else dict(_NO_IPV6)


def _first(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    return str(network[1])


def _static_routes(site: Site) -> list[dict[str, str]]:
    """What can be known of the cluster: pods live behind their server, Services behind a control-plane server."""
    routes = [{"to": server.pod_cidr, "via": server.addresses["node"]} for server in site.servers]
    control_plane = sorted(site.with_role("control_plane"), key=lambda server: server.addresses["node"])
    routes += [{"to": site.cluster.sdn.services, "via": server.addresses["node"]} for server in control_plane]
    sdn = site.cluster.sdn
    if sdn.ipv6:
        vias = {server.name: str(address6(site.networks["node"], server.addresses["node"])) for server in site.servers}
        routes += [{"to": str(server.pod_cidr6), "via": vias[server.name]} for server in site.servers]
        routes += [{"to": sdn.ipv6.services, "via": vias[server.name]} for server in control_plane]
    return routes


def _ways_in(site: Site, spaces: Mapping[str, str]) -> list[dict[str, str]]:
    """With an overlay the switch knows no pods, but the control host is in the servers' segment."""
    routes = _static_routes(site) if site.cluster.sdn.hidden else []
    return [{"netns": spaces["control"], **route} for route in routes]


def _server(site: Site, server: Server, hardware: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = dict(hardware["default"])
    for role in server.roles:
        values.update(hardware.get(role, {}))
    identity = f"{site.name}/{server.name}"
    digest = hashlib.sha256(identity.encode()).hexdigest()
    disks = []
    for disk in values["disks"]:
        serial = str(disk["serial"]).replace("{name}", server.name).upper()
        if len(serial) > _SERIAL_LENGTH:
            raise LayoutError(
                f"serial number {serial} of server {server.name} is longer than {_SERIAL_LENGTH} characters, which "
                "disks cannot show; shorten the name of the server or the pattern in lab_hardware"
            )
        if disk["bus"] not in ("virtio", "scsi", "nvme"):
            raise LayoutError(f"disk bus '{disk['bus']}' in lab_hardware is not one of virtio, scsi, nvme")
        disks.append({"bus": disk["bus"], "size_gib": int(disk["size_gib"]), "serial": serial})
    ports = [
        {
            "mac": _mac(digest, number),
            "tap": _tap(server.name, digest, number),
            "mtu": site.networks["node"].mtu,
        }
        for number in range(1, (sum(port != "bmc" for port in server.cables) or int(values["ports"])) + 1)
    ]
    return {
        "name": server.name,
        "uuid": str(uuid.uuid5(_NAMESPACE, identity)),
        "bmc": server.bmc.address,
        "cpus": int(values["cpus"]),
        "memory_mib": int(values["memory_mib"]),
        "disks": disks,
        "ports": ports,
    }


def _mac(digest: str, number: int) -> str:
    return ":".join(["52:54", digest[0:2], digest[2:4], digest[4:6], f"{number:02x}"])


def _tap(name: str, digest: str, number: int) -> str:
    plain = f"{name}-p{number}"
    if len(plain) <= _INTERFACE_LENGTH:
        return plain
    return f"{name[:6]}{digest[:4]}-p{number}"
