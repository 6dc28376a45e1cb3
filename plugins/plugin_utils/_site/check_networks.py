# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Checks of meaning: networks and addresses."""

from __future__ import annotations

from itertools import combinations

import netaddr  # type: ignore[import-untyped, unused-ignore]

from .draft import Claim, Draft, Entry, addresses_of
from .ipam import PodRangeError, hosts, pod_range
from .shape import nearest

__all__ = ["check_networks", "read_network"]


def check_networks(draft: Draft) -> None:
    _read_networks(draft)
    _overlaps(draft)
    _control_host(draft)
    for entry in draft.entries:
        _server_addresses(draft, entry)
    _switch_addresses(draft)
    _used_twice(draft)
    _pod_ranges(draft)
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


def read_network(draft: Draft, text: str | None, path: str) -> netaddr.IPNetwork | None:
    """The network that a text states; one with bits beyond its prefix is a problem."""
    if not text:
        return None
    network = netaddr.IPNetwork(text)
    if network.ip != network.network:
        draft.problem(path, f"{text} is an address inside a network", f"write the network: {network.cidr}")
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
    for name in ("pods", "services"):
        path = f"cluster.sdn.{name}"
        network = read_network(draft, draft.part("cluster", "sdn").get(name), path)
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


def _pod_ranges(draft: Draft) -> None:
    sdn, node = draft.part("cluster", "sdn"), draft.networks.get("node")
    if not sdn.get("pods") or node is None:
        return
    pods, prefix = str(netaddr.IPNetwork(sdn["pods"]).cidr), sdn.get("node_prefix", 24)
    ours = [netaddr.IPAddress(claim.address) for claim in draft.claims if claim.path.endswith(".addresses.node")]
    inside = [address for address in ours if address in node]
    if not inside:
        return
    try:
        # The server furthest from the start of the node network needs the range furthest out.
        pod_range(str(max(inside)), str(node), pods, prefix)
    except PodRangeError as error:
        draft.problem("cluster.sdn.pods", error.message, error.hint)
