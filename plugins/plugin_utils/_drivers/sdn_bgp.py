# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network driver C(bgp): pods are plain routes.

Between the servers of one segment they are written down; servers whose ports are routed links announce theirs by BGP.
With an overlay servers tell each other by BGP, and the fabric sees packets between servers only.
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable

from .._fabric.derive import ipv6, routed_to_servers, whole_pools
from .._fabric.host import frr_config
from .._fabric.overlay import BRIDGE, PORT, VNI, VXLAN, host_address, pod_mtu, router_mac
from .._probe.routing import FRR_CONF
from .._site import balancer
from .._site.ipam import address6
from .._site.model import Bond, Network, Server, Site

__all__ = ["cni_config", "networkd_files", "router_files"]

BOND = "bond0"
_DIRECTORY = "/etc/systemd/network"
_Section = tuple[str, list[tuple[str, object]]]


def _nothing_else(six: bool = False) -> list[tuple[str, object]]:
    """No address but those of the model. With IPv6 (C(six)) a link-local one: without it the kernel forwards nothing,
    as it asks for the next hop's link address by that."""
    return [("LinkLocalAddressing", "ipv6" if six else "no"), ("IPv6AcceptRA", "no")]


_MODE_SETTINGS: dict[str, list[tuple[str, object]]] = {
    "802.3ad": [("LACPTransmitRate", "fast"), ("TransmitHashPolicy", "layer3+4"), ("MinLinks", 1)],
    "balance-xor": [("TransmitHashPolicy", "layer3+4")],
}


def cni_config(site: Site, server: Server) -> str:
    """The container network: each pod a point-to-point link, its address from the server's own range."""
    ptp = {
        "type": "ptp",
        "ipMasq": False,
        "mtu": pod_mtu(site),
        "ipam": {
            "type": "host-local",
            # Not under /var: leases of pods that a reboot ended would keep their addresses for ever.
            "dataDir": "/run/cni-ipam-state",
            "ranges": [[{"subnet": subnet}] for subnet in server.pod_cidrs],
            "routes": [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in server.pod_cidrs],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "kiban", "plugins": [ptp, portmap]}, indent=2) + "\n"


def networkd_files(site: Site, server: Server) -> dict[str, str]:
    """Path to content, for systemd-networkd 257 or newer.

    All networks of the server are on one bond: tagged ones as devices of their own, the others on the bond itself.
    Without a bond the server's address is its own, on no port.
    """
    node, overlay = site.networks["node"], _overlay(site, server) if site.cluster.sdn.overlay else {}
    if routed_to_servers(site, server):
        return {**_routed(site, server, node), **overlay}
    networks = [node, *(site.networks[name] for name in server.addresses if name != "node")]
    bond = site.profiles[server.profile].network
    mtu = max(network.mtu for network in networks)
    files = {
        "/etc/systemd/networkd.conf.d/10-kiban.conf": _global(site),
        f"{_DIRECTORY}/10-{BOND}.netdev": _bond(bond, mtu),
        f"{_DIRECTORY}/20-{BOND}-members.network": _members(bond, mtu, heard=bool(server.cables)),
        **overlay,
    }
    tagged = [network for network in networks if network.tag is not None]
    for network in tagged:
        files[f"{_DIRECTORY}/10-{_device(network)}.netdev"] = _text(
            [
                ("NetDev", [("Name", _device(network)), ("Kind", "vlan"), ("MTUBytes", network.mtu)]),
                ("VLAN", [("Id", network.tag)]),
            ]
        )
        files[f"{_DIRECTORY}/30-{_device(network)}.network"] = (
            _node(site, server, network, [], network.ipv6 is not None) if network is node else _other(server, network)
        )
    below: list[tuple[str, object]] = [("VLAN", _device(network)) for network in tagged]
    for network in networks:
        if network.tag is None and network is not node:
            below += [("Address", address) for address in _addresses(server, network)]
    if node.tag is None:
        six = any(network.ipv6 for network in networks if network.tag is None)
        files[f"{_DIRECTORY}/30-{BOND}.network"] = _node(site, server, node, below, six, mtu)
    else:
        files[f"{_DIRECTORY}/30-{BOND}.network"] = _text(
            [
                ("Match", [("Name", BOND)]),
                ("Link", [("RequiredForOnline", "no")]),
                ("Network", [*below, *_nothing_else(any(one.ipv6 for one in networks if one.tag is None))]),
            ]
        )
    return files


_PATIENT = 'watchfrr_options="--restart-timeout=600"\n'
"""After its 90 seconds watchfrr ends the start of the daemons half-way, and some then run without a configuration."""


def router_files(site: Site, server: Server) -> dict[str, str]:
    """Files of FRR, version 8.4 or newer, of a server that speaks BGP with its switches or others; else none."""
    routed = routed_to_servers(site, server)
    if not routed and not site.cluster.sdn.overlay:
        return {}
    files = {
        "/etc/frr/daemons": f"bgpd=yes\nbfdd=yes\nvtysh_enable=yes\n{_PATIENT}",
        FRR_CONF: f"frr defaults traditional\nservice integrated-vtysh-config\n{frr_config(site, server)}",
    }
    if routed:
        # Flows use all links; what comes back may come by another one.
        files["/etc/sysctl.d/95-kiban-links.conf"] = (
            "net.ipv4.fib_multipath_hash_policy = 1\nnet.ipv4.conf.all.rp_filter = 0\n"
            "net.ipv4.conf.default.rp_filter = 0\n" + ("net.ipv6.fib_multipath_hash_policy = 1\n" if ipv6(site) else "")
        )
    return files


