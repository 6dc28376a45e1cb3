# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Pods in VXLAN between the servers, for fabrics that know nothing of them: what FRR is told.

BGP says which server has which range of pods, and nothing else (EVPN's IP prefix routes, RFC 9136). There is one VXLAN
for all, and it serves the main routing table: the host, kube-proxy and pods see plain routes.
"""

from __future__ import annotations

import ipaddress

from .._site.model import Server, Site
from .config import Block
from .intent import MARK
from .linux import bfd_profile

__all__ = [
    "BRIDGE",
    "OVERLAY_HEADERS",
    "PORT",
    "VNI",
    "VXLAN",
    "add_pods",
    "add_pods6",
    "add_sessions",
    "add_what_is_told",
    "host_address",
    "only_overlay",
    "pod_mtu",
    "router_mac",
]

BRIDGE, VXLAN = "kiban-pods", "kiban-vxlan"
VNI, PORT = 4097, 4789
# Ethernet 14, IPv4 20, UDP 8, VXLAN 8 (RFC 7348).
OVERLAY_HEADERS = 50
# Of the first address of the node network, where the model has no AS numbers of servers: for private use (RFC 6996).
_FIRST_ASN = 4200000000
_NODES, _PODS, _PODS6 = f"{MARK}-NODES", f"{MARK}-PODS", f"{MARK}-PODS6"


def pod_mtu(site: Site) -> int:
    """Bytes of the largest packet of a pod."""
    return site.networks["node"].mtu - (OVERLAY_HEADERS if site.cluster.sdn.overlay else 0)


def host_address(pod_cidr: str) -> str:
    """Of the server among its pods, and their gateway: so what answers the server comes by the overlay too."""
    return str(ipaddress.ip_network(pod_cidr)[1])


def router_mac(server: Server) -> str:
    """Of the server in the overlay: a locally administered address that holds its IPv4 address.

    Routes that name a server's own one are dropped by it, so that no two servers may have the same.
    """
    parts = ipaddress.IPv4Address(server.addresses["node"]).packed
    return ":".join(["02", "00", *(f"{part:02x}" for part in parts)])


def only_overlay(site: Site, server: Server) -> str:
    """FRR's whole configuration, for version 8.4 or newer, of a server that speaks BGP with no switch."""
    out = Block()
    add_what_is_told(out, server)
    bfd_profile(out, site.fabric.bfd_interval, site.fabric.bfd_multiplier)
    node = ipaddress.ip_network(site.networks["node"].cidr)
    place = int(ipaddress.ip_address(server.addresses["node"])) - int(node[0])
    bgp = out.under(f"router bgp {_FIRST_ASN + place}", "exit")
    bgp(f"bgp router-id {server.addresses['node']}", "no bgp ebgp-requires-policy")
    add_sessions(bgp, site, server, hops=1)
    add_pods(bgp.under("address-family ipv4 unicast", "exit-address-family"), server)
    if server.pod_cidr6:
        add_pods6(bgp.under("address-family ipv6 unicast", "exit-address-family"), server)
    return str(out)


def add_what_is_told(out: Block, server: Server) -> None:
    """To the lines outside of C(router bgp): its own range and nothing else, whatever it hears from elsewhere."""
    out(f"vni {VNI}", f"ip prefix-list {_PODS} seq 5 permit {server.pod_cidr}")
    if server.pod_cidr6:
        out(f"ipv6 prefix-list {_PODS} seq 5 permit {server.pod_cidr6}")
        out.under(f"route-map {_PODS6} permit 10", "exit")(f"match ipv6 address prefix-list {_PODS}")
    out.under(f"route-map {_PODS} permit 10", "exit")(f"match ip address prefix-list {_PODS}")


def add_pods(family: Block, server: Server) -> None:
    """To C(address-family ipv4 unicast): from there EVPN takes the range, and nobody else gets it."""
    family(f"network {server.pod_cidr}", f"no neighbor {_NODES} activate")


def add_pods6(family: Block, server: Server) -> None:
    """To C(address-family ipv6 unicast), where no neighbor is active by itself."""
    family(f"network {server.pod_cidr6}" if server.pod_cidr6 else "")


def add_sessions(bgp: Block, site: Site, server: Server, hops: int) -> None:
    """To C(router bgp): with control-plane servers, which pass on what they hear; of one of those, with all servers.

    They are external BGP: with internal BGP in one segment FRR 10.3 begins with BFD of many hops and goes on with BFD
    of one, and the two ends may never agree.
    """
    leads = "control_plane" in server.roles
    bgp(f"neighbor {_NODES} peer-group", f"neighbor {_NODES} remote-as external")
    bgp(f"neighbor {_NODES} ebgp-multihop {hops}" if hops > 1 else "")
    bgp(f"neighbor {_NODES} update-source {server.addresses['node']}", f"neighbor {_NODES} timers connect 10")
    bgp(f"neighbor {_NODES} bfd", f"neighbor {_NODES} bfd profile {MARK}")
    others = site.servers if leads else site.with_role("control_plane")
    bgp(*(f"neighbor {one.addresses['node']} peer-group {_NODES}" for one in others if one.name != server.name))
    family = bgp.under("address-family l2vpn evpn", "exit-address-family")
    # What is passed on keeps its next hop in this family.
    family(f"neighbor {_NODES} activate", "advertise-all-vni", f"advertise ipv4 unicast route-map {_PODS}")
    family(f"advertise ipv6 unicast route-map {_PODS6}" if site.cluster.sdn.ipv6 else "")
