# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Driver for switches that run Linux: Open vSwitch for ports and VLANs, FRR for addresses and routing."""

from __future__ import annotations

import re
from typing import Any

from ...module_utils._switch_lines import FRR, OVS, paths
from .config import LINKS, SERVERS, Block, Config, Tree, group_of, prefix_lists, rule_of
from .intent import MARK, Bgp, FabricError, Filter, Intent, Lag, Neighbor, Port, Svi, Vlan, natural

__all__ = ["LINES", "TABLES", "bfd_profile", "parse", "render"]

LINES, TABLES = FRR, OVS

# An empty set of trunks means all VLANs to Open vSwitch; this number is reserved (IEEE 802.1Q) and carries nothing.
_NONE = 4095
# Static routes have no name or description: this tag says whose they are. "KIB" in ASCII.
_TAG = 0x4B4942
_GUESTS = f"{MARK}-GUESTS"
# What FRR does not show when it is so.
_BFD_DEFAULTS = (300, 3)


def render(intent: Intent) -> Config:
    if intent.mlag is not None:
        raise FabricError(f"{intent.name}: Open vSwitch has no MLAG")
    tables: dict[str, dict[str, dict[str, Any]]] = {"VLAN": {}, "PORT": {}, "MEMBER": {}, "LINK": {}}
    for vlan in intent.vlans:
        tables["VLAN"][str(vlan.number)] = {"name": vlan.name}
    for port in intent.ports:
        what = {"description": port.description, "mtu": port.mtu}
        if port.lag is not None:
            tables["MEMBER"][port.name] = {**what, "lag": f"lag{port.lag}"}
        elif port.routed:
            tables["LINK"][port.name] = {"mtu": port.mtu}
        else:
            tables["PORT"][port.name] = {**what, **_vlans(port)}
    for lag in intent.lags:
        members = [port.name for port in intent.ports if port.lag == lag.number]
        what = {"description": lag.description, "mtu": lag.mtu, "members": members, "lacp": "active"}
        tables["PORT"][f"lag{lag.number}"] = {**what, **_vlans(lag)}
    for svi in intent.svis:
        tables["PORT"][f"vlan{svi.vlan}"] = {
            "description": f"{MARK} vlan {svi.vlan}",
            "mtu": svi.mtu,
            "type": "internal",
            "mode": "access",
            "tag": svi.vlan,
        }
    return Config(tables, _frr(intent))


def _vlans(port: Port | Lag) -> dict[str, Any]:
    if port.untagged is None:
        return {"mode": "trunk", "trunks": list(port.tagged) or [_NONE]}
    if not port.tagged:
        return {"mode": "access", "tag": port.untagged}
    return {"mode": "native-untagged", "tag": port.untagged, "trunks": list(port.tagged)}


def _frr(intent: Intent) -> str:
    out = Block()
    if intent.loopback:
        out.under("interface lo", "exit")(f"ip address {intent.loopback}/32")
    for svi in intent.svis:
        out.under(f"interface vlan{svi.vlan}", "exit")(
            f"description {MARK} vlan {svi.vlan}",
            f"ip address {svi.address}",
            f"ipv6 address {svi.address6}" if svi.address6 else "",
        )
    for port in intent.ports:
        if port.routed:
            address = f"ip address {port.address}" if port.address else ""
            out.under(f"interface {port.name}", "exit")(f"description {port.description}", address)
    guests = [port for port in intent.ports if port.guest]
    # The distance makes it the last way to go: BGP's is shorter.
    out(*(f"ip route {port.guest}/32 {port.name} tag {_TAG} 250" for port in guests))
    bgp = intent.bgp
    if bgp is None:
        return str(out)
    for one in bgp.filters:
        out(*prefix_lists(one))
    if guests:
        # A path that a server or another switch announces is better, here and everywhere.
        out.under(f"route-map {_GUESTS} permit 10", "exit")(
            f"match tag {_TAG}",
            f"set as-path prepend {bgp.asn} {bgp.asn} {bgp.asn}",
            "set local-preference 10",
            "set weight 0",
        )
    bfd_profile(out, bgp.bfd_interval, bgp.bfd_multiplier)
    _bgp(out.under(f"router bgp {bgp.asn}", "exit"), bgp, bool(guests))
    return str(out)


def bfd_profile(out: Block, interval: int, multiplier: int) -> None:
    profile = out.under("bfd", "exit").under(f"profile {MARK}", "exit")
    profile(f"detect-multiplier {multiplier}" if multiplier != _BFD_DEFAULTS[1] else "")
    if interval != _BFD_DEFAULTS[0]:
        profile(f"transmit-interval {interval}", f"receive-interval {interval}")