def _routed(site: Site, server: Server, node: Network) -> dict[str, str]:
    ports = [port for port in server.cables if port != "bmc"]
    loopback: list[_Section] = [
        ("Match", [("Name", "lo")]),
        ("Network", [*_whole(_addresses(server, node)), *(("DNS", resolver) for resolver in site.dns)]),
        # What is sent to a pod that is gone must end here. BGP announces the range as long as this is there.
        *_unreachable(server),
    ]
    links: list[_Section] = [
        ("Match", [("Name", " ".join(ports))]),
        ("Link", [("MTUBytes", node.mtu), ("RequiredForOnline", "no")]),
        # FRR speaks with its neighbours over link-local addresses, and finds them by router advertisements itself.
        (
            "Network",
            [("LinkLocalAddressing", "ipv6"), ("IPv6AcceptRA", "no"), ("EmitLLDP", "nearest-bridge")],
        ),
    ]
    return {
        "/etc/systemd/networkd.conf.d/10-kiban.conf": _global(site),
        f"{_DIRECTORY}/20-links.network": _text(links),
        f"{_DIRECTORY}/30-lo.network": _text(loopback),
        **(_balancer(whole_pools(site, server)) if site.cluster.load_balancer else {}),
    }


def _balancer(pools: Iterable[str]) -> dict[str, str]:
    """The device on which the load balancer's speaker and FRR meet, and where packets to nobody in C(pools) end."""
    device, name = balancer.DEVICE, ("Name", balancer.DEVICE)
    address = f"{balancer.FRR_ADDRESS}/{balancer.NETWORK.partition('/')[2]}"
    network: list[_Section] = [
        ("Match", [name]),
        ("Link", [("RequiredForOnline", "no")]),
        ("Network", _nothing_else()),
        # Its scope keeps it from being the source of what goes elsewhere.
        ("Address", [("Address", address), ("Scope", "link")]),
    ]
    # Without a route the server itself could not ask such a Service: kube-proxy translates what has one.
    network += [("Route", [("Destination", pool)]) for pool in pools]
    return {
        f"{_DIRECTORY}/10-{device}.netdev": _text([("NetDev", [name, ("Kind", "dummy")])]),
        f"{_DIRECTORY}/30-{device}.network": _text(network),
    }


def _overlay(site: Site, server: Server) -> dict[str, str]:
    """One VXLAN in a bridge. FRR writes who is behind it; nothing is learned from packets, and nothing is flooded."""
    mtu = ("MTUBytes", pod_mtu(site))
    tunnel: list[tuple[str, object]] = [("VNI", VNI), ("Local", server.addresses["node"]), ("DestinationPort", PORT)]
    tunnel += [("MacLearning", "no"), ("Independent", "yes")]
    link: list[tuple[str, object]] = [mtu, ("RequiredForOnline", "no")]
    return {
        f"{_DIRECTORY}/10-{BRIDGE}.netdev": _text(
            [("NetDev", [("Name", BRIDGE), ("Kind", "bridge"), mtu, ("MACAddress", router_mac(server))])]
        ),
        f"{_DIRECTORY}/10-{VXLAN}.netdev": _text(
            [("NetDev", [("Name", VXLAN), ("Kind", "vxlan"), mtu]), ("VXLAN", tunnel)]
        ),
        f"{_DIRECTORY}/30-{BRIDGE}.network": _text(
            [
                ("Match", [("Name", BRIDGE)]),
                ("Link", link),
                ("Network", [*_whole(host_address(pods) for pods in server.pod_cidrs), *_nothing_else()]),
            ]
        ),
        f"{_DIRECTORY}/30-{VXLAN}.network": _text(
            [
                ("Match", [("Name", VXLAN)]),
                ("Link", link),
                ("Network", [("Bridge", BRIDGE), ("LinkLocalAddressing", "no")]),
                ("Bridge", [("Learning", "no")]),
            ]
        ),
    }


def _device(network: Network) -> str:
    return BOND if network.tag is None else f"{BOND}.{network.tag}"


def _addresses(server: Server, network: Network) -> list[str]:
    """Of the server in the network, with prefix length: of IPv4, and of IPv6 where the network has it."""
    own = server.addresses[network.name]
    found = [f"{own}/{ipaddress.ip_network(network.cidr).prefixlen}"]
    if network.ipv6 is not None:
        found.append(f"{address6(network, own)}/{ipaddress.ip_network(network.ipv6.cidr).prefixlen}")
    return found


def _whole(addresses: Iterable[str]) -> list[tuple[str, object]]:
    """Each one as a network of its own."""
    bare = (address.partition("/")[0] for address in addresses)
    return [("Address", f"{address}/{ipaddress.ip_address(address).max_prefixlen}") for address in bare]


