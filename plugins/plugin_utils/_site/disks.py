# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Which disks of a server may serve a purpose. Nothing here touches a disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jmespath import exceptions

from .expressions import predicate

__all__ = ["PURPOSES", "match_drives", "matching", "select_disks"]

PURPOSES = ("system", "data")

Record = Mapping[str, Any]


def matching(records: Iterable[Record], select: str) -> list[Record]:
    """The records for which the predicate is true.

    A record the predicate cannot be computed for, such as a function that meets an unknown value, does not match.
    """
    return _match(records, select)[0]


def select_disks(
    records: Sequence[Record],
    selector: Mapping[str, Any] | None,
    *,
    purpose: str,
    wipe: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> dict[str, list[Any]]:
    """Choose disks for a purpose.

    `selector` holds `select` and `count`; without a selector nothing is chosen. Disks whose serial number is in
    `exclude` serve another purpose already and are not looked at.
    Returns `chosen` (records), `refused` (serial_number, name, reason) and `problems` (sentences).
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, not {purpose}")
    result: dict[str, list[Any]] = {"chosen": [], "refused": [], "problems": []}
    if selector is None:
        return result
    excluded, named = set(exclude), set(wipe)
    candidates = [record for record in records if record.get("serial_number") not in excluded]
    matched, errors = _match(candidates, selector["select"])
    _count(result["problems"], matched, candidates, selector, purpose, errors)
    if result["problems"]:
        return result
    serials = Counter(record.get("serial_number") for record in records)
    for record in matched:
        reason = _refusal(record, purpose, named, serials)
        if reason is None:
            result["chosen"].append(record)
        else:
            serial, name = record.get("serial_number"), record.get("name")
            told = f"disk {name} (serial {serial or 'unknown'}) {reason}"
            result["refused"].append({"serial_number": serial, "name": name, "reason": told})
    return result


def match_drives(disks: Sequence[Record], drives: Sequence[Record]) -> dict[str, list[Any]]:
    """Join the disks that a server sees with the drives that its BMC reports, by serial number.

    Returns `matched` (each with serial_number, disk, drive and differences, which are phrases), `disks` and `drives`
    without a counterpart, and `problems` (sentences) about serial numbers that more than one of them shows.
    """
    sides = [_by_serial(disks), _by_serial(drives)]
    twice = {key for side in sides for key, found in side.items() if len(found) > 1}
    both = [key for key in sides[0] if key in sides[1] and key not in twice]
    joined = [(sides[0][key][0], sides[1][key][0]) for key in both]
    alone = [[r for r in records if _serial(r) not in both] for records in (disks, drives)]
    return {
        "matched": [
            {"serial_number": a["serial_number"], "disk": a, "drive": b, "differences": list(_differences(a, b))}
            for a, b in joined
        ],
        "disks": alone[0],
        "drives": alone[1],
        "problems": [f"more than one disk or drive shows the serial number {key}" for key in sorted(twice)],
    }


def _serial(record: Record) -> str:
    """As both sides would write it: some pad it, or put dashes in."""
    return "".join(c for c in str(record.get("serial_number") or "") if c.isalnum()).upper()


def _by_serial(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        if key := _serial(record):
            found.setdefault(key, []).append(record)
    return found


def _differences(disk: Record, drive: Record) -> Iterator[str]:
    seen, told = disk.get("capacity_bytes"), drive.get("capacity_bytes")
    # Some BMCs round to a decimal gigabyte.
    if seen and told and abs(seen - told) > max(told // 50, 10**9):
        yield f"the server sees {seen} bytes, its BMC {told}"
    if drive.get("failure_predicted"):
        yield "the BMC predicts that it fails"
    if drive.get("health") not in (None, "OK"):
        yield f"the BMC says that its health is {drive['health']}"
    own = disk.get("health") or {}
    if own.get("status") not in (None, "ok"):
        yield f"the disk says: {', '.join(own.get('problems') or [own['status']])}"


def _match(records: Iterable[Record], select: str) -> tuple[list[Record], list[str]]:
    compiled = predicate(select)
    matched: list[Record] = []
    errors: list[str] = []
    for record in records:
        try:
            if compiled.search([record]):
                matched.append(record)
        except exceptions.JMESPathError as error:
            errors.append(f"{record.get('name')}: {error}")
    return matched, errors


def _count(
    problems: list[str],
    matched: Sequence[Record],
    seen: Sequence[Record],
    selector: Mapping[str, Any],
    purpose: str,
    errors: Sequence[str],
) -> None:
    wanted, select = selector.get("count"), selector["select"]
    if not matched:
        listed = "; ".join(_describe(record) for record in seen) or "none"
        text = f'no disk for {purpose} matches "{select}"; disks seen: {listed}'
        problems.append(text + (f"; not comparable: {'; '.join(errors)}" if errors else ""))
    elif wanted is not None and len(matched) != wanted:
        listed = "; ".join(_describe(record) for record in matched)
        problems.append(f'{len(matched)} disks for {purpose} match "{select}" where {wanted} must: {listed}')


def _refusal(record: Record, purpose: str, named: set[str], serials: Mapping[Any, int]) -> str | None:
    """Why a disk must not be taken, or None."""
    serial = record.get("serial_number")
    if not serial:
        return "has no serial number, so nobody can say which disk it is"
    if serials[serial] > 1:
        return f"{serials[serial]} disks show the serial number {serial} (several paths to one disk?)"
    if (record.get("kiban") or {}).get("purpose") == purpose:
        return None
    uses = [*record.get("mounts", ()), *record.get("holders", ())]
    if uses:
        return (
            "is in use ("
            + ", ".join(str(use) for use in uses)
            + "); stop what uses it, naming it in `wipe` is not enough"
        )
    found = _contents(record)
    if found and serial not in named:
        return f"carries {', '.join(found)}; add {serial} to the server's `wipe` if that may be lost"
    return None


def _contents(record: Record) -> list[str]:
    """What is on a disk, in words: types of signatures and partitions."""
    found = [str(signature.get("type")) for signature in record.get("signatures", ())]
    for partition in record.get("partitions", ()):
        types = [str(signature.get("type")) for signature in partition.get("signatures", ())]
        found.append(f"partition {partition.get('number')}" + (f" ({', '.join(types)})" if types else ""))
    return found


def _describe(record: Record) -> str:
    serial = record.get("serial_number") or "no serial number"
    size = record.get("capacity_bytes")
    shown = f"{size / 1e9:.1f} GB ({size} bytes)" if isinstance(size, int) else "unknown size"
    return f"{record.get('name')}: serial {serial}, {shown}, protocol {record.get('protocol') or 'unknown'}"
