# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Databases of containerd: what is written can be read, and depends on its content alone."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bolt import PAGE, BoltError, Bucket, dump, load, settle

TIME = struct.pack(">BqIh", 1, 63900000000, 12345, -1)


def tree(width: int, text: int) -> Bucket:
    """Small buckets, which are kept inside of their parent, and large ones, which have pages of their own."""
    deep = {f"key{n:05}".encode(): b"v" * text for n in range(width)}
    small = Bucket({b"createdat": TIME, b"updatedat": TIME, b"size": b"\x08"}, sequence=3)
    return Bucket({b"v1": Bucket({b"deep": Bucket(dict(deep), 7), b"small": small, b"empty": Bucket()})}, 1)


@pytest.mark.parametrize(("width", "text"), [(0, 0), (1, 10), (60, 40), (5000, 40), (3, 3 * PAGE)])
def test_what_is_written_can_be_read(width: int, text: int) -> None:
    content = tree(width, text)
    data = dump(content)
    assert load(data) == content
    assert len(data) % PAGE == 0


def test_branches_are_made_when_one_page_does_not_hold_the_keys() -> None:
    data = dump(tree(5000, 40))
    kinds = [struct.unpack_from("<H", data, start + 8)[0] for start in range(2 * PAGE, len(data), PAGE)]
    assert 1 in kinds, "5000 keys need a branch page"


def test_the_order_of_filling_does_not_matter() -> None:
    content = tree(300, 20)
    turned = Bucket(dict(reversed(list(content.items.items()))), content.sequence)
    inner = turned.items[b"v1"]
    assert isinstance(inner, Bucket)
    turned.items[b"v1"] = Bucket(dict(reversed(list(inner.items.items()))), inner.sequence)
    assert dump(turned) == dump(content)


def test_settled_times_are_the_given_one(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    path.write_bytes(dump(tree(2, 5)))
    settle(path, 1754697600)
    small = load(path.read_bytes()).items[b"v1"].items[b"small"].items
    assert small[b"createdat"] == small[b"updatedat"] != TIME
    version, seconds, nanoseconds, offset = struct.unpack(">BqIh", small[b"createdat"])
    assert (version, seconds - 62135596800, nanoseconds, offset) == (1, 1754697600, 0, -1)
    assert small[b"size"] == b"\x08"


def test_the_newer_meta_page_counts_and_a_torn_one_does_not() -> None:
    data = bytearray(dump(Bucket({b"a": b"1"})))
    data[PAGE + 20] ^= 1
    assert load(bytes(data)) == Bucket({b"a": b"1"})
    data[20] ^= 1
    with pytest.raises(BoltError, match="not a bbolt database"):
        load(bytes(data))