def _unreachable(server: Server) -> list[_Section]:
    return [("Route", [("Destination", pods), ("Type", "unreachable"), ("Metric", 4096)]) for pods in server.pod_cidrs]


def _global(site: Site) -> str:
    # A routing daemon's and the container network's routes are none of networkd's business. Without nexthops, which
    # networkd removes as well when it starts, the kernel drops the daemon's routes (systemd 256, networkd.conf(5)).
    foreign = [(f"ManageForeign{what}", "no") for what in ("Routes", "RoutingPolicyRules", "NextHops")]
    forwarding = [("IPv4Forwarding", "yes"), *([("IPv6Forwarding", "yes")] if site.cluster.sdn.ipv6 else [])]
    return _text([("Network", [*foreign, *forwarding])])


def _bond(bond: Bond, mtu: int) -> str:
    # Link state only: the kernel refuses a bond that watches links by MII and by ARP at once.
    settings = [("Mode", bond.mode), ("MIIMonitorSec", "100ms"), *_MODE_SETTINGS.get(bond.mode, [])]
    return _text([("NetDev", [("Name", BOND), ("Kind", "bond"), ("MTUBytes", mtu)]), ("Bond", list(settings))])


def _members(bond: Bond, mtu: int, heard: bool) -> str:
    # So that switches can tell whether the cables are those of the model.
    told: list[tuple[str, object]] = [("EmitLLDP", "nearest-bridge")] if heard else []
    return _text(
        [
            # Ports only: a name pattern could match devices that are made later.
            ("Match", [("Name", " ".join(bond.members)), ("Type", "ether"), ("Kind", "!*")]),
            # A server whose second cable is out must still come up.
            ("Link", [("MTUBytes", mtu), ("RequiredForOnline", "no")]),
            ("Network", [("Bond", BOND), ("LinkLocalAddressing", "no"), *told]),
        ]
    )


def _other(server: Server, network: Network) -> str:
    """A network beside that of the nodes. Its gateway is none of the server's: there is one default route."""
    six = network.ipv6 is not None
    return _text(
        [
            ("Match", [("Name", _device(network))]),
            # A storage network that is out must not keep the server from its cluster.
            ("Link", [("MTUBytes", network.mtu), ("RequiredForOnline", "no")]),
            ("Network", [*(("Address", address) for address in _addresses(server, network)), *_nothing_else(six)]),
        ]
    )


def _node(
    site: Site,
    server: Server,
    network: Network,
    below: list[tuple[str, object]],
    six: bool,
    link_mtu: int | None = None,
) -> str:
    """The network of the nodes, on a device that may carry larger packets for others, and what else is on it."""
    mtu = network.mtu if link_mtu is None else link_mtu
    addresses, smaller = _addresses(server, network), mtu > network.mtu
    gateways = [network.gateway, network.ipv6.gateway] if network.ipv6 else [network.gateway]
    settings: list[tuple[str, object]] = [] if smaller else [("Address", address) for address in addresses]
    settings += [("Gateway", gateway) for gateway in gateways if gateway and not smaller]
    settings += [("DNS", resolver) for resolver in site.dns]
    settings += [*below, *_nothing_else(six)]
    sections: list[_Section] = [
        ("Match", [("Name", _device(network))]),
        ("Link", [("MTUBytes", mtu)]),
        ("Network", settings),
    ]
    if smaller:
        limit = ("MTUBytes", network.mtu)
        for address, gateway in zip(addresses, gateways, strict=True):
            place = ipaddress.ip_interface(address)
            sections.append(("Address", [("Address", address), ("AddPrefixRoute", "no")]))
            # IPv6 has no such scope.
            scope = [("Scope", "link")] if place.version == 4 else []
            source = ("PreferredSource", str(place.ip))
            sections.append(("Route", [("Destination", str(place.network)), *scope, source, limit]))
            if gateway:
                sections.append(("Route", [("Gateway", gateway), limit]))
    # What is sent to a pod that is gone must end here and not go round by the default route.
    sections += _unreachable(server)
    ways = [] if site.cluster.sdn.hidden else _ways(site)
    return "\n".join([_text(sections), *(text for name, text in ways if name != server.name)])


_known_ways: list[tuple[Site, list[tuple[str, str]]]] = []


def _ways(site: Site) -> list[tuple[str, str]]:
    """Each server's name with the section that leads to its pods: rendered once a site, not once a pair of servers."""
    for known, ways in _known_ways:
        if known is site:
            return ways
    ways = [(other.name, _way(site.networks["node"], other)) for other in site.servers]
    _known_ways[:] = [(site, ways)]
    return ways


def _way(node: Network, server: Server) -> str:
    gateways = [server.addresses["node"], address6(node, server.addresses["node"])]
    pairs = zip(server.pod_cidrs, gateways, strict=False)
    return _text([("Route", [("Destination", pods), ("Gateway", gateway)]) for pods, gateway in pairs])


def _text(sections: Iterable[_Section]) -> str:
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in settings) for name, settings in sections
    )