def _bgp(out: Block, bgp: Bgp, guests: bool) -> None:
    # Each server has a filter of its own, and switches of one site trust each other.
    out(f"bgp router-id {bgp.router_id}", "no bgp ebgp-requires-policy", "bgp bestpath as-path multipath-relax")
    for group in (LINKS, SERVERS):
        out(f"neighbor {group} peer-group", f"neighbor {group} bfd", f"neighbor {group} bfd profile {MARK}")
        out(f"neighbor {group} capability extended-nexthop" if group == LINKS else "")
    for neighbor in bgp.neighbors:
        if _is_port(neighbor.peer):
            out(f"neighbor {neighbor.peer} interface peer-group {group_of(neighbor)}")
        out(f"neighbor {neighbor.peer} remote-as {neighbor.asn}")
        if not _is_port(neighbor.peer):
            out(f"neighbor {neighbor.peer} peer-group {group_of(neighbor)}")
    family = out.under("address-family ipv4 unicast", "exit-address-family")
    family(*(f"network {network}" for network in bgp.networks if ":" not in network))
    family(f"redistribute static route-map {_GUESTS}" if guests else "")
    _accept(family, bgp)
    if bgp.ipv6:
        family = out.under("address-family ipv6 unicast", "exit-address-family")
        family(*(f"network {network}" for network in bgp.networks if ":" in network))
        family(f"neighbor {LINKS} activate", f"neighbor {SERVERS} activate")
        _accept(family, bgp)


def _accept(family: Block, bgp: Bgp) -> None:
    for neighbor in bgp.neighbors:
        family(f"neighbor {neighbor.peer} prefix-list {neighbor.accept} in" if neighbor.accept else "")
    family("maximum-paths 64")


def _is_port(peer: str) -> bool:
    return not re.fullmatch(r"[0-9.]+", peer)


def parse(name: str, config: Config) -> Intent:
    """The intent that a configuration of this driver says."""
    tables, tree = config.tables, Tree(paths(config.text, FRR))
    ports, lags, svis = [], [], []
    for port, entry in tables.get("PORT", {}).items():
        vlans = _parse_vlans(entry)
        if entry.get("type") == "internal":
            lines = tree.at(f"interface {port}")
            address, address6 = lines.one("ip address "), lines.one("ipv6 address ")
            svis.append(Svi(entry["tag"], address or "", entry["mtu"], address6))
        elif "members" in entry:
            lags.append(Lag(int(port[3:]), entry["description"], entry["mtu"], *vlans))
        else:
            ports.append(Port(port, entry["description"], entry["mtu"], *vlans))
    for port, entry in tables.get("MEMBER", {}).items():
        ports.append(Port(port, entry["description"], entry["mtu"], lag=int(entry["lag"][3:])))
    guests = {rest.split()[1]: rest.partition("/")[0] for rest, _below in tree.all("ip route ")}
    for port, entry in tables.get("LINK", {}).items():
        lines = tree.at(f"interface {port}")
        description, address = lines.one("description ") or "", lines.one("ip address ")
        ports.append(Port(port, description, entry["mtu"], routed=True, address=address, guest=guests.get(port)))
    loopback = tree.at("interface lo").one("ip address ")
    return Intent(
        name=name,
        loopback=loopback.partition("/")[0] if loopback else None,
        vlans=tuple(Vlan(int(number), entry["name"]) for number, entry in tables.get("VLAN", {}).items()),
        ports=tuple(sorted(ports, key=lambda port: natural(port.name))),
        lags=tuple(sorted(lags, key=lambda lag: lag.number)),
        svis=tuple(sorted(svis, key=lambda svi: svi.vlan)),
        bgp=_parse_bgp(tree),
        mlag=None,
    )


def _parse_vlans(entry: dict[str, Any] | Any) -> tuple[int | None, tuple[int, ...]]:
    return entry.get("tag"), tuple(number for number in entry.get("trunks", []) if number != _NONE)


def _parse_bgp(tree: Tree) -> Bgp | None:
    found = tree.all("router bgp ")
    if not found:
        return None
    asn, bgp = found[0]
    families = [bgp.at(f"address-family ipv{version} unicast") for version in (4, 6)]
    family = families[0]
    accept = {rest.split()[0]: rest.split()[2] for rest, _below in family.all("neighbor ") if " prefix-list " in rest}
    peers = {rest.split()[0]: int(rest.split()[2]) for rest, _below in bgp.all("neighbor ") if " remote-as " in rest}
    filters: dict[str, list[Any]] = {}
    for rest, _tree in [*tree.all("ip prefix-list "), *tree.all("ipv6 prefix-list ")]:
        one, _seq, _number, rule = rest.split(" ", 3)
        filters.setdefault(one, []).append(rule_of(rule))
    profile = tree.at("bfd").at(f"profile {MARK}")
    return Bgp(
        asn=int(asn),
        router_id=bgp.one("bgp router-id ") or "",
        networks=tuple(sorted((rest for part in families for rest, _tree in part.all("network ")), key=natural)),
        neighbors=tuple(Neighbor(peer, peers[peer], accept.get(peer)) for peer in sorted(peers, key=natural)),
        filters=tuple(Filter(one, tuple(filters[one])) for one in sorted(filters, key=natural)),
        bfd_interval=int(profile.one("transmit-interval ") or _BFD_DEFAULTS[0]),
        bfd_multiplier=int(profile.one("detect-multiplier ") or _BFD_DEFAULTS[1]),
        ipv6="address-family ipv6 unicast" in bgp.children,
    )
