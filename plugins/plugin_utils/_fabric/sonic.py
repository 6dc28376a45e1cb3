# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Driver for SONiC: tables of config_db.json, as its YANG models have them, in the unified routing mode.

What only the platform knows (lanes and speeds of ports, the hardware SKU) is not written; it stays as it is.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ...module_utils._switch_lines import SONIC
from .config import LINKS, SERVERS, Config, group_of, length
from .intent import (
    MARK,
    MLAG_VLAN,
    Bgp,
    FabricError,
    Filter,
    Intent,
    Lag,
    Mlag,
    Neighbor,
    Port,
    Rule,
    Svi,
    Vlan,
    natural,
)

__all__ = ["LINES", "TABLES", "parse", "render"]

LINES, TABLES = None, SONIC

Tables = dict[str, dict[str, dict[str, Any]]]
_V4 = "ipv4_unicast"
_ALL = f"{MARK}-ALL"
# Milliseconds and multiplier that SONiC's FRR has by default.
_BFD = (300, 3)


def render(intent: Intent) -> Config:
    found: Tables = defaultdict(dict)
    found["DEVICE_METADATA"]["localhost"] = {
        "docker_routing_config_mode": "unified",
        "frr_mgmt_framework_config": "true",
    }
    found["LLDP"]["GLOBAL"] = {"enabled": "true"}
    for vlan in intent.vlans:
        if vlan.number == 1:
            raise FabricError(f"{intent.name}: SONiC has no VLAN 1; give that network another one")
        found["VLAN"][f"Vlan{vlan.number}"] = {"vlanid": str(vlan.number), "description": vlan.name}
    for port in intent.ports:
        found["PORT"][port.name] = {"description": port.description, "mtu": str(port.mtu), "admin_status": "up"}
        if port.lag is not None:
            found["PORTCHANNEL_MEMBER"][f"{_lag(port.lag)}|{port.name}"] = {}
        elif port.routed:
            found["INTERFACE"][port.name] = {} if port.address else {"ipv6_use_link_local_only": "enable"}
            if port.address:
                found["INTERFACE"][f"{port.name}|{port.address}"] = {}
        _members(found, port.name, port)
    for lag in intent.lags:
        name = _lag(lag.number)
        common = {"admin_status": "up", "mtu": str(lag.mtu), "description": lag.description}
        found["PORTCHANNEL"][name] = {**common, "lacp_key": "auto", "min_links": "1"}
        _members(found, name, lag)
    for svi in intent.svis:
        found["VLAN"][f"Vlan{svi.vlan}"]["mtu"] = str(svi.mtu)
        found["VLAN_INTERFACE"][f"Vlan{svi.vlan}"] = {}
        found["VLAN_INTERFACE"][f"Vlan{svi.vlan}|{svi.address}"] = {}
    if intent.loopback:
        found["LOOPBACK_INTERFACE"] = {"Loopback0": {}, f"Loopback0|{intent.loopback}/32": {}}
    if intent.mlag:
        _mlag(found, intent, intent.mlag)
    if intent.bgp:
        if (intent.bgp.bfd_interval, intent.bgp.bfd_multiplier) != _BFD:
            raise FabricError(
                f"{intent.name}: SONiC has no table for BFD timers: fabric.bfd_interval 300, bfd_multiplier 3"
            )
        _bgp(found, intent.bgp)
    return Config(dict(found))


def _lag(number: int) -> str:
    return f"PortChannel{number}"


def _members(found: Tables, name: str, port: Port | Lag) -> None:
    if port.untagged is not None:
        found["VLAN_MEMBER"][f"Vlan{port.untagged}|{name}"] = {"tagging_mode": "untagged"}
    for vlan in port.tagged:
        found["VLAN_MEMBER"][f"Vlan{vlan}|{name}"] = {"tagging_mode": "tagged"}


def _mlag(found: Tables, intent: Intent, mlag: Mlag) -> None:
    peer_link = next(lag for lag in intent.lags if lag.peer_link)
    domain, pair = str(mlag.domain), peer_link.description.split()[1]
    found["MCLAG_DOMAIN"][domain] = {
        "source_ip": mlag.local,
        "peer_ip": mlag.peer,
        "peer_link": _lag(peer_link.number),
    }
    for lag in intent.lags:
        if lag.mlag:
            found["MCLAG_INTERFACE"][f"{domain}|{_lag(lag.number)}"] = {"if_type": "PortChannel"}
    found["VLAN_INTERFACE"][f"Vlan{MLAG_VLAN}"] = {}
    found["VLAN_INTERFACE"][f"Vlan{MLAG_VLAN}|{mlag.local}/31"] = {}
    found["DEVICE_NEIGHBOR_METADATA"][pair] = {"mgmt_addr": mlag.keepalive}


