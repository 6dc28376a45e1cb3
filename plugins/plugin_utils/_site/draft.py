# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""A site file on its way to being a Site: right in shape, not yet in meaning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import netaddr  # type: ignore[import-untyped, unused-ignore]

from .expand import RangeError, count_up, expand_name
from .model import Problem
from .shape import key_path

__all__ = ["Claim", "Draft", "Entry", "addresses_of", "cables_of", "read_entries"]


@dataclass(frozen=True)
class Entry:
    """One item of a rack's `servers`: one server, or a range of them."""

    path: tuple[str | int, ...]
    rack: str
    raw: dict[str, Any]
    names: tuple[str, ...]

    def key(self, *keys: str | int) -> str:
        return key_path((*self.path, *keys))

    def roles(self) -> list[str]:
        return [role for role in self.raw.get("roles", []) if role]

    def bmc(self) -> dict[str, Any]:
        """The BMC as a mapping, however it was written."""
        raw = self.raw.get("bmc")
        return {"address": raw} if isinstance(raw, str) else raw or {}

    def bmc_key(self) -> str:
        return self.key("bmc", "address") if isinstance(self.raw.get("bmc"), dict) else self.key("bmc")


@dataclass(frozen=True)
class Claim:
    """Somebody has this address."""

    address: str
    path: str
    owner: str


@dataclass
class Draft:
    """The data without the values of wrong shape, and what was found out so far."""

    data: dict[str, Any]
    declared_networks: frozenset[str]
    declared_profiles: frozenset[str]
    servers_whole: bool = True
    """No server lost a value because of its shape."""
    told: frozenset[str] = frozenset()
    """Paths of the values that were taken out because of their shape."""
    problems: list[Problem] = field(default_factory=list)
    networks: dict[str, netaddr.IPNetwork] = field(default_factory=dict)
    networks6: dict[str, netaddr.IPNetwork] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    def problem(self, path: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(path, message, hint))

    def part(self, *keys: str) -> Any:
        """The value under these keys, or an empty mapping."""
        place: Any = self.data
        for key in keys:
            place = place.get(key) if isinstance(place, dict) else None
        return {} if place is None else place


def read_entries(draft: Draft) -> None:
    """Expand the names of all servers; a name that cannot be expanded leaves its entry out."""
    for number, rack in enumerate(draft.data.get("racks") or []):
        for place, raw in enumerate((rack or {}).get("servers") or []):
            if not isinstance(raw, dict):
                continue
            path = ("racks", number, "servers", place)
            names: tuple[str, ...] = ()
            if "name" in raw:
                try:
                    names = expand_name(raw["name"])
                except RangeError as error:
                    draft.problem(key_path((*path, "name")), error.message, error.hint)
            draft.entries.append(Entry(path, rack.get("name", ""), raw, names))


def addresses_of(first: str, count: int) -> tuple[str, ...]:
    """Like count_up, but never more than exist."""
    return count_up(first, min(count, 2**32 - int(netaddr.IPAddress(first))))


def cables_of(far: str, count: int) -> tuple[str, ...]:
    """The far ends `switch:port` of `count` servers: as many ports. RangeError if not."""
    switch, _colon, ports = far.partition(":")
    names = expand_name(ports)
    if len(names) != count:
        raise RangeError(
            f"{far!r} names {len(names)} ports for {count} servers",
            f"one port a server, for example {switch}:swp[1:{count}]" if count > 1 else f"for example {switch}:swp1",
        )
    return tuple(f"{switch}:{name}" for name in names)
