# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""The other end of the sessions that switches have with servers: FRR's configuration on a server."""

from __future__ import annotations

from .._site import balancer
from .._site.model import Server, Site
from .cables import cables
from .config import Block, filter_rules, prefix_lists
from .derive import (
    announcements,
    endpoint_rules,
    intents,
    ipv6,
    owned,
    pool_rules,
    routed_to_servers,
    server_asn,
    whole_pools,
)
from .intent import MARK, FabricError, Filter, Intent
from .linux import bfd_profile
from .overlay import add_pods, add_pods6, add_sessions, add_what_is_told, only_overlay

__all__ = ["frr_config"]

_SWITCHES, _OWN, _ENDPOINT = f"{MARK}-SWITCHES", f"{MARK}-OWN", f"{MARK}-ENDPOINT"
# Between any two servers of a site.
_HOPS = 16
_SPEAKER, _POOLS, _NOTHING = f"{MARK}-SPEAKER", f"{MARK}-POOLS", f"{MARK}-NOTHING"


def frr_config(site: Site, server: Server, switches: dict[str, Intent] | None = None) -> str:
    """The whole file, for FRR 8.4 or newer. `switches` are the intents, where the caller has them.

    The server announces no more than the filter of its switches lets through, so a wrong route ends on the server.
    FabricError where it has no switch to speak with.
    """
    asn, overlay = server_asn(site, server), site.cluster.sdn.overlay is not None
    if overlay and not routed_to_servers(site, server):
        return only_overlay(site, server)
    if routed_to_servers(site, server):
        peers = _links(site, server)
    else:
        peers = _peers(site, server, switches if switches is not None else intents(site))
    if asn is None or not peers:
        raise FabricError(f"{server.name} has no switch to speak BGP with: fabric.server_asn, cables, a switch's asn")
    out = Block()
    rules = Filter(_OWN, announcements(site, server))
    out(*prefix_lists(rules))
    endpoint = endpoint_rules(site, server)
    if endpoint:
        rules = Filter(_ENDPOINT, endpoint)
        out(*(f"ip prefix-list {_ENDPOINT} seq {number} {rule}" for number, rule in filter_rules(rules)))
        out.under(f"route-map {_ENDPOINT} permit 10", "exit")(f"match ip address prefix-list {_ENDPOINT}")
    if overlay:
        add_what_is_told(out, server)
    mine = owned(site, server)
    speaker = site.cluster.load_balancer is not None
    if speaker:
        _what_the_speaker_may(out, site)
    bfd_profile(out, site.fabric.bfd_interval, site.fabric.bfd_multiplier)
    bgp = out.under(f"router bgp {asn}", "exit")
    # What the server takes, its switches have taken before; what it gives, the prefix list says.
    bgp(f"bgp router-id {server.addresses['node']}", "no bgp ebgp-requires-policy")
    bgp("bgp bestpath as-path multipath-relax")
    # Services have no route that could be looked for: kube-proxy answers for them.
    services = {rule.prefix for rule in mine} & set(site.cluster.sdn.service_networks)
    bgp("no bgp network import-check" if services else "")
    bgp(f"neighbor {_SWITCHES} peer-group", f"neighbor {_SWITCHES} bfd", f"neighbor {_SWITCHES} bfd profile {MARK}")
    for peer, number in peers:
        if routed_to_servers(site, server):
            bgp(f"neighbor {peer} interface peer-group {_SWITCHES}", f"neighbor {peer} remote-as {number}")
        else:
            bgp(f"neighbor {peer} remote-as {number}", f"neighbor {peer} peer-group {_SWITCHES}")
    if speaker:
        _speaker(bgp)
    if overlay:
        add_sessions(bgp, site, server, hops=_HOPS)
    family = bgp.under("address-family ipv4 unicast", "exit-address-family")
    family(*(f"network {rule.prefix}" for rule in mine if rule.version == 4))
    # It is there while the API server is ready: see _endpoint.
    family(f"redistribute connected route-map {_ENDPOINT}" if endpoint else "")
    family(f"neighbor {_SWITCHES} prefix-list {_OWN} out")
    if speaker:
        family(f"neighbor {_SPEAKER} route-map {_POOLS} in", f"neighbor {_SPEAKER} route-map {_NOTHING} out")
    family("maximum-paths 64")
    if overlay:
        add_pods(family, server)
    if ipv6(site):
        family = bgp.under("address-family ipv6 unicast", "exit-address-family")
        family(*(f"network {rule.prefix}" for rule in mine if rule.version == 6))
        family(*(f"network {pool}" for pool in whole_pools(site, server)))
        family(f"neighbor {_SWITCHES} activate", f"neighbor {_SWITCHES} prefix-list {_OWN} out")
        family("maximum-paths 64")
        if overlay:
            add_pods6(family, server)
    return str(out)


def _what_the_speaker_may(out: Block, site: Site) -> None:
    """Announce addresses of the pools, and hear nothing."""
    rules = Filter(_POOLS, pool_rules(site))
    out(*(f"ip prefix-list {_POOLS} seq {number} {rule}" for number, rule in filter_rules(rules)))
    out.under(f"route-map {_POOLS} permit 10", "exit")(
        f"match ip address prefix-list {_POOLS}", f"set ip next-hop {balancer.NEXT_HOP}"
    )
    out.under(f"route-map {_NOTHING} deny 10", "exit")


def _speaker(bgp: Block) -> None:
    """The load balancer's speaker calls; who calls from the device without a wire is it."""
    bgp(
        f"neighbor {_SPEAKER} peer-group",
        f"neighbor {_SPEAKER} remote-as {balancer.SPEAKER_ASN}",
        f"neighbor {_SPEAKER} local-as {balancer.FRR_ASN} no-prepend replace-as",
        f"neighbor {_SPEAKER} passive",
        f"neighbor {_SPEAKER} ebgp-multihop 2",
        f"bgp listen range {balancer.NETWORK} peer-group {_SPEAKER}",
    )


def _links(site: Site, server: Server) -> list[tuple[str, int]]:
    """Own port and the AS number of the switch at its other end."""
    asns = {switch.name: switch.asn for switch in site.switches}
    ways = [(port, asns[far.partition(":")[0]]) for port, far in server.cables.items() if port != "bmc"]
    return [(port, asn) for port, asn in ways if asn is not None]


def _peers(site: Site, server: Server, switches: dict[str, Intent]) -> list[tuple[str, int]]:
    """Address and AS number of each switch that has a session with this server."""
    found: dict[str, int] = {}
    for cable in cables(site):
        if cable.near.device != server.name or cable.kind != "data":
            continue
        bgp = switches[cable.far.device].bgp
        theirs = {neighbor.accept for neighbor in bgp.neighbors} if bgp else ()
        if bgp and f"{MARK}-{server.name}" in theirs:
            switch = next(one for one in site.switches if one.name == cable.far.device)
            found[switch.addresses["node"]] = bgp.asn
    return list(found.items())
