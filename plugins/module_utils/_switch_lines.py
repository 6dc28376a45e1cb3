# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: not an interface, may change in any release.

"""Configurations as lines with their context: what differs, whose a line is, and what will be there in the end.

A line is a path: C(("router bgp 65101", "neighbor swp1 remote-as 65001")). Tables, such as those of SONiC, become paths
too: C(("VLAN", "Vlan20", "vlanid=20")).
"""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass

__all__ = [
    "EOS",
    "FRR",
    "NXOS",
    "OVS",
    "SONIC",
    "Dialect",
    "Difference",
    "commands",
    "difference",
    "fixed",
    "paths",
    "shown",
    "tables_of",
    "tables_paths",
    "text",
]

Path = tuple[str, ...]

# What the collection configures carries this word in a name or description, and so is known without any record of it.
# Static routes of FRR have a tag only: 4933954, "KIB" in ASCII.
_MARK = re.compile(r"\bkiban\b|\btag 4933954\b", re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """How one operating system writes its configuration. All but `refers` and `ends` are patterns for one line."""

    managed: str
    """Lines at the top that a driver answers for; others are not looked at."""
    single: str
    """Settings of which a context has one: what matches is the setting, the rest its value."""
    unit: str
    """Lines that belong to one thing, an interface or a neighbor; the mark in one of them holds for all."""
    additive: str = r"(?!)"
    """Of `single`: the old value must be taken away, the new one does not replace it."""
    kept: str = r"(?!)"
    """Headers, with their context, that cannot be removed; what stands under them can."""
    valueless: str = r"(?!)"
    """Of `single`: taken back without the value."""
    ignored: str = r"(?!)"
    """Lines, with their context, that are nobody's business here, such as facts of the hardware."""
    refers: str = r"(?!)"
    """Words in a line that are names of other units; it belongs to whoever those belong to."""
    ends: str = r"!|end|exit(-.*)?"


FRR = Dialect(
    managed=r"interface |ip(v6)? prefix-list |ip route |route-map |router bgp |bfd$",
    single=r"description |ip(v6)? address |bgp router-id |maximum-paths |"
    r"(detect-multiplier|(receive|transmit)-interval) |match tag |set (as-path prepend|local-preference|weight) |"
    r"neighbor \S+ (remote-as|interface peer-group|peer-group(?=\s\S)|prefix-list) |ip(v6)? prefix-list \S+ seq \d+ ",
    unit=r"interface .*|neighbor \S+|ip(v6)? prefix-list \S+",
    additive=r"ip(v6)? address ",
    kept=r"interface \S+|router bgp \S+ address-family ipv[46] unicast",
    valueless=r"description ",
)

# Tables of the module switch_config for Open vSwitch, and of SONiC's config_db: every field of an entry is a setting.
OVS = Dialect(
    managed=r"(VLAN|PORT|MEMBER|LINK)$",
    single=r"\w+=",
    unit=r"(?![A-Z_]+$)\S+",
    kept=r"[A-Z]+",
)
SONIC = Dialect(
    managed=r"(BGP_(GLOBALS(_AF(_NETWORK)?)?|NEIGHBOR(_AF)?|PEER_GROUP(_AF)?)|DEVICE_(METADATA|NEIGHBOR_METADATA)|LLDP"
    r"|(LOOPBACK_)?INTERFACE|MCLAG_(DOMAIN|INTERFACE)|PORT|PORTCHANNEL(_MEMBER)?|PREFIX(_SET)?|ROUTE_MAP(_SET)?|VLAN(_INTERFACE|_MEMBER)?)$",
    single=r"\w+=",
    unit=r"(?![A-Z_]+$)\S+",
    kept=r"[A-Z_]+|PORT \S+|DEVICE_METADATA \S+|LLDP \S+",
    # Lanes and speeds are the platform's, and so is most of what identifies the device.
    ignored=r"PORT \S+ (?!description|mtu|admin_status)|DEVICE_METADATA \S+ (?!docker_routing|frr_mgmt)",
    refers=r"[^|]+",
)
# Of these only comparing is done here; the vendors' own collections type what is to change.
EOS = Dialect(
    managed=r"vlan |interface (Ethernet|Port-Channel|Vlan|Loopback0)|ip prefix-list |ip routing|ipv6 unicast-routing|"
    r"lldp run|mlag configuration|router (bgp|bfd)",
    single=r"description |mtu |ip address |name |switchport (mode|access vlan|trunk (native|allowed) vlan) |"
    r"channel-group |mlag |router-id |maximum-paths |interval |domain-id |local-interface |"
    r"peer-(address heartbeat|address|link) |seq \d+ |neighbor \S+ (remote-as|peer group(?= \S)|prefix-list) |"
    r"neighbor interface \S+ ",
    unit=r"interface .*|vlan \d+|ip prefix-list .*|neighbor (interface )?\S+",
    kept=r"interface Ethernet\S+",
)
NXOS = Dialect(
    managed=r"feature (bgp|bfd|interface-vlan|lacp|lldp|vpc)|vlan \d|interface (Ethernet|port-channel|Vlan|loopback0)|"
    r"ip prefix-list |bfd interval |vpc domain |router bgp ",
    single=r"description |mtu |ip address |name |switchport (mode|access vlan|trunk (native|allowed) vlan) |"
    r"channel-group |vpc |router-id |maximum-paths |remote-as |inherit peer |prefix-list |bfd interval |role priority |"
    r"peer-keepalive |ip prefix-list \S+ seq \d+ ",
    unit=r"interface .*|vlan \d+|ip prefix-list \S+|(neighbor|template peer) \S+",
    kept=r"interface Ethernet\S+",
)


@dataclass(frozen=True)
class Difference:
    """From what is there to what is wanted. `after` is what will be there."""

    add: tuple[Path, ...]
    remove: tuple[Path, ...]
    foreign: tuple[Path, ...]
    """What the model does not know. It is kept, unless it is in `remove` too."""
    before: tuple[Path, ...]
    after: tuple[Path, ...]


def paths(config: str, dialect: Dialect) -> list[Path]:
    """The lines of an indented configuration, headers before what is under them; only those that are managed."""
    found: list[Path] = []
    above: list[tuple[int, str]] = []
    for raw in config.splitlines():
        line = raw.strip()
        if not line or re.fullmatch(dialect.ends, line) or line.startswith(("!", "#")):
            continue
        indent = len(raw) - len(raw.lstrip())
        while above and above[-1][0] >= indent:
            above.pop()
        above.append((indent, line))
        path = tuple(item for _indent, item in above)
        if re.match(dialect.managed, path[0]) and path not in found[-1:]:
            found.append(path)
    # A block that is there twice, as FRR's interfaces may be, is one block.
    return list(dict.fromkeys(found))


def text(lines: t.Iterable[Path], close: str | None = None) -> str:
    """Lines as a configuration again, indented by one; `close` ends each block (C(exit) of FRR)."""
    out: list[str] = []
    ordered = _grouped(lines)
    open_blocks: list[int] = []
    for place, path in enumerate(ordered):
        while open_blocks and open_blocks[-1] >= len(path):
            out.append(_close(close, open_blocks.pop(), out))
        out.append(" " * (len(path) - 1) + path[-1])
        deeper = place + 1 < len(ordered) and len(ordered[place + 1]) > len(path)
        if close and deeper:
            open_blocks.append(len(path))
    while open_blocks:
        out.append(_close(close, open_blocks.pop(), out))
    return "".join(f"{line}\n" for line in out)


def _close(close: str | None, depth: int, out: list[str]) -> str:
    header = next(line for line in reversed(out) if len(line) - len(line.lstrip()) == depth - 1)
    word = "exit-address-family" if header.strip().startswith("address-family") else close
    return " " * (depth - 1) + str(word)


def _grouped(lines: t.Iterable[Path]) -> list[Path]:
    """Each line right under its header, whatever order they came in; plain lines before blocks."""
    children: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(lines):
        for depth in range(len(path)):
            siblings = children.setdefault(path[:depth], [])
            if path[: depth + 1] not in siblings:
                siblings.append(path[: depth + 1])
    found: list[Path] = []

    def walk(header: Path) -> None:
        for path in sorted(children.get(header, []), key=lambda item: item in children and bool(header)):
            found.append(path)
            walk(path)

    walk(())
    return found


def tables_paths(tables: t.Mapping[str, t.Any], dialect: Dialect) -> list[Path]:
    """Tables of entries of fields as paths; lists are compared without their order."""
    found: list[Path] = []
    for table, entries in tables.items():
        if not re.match(dialect.managed, table):
            continue
        for key, fields in entries.items():
            found.append((table, key))
            for field, value in fields.items():
                plain = sorted(value) if isinstance(value, (list, tuple)) else value
                found.append((table, key, f"{field}={json.dumps(plain)}"))
    return found


def tables_of(lines: t.Iterable[Path]) -> dict[str, t.Any]:
    """The reverse of C(tables_paths)."""
    tables: dict[str, t.Any] = {}
    for path in lines:
        entry = tables.setdefault(path[0], {}).setdefault(path[1], {}) if len(path) > 1 else {}
        if len(path) > 2:
            field, _equals, value = path[2].partition("=")
            entry[field] = json.loads(value)
    return tables


def difference(
    wanted: t.Sequence[Path], running: t.Sequence[Path], dialect: Dialect, exclusive: bool = False
) -> Difference:
    """What to add and to remove. Without `exclusive` a line that the model does not know stays."""
    there, want = set(running), set(wanted)
    settings = {key for path in wanted if (key := _setting(path, dialect))}
    headers = {path[:depth] for path in wanted for depth in range(1, len(path))}
    owned = _owned(running, dialect)
    remove: list[Path] = []
    foreign: list[Path] = []
    for path in running:
        if path in want or path in headers or re.match(dialect.ignored, " ".join(path)):
            continue
        if _setting(path, dialect) in settings or _is_owned(path, owned, dialect):
            remove.append(path)
        elif len(path) == 1 and any(item[:1] == path and len(item) > 1 for item in running):
            continue  # A header says nothing by itself; what is under it does.
        else:
            foreign.append(path)
            if exclusive:
                remove.append(path)
    gone = set(remove)
    # Under a header that goes, everything goes; a header under which something stays, stays.
    stays = [path for path in running if path not in gone]
    needed = {path[:depth] for path in stays for depth in range(1, len(path))}
    remove = [
        path for path in remove if path not in needed and (path[:-1] in gone - needed or not fixed(path, dialect))
    ]
    kept = [path for path in running if path not in set(remove)]
    add = [path for path in wanted if path not in there]
    return Difference(tuple(add), tuple(remove), tuple(foreign), tuple(running), tuple(_grouped([*kept, *add])))


def fixed(path: Path, dialect: Dialect) -> bool:
    """A header that comes and goes as the system likes."""
    return bool(re.fullmatch(dialect.kept, " ".join(path)))


def _setting(path: Path, dialect: Dialect) -> tuple[Path, str] | None:
    match = re.match(dialect.single, path[-1])
    return (path[:-1], match[0]) if match else None


def _units(path: Path, dialect: Dialect) -> set[tuple[str, str]]:
    """The things that a line is of: by its top header, so that a neighbor is one in each address family."""
    found = set()
    for depth, part in enumerate(path):
        match = re.match(dialect.unit, part)
        if match:
            found.add((path[0] if depth else "", match[0]))
    return found


def _owned(running: t.Sequence[Path], dialect: Dialect) -> set[tuple[str, str]]:
    return {unit for path in running if _MARK.search(path[-1]) for unit in _units(path, dialect)}


def _is_owned(path: Path, owned: set[tuple[str, str]], dialect: Dialect) -> bool:
    if any(_MARK.search(part) for part in path) or _units(path, dialect) & owned:
        return True
    names = {name for _top, name in owned}
    return any(word in names for part in path[1:2] for word in re.findall(dialect.refers, part))


def commands(change: Difference, dialect: Dialect) -> str:
    """What to type: first what goes, then what comes. For systems that take C(no) and a line back."""
    gone, out = set(change.remove), []
    left = {unit for path in change.after for unit in _units(path, dialect)}
    told: set[tuple[str, str]] = set()
    replaced = {_setting(path, dialect) for path in change.add}
    removed: list[Path] = []
    for path in change.remove:
        if any(path[:depth] in gone for depth in range(1, len(path))):
            continue
        setting = _setting(path, dialect)
        if setting in replaced and not re.match(dialect.additive, path[-1]):
            continue
        whole = [unit for unit in _units(path[-1:], dialect) if unit[1].startswith("neighbor ")]
        if whole:
            unit = (path[0], whole[0][1])
            if unit in told:
                continue
            if unit not in left:
                told.add(unit)
                removed.append((path[0], f"no {unit[1]}"))
                continue
        # "no no x" is x.
        line = setting[1].strip() if setting and re.match(dialect.valueless, path[-1]) else path[-1]
        last = line[3:] if line.startswith("no ") else f"no {line}"
        removed.append((*path[:-1], last))
    # Groups of neighbors go after the neighbors in them.
    removed.sort(key=lambda path: bool(re.match(r"no (neighbor [A-Z]|ip(v6)? prefix-list|bfd$|profile)", path[-1])))
    for path in removed:
        out += _typed(path)
    out += [line for path in _grouped(change.add) if path in set(change.add) for line in _typed(path)]
    return "".join(f"{line}\n" for line in out)


def _typed(path: Path) -> list[str]:
    """One line with its way down, and back to the top."""
    lines = [" " * depth + part for depth, part in enumerate(path)]
    for depth in range(len(path) - 2, -1, -1):
        word = "exit-address-family" if path[depth].startswith("address-family") else "exit"
        lines.append(" " * depth + word)
    return lines


def shown(change: Difference) -> dict[str, str]:
    """As Ansible's diff; foreign lines are part of both sides when they stay."""
    return {"before": text(change.before), "after": text(change.after)}
