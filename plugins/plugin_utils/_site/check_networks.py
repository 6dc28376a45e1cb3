# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Checks of meaning: networks and addresses."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import netaddr  # type: ignore[import-untyped, unused-ignore]

from .draft import Claim, Draft, Entry, addresses_of
from .ipam import PodRangeError, hosts, pod_range
from .shape import nearest

__all__ = ["check_networks", "read_network"]

# Global unicast and unique local (RFC 4291, RFC 4193).
_USABLE6 = (netaddr.IPNetwork("2000::/3"), netaddr.IPNetwork("fc00::/7"))
# kubeadm takes no Service range of more than 20 bits, nor one of less than ten addresses, of which DNS has the tenth.
_SERVICES6 = (108, 124)


def check_networks(draft: Draft) -> None:
    _read_networks(draft)
    _overlaps(draft)
    _control_host(draft)
    for entry in draft.entries:
        _server_addresses(draft, entry)
    _switch_addresses(draft)
    _used_twice(draft)
    _gateways6(draft)
    _pod_ranges(draft)
    _dual_stack(draft)
    _discover(draft)


def _read_networks(draft: Draft) -> None:
    for name, raw in draft.part("networks").items():
        network = read_network(draft, raw.get("cidr"), f"networks.{name}.cidr")
        if network is None:
            continue
        draft.networks[name] = network
        if raw.get("gateway"):
            path = f"networks.{name}.gateway"
            if _inside(draft, raw["gateway"], network, path, f"networks.{name}"):
                draft.claims.append(Claim(raw["gateway"], path, f"the gateway of {name}"))
        six = read_network(draft, (raw.get("ipv6") or {}).get("cidr"), f"networks.{name}.ipv6.cidr")
        if six is not None:
            draft.networks6[name] = six
            longest = 128 - (32 - network.prefixlen)
            if six.prefixlen > longest:
                message = f"{six} has fewer addresses than networks.{name} ({network}), whose places it has"
                draft.problem(f"networks.{name}.ipv6.cidr", message, f"a /{longest} or larger, for example a /64")


def read_network(draft: Draft, text: str | None, path: str) -> netaddr.IPNetwork | None:
    """The network that a text states; one with bits beyond its prefix is a problem."""
    if not text:
        return None
    network = netaddr.IPNetwork(text)
    if network.ip != network.network:
        draft.problem(path, f"{text} is an address inside a network", f"write the network: {network.cidr}")
    if network.version == 6 and not any(network.cidr in usable for usable in _USABLE6):
        draft.problem(path, f"{text} is none of global or unique local addresses", "in 2000::/3 or fc00::/7")
    return network.cidr


def _discover(draft: Draft) -> None:
    given = draft.data.get("discover") or []
    if not given:
        return
    # Late: few sites look for BMCs, and every filter loads the site.
    from ...module_utils._bmc import BmcError
    from ...module_utils._bmc.addresses import expand

    for number, text in enumerate(given):
        try:
            expand([text])
        except BmcError as exc:
            draft.problem(f"discover[{number}]", str(exc))


def _inside(draft: Draft, address: str, network: netaddr.IPNetwork, path: str, where: str) -> bool:
    first, last = hosts(network)
    if first <= netaddr.IPAddress(address) <= last:
        return True
    if netaddr.IPAddress(address) in network:
        kind = "network" if int(netaddr.IPAddress(address)) == network.first else "broadcast"
        draft.problem(path, f"{address} is the {kind} address of {where} ({network})", f"from {first} to {last}")
    else:
        draft.problem(path, f"{address} is outside {where} ({network})", f"from {first} to {last}")
    return False


def _overlaps(draft: Draft) -> None:
    all_networks = [(f"networks.{name}.cidr", network) for name, network in draft.networks.items()]
    all_networks += [(f"networks.{name}.ipv6.cidr", network) for name, network in draft.networks6.items()]
    for keys in (("pods",), ("services",), ("ipv6", "pods"), ("ipv6", "services")):
        path = ".".join(("cluster", "sdn", *keys))
        text = draft.part("cluster", "sdn", *keys) or None
        network = read_network(draft, text, path)
        if network is not None:
            all_networks.append((path, network))
    for (path, network), (other_path, other) in combinations(all_networks, 2):
        if network in other or other in network:
            draft.problem(
                other_path, f"{other} overlaps {path} ({network})", "every network needs addresses of its own"
            )


def _control_host(draft: Draft) -> None:
    deploy = draft.part("deploy")
    address, bmc_address = deploy.get("address"), deploy.get("bmc_address")
    if address:
        _reachable(draft, "node", "address", address)
        draft.claims.append(Claim(address, "deploy.address", "the control host"))
    # One address may serve both sides.
    if bmc_address or address:
        _reachable(draft, "bmc", "bmc_address", bmc_address or address)
    if bmc_address and bmc_address != address:
        draft.claims.append(Claim(bmc_address, "deploy.bmc_address", "the control host"))


def _reachable(draft: Draft, name: str, key: str, address: str) -> None:
    """An address outside the network needs a gateway in it; inside, it must be one a host can have."""
    network = draft.networks.get(name)
    if network is None:
        return
    path = f"deploy.{key}"
    if netaddr.IPAddress(address) in network:
        _inside(draft, address, network, path, f"networks.{name}")
    elif not draft.part("networks", name).get("gateway"):
        draft.problem(
            path,
            f"{address} is outside networks.{name} ({network}), which has no gateway",
            f"an address of the control host in {network}, or a gateway in networks.{name}",
        )


