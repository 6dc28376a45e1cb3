# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan for a person: grouped by server and stage, equal servers folded, one sentence as the sum. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from .changes import CLUSTER, DISRUPTIONS, Change, Finding

__all__ = ["folded", "lines", "summary"]

_INSTALL = {"ramdisk": "to install", "inspect": "to install", "disk": "to power on", "wait": "to wait for"}
_WAVES = 10


def lines(
    changes: Sequence[Change],
    problems: Sequence[Finding],
    notices: Sequence[Finding],
    summed: str,
    waves: Sequence[Collection[str]] = (),
) -> list[str]:
    """Servers with the very same changes are one group; so are those with the same problem or notice."""
    by_server: dict[str, list[Change]] = {}
    for change in changes:
        by_server.setdefault(change.server, []).append(change)
    groups: dict[tuple[str, ...], list[str]] = {}
    for server, own in by_server.items():
        groups.setdefault(tuple(_line(change) for change in own), []).append(server)
    text = []
    for group, servers in groups.items():
        text += [f"{_counted(servers)}:", *group]
    if waves:
        shown = ", then ".join(folded(wave) for wave in waves[:_WAVES])
        text.append("waves: " + shown + (f", and {len(waves) - _WAVES} more" if len(waves) > _WAVES else ""))
    for word, findings in (("notice", notices), ("problem", problems)):
        same: dict[str, list[str]] = {}
        for finding in findings:
            same.setdefault(getattr(finding, "message", ""), []).append(finding.server)
        text += [f"{word}: {_counted(servers)}: {message}" for message, servers in same.items()]
    return [*text, summed]


def _line(change: Change) -> str:
    disruption = f" [{change.disruption}]" if change.disruption != "none" else ""
    return f"  {change.stage}: {change.what}: {change.before} -> {change.after}{disruption}"


def _counted(servers: Sequence[str]) -> str:
    return folded(servers) + (f" ({len(servers)} servers)" if len(servers) > 1 else "")


def folded(names: Iterable[str], limit: int = 12) -> str:
    """Names as the site file may write them: C(node1), C(node[03:17])."""
    parts: list[tuple[str, str, str, str]] = []
    for name in sorted(names, key=_natural):
        match = re.fullmatch(r"(.*?)(\d+)(\D*)", name)
        if match is None:
            parts.append((name, "", "", ""))
            continue
        head, number, tail = match.groups()
        last = parts[-1] if parts else ("", "", "", "")
        if last[2] and (last[0], last[3]) == (head, tail) and _next(last[2]) == number:
            parts[-1] = (head, last[1], number, tail)
        else:
            parts.append((head, number, number, tail))
    shown = [f"{h}{a}{t}" if a == b else f"{h}[{a}:{b}]{t}" for h, a, b, t in parts]
    return ", ".join(shown[:limit]) + (f" and {len(shown) - limit} more" if len(shown) > limit else "")


def _next(number: str) -> str:
    return str(int(number) + 1).zfill(len(number) if number.startswith("0") else 1)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), part) if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def summary(
    planned: Sequence[str],
    changes: Sequence[Change],
    problems: Sequence[Finding],
    waves: Sequence[Collection[str]] = (),
) -> str:
    """C(3 servers to install, 2 with changes (host 1, labels 2), 1 left alone, 994 in order)."""
    by_server: dict[str, list[Change]] = {}
    for change in changes:
        by_server.setdefault(change.server, []).append(change)
    services = len(by_server.pop(CLUSTER, ()))
    alone = {finding.server for finding in problems}
    if not by_server and not alone and not services:
        return "everything is in order: nothing to do"
    booted = Counter(
        _INSTALL[change.action] for change in changes if change.action in _INSTALL and change.stage == "os"
    )
    parts = [f"{booted[word]} {word}" for word in dict.fromkeys(_INSTALL.values()) if booted[word]]
    started = {change.server for change in changes if change.stage == "os"}
    others = {server: own for server, own in by_server.items() if server not in started}
    if others:
        parts.append(f"{len(others)} with changes ({_stages(others)})")
    if waves:
        parts.append(f"in {len(waves)} waves")
    if alone:
        parts.append(f"{len(alone)} left alone")
    parts.append(f"{len(set(planned) - by_server.keys() - alone)} in order")
    if services:
        # Not counted among the servers, so it does not come first.
        parts.append(f"{services} object{'s' if services > 1 else ''} of the cluster to apply")
    first, rest = parts[0].split(" ", 1)
    return ", ".join([f"{first} server{'s' if first != '1' else ''} {rest}", *parts[1:]])


def _stages(changes: Mapping[str, Sequence[Change]]) -> str:
    """C(bios 1 with reboot, labels 2): servers a stage, and how disruptive it is."""
    found: dict[str, dict[str, str]] = {}
    for server, own in changes.items():
        for change in own:
            levels = found.setdefault(change.stage, {})
            levels[server] = max(levels.get(server, "none"), change.disruption, key=DISRUPTIONS.index)
    words = []
    for stage, levels in found.items():
        for level, count in sorted(Counter(levels.values()).items(), key=lambda item: DISRUPTIONS.index(item[0])):
            words.append(f"{stage} {count}" + (f" with {level}" if level != "none" else ""))
    return ", ".join(words)
