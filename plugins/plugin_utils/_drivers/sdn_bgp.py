# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network driver C(bgp) in its first form: pods are plain routes between the servers of one segment."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable

from .._site.model import Bond, Network, Server, Site

__all__ = ["cni_config", "networkd_files"]

BOND = "bond0"
_DIRECTORY = "/etc/systemd/network"
_Section = tuple[str, list[tuple[str, object]]]

_MODE_SETTINGS: dict[str, list[tuple[str, object]]] = {
    "802.3ad": [("LACPTransmitRate", "fast"), ("TransmitHashPolicy", "layer3+4"), ("MinLinks", 1)],
    "balance-xor": [("TransmitHashPolicy", "layer3+4")],
}


def cni_config(site: Site, server: Server) -> str:
    """The container network: each pod a point-to-point link, its address from the server's own range."""
    ptp = {
        "type": "ptp",
        "ipMasq": False,
        "mtu": site.networks["node"].mtu,
        "ipam": {
            "type": "host-local",
            # Not under /var: leases of pods that a reboot ended would keep their addresses for ever.
            "dataDir": "/run/cni-ipam-state",
            "ranges": [[{"subnet": server.pod_cidr}]],
            "routes": [{"dst": "::/0" if ":" in server.pod_cidr else "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "kiban", "plugins": [ptp, portmap]}, indent=2) + "\n"


def networkd_files(site: Site, server: Server) -> dict[str, str]:
    """Path to content, for systemd-networkd 257 or newer."""
    network = site.networks["node"]
    bond = site.profiles[server.profile].network
    device = f"{BOND}.{network.tag}" if network.tag is not None else BOND
    files = {
        "/etc/systemd/networkd.conf.d/10-kiban.conf": _global(),
        f"{_DIRECTORY}/10-{BOND}.netdev": _bond(bond, network),
        f"{_DIRECTORY}/20-{BOND}-members.network": _members(bond, network),
    }
    if network.tag is not None:
        files[f"{_DIRECTORY}/10-{device}.netdev"] = _text(
            [
                ("NetDev", [("Name", device), ("Kind", "vlan"), ("MTUBytes", network.mtu)]),
                ("VLAN", [("Id", network.tag)]),
            ]
        )
        files[f"{_DIRECTORY}/30-{BOND}.network"] = _text(
            [
                ("Match", [("Name", BOND)]),
                ("Link", [("RequiredForOnline", "no")]),
                ("Network", [("VLAN", device), ("LinkLocalAddressing", "no"), ("IPv6AcceptRA", "no")]),
            ]
        )
    files[f"{_DIRECTORY}/30-{device}.network"] = _addressed(site, server, network, device)
    return files


def _global() -> str:
    # A routing daemon's and the container network's routes are none of networkd's business.
    settings = [("ManageForeignRoutes", "no"), ("ManageForeignRoutingPolicyRules", "no"), ("IPv4Forwarding", "yes")]
    return _text([("Network", list(settings))])


def _bond(bond: Bond, network: Network) -> str:
    # Link state only: the kernel refuses a bond that watches links by MII and by ARP at once.
    settings = [("Mode", bond.mode), ("MIIMonitorSec", "100ms"), *_MODE_SETTINGS.get(bond.mode, [])]
    return _text([("NetDev", [("Name", BOND), ("Kind", "bond"), ("MTUBytes", network.mtu)]), ("Bond", list(settings))])


def _members(bond: Bond, network: Network) -> str:
    return _text(
        [
            # Ports only: a name pattern could match devices that are made later.
            ("Match", [("Name", " ".join(bond.members)), ("Type", "ether"), ("Kind", "!*")]),
            # A server whose second cable is out must still come up.
            ("Link", [("MTUBytes", network.mtu), ("RequiredForOnline", "no")]),
            ("Network", [("Bond", BOND), ("LinkLocalAddressing", "no")]),
        ]
    )


def _addressed(site: Site, server: Server, network: Network, device: str) -> str:
    prefix = ipaddress.ip_network(network.cidr).prefixlen
    settings: list[tuple[str, object]] = [("Address", f"{server.addresses['node']}/{prefix}")]
    if network.gateway:
        settings.append(("Gateway", network.gateway))
    settings += [("DNS", resolver) for resolver in site.dns]
    settings += [("LinkLocalAddressing", "no"), ("IPv6AcceptRA", "no")]
    sections: list[_Section] = [
        ("Match", [("Name", device)]),
        ("Link", [("MTUBytes", network.mtu)]),
        ("Network", settings),
    ]
    # What is sent to a pod that is gone must end here and not go round by the default route.
    own: list[tuple[str, object]] = [("Destination", server.pod_cidr), ("Type", "unreachable"), ("Metric", 4096)]
    sections.append(("Route", own))
    ways = _ways(site)
    return "\n".join([_text(sections), *(text for name, text in ways if name != server.name)])


_known_ways: list[tuple[Site, list[tuple[str, str]]]] = []


def _ways(site: Site) -> list[tuple[str, str]]:
    """Each server's name with the section that leads to its pods: rendered once a site, not once a pair of servers."""
    for known, ways in _known_ways:
        if known is site:
            return ways
    ways = [
        (
            other.name,
            _text([("Route", [("Destination", other.pod_cidr), ("Gateway", other.addresses["node"])])]),
        )
        for other in site.servers
    ]
    _known_ways[:] = [(site, ways)]
    return ways


def _text(sections: Iterable[_Section]) -> str:
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in settings) for name, settings in sections
    )
