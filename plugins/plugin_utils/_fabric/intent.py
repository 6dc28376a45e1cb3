# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""What one switch is to be like, in no vendor's words. Sequences are sorted, so that equal intents compare equal."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "JUMBO_MTU",
    "MARK",
    "MLAG_ADDRESSES",
    "MLAG_VLAN",
    "Bgp",
    "FabricError",
    "Filter",
    "Intent",
    "Lag",
    "Mlag",
    "Neighbor",
    "Port",
    "Rule",
    "Svi",
    "Vlan",
    "natural",
]

MARK = "KIBAN"
"""In the name or description of all that this collection configures; what carries it is the collection's own."""

MLAG_VLAN = 4094
"""Where the two switches of a pair talk to each other."""

MLAG_ADDRESSES = ("169.254.94.0", "169.254.94.1")
"""In C(MLAG_VLAN), with a prefix length of 31. Link-local (RFC 3927): they never leave the pair."""

JUMBO_MTU = 9216
"""Of ports that carry a network of more than 1500 bytes: the largest that all supported systems take."""


class FabricError(ValueError):
    """A switch cannot be configured as the model has it; the message is for a person."""


@dataclass(frozen=True)
class Vlan:
    number: int
    name: str


@dataclass(frozen=True)
class Port:
    """A front port: in VLANs, or a member of a LAG, or routed."""

    name: str
    description: str
    mtu: int
    untagged: int | None = None
    tagged: tuple[int, ...] = ()
    lag: int | None = None
    routed: bool = False
    address: str | None = None
    """With prefix length; a routed port without one is unnumbered."""
    guest: str | None = None
    """Address that is to be found on this routed port while nobody announces it: of a server during installation."""


@dataclass(frozen=True)
class Lag:
    number: int
    description: str
    mtu: int
    untagged: int | None = None
    tagged: tuple[int, ...] = ()
    mlag: bool = False
    """Its other members are on the other switch of the pair, under the same number."""
    peer_link: bool = False


@dataclass(frozen=True)
class Svi:
    """The switch's interface in a VLAN."""

    vlan: int
    address: str
    """With prefix length."""
    mtu: int
    address6: str | None = None
    """IPv6, with prefix length."""


@dataclass(frozen=True)
class Rule:
    """Accept this prefix, and more specific ones up to this length."""

    prefix: str
    longest: int

    @property
    def version(self) -> int:
        """Of IP: 4 or 6."""
        return 6 if ":" in self.prefix else 4


@dataclass(frozen=True)
class Filter:
    name: str
    rules: tuple[Rule, ...]
    """Those of IPv4 first."""

    def of(self, version: int) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.version == version)


@dataclass(frozen=True)
class Neighbor:
    peer: str
    """Address, or name of the port of an unnumbered link."""
    asn: int
    accept: str | None
    """Name of the filter of a server; none: a switch, from which everything is accepted."""


@dataclass(frozen=True)
class Bgp:
    asn: int
    router_id: str
    networks: tuple[str, ...]
    """Prefixes that the switch itself announces, of both families."""
    neighbors: tuple[Neighbor, ...]
    filters: tuple[Filter, ...]
    bfd_interval: int
    """Milliseconds."""
    bfd_multiplier: int
    ipv6: bool = False
    """Its sessions carry IPv6 routes too."""


@dataclass(frozen=True)
class Mlag:
    domain: int
    first: bool
    """Of the two, by name: it has the first of C(MLAG_ADDRESSES)."""
    keepalive: str
    """Management address of the other switch."""

    @property
    def local(self) -> str:
        return MLAG_ADDRESSES[0 if self.first else 1]

    @property
    def peer(self) -> str:
        return MLAG_ADDRESSES[1 if self.first else 0]


@dataclass(frozen=True)
class Intent:
    name: str
    loopback: str | None
    vlans: tuple[Vlan, ...]
    ports: tuple[Port, ...]
    lags: tuple[Lag, ...]
    svis: tuple[Svi, ...]
    bgp: Bgp | None
    mlag: Mlag | None


def natural(text: str) -> list[tuple[int, str]]:
    """Sort key: swp2 before swp10."""
    return [(int(part), part) if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
