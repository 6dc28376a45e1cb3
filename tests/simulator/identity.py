# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of a fleet share one tree, but each has serial numbers, UUIDs and MAC addresses of its own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

_NAMES = ("SerialNumber", "UUID", "SKU", "ServiceTag", "MACAddress", "PermanentMACAddress", "AssociatedMACAddresses")
_MAC = re.compile(rb"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")
_UUID = re.compile(rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SHORTEST = 6
_KEPT = 500


class Identity:
    """What in a tree tells one server from another."""

    def __init__(self, bodies: Iterable[Any], uris: Iterable[str]) -> None:
        named = "\n".join(uris)
        found = {value for body in bodies for value in _values(body) if value not in named}
        escaped = [re.escape(json.dumps(value)[1:-1].encode()) for value in sorted(found, key=len, reverse=True)]
        self._pattern = re.compile(b"(" + b"|".join(escaped) + b")") if escaped else None
        self._parts: dict[bytes, list[bytes]] = {}

    def apply(self, data: bytes, number: int) -> bytes:
        """The same for server `number`; 0 is the one that was recorded."""
        if not number or self._pattern is None:
            return data
        parts = self._parts.get(data)
        if parts is None:
            if len(self._parts) > _KEPT:
                self._parts.clear()
            parts = self._parts[data] = self._pattern.split(data)
        if len(parts) == 1:
            return data
        return b"".join(derive(part, number) if place % 2 else part for place, part in enumerate(parts))


def derive(token: bytes, number: int) -> bytes:
    """Of the same form and length, and no other server's up to 65,535 of them (9,999 by short serial numbers)."""
    if _MAC.fullmatch(token):
        kind = hashlib.blake2b(token[:14], digest_size=2).digest()
        raw = b"\x02" + kind + number.to_bytes(2, "big")
        separator = token[2:3].decode()
        return (
            raw.hex(separator).upper() if token.isupper() or not token.islower() else raw.hex(separator)
        ).encode() + token[14:]
    digits = hashlib.blake2b(token, key=number.to_bytes(4, "big"), digest_size=32).hexdigest().encode()
    if _UUID.fullmatch(token):
        made = bytes(char if char == 45 else digits[place % 64] for place, char in enumerate(token))
        return made if token.islower() else made.upper()
    last = f"{number % 10_000:04d}".encode()
    return bytes(_like(char, digits[place % 64]) for place, char in enumerate(token[:-4])) + last


def _like(char: int, digit: int) -> int:
    value = int(chr(digit), 16)
    if 48 <= char <= 57:
        return 48 + value % 10
    if 65 <= char <= 90 or 97 <= char <= 122:
        return (65 if char <= 90 else 97) + value
    return char


def _values(body: Any) -> Iterator[str]:
    if isinstance(body, list):
        for item in body:
            yield from _values(item)
    elif isinstance(body, dict):
        for name, value in body.items():
            if name in _NAMES:
                yield from (v for v in (value if isinstance(value, list) else [value]) if _tells(v))
            else:
                yield from _values(value)


def _tells(value: Any) -> bool:
    """Not empty words such as NA, and nothing made of one character."""
    return isinstance(value, str) and len(value) >= _SHORTEST and len(set(value)) > 3 and any(map(str.isdigit, value))
