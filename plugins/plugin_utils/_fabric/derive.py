# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""From the site model to the intent of each switch, and to what each server may announce."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import netaddr  # type: ignore[import-untyped, unused-ignore]

from .._site.ipam import address6, offset
from .._site.model import Network, Server, Site, Switch
from .cables import Cable, End, cables, of_switch
from .intent import (
    JUMBO_MTU,
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

__all__ = [
    "announcements",
    "endpoint_rules",
    "intent",
    "intents",
    "ipv6",
    "owned",
    "pool_rules",
    "routed_to_servers",
    "server_asn",
    "whole_pools",
]

_LAG_LIMIT = 2000
_PEER_LINK = _LAG_LIMIT


def server_asn(site: Site, server: Server) -> int | None:
    """The AS number of a server; it depends on nothing but the server's own address. None: it speaks no BGP."""
    if site.fabric.server_asn is None:
        return None
    node = netaddr.IPNetwork(site.networks["node"].cidr)
    return site.fabric.server_asn + offset(netaddr.IPAddress(server.addresses["node"]), node)


def announcements(site: Site, server: Server) -> tuple[Rule, ...]:
    """What a server may announce: what it owns, and Service addresses of the pools in parts of any size."""
    rules = (*owned(site, server), *endpoint_rules(site, server), *pool_rules(site))
    return tuple(sorted(rules, key=lambda rule: rule.version))


def endpoint_rules(site: Site, server: Server) -> tuple[Rule, ...]:
    """The address of the API server, of a server that announces it at times."""
    announced = site.cluster.endpoint_by == "bgp" and "control_plane" in server.roles
    return (_rule(site.cluster.endpoint),) if announced else ()


def pool_rules(site: Site) -> tuple[Rule, ...]:
    """Service addresses, in parts of any size."""
    return tuple(_rule(pool, 128 if ":" in pool else 32) for pool in site.cluster.pools)


def whole_pools(site: Site, server: Server) -> tuple[str, ...]:
    """IPv6 pools that the server announces in whole: the speaker of the load balancer tells of IPv4 addresses only.

    By control-plane servers, as all Services: so none is lost while a worker comes or goes.
    """
    if site.cluster.load_balancer is None or "control_plane" not in server.roles:
        return ()
    return tuple(pool for pool in site.cluster.pools if ":" in pool)


def owned(site: Site, server: Server) -> tuple[Rule, ...]:
    """What a server always announces to its switches: its pod range.

    One that is joined by routed links announces its own address too, and a control-plane server then all Services.
    With an overlay switches know no server's pods; control-plane servers with routed links are the way in to all.
    """
    sdn, leads = site.cluster.sdn, "control_plane" in server.roles
    pods = server.pod_cidrs if not sdn.hidden else sdn.pod_networks if leads else ()
    if not routed_to_servers(site, server):
        return () if sdn.hidden else _rules(pods)
    own = (server.addresses["node"], address6(site.networks["node"], server.addresses["node"]))
    return _rules((*own, *pods, *(sdn.service_networks if leads else ())))


def routed_to_servers(site: Site, server: Server) -> bool:
    """Each port of the server is a link of its own with BGP, in the place of a bond."""
    return site.profiles[server.profile].network.mode == "bgp"


def ipv6(site: Site) -> bool:
    """There are IPv6 routes: of a network, or of pods."""
    return site.cluster.sdn.ipv6 is not None or any(network.ipv6 for network in site.networks.values())


def _rules(prefixes: Iterable[str | None]) -> tuple[Rule, ...]:
    """One for each, those of IPv4 first."""
    return tuple(sorted((_rule(prefix) for prefix in prefixes if prefix), key=lambda rule: rule.version))


def _rule(prefix: str, longest: int | None = None) -> Rule:
    network = netaddr.IPNetwork(prefix).cidr
    return Rule(str(network), longest or network.prefixlen)


def intents(site: Site) -> dict[str, Intent]:
    """By name of the switch. FabricError where the model asks for what cannot be."""
    every = cables(site)
    return {switch.name: _intent(site, switch, every) for switch in site.switches}


def intent(site: Site, name: str) -> Intent:
    """Of one switch."""
    every = cables(site)
    for switch in site.switches:
        if switch.name == name:
            return _intent(site, switch, every)
    raise FabricError(f"there is no switch '{name}' in the site {site.name}")


def _intent(site: Site, switch: Switch, every: tuple[Cable, ...]) -> Intent:
    mine = of_switch(every, switch.name)
    ports: list[Port] = []
    lags: dict[int, Lag] = {}
    trunks: dict[str, list[str]] = {}
    for own, other, kind in mine:
        if kind == "bmc":
            ports.append(_access(site, own, other))
        elif kind == "data":
            ports.append(_server_port(site, switch, every, own, other, lags))
        elif _routed(site, switch, other.device):
            ports.append(_link(site, switch, every, own, other))
        else:
            trunks.setdefault(other.device, []).append(own)
    for other_switch, own_ports in trunks.items():
        ports += _trunk(site, switch, every, other_switch, own_ports, lags)
    pair = _other_of_pair(site, switch)
    if pair and len({lag.number for lag in lags.values() if lag.peer_link}) != 1:
        raise FabricError(f"{switch.name} and {pair.name} are a pair without a cable between them")
    carriers: tuple[Port | Lag, ...] = (*ports, *lags.values())
    numbers = {number for item in carriers for number in (item.untagged, *item.tagged) if number}
    svis = _svis(site, switch)
    numbers |= {svi.vlan for svi in svis}
    return Intent(
        name=switch.name,
        loopback=switch.loopback,
        vlans=tuple(Vlan(number, _vlan_name(site, number)) for number in sorted(numbers)),
        ports=tuple(sorted(ports, key=lambda port: natural(port.name))),
        lags=tuple(lags[number] for number in sorted(lags)),
        svis=svis,
        bgp=_bgp(site, switch, every),
        mlag=Mlag(switch.mlag or 0, switch.name < pair.name, pair.address) if pair else None,
    )


def _describe(other: End) -> str:
    return f"{MARK} {other.device} {other.port}"


def _vlan_name(site: Site, number: int) -> str:
    name = next((network.name for network in site.networks.values() if network.vlan == number), "MLAG")
    return f"{MARK}-{name}"


def _mtu(networks: Iterable[Network]) -> int:
    return JUMBO_MTU if any(network.mtu > 1500 for network in networks) else 1500


def _access(site: Site, own: str, other: End) -> Port:
    network = site.networks["bmc"]
    if network.vlan is None:
        raise FabricError(f"the BMC of {other.device} has a cable, but networks.bmc has no vlan")
    return Port(own, _describe(other), _mtu([network]), untagged=network.vlan)


def _server_port(
    site: Site, switch: Switch, every: tuple[Cable, ...], own: str, other: End, lags: dict[int, Lag]
) -> Port:
    server = site.server(other.device)
    if routed_to_servers(site, server):
        if server_asn(site, server) is None or switch.asn is None:
            raise FabricError(
                f"{server.name} speaks BGP with {switch.name}, so fabric.server_asn and the switch's asn are needed"
            )
        if switch.os != "linux":
            raise FabricError(f"{switch.name} has routed links to servers, which only the driver linux renders so far")
        address, guest = _guest(site, server, other)
        return Port(own, _describe(other), _mtu([site.networks["node"]]), routed=True, address=address, guest=guest)
    networks = [site.networks[name] for name in server.addresses]
    untagged = next((network.vlan for network in networks if network.untagged), None)
    tagged = tuple(sorted(network.vlan for network in networks if network.vlan and not network.untagged))
    mtu = _mtu(networks)
    if site.profiles[server.profile].network.mode != "802.3ad":
        return Port(own, _describe(other), mtu, untagged, tagged)
    number, spread = _lag_of(site, switch, every, server)
    lag = Lag(number, f"{MARK} {server.name}", mtu, untagged, tagged, mlag=spread)
    if lags.setdefault(number, lag) != lag:
        raise FabricError(
            f"on {switch.name} the ports of {server.name} and of {lags[number].description.split()[1]} would both be "
            f"LAG {number}; give one of them the same port on both switches"
        )
    return Port(own, _describe(other), mtu, lag=number)


def _guest(site: Site, server: Server, port: End) -> tuple[str | None, str | None]:
    """A server that speaks no BGP yet is found on its first cable, whose switch has the gateway's address there."""
    gateway = site.networks["node"].gateway
    first = next(own for own in server.cables if own != "bmc")
    return (f"{gateway}/32", server.addresses["node"]) if gateway and port.port == first else (None, None)


def _lag_of(site: Site, switch: Switch, every: tuple[Cable, ...], server: Server) -> tuple[int, bool]:
    """Number of a server's LAG, by its lowest port on the first switch of the pair, and whether it spans the pair.

    It depends on no other server, so that adding one renumbers nothing.
    """
    far = [cable.far for cable in every if cable.near.device == server.name and cable.kind == "data"]
    names = sorted({end.device for end in far})
    pair = _other_of_pair(site, switch)
    if len(names) > 1 and (pair is None or set(names) != {switch.name, pair.name}):
        raise FabricError(
            f"{server.name} has a bond with 802.3ad over {' and '.join(names)}, which are no pair; "
            "state the same mlag for both, or the mode active-backup"
        )
    port = min((end.port for end in far if end.device == names[0]), key=natural)
    parts = [int(part) for part in re.findall(r"\d+", port)] or [0]
    # SONiC and Linux may count ports from 0.
    number = parts[-1] + (switch.os in ("sonic", "linux")) if len(parts) == 1 else (parts[0] - 1) * 100 + parts[1]
    number = number * 8 + parts[2] if len(parts) > 2 else number
    if not 1 <= number < _LAG_LIMIT // 2:
        raise FabricError(f"port {port} of {names[0]} gives the LAG number {number}; from 1 to {_LAG_LIMIT // 2 - 1}")
    # Numbers by ports of the second switch of a pair must not meet those by ports of the first.
    second = pair is not None and names[0] == max(switch.name, pair.name)
    return number + second * _LAG_LIMIT // 2, len(names) > 1


def _other_of_pair(site: Site, switch: Switch) -> Switch | None:
    if switch.mlag is None:
        return None
    return next(other for other in site.switches if other.mlag == switch.mlag and other is not switch)


def _find(site: Site, name: str) -> Switch:
    return next(switch for switch in site.switches if switch.name == name)


def _routed(site: Site, switch: Switch, other: str) -> bool:
    far = _find(site, other)
    return bool(switch.asn and far.asn) and not (switch.mlag and switch.mlag == far.mlag)


def _link(site: Site, switch: Switch, every: tuple[Cable, ...], own: str, other: End) -> Port:
    address = _link_address(site, every, End(switch.name, own))
    return Port(
        own,
        _describe(other),
        _mtu(site.networks.values()),
        routed=True,
        address=None if address is None else f"{address}/31",
    )


def _link_address(site: Site, every: tuple[Cable, ...], end: End) -> str | None:
    if site.fabric.links is None:
        return None
    first = netaddr.IPNetwork(site.fabric.links).first
    links = [cable for cable in every if cable.kind == "link"]
    place = next(number for number, cable in enumerate(links) if end in (cable.near, cable.far))
    return str(netaddr.IPAddress(first + 2 * place + (end == links[place].far)))


def _own_vlans(site: Site, switch: Switch, every: tuple[Cable, ...]) -> set[int]:
    """VLANs that servers, BMCs and interfaces of this switch are in."""
    names = set(switch.addresses)
    for _own, other, kind in of_switch(every, switch.name):
        if kind == "bmc":
            names.add("bmc")
        elif kind == "data" and not routed_to_servers(site, site.server(other.device)):
            names |= set(site.server(other.device).addresses)
    return {vlan for name in names if (vlan := site.networks[name].vlan)}


def _trunk(
    site: Site, switch: Switch, every: tuple[Cable, ...], other: str, own_ports: list[str], lags: dict[int, Lag]
) -> Iterator[Port]:
    far = _find(site, other)
    peer_link = bool(switch.mlag and switch.mlag == far.mlag)
    both = (_own_vlans(site, switch, every), _own_vlans(site, far, every))
    vlans = both[0] | both[1] | {MLAG_VLAN} if peer_link else both[0] & both[1]
    mtu, tagged = _mtu(site.networks.values()), tuple(sorted(vlans))
    ends = {own: end for own, end, _kind in of_switch(every, switch.name)}
    if len(own_ports) == 1 and not peer_link:
        yield Port(own_ports[0], _describe(ends[own_ports[0]]), mtu, tagged=tagged)
        return
    # Counted down from the top, where no port of a server reaches.
    number = _PEER_LINK if peer_link else _PEER_LINK - 1 - sorted(s.name for s in site.switches).index(other)
    lags[number] = Lag(number, f"{MARK} {other}", mtu, tagged=tagged, peer_link=peer_link)
    for own in own_ports:
        yield Port(own, _describe(ends[own]), mtu, lag=number)


def _svis(site: Site, switch: Switch) -> tuple[Svi, ...]:
    found = []
    for name, address in switch.addresses.items():
        network = site.networks[name]
        if network.vlan is None:
            raise FabricError(f"{switch.name} has an address in networks.{name}, which has no vlan")
        own, own6 = f"{address}/{netaddr.IPNetwork(network.cidr).prefixlen}", address6(network, address)
        if network.ipv6 is not None:
            own6 = f"{own6}/{netaddr.IPNetwork(network.ipv6.cidr).prefixlen}"
        found.append(Svi(network.vlan, own, network.mtu, own6))
    return tuple(sorted(found, key=lambda svi: svi.vlan))


def _bgp(site: Site, switch: Switch, every: tuple[Cable, ...]) -> Bgp | None:
    if switch.asn is None or switch.loopback is None:
        return None
    neighbors: dict[str, Neighbor] = {}
    filters: dict[str, Filter] = {}
    networks = {f"{switch.loopback}/32", *(str(netaddr.IPNetwork(site.networks[n].cidr)) for n in switch.addresses)}
    networks |= {six.cidr for name in switch.addresses if (six := site.networks[name].ipv6)}
    for own, other, kind in of_switch(every, switch.name):
        if kind == "link" and _routed(site, switch, other.device):
            peer = _link_address(site, every, other) or own
            neighbors[peer] = Neighbor(peer, _find(site, other.device).asn or 0, None)
            if peer != own:
                networks.add(str(netaddr.IPNetwork(f"{_link_address(site, every, End(switch.name, own))}/31").cidr))
        elif kind == "data":
            server = site.server(other.device)
            asn, name, routed = server_asn(site, server), f"{MARK}-{server.name}", routed_to_servers(site, server)
            if asn is not None and (routed or "node" in switch.addresses):
                filters[name] = Filter(name, announcements(site, server))
                peer = own if routed else server.addresses["node"]
                neighbors[peer] = Neighbor(peer, asn, name)
    return Bgp(
        asn=switch.asn,
        router_id=switch.loopback,
        networks=tuple(sorted(networks, key=natural)),
        neighbors=tuple(neighbors[peer] for peer in sorted(neighbors, key=natural)),
        filters=tuple(filters[name] for name in sorted(filters, key=natural)),
        bfd_interval=site.fabric.bfd_interval,
        bfd_multiplier=site.fabric.bfd_multiplier,
        ipv6=ipv6(site),
    )