def _bgp(found: Tables, bgp: Bgp) -> None:
    found["BGP_GLOBALS"]["default"] = {
        "local_asn": str(bgp.asn),
        "router_id": bgp.router_id,
        "load_balance_mp_relax": "true",
    }
    found["BGP_GLOBALS_AF"][f"default|{_V4}"] = {"max_ebgp_paths": "64"}
    for network in bgp.networks:
        found["BGP_GLOBALS_AF_NETWORK"][f"default|{_V4}|{network}"] = {}
    for group in (LINKS, SERVERS):
        found["BGP_PEER_GROUP"][f"default|{group}"] = {"bfd": "true", "capability_ext_nexthop": "true"}
        # FRR takes and gives nothing without a policy; servers have filters of their own on the way in.
        policy = {"route_map_out": [_ALL], **({"route_map_in": [_ALL]} if group == LINKS else {})}
        found["BGP_PEER_GROUP_AF"][f"default|{group}|{_V4}"] = {"admin_status": "up", **policy}
    found["ROUTE_MAP_SET"][_ALL] = {}
    found["ROUTE_MAP"][f"{_ALL}|10"] = {"route_operation": "permit"}
    for one in bgp.filters:
        found["PREFIX_SET"][one.name] = {"mode": "IPv4"}
        for place, rule in enumerate(one.rules, 1):
            shortest = length(rule.prefix)
            lengths = "exact" if rule.longest == shortest else f"{shortest}..{rule.longest}"
            found["PREFIX"][f"{one.name}|{5 * place}|{rule.prefix}|{lengths}"] = {"action": "permit"}
    for neighbor in bgp.neighbors:
        key = f"default|{neighbor.peer}"
        found["BGP_NEIGHBOR"][key] = {"asn": str(neighbor.asn), "peer_group_name": group_of(neighbor)}
        accept = {"prefix_list_in": neighbor.accept} if neighbor.accept else {}
        found["BGP_NEIGHBOR_AF"][f"{key}|{_V4}"] = {"admin_status": "up", **accept}


def parse(name: str, config: Config) -> Intent:
    """The intent that a configuration of this driver says."""
    tables: dict[str, Any] = defaultdict(dict, config.tables)
    members: dict[str, tuple[int | None, list[int]]] = defaultdict(lambda: (None, []))
    for key, entry in tables["VLAN_MEMBER"].items():
        vlan, port = key.split("|")
        untagged, tagged = members[port]
        if entry["tagging_mode"] == "untagged":
            untagged = int(vlan[4:])
        else:
            tagged = [*tagged, int(vlan[4:])]
        members[port] = (untagged, tagged)
    lag_of = {key.split("|")[1]: int(key.split("|")[0][11:]) for key in tables["PORTCHANNEL_MEMBER"]}
    addresses = {key.split("|")[0]: key.split("|")[1] for key in tables["INTERFACE"] if "|" in key}
    ports = [
        Port(
            port,
            entry["description"],
            int(entry["mtu"]),
            members[port][0],
            tuple(sorted(members[port][1])),
            lag_of.get(port),
            port in tables["INTERFACE"],
            addresses.get(port),
        )
        for port, entry in tables["PORT"].items()
        if "description" in entry
    ]
    svis = [
        Svi(int(key.split("|")[0][4:]), key.split("|")[1], int(tables["VLAN"][key.split("|")[0]]["mtu"]))
        for key in tables["VLAN_INTERFACE"]
        if "|" in key and not key.startswith(f"Vlan{MLAG_VLAN}|")
    ]
    loopback = next((key.split("|")[1] for key in tables["LOOPBACK_INTERFACE"] if "|" in key), None)
    vlans = [Vlan(int(entry["vlanid"]), entry["description"]) for entry in tables["VLAN"].values()]
    return Intent(
        name=name,
        loopback=loopback.partition("/")[0] if loopback else None,
        vlans=tuple(sorted(vlans, key=lambda vlan: vlan.number)),
        ports=tuple(sorted(ports, key=lambda port: natural(port.name))),
        lags=_parse_lags(tables, members),
        svis=tuple(sorted(svis, key=lambda svi: svi.vlan)),
        bgp=_parse_bgp(tables),
        mlag=_parse_mlag(tables),
    )


def _parse_lags(tables: dict[str, Any], members: dict[str, tuple[int | None, list[int]]]) -> tuple[Lag, ...]:
    spread = {key.split("|")[1] for key in tables["MCLAG_INTERFACE"]}
    peer_links = {entry["peer_link"] for entry in tables["MCLAG_DOMAIN"].values()}
    lags = [
        Lag(
            int(name[11:]),
            entry["description"],
            int(entry["mtu"]),
            members[name][0],
            tuple(sorted(members[name][1])),
            name in spread,
            name in peer_links,
        )
        for name, entry in tables["PORTCHANNEL"].items()
    ]
    return tuple(sorted(lags, key=lambda lag: lag.number))


def _parse_mlag(tables: dict[str, Any]) -> Mlag | None:
    for domain, entry in tables["MCLAG_DOMAIN"].items():
        pair = next(iter(tables["DEVICE_NEIGHBOR_METADATA"].values()))
        return Mlag(int(domain), entry["source_ip"] < entry["peer_ip"], pair["mgmt_addr"])
    return None


def _parse_bgp(tables: dict[str, Any]) -> Bgp | None:
    settings = tables["BGP_GLOBALS"].get("default")
    if settings is None:
        return None
    filters: dict[str, dict[int, Rule]] = defaultdict(dict)
    for key in tables["PREFIX"]:
        one, number, prefix, lengths = key.split("|")
        longest = length(prefix) if lengths == "exact" else int(lengths.partition("..")[2])
        filters[one][int(number)] = Rule(prefix, longest)
    neighbors = [
        Neighbor(peer, int(entry["asn"]), tables["BGP_NEIGHBOR_AF"][f"default|{peer}|{_V4}"].get("prefix_list_in"))
        for key, entry in tables["BGP_NEIGHBOR"].items()
        for peer in [key.split("|")[1]]
    ]
    return Bgp(
        asn=int(settings["local_asn"]),
        router_id=settings["router_id"],
        networks=tuple(sorted((key.split("|")[2] for key in tables["BGP_GLOBALS_AF_NETWORK"]), key=natural)),
        neighbors=tuple(sorted(neighbors, key=lambda neighbor: natural(neighbor.peer))),
        filters=tuple(
            Filter(one, tuple(rules[number] for number in sorted(rules)))
            for one, rules in sorted(filters.items(), key=lambda item: natural(item[0]))
        ),
        bfd_interval=_BFD[0],
        bfd_multiplier=_BFD[1],
    )
