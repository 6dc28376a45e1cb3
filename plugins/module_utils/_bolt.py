# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Databases in bbolt's format, as containerd has them: read one, and write the same content always the same way.

A database keeps the order in which it was filled, old pages and the time of each change. Written anew, sorted, and with
one time, it depends on its content alone, so that an image that holds it can be reproduced.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["BoltError", "Bucket", "dump", "load", "settle"]

PAGE = 4096
_MAGIC, _VERSION = 0xED0CDAED, 2
_BRANCH, _LEAF, _META = 1, 2, 4
_HEADER = struct.Struct("<QHHI")  # page number, kind, count, further pages
_BRANCH_ITEM = struct.Struct("<IIQ")  # offset, key length, page number
_LEAF_ITEM = struct.Struct("<IIII")  # 1 for a bucket, offset, key length, value length
_BUCKET = struct.Struct("<QQ")  # root page (0: the page follows), sequence
_META_PAGE = struct.Struct("<IIIIQQQQQ")
_NO_FREELIST = 0xFFFFFFFFFFFFFFFF
_INLINE = PAGE // 4
# Times in Go's binary form: version, seconds since the year 1, nanoseconds, offset from UTC in minutes (-1: UTC).
_TIME = struct.Struct(">BqIh")
_YEAR_1 = 62135596800


class BoltError(Exception):
    """This is not a database that we understand."""


@dataclass
class Bucket:
    """Keys with values or further buckets."""

    items: dict[bytes, bytes | Bucket] = field(default_factory=dict)
    sequence: int = 0


def load(data: bytes) -> Bucket:
    """The content of a database."""
    metas = []
    for start in (0, PAGE):
        fields = data[start + _HEADER.size : start + _HEADER.size + _META_PAGE.size]
        checksum = data[start + _HEADER.size + _META_PAGE.size : start + _HEADER.size + _META_PAGE.size + 8]
        if len(checksum) == 8 and struct.pack("<Q", _fnv(fields)) == checksum:
            magic, version, page_size, _flags, root, sequence, _free, _end, transaction = _META_PAGE.unpack(fields)
            if (magic, version, page_size) == (_MAGIC, _VERSION, PAGE):
                metas.append((transaction, root, sequence))
    if not metas:
        raise BoltError("not a bbolt database with pages of 4096 bytes")
    _transaction, root, sequence = max(metas)
    bucket = Bucket(sequence=sequence)
    _read(data, data[root * PAGE :], bucket)
    return bucket


def _read(data: bytes, page: bytes, bucket: Bucket) -> None:
    _number, kind, count, _more = _HEADER.unpack_from(page)
    for index in range(count):
        start = _HEADER.size + index * _LEAF_ITEM.size
        if kind == _BRANCH:
            child = _BRANCH_ITEM.unpack_from(page, start)[2]
            _read(data, data[child * PAGE :], bucket)
        elif kind == _LEAF:
            nested, offset, key_length, length = _LEAF_ITEM.unpack_from(page, start)
            key = page[start + offset : start + offset + key_length]
            value = page[start + offset + key_length : start + offset + key_length + length]
            bucket.items[key] = _nested(data, value) if nested else value
        else:
            raise BoltError(f"page of the kind {kind} where content was expected")


def _nested(data: bytes, value: bytes) -> Bucket:
    root, sequence = _BUCKET.unpack_from(value)
    bucket = Bucket(sequence=sequence)
    _read(data, data[root * PAGE :] if root else value[_BUCKET.size :], bucket)
    return bucket


def dump(bucket: Bucket) -> bytes:
    """A database with this content and nothing else."""
    pages = [b"", b""]  # the two meta pages come last
    root = _write(pages, bucket)
    content = b"".join(pages)
    end = 2 + len(content) // PAGE
    metas = []
    for number in (0, 1):
        fields = _META_PAGE.pack(_MAGIC, _VERSION, PAGE, 0, root, bucket.sequence, _NO_FREELIST, end, number)
        page = _HEADER.pack(number, _META, 0, 0) + fields + struct.pack("<Q", _fnv(fields))
        metas.append(page.ljust(PAGE, b"\0"))
    return b"".join(metas) + content