def _server_addresses(draft: Draft, entry: Entry) -> None:
    wanted = [("bmc", entry.bmc_key(), entry.bmc().get("address"), "the BMC of ")]
    for name, address in (entry.raw.get("addresses") or {}).items():
        path = entry.key("addresses", name)
        if name == "bmc":
            draft.problem(path, "a BMC is not an address of the server", "write it as the server's `bmc`")
        elif name not in draft.declared_networks:
            draft.problem(path, f"there is no network '{name}'", nearest(name, draft.declared_networks - {"bmc"}))
        else:
            wanted.append((name, path, address, ""))
    for name, path, first, whose in wanted:
        if first and entry.names:
            _count_up(draft, entry, name, path, first, whose)


def _count_up(draft: Draft, entry: Entry, name: str, path: str, first: str, whose: str) -> None:
    network, count = draft.networks.get(name), len(entry.names)
    if network is None:
        return
    if not _inside(draft, first, network, path, f"networks.{name}"):
        return
    end = hosts(network)[1]
    if int(netaddr.IPAddress(first)) + count - 1 > int(end):
        latest = int(end) - count + 1
        hint = f"start at {netaddr.IPAddress(latest)} or lower" if latest > network.first else "a larger network"
        message = (
            f"{count} servers need {count} addresses from {first} on, but networks.{name} ({network}) ends at {end}"
        )
        draft.problem(path, message, hint)
    for server, address in zip(entry.names, addresses_of(first, count), strict=False):
        draft.claims.append(Claim(address, path, whose + server))


def _switch_addresses(draft: Draft) -> None:
    routers: set[str] = set()
    for number, rack in enumerate(draft.part("racks")):
        for place, raw in enumerate((rack or {}).get("switches") or []):
            path, owner = f"racks[{number}].switches[{place}]", (raw or {}).get("name", "a switch")
            for key in ("address", "loopback"):
                if (raw or {}).get(key):
                    draft.claims.append(Claim(raw[key], f"{path}.{key}", owner))
            for network, address in ((raw or {}).get("addresses") or {}).items():
                # One switch may be the gateway of the network.
                if address == draft.part("networks", network).get("gateway") and address not in routers:
                    routers.add(address)
                else:
                    draft.claims.append(Claim(address, f"{path}.addresses.{network}", owner))


def _used_twice(draft: Draft) -> None:
    first: dict[str, Claim] = {}
    clashes: dict[tuple[str, str], list[tuple[Claim, Claim]]] = {}
    for claim in draft.claims:
        earlier = first.setdefault(claim.address, claim)
        if earlier is not claim:
            clashes.setdefault((earlier.path, claim.path), []).append((earlier, claim))
    for (earlier_path, path), pairs in clashes.items():
        earlier, claim = pairs[0]
        more = f" (and {len(pairs) - 1} more in the same way)" if len(pairs) > 1 else ""
        message = f"{claim.address} of {claim.owner} is already the address of {earlier.owner}{more}"
        draft.problem(path, message, f"see {earlier_path}; each address once")


def _gateways6(draft: Draft) -> None:
    """An IPv6 gateway is link-local, or in its network and of nobody else there."""
    for name, network in draft.networks6.items():
        text = draft.part("networks", name, "ipv6").get("gateway")
        if not text:
            continue
        path, gateway = f"networks.{name}.ipv6.gateway", netaddr.IPAddress(text)
        if gateway in netaddr.IPNetwork("fe80::/10"):
            continue
        if gateway not in network or int(gateway) == network.first:
            draft.problem(path, f"{text} is no address of networks.{name}.ipv6 ({network})", "or a link-local one")
            continue
        four, place = draft.networks[name], int(gateway) - network.first
        taken = str(netaddr.IPAddress(four.first + place)) if place < four.size else ""
        if taken and taken != draft.part("networks", name).get("gateway"):
            for claim in (claim for claim in draft.claims if claim.address == taken):
                message = f"{text} is the IPv6 address of {claim.owner}, who has the same place ({taken})"
                draft.problem(path, message, "another one")


def _dual_stack(draft: Draft) -> None:
    """What IPv6 of pods and Services needs beside its own ranges."""
    six = draft.part("cluster", "sdn", "ipv6")
    if not six:
        return
    if "node" in draft.networks and not draft.part("networks", "node").get("ipv6"):
        told = [path for path in draft.told if path.startswith("networks.node.ipv6")]
        if not told:
            hint = "servers of a cluster with IPv6 have IPv6 addresses, for example ipv6: {cidr: 2001:db8:1::/64}"
            draft.problem("networks.node.ipv6", "missing", hint)
    if six.get("services"):
        length, (least, most) = netaddr.IPNetwork(six["services"]).prefixlen, _SERVICES6
        if not least <= length <= most:
            message = f"kubeadm takes no Service range of the size /{length}"
            draft.problem("cluster.sdn.ipv6.services", message, f"from /{least} to /{most}, for example a /112")


def _pod_ranges(draft: Draft) -> None:
    for keys, default in (((), 24), (("ipv6",), 64)):
        _pod_ranges_of(draft, draft.part("cluster", "sdn", *keys), ".".join(("cluster.sdn", *keys, "pods")), default)


def _pod_ranges_of(draft: Draft, sdn: dict[str, Any], path: str, default: int) -> None:
    node = draft.networks.get("node")
    if not sdn.get("pods") or node is None:
        return
    pods, prefix = str(netaddr.IPNetwork(sdn["pods"]).cidr), sdn.get("node_prefix", default)
    ours = [netaddr.IPAddress(claim.address) for claim in draft.claims if claim.path.endswith(".addresses.node")]
    inside = [address for address in ours if address in node]
    if not inside:
        return
    try:
        # The server furthest from the start of the node network needs the range furthest out.
        pod_range(str(max(inside)), str(node), pods, prefix)
    except PodRangeError as error:
        draft.problem(path, error.message, error.hint)
