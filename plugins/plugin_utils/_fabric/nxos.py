# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Driver for Cisco NX-OS: the lines of its running configuration."""

from __future__ import annotations

from dataclasses import replace

from ...module_utils._switch_lines import NXOS, paths
from .config import LINKS, SERVERS, Block, Config, Tree, filter_rules, group_of, rule_of
from .intent import MARK, MLAG_VLAN, Bgp, FabricError, Filter, Intent, Lag, Mlag, Neighbor, Port, Svi, Vlan, natural
from .switchport import describe, parse_port, parse_vlans, vlans

__all__ = ["LINES", "TABLES", "parse", "render"]

LINES, TABLES = NXOS, None

_RESERVED = range(3968, 4095)
"""VLANs that the switches keep for themselves. C(MLAG_VLAN) is one: a pair talks without any."""

_FIRST, _SECOND = "role priority 1000", "role priority 2000"


def render(intent: Intent) -> Config:
    out = Block(step=2)
    features = ["lldp"]
    features += ["bgp", "bfd"] if intent.bgp else []
    features += ["interface-vlan"] if intent.svis else []
    features += ["lacp"] if intent.lags else []
    features += ["vpc"] if intent.mlag else []
    out(*(f"feature {name}" for name in sorted(features)))
    for vlan in intent.vlans:
        if vlan.number == MLAG_VLAN and intent.mlag:
            continue
        if vlan.number in _RESERVED:
            raise FabricError(
                f"{intent.name}: NX-OS keeps the VLANs {_RESERVED[0]} to {_RESERVED[-1]} for itself; "
                f"give the network of VLAN {vlan.number} another one"
            )
        out.under(f"vlan {vlan.number}")(f"name {vlan.name}")
    if intent.bgp:
        for one in intent.bgp.filters:
            out(*(f"ip prefix-list {one.name} seq {number} {rule}" for number, rule in filter_rules(one)))
    if intent.mlag:
        lines = out.under(f"vpc domain {intent.mlag.domain}")
        lines(_FIRST if intent.mlag.first else _SECOND, f"peer-keepalive destination {intent.mlag.keepalive}")
    for svi in intent.svis:
        out.under(f"interface Vlan{svi.vlan}")("no shutdown", f"mtu {svi.mtu}", f"ip address {svi.address}")
    for lag in intent.lags:
        lines = out.under(f"interface port-channel{lag.number}")
        lines(f"description {lag.description}", f"mtu {lag.mtu}", *_vlans(lag))
        lines(f"vpc {lag.number}" if lag.mlag else "", "vpc peer-link" if lag.peer_link else "")
    by_number = {lag.number: lag for lag in intent.lags}
    for port in intent.ports:
        _port(out.under(f"interface {port.name}"), port, by_number.get(port.lag or 0))
    if intent.loopback:
        out.under("interface loopback0")(f"ip address {intent.loopback}/32")
    if intent.bgp:
        _bgp(out, intent.bgp)
    return Config(text=str(out))


def _vlans(port: Port | Lag) -> list[str]:
    mode, lines = vlans(replace(port, tagged=tuple(vlan for vlan in port.tagged if vlan != MLAG_VLAN)))
    return ["switchport", f"switchport mode {mode}", *lines]


def _port(out: Block, port: Port, lag: Lag | None) -> None:
    out(f"description {port.description}")
    if port.routed:
        out("no switchport", f"mtu {port.mtu}")
        out(*([f"ip address {port.address}"] if port.address else ["ip forward", "ipv6 address use-link-local-only"]))
    elif lag:
        # A port whose mode, VLANs or MTU are not those of the port channel is refused, or suspended.
        out(f"mtu {port.mtu}", *_vlans(lag), f"channel-group {lag.number} mode active")
    else:
        out(f"mtu {port.mtu}", *_vlans(port))
    out("no shutdown")