def _write(pages: list[bytes], bucket: Bucket) -> int:
    """Append the pages of a bucket; the number of its root."""
    leaves = [(key, *_value(pages, item)) for key, item in sorted(bucket.items.items())]
    groups = _groups([_LEAF_ITEM.size + len(key) + len(value) for key, value, _nested in leaves])
    level = []
    for first, last in groups or [(0, 0)]:
        number = _next(pages)
        pages.append(_leaf(number, leaves[first:last]))
        level.append((leaves[first][0] if leaves else b"", number))
    while len(level) > 1:
        upper = []
        for first, last in _groups([_BRANCH_ITEM.size + len(key) for key, _number in level]):
            number = _next(pages)
            pages.append(_branch(number, level[first:last]))
            upper.append((level[first][0], number))
        level = upper
    return level[0][1]


def _value(pages: list[bytes], item: bytes | Bucket) -> tuple[bytes, bool]:
    if isinstance(item, bytes):
        return item, False
    plain = [(key, value, False) for key, value in sorted(item.items.items()) if isinstance(value, bytes)]
    if len(plain) == len(item.items):
        size = sum(_LEAF_ITEM.size + len(key) + len(value) for key, value, _nested in plain)
        if _HEADER.size + size <= _INLINE:
            return _BUCKET.pack(0, item.sequence) + _leaf(0, plain, pad=False), True
    return _BUCKET.pack(_write(pages, item), item.sequence), True


def _groups(sizes: list[int]) -> list[tuple[int, int]]:
    """Ranges of items that fit on a page; an item that is larger than a page is alone."""
    groups, first, used = [], 0, _HEADER.size
    for index, size in enumerate(sizes):
        if index > first and used + size > PAGE:
            groups.append((first, index))
            first, used = index, _HEADER.size
        used += size
    return [*groups, (first, len(sizes))] if sizes else []


def _leaf(number: int, items: list[tuple[bytes, bytes, bool]], pad: bool = True) -> bytes:
    heads, bodies, offset = b"", b"", len(items) * _LEAF_ITEM.size
    for index, (key, value, nested) in enumerate(items):
        heads += _LEAF_ITEM.pack(int(nested), offset - index * _LEAF_ITEM.size, len(key), len(value))
        bodies += key + value
        offset += len(key) + len(value)
    return _page(number, _LEAF, len(items), heads + bodies, pad)


def _branch(number: int, items: list[tuple[bytes, int]]) -> bytes:
    heads, bodies, offset = b"", b"", len(items) * _BRANCH_ITEM.size
    for index, (key, child) in enumerate(items):
        heads += _BRANCH_ITEM.pack(offset - index * _BRANCH_ITEM.size, len(key), child)
        bodies += key
        offset += len(key)
    return _page(number, _BRANCH, len(items), heads + bodies, True)


def _page(number: int, kind: int, count: int, content: bytes, pad: bool) -> bytes:
    size = -(-(_HEADER.size + len(content)) // PAGE)
    page = _HEADER.pack(number, kind, count, size - 1 if pad else 0) + content
    return page.ljust(size * PAGE, b"\0") if pad else page


def _next(pages: list[bytes]) -> int:
    return 2 + sum(len(page) for page in pages) // PAGE


def _fnv(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def settle(path: Path, epoch: int) -> None:
    """Write a database of containerd anew, with this time for everything that it remembers a time of."""
    moment = _TIME.pack(1, epoch + _YEAR_1, 0, -1)

    def timed(bucket: Bucket) -> Bucket:
        items: dict[bytes, bytes | Bucket] = {}
        for key, value in bucket.items.items():
            if isinstance(value, Bucket):
                items[key] = timed(value)
            else:
                items[key] = moment if key in (b"createdat", b"updatedat") and value[:1] == b"\1" else value
        return Bucket(items, bucket.sequence)

    path.write_bytes(dump(timed(load(path.read_bytes()))))
