# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""What all drivers share: a configuration, ways to write and to read one, and the peer groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .intent import MARK, Filter, Neighbor, Rule

__all__ = [
    "LINKS",
    "SERVERS",
    "Block",
    "Config",
    "Tree",
    "filter_rules",
    "group_of",
    "prefix_lists",
    "rule_of",
    "vlan_list",
    "vlan_set",
]

LINKS, SERVERS = f"{MARK}-LINKS", f"{MARK}-SERVERS"
"""Peer groups: what all switches and all servers have in common."""

Path = tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """Tables of entries of fields, and lines: a system has one or both."""

    tables: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    text: str = ""


def group_of(neighbor: Neighbor) -> str:
    return LINKS if neighbor.accept is None else SERVERS


def vlan_list(numbers: Iterable[int]) -> str:
    """`20,30-32`, as vendors write sets of VLANs."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def vlan_set(text: str) -> tuple[int, ...]:
    """The reverse of vlan_list; `none` is none."""
    found: list[int] = []
    for part in text.split(",") if text not in ("", "none") else []:
        first, _dash, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def filter_rules(one: Filter, version: int = 4) -> list[tuple[int, str]]:
    """Sequence number and `permit 203.0.113.0/26 le 32` of each rule of a family: systems have a list for each."""
    return [
        (5 * place, f"permit {rule.prefix}" + (f" le {rule.longest}" if rule.longest > length(rule.prefix) else ""))
        for place, rule in enumerate(one.of(version), 1)
    ]


def prefix_lists(one: Filter) -> list[str]:
    """The rules as lines of FRR and NX-OS. A list of IPv6 has the name of that of IPv4."""
    return [
        f"{word} prefix-list {one.name} seq {number} {rule}"
        for version, word in ((4, "ip"), (6, "ipv6"))
        for number, rule in filter_rules(one, version)
    ]


def rule_of(text: str) -> Rule:
    """The reverse: of `permit 203.0.113.0/26 le 32`."""
    words = text.split()
    return Rule(words[1], int(words[3]) if words[2:3] == ["le"] else length(words[1]))


def length(prefix: str) -> int:
    return int(prefix.partition("/")[2])


class Block:
    """Lines under a header, for writing."""

    def __init__(self, indent: int = 0, step: int = 1) -> None:
        self.lines: list[str] = []
        self.indent, self.step = indent, step

    def __call__(self, *lines: str) -> None:
        self.lines += [" " * self.indent + line for line in lines if line]

    def under(self, header: str, close: str = "") -> Block:
        """A header; what is written to the result comes under it. `close` ends it."""
        inner = Block(self.indent + self.step, self.step)
        self.lines.append(" " * self.indent + header)
        self.lines.append(inner)  # type: ignore[arg-type]
        if close:
            self.lines.append(" " * self.indent + close)
        return inner

    def __str__(self) -> str:
        return "".join(str(line) if isinstance(line, Block) else f"{line}\n" for line in self.lines)


class Tree:
    """Lines as paths, for reading."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.children: dict[str, Tree] = {}
        for path in paths:
            place = self
            for part in path:
                place = place.children.setdefault(part, Tree(()))

    def all(self, start: str) -> list[tuple[str, Tree]]:
        """The rest of each line that starts so, and what is under it."""
        return [(line[len(start) :], tree) for line, tree in self.children.items() if line.startswith(start)]

    def one(self, start: str) -> str | None:
        return next((rest for rest, _tree in self.all(start)), None)

    def at(self, header: str) -> Tree:
        return self.children.get(header, Tree(()))