def _bgp(out: Block, bgp: Bgp) -> None:
    interval = bgp.bfd_interval
    out(f"bfd interval {interval} min_rx {interval} multiplier {bgp.bfd_multiplier}")
    lines = out.under(f"router bgp {bgp.asn}")
    lines(f"router-id {bgp.router_id}", "bestpath as-path multipath-relax")
    family = lines.under("address-family ipv4 unicast")
    family(*(f"network {network}" for network in bgp.networks), "maximum-paths 64")
    for group in (LINKS, SERVERS):
        template = lines.under(f"template peer {group}")
        template("bfd")
        template.under("address-family ipv4 unicast")
    for neighbor in bgp.neighbors:
        peer = lines.under(f"neighbor {neighbor.peer}")
        peer(f"inherit peer {group_of(neighbor)}", f"remote-as {neighbor.asn}")
        if neighbor.accept:
            peer.under("address-family ipv4 unicast")(f"prefix-list {neighbor.accept} in")


def parse(name: str, config: Config) -> Intent:
    """The intent that a configuration of this driver says."""
    tree = Tree(paths(config.text, NXOS))
    lags = []
    for number, lines in tree.all("interface port-channel"):
        untagged, tagged = parse_vlans(lines)
        peer_link = "vpc peer-link" in lines.children
        of_pair = (*tagged, MLAG_VLAN) if peer_link else tagged
        mlag = (lines.one("vpc ") or "").isdigit()
        lags.append(Lag(int(number), *describe(lines), untagged, of_pair, mlag, peer_link))
    svis = [
        Svi(int(vlan), lines.one("ip address ") or "", int(lines.one("mtu ") or 0))
        for vlan, lines in tree.all("interface Vlan")
    ]
    loopback = tree.at("interface loopback0").one("ip address ")
    domains = tree.all("vpc domain ")
    vlans_found = [Vlan(int(number), lines.one("name ") or "") for number, lines in tree.all("vlan ")]
    if domains:
        vlans_found.append(Vlan(MLAG_VLAN, f"{MARK}-MLAG"))
    keepalive = domains[0][1].one("peer-keepalive destination ") if domains else None
    return Intent(
        name=name,
        loopback=loopback.partition("/")[0] if loopback else None,
        vlans=tuple(vlans_found),
        ports=tuple(parse_port(f"Ethernet{number}", lines) for number, lines in tree.all("interface Ethernet")),
        lags=tuple(lags),
        svis=tuple(svis),
        bgp=_parse_bgp(tree),
        mlag=Mlag(int(domains[0][0]), _FIRST in domains[0][1].children, keepalive or "") if domains else None,
    )


def _parse_bgp(tree: Tree) -> Bgp | None:
    found = tree.all("router bgp ")
    if not found:
        return None
    asn, bgp = found[0]
    neighbors = []
    for peer, lines in bgp.all("neighbor "):
        accept = lines.at("address-family ipv4 unicast").one("prefix-list ")
        neighbors.append(Neighbor(peer, int(lines.one("remote-as ") or 0), accept.split()[0] if accept else None))
    filters: dict[str, list[str]] = {}
    for rest, _tree in tree.all("ip prefix-list "):
        one, _seq, _number, rule = rest.split(" ", 3)
        filters.setdefault(one, []).append(rule)
    timers = (tree.one("bfd interval ") or "0 min_rx 0 multiplier 0").split()
    return Bgp(
        asn=int(asn),
        router_id=bgp.one("router-id ") or "",
        networks=tuple(rest for rest, _tree in bgp.at("address-family ipv4 unicast").all("network ")),
        neighbors=tuple(sorted(neighbors, key=lambda neighbor: natural(neighbor.peer))),
        filters=tuple(Filter(one, tuple(rule_of(rule) for rule in rules)) for one, rules in filters.items()),
        bfd_interval=int(timers[0]),
        bfd_multiplier=int(timers[4]),
    )
