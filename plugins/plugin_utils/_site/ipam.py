# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Address arithmetic: which pod range belongs to which server."""

from __future__ import annotations

import netaddr  # type: ignore[import-untyped, unused-ignore]

from .model import Network

__all__ = ["PodRangeError", "address6", "hosts", "offset", "pod_range"]


class PodRangeError(ValueError):
    """The pod network has no range for a server. `hint` says what would be right."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def hosts(network: netaddr.IPNetwork) -> tuple[netaddr.IPAddress, netaddr.IPAddress]:
    """The first and the last address of a network that a host can have."""
    if network.size <= 2:
        return netaddr.IPAddress(network.first, network.version), netaddr.IPAddress(network.last, network.version)
    return netaddr.IPAddress(network.first + 1, network.version), netaddr.IPAddress(network.last - 1, network.version)


def offset(address: netaddr.IPAddress, network: netaddr.IPNetwork) -> int:
    """How far an address is from the start of its network."""
    if address not in network:
        raise ValueError(f"{address} is not in {network}")
    return int(address) - network.first


def address6(network: Network, address: str) -> str | None:
    """The IPv6 address of whoever has this IPv4 address: the same place in the network. None: it has no IPv6."""
    if network.ipv6 is None:
        return None
    place = offset(netaddr.IPAddress(address), netaddr.IPNetwork(network.cidr))
    return str(netaddr.IPAddress(netaddr.IPNetwork(network.ipv6.cidr).first + place, 6))


def pod_range(address: str, node_cidr: str, pods_cidr: str, prefix: int) -> str:
    """The pod range, of either family, of the server with this node address.

    It depends on nothing but the server's own address, so adding or removing servers moves no range of another.
    """
    node, pods = netaddr.IPNetwork(node_cidr), netaddr.IPNetwork(pods_cidr)
    if prefix < pods.prefixlen:
        raise PodRangeError(
            f"one server's range (/{prefix}) is larger than the whole pod network {pods}",
            f"a node_prefix of more than {pods.prefixlen}, or a larger pod network",
        )
    number = offset(netaddr.IPAddress(address), node)
    have = 2 ** (prefix - pods.prefixlen)
    if number >= have:
        bits = number.bit_length()
        raise PodRangeError(
            f"{pods} has {have} ranges of /{prefix}, and the server at {address} needs number {number} "
            f"(its place in {node})",
            _larger(prefix - bits, pods.prefixlen + bits, 28 if pods.version == 4 else 124),
        )
    width = 32 if pods.version == 4 else 128
    return str(netaddr.IPNetwork((pods.first + number * 2 ** (width - prefix), prefix), version=pods.version))


def _larger(pods_prefix: int, node_prefix: int, longest: int) -> str:
    choices = []
    if pods_prefix >= 1:
        choices.append(f"a pod network of /{pods_prefix} or larger")
    if node_prefix <= longest:
        choices.append(f"a node_prefix of {node_prefix} or more")
    return ", or ".join(choices) or "node addresses nearer to the start of the node network"
