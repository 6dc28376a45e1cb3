# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server is what its profile says: expectations and firmware baseline against its hardware record."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.visitor import TreeInterpreter

from .model import FirmwareBaseline, Profile

__all__ = ["Difference", "at_least", "differences", "firmware_differences"]


@dataclass(frozen=True)
class Difference:
    """One thing in which a server is not what it should be."""

    kind: str
    """C(expect), C(firmware), C(contract) or C(unread)."""
    what: str
    """The expression, the component, or the area of the contract."""
    expected: str | None
    found: str | None
    message: str
    """A sentence for a person."""


def differences(profile: Profile, hardware: Mapping[str, Any]) -> list[Difference]:
    """All of them, in the order of the profile."""
    expected = (_expectation(text, hardware) for text in profile.expect)
    found = [one for one in expected if one is not None]
    return found + firmware_differences(profile, hardware.get("firmware") or [])


def firmware_differences(profile: Profile, inventory: Sequence[Mapping[str, Any]]) -> list[Difference]:
    return [one for baseline in profile.firmware for one in _firmware(baseline, inventory)]


def _expectation(text: str, hardware: Mapping[str, Any]) -> Difference | None:
    tree: Any = jmespath.compile(text).parsed
    try:
        value = TreeInterpreter().visit(tree, hardware)
    except JMESPathError as exc:
        reason = str(exc).splitlines()[0]
        return Difference(
            "expect", text, "true", None, f"{text} can't be told: {reason}. Does the BMC give what it asks for?"
        )
    # What JMESPath holds for false: null, false, and what is empty. 0 is true.
    if value is not None and value is not False and value not in ("", [], {}):
        return None
    sides = "; ".join(_sides(tree, hardware))
    return Difference(
        "expect", text, "true", sides or _short(value), f"{text} is not true" + (f": {sides}" if sides else "")
    )


def _sides(node: dict[str, Any], hardware: Mapping[str, Any]) -> Iterator[str]:
    """What the comparisons that failed have to compare."""
    visit = TreeInterpreter().visit
    if node["type"] == "and_expression":
        for child in node["children"]:
            if not visit(child, hardware):
                yield from _sides(child, hardware)
    elif node["type"] == "comparator":
        left, right = (visit(child, hardware) for child in node["children"])
        yield f"{_short(left)} {_SIGNS[node['value']]} {_short(right)}"


_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _firmware(baseline: FirmwareBaseline, inventory: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    wanted = baseline.version or f"at least {baseline.minimum}"
    fits = [item for item in inventory if _meant(baseline.component, item)]
    if not fits:
        known = ", ".join(sorted({str(item.get("name") or item.get("id")) for item in inventory})) or "nothing"
        message = f"no firmware is named {baseline.component}; the BMC lists {known}"
        yield Difference("firmware", baseline.component, wanted, None, message)
    for item in fits:
        version = item.get("version")
        if baseline.version is not None:
            good, words = version == baseline.version, f"is {version} and not {baseline.version}"
        else:
            compared = at_least(version, str(baseline.minimum))
            good = compared is True
            how = "can't be compared with" if compared is None else "is older than"
            words = f"{version or 'of unknown version'} {how} {baseline.minimum}"
        if not good:
            name = item.get("name") or item.get("id")
            yield Difference("firmware", str(name), wanted, version, f"firmware {name} {words}")


def _meant(component: str, item: Mapping[str, Any]) -> bool:
    """By Id, name or glob. Earlier versions that a BMC keeps for a way back count only where they are named."""
    names = [str(item[key]).lower() for key in ("id", "name") if item.get(key)]
    component = component.lower()
    if any(name.startswith(_KEPT) for name in names) and not component.startswith(_KEPT):
        return False
    return any(name == component or fnmatch.fnmatchcase(name, component) for name in names)


_KEPT = "previous-"


def at_least(version: str | None, minimum: str) -> bool | None:
    """Compare number by number, as far as C(minimum) goes; None where one has letters and the other a number."""
    if not version:
        return None
    have, need = (re.findall(r"\d+|[a-z]+", text.lower()) for text in (version, minimum))
    for mine, other in zip([*have, *["0"] * len(need)], need, strict=False):
        if mine.isdigit() is not other.isdigit():
            return None
        if mine != other:
            first, second = (int(mine), int(other)) if mine.isdigit() else (mine, other)
            if first != second:
                return first > second
    return True
