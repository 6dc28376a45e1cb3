# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Driver for Arista EOS: the lines of its running configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from ...module_utils._switch_lines import EOS, paths
from .config import LINKS, SERVERS, Block, Config, Tree, filter_rules, group_of, rule_of
from .intent import (
    JUMBO_MTU,
    MLAG_VLAN,
    Bgp,
    FabricError,
    Filter,
    Intent,
    Lag,
    Mlag,
    Neighbor,
    Port,
    Svi,
    Vlan,
    natural,
)
from .switchport import describe, parse_port, parse_vlans, vlans

__all__ = ["LINES", "TABLES", "parse", "render"]

LINES, TABLES = EOS, None

_One = TypeVar("_One", Port, Lag)

_LARGEST = 9214
"""MTU in bytes: what ports have where the model asks for C(JUMBO_MTU)."""


def render(intent: Intent) -> Config:
    out = Block(step=3)
    for vlan in intent.vlans:
        out.under(f"vlan {vlan.number}")(f"name {vlan.name}")
    for lag in intent.lags:
        lines = out.under(f"interface Port-Channel{lag.number}")
        lines(f"description {lag.description}", f"mtu {_mtu(lag)}", *_vlans(lag))
        lines(f"mlag {lag.number}" if lag.mlag else "")
    for port in intent.ports:
        _port(out.under(f"interface {port.name}"), port)
    if intent.loopback:
        out.under("interface Loopback0")(f"ip address {intent.loopback}/32")
    for svi in intent.svis:
        if svi.mtu > _LARGEST:
            raise FabricError(
                f"{intent.name}: EOS has no MTU above {_LARGEST}; the network of VLAN {svi.vlan} has {svi.mtu}"
            )
        out.under(f"interface Vlan{svi.vlan}")(f"mtu {svi.mtu}", f"ip address {svi.address}")
    if intent.mlag:
        _mlag(out, intent, intent.mlag)
    out("lldp run")
    if intent.bgp:
        _bgp(out, intent.bgp)
    return Config(text=str(out))


def _mtu(port: Port | Lag) -> int:
    return _LARGEST if port.mtu == JUMBO_MTU else port.mtu


def _vlans(port: Port | Lag) -> list[str]:
    mode, lines = vlans(port)
    return [*lines, f"switchport mode {mode}"]


def _port(out: Block, port: Port) -> None:
    # "l2 mtu" is not there on every platform; where it is not, ports without it forward jumbo frames all the same.
    out(f"description {port.description}", f"mtu {_mtu(port)}")
    if port.lag is not None:
        out(f"channel-group {port.lag} mode active")
    elif port.routed:
        out("no switchport", f"ip address {port.address}" if port.address else "ipv6 enable")
    else:
        out(*_vlans(port))


def _mlag(out: Block, intent: Intent, mlag: Mlag) -> None:
    peer_link = next(lag.number for lag in intent.lags if lag.peer_link)
    out.under(f"interface Vlan{MLAG_VLAN}")(f"ip address {mlag.local}/31")
    lines = out.under("mlag configuration")
    lines(f"domain-id {mlag.domain}", f"local-interface Vlan{MLAG_VLAN}", f"peer-address {mlag.peer}")
    lines(f"peer-address heartbeat {mlag.keepalive}", f"peer-link Port-Channel{peer_link}")


