# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Ranges: one entry `node[01:32]` stands for many servers, and its addresses count up with it."""

from __future__ import annotations

import re

import netaddr  # type: ignore[import-untyped, unused-ignore]

__all__ = ["MAX_RANGE", "RangeError", "count_up", "expand_name"]

# A typing error such as [1:10000000] should be a sentence, not a full memory.
MAX_RANGE = 10_000

_RANGE = re.compile(
    r"^(?P<head>[^\[\]]*)\[(?P<first>[0-9]+):(?P<last>[0-9]+)(?::(?P<step>[1-9][0-9]*))?\](?P<tail>[^\[\]]*)$"
)


class RangeError(ValueError):
    """A range cannot be expanded. `hint` says what would be right."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def expand_name(text: str) -> tuple[str, ...]:
    """All names of `node[01:32]`, both ends included; `Ethernet[0:124:4]` counts in fours; others are themselves."""
    if "[" not in text and "]" not in text:
        return (text,)
    match = _RANGE.match(text)
    if match is None:
        raise RangeError(f"{text!r} is not a name with one range of numbers", "for example node[01:32]")
    first, last = match["first"], match["last"]
    start, end = int(first), int(last)
    if start > end:
        raise RangeError(f"the range of {text!r} runs backwards", f"for example [{last}:{first}]")
    if end - start >= MAX_RANGE:
        raise RangeError(f"the range of {text!r} holds {end - start + 1} names", f"at most {MAX_RANGE} in one entry")
    padded = any(len(number) > 1 and number[0] == "0" for number in (first, last))
    if padded and len(first) != len(last):
        width = max(len(first), len(last))
        raise RangeError(
            f"the ends of the range of {text!r} have different widths",
            f"with leading zeros both need the same width, for example [{start:0{width}d}:{end:0{width}d}]",
        )
    width = len(first) if padded else 1
    numbers = range(start, end + 1, int(match["step"] or 1))
    return tuple(f"{match['head']}{number:0{width}d}{match['tail']}" for number in numbers)


def count_up(first: str, count: int) -> tuple[str, ...]:
    """`count` addresses, one after the other, from `first` on."""
    start = netaddr.IPAddress(first)
    if int(start) + count > 2**32:
        raise RangeError(f"{count} addresses from {first} do not exist", "start the range at a lower address")
    return tuple(str(start + step) for step in range(count))