def _bgp(out: Block, bgp: Bgp) -> None:
    # IPv4 over unnumbered links (RFC 5549); whoever is at the other end is looked for only where IPv6 is routed.
    unnumbered = any(neighbor.peer.startswith("Ethernet") for neighbor in bgp.neighbors)
    out(*(["ip routing ipv6 interfaces", "ipv6 unicast-routing"] if unnumbered else ["ip routing"]))
    for one in bgp.filters:
        out.under(f"ip prefix-list {one.name}")(*(f"seq {number} {rule}" for number, rule in filter_rules(one)))
    interval = bgp.bfd_interval
    out.under("router bfd")(f"interval {interval} min-rx {interval} multiplier {bgp.bfd_multiplier} default")
    lines = out.under(f"router bgp {bgp.asn}")
    lines(f"router-id {bgp.router_id}", "maximum-paths 64 ecmp 64")
    for group in (LINKS, SERVERS):
        lines(f"neighbor {group} peer group", f"neighbor {group} bfd")
    for neighbor in bgp.neighbors:
        if neighbor.peer.startswith("Ethernet"):
            lines(f"neighbor interface {neighbor.peer} peer-group {LINKS} remote-as {neighbor.asn}")
        else:
            lines(f"neighbor {neighbor.peer} peer group {group_of(neighbor)}")
            lines(f"neighbor {neighbor.peer} remote-as {neighbor.asn}")
    family = lines.under("address-family ipv4")
    family(f"neighbor {LINKS} activate", f"neighbor {SERVERS} activate")
    family(f"neighbor {LINKS} next-hop address-family ipv6 originate" if unnumbered else "")
    for neighbor in bgp.neighbors:
        family(f"neighbor {neighbor.peer} prefix-list {neighbor.accept} in" if neighbor.accept else "")
    family(*(f"network {network}" for network in bgp.networks))


def parse(name: str, config: Config) -> Intent:
    """The intent that a configuration of this driver says."""
    tree = Tree(paths(config.text, EOS))
    mlag = _parse_mlag(tree.at("mlag configuration"))
    peer_link = tree.at("mlag configuration").one("peer-link Port-Channel")
    lags = [
        _jumbo(
            Lag(int(number), *describe(lines), *parse_vlans(lines), lines.one("mlag ") is not None, number == peer_link)
        )
        for number, lines in tree.all("interface Port-Channel")
    ]
    svis = [
        Svi(int(vlan), lines.one("ip address ") or "", int(lines.one("mtu ") or 0))
        for vlan, lines in tree.all("interface Vlan")
        if int(vlan) != MLAG_VLAN
    ]
    loopback = tree.at("interface Loopback0").one("ip address ")
    return Intent(
        name=name,
        loopback=loopback.partition("/")[0] if loopback else None,
        vlans=tuple(Vlan(int(number), lines.one("name ") or "") for number, lines in tree.all("vlan ")),
        ports=tuple(_jumbo(parse_port(f"Ethernet{number}", lines)) for number, lines in tree.all("interface Ethernet")),
        lags=tuple(lags),
        svis=tuple(svis),
        bgp=_parse_bgp(tree),
        mlag=mlag,
    )


def _jumbo(one: _One) -> _One:
    return replace(one, mtu=JUMBO_MTU) if one.mtu == _LARGEST else one


def _parse_mlag(lines: Tree) -> Mlag | None:
    domain = lines.one("domain-id ")
    if domain is None:
        return None
    peer = next(rest for rest, _tree in lines.all("peer-address ") if not rest.startswith("heartbeat"))
    return Mlag(int(domain), peer.endswith(".1"), lines.one("peer-address heartbeat ") or "")


def _parse_bgp(tree: Tree) -> Bgp | None:
    found = tree.all("router bgp ")
    if not found:
        return None
    asn, bgp = found[0]
    family = bgp.at("address-family ipv4")
    accept = {rest.split()[0]: rest.split()[2] for rest, _tree in family.all("neighbor ") if " prefix-list " in rest}
    peers: dict[str, int] = {}
    for rest, _tree in bgp.all("neighbor "):
        words = rest.split()
        if "remote-as" in words:
            peers[words[1] if words[0] == "interface" else words[0]] = int(words[-1])
    timers: list[Any] = (tree.at("router bfd").one("interval ") or "0 min-rx 0 multiplier 0").split()
    return Bgp(
        asn=int(asn),
        router_id=bgp.one("router-id ") or "",
        networks=tuple(rest for rest, _tree in family.all("network ")),
        neighbors=tuple(Neighbor(peer, peers[peer], accept.get(peer)) for peer in sorted(peers, key=natural)),
        filters=tuple(
            Filter(one, tuple(rule_of(rule.split(" ", 1)[1]) for rule, _tree in rules.all("seq ")))
            for one, rules in tree.all("ip prefix-list ")
        ),
        bfd_interval=int(timers[0]),
        bfd_multiplier=int(timers[4]),
    )
