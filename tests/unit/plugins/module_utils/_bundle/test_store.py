# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.errors import BundleError
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.store import Facts, Store, key_of

INPUTS = {"program": "hello", "version": "v1"}


def fill(place: Path) -> Facts:
    (place / "hello").write_text("hello")
    (place / "hello").chmod(0o755)
    return Facts(origin=["here"])


def leftovers(store: Store) -> list[str]:
    return sorted(path.name for path in store.root.iterdir() if not path.name.startswith(".lock-"))


def test_the_key_depends_on_every_input_and_on_no_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert len({key_of(INPUTS), key_of({**INPUTS, "version": "v2"}), key_of({**INPUTS, "x": None})}) == 3


def test_a_result_is_made_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    item, made = store.ensure("hello", INPUTS, fill)
    assert made
    assert item.files["hello"].sha256 == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert item.files["hello"].path.stat().st_mode & 0o777 == 0o555
    again, made = store.ensure("hello", INPUTS, lambda _place: pytest.fail("made twice"))
    assert not made
    assert again == item


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(place: Path) -> Facts:
        fill(place)
        raise BundleError("does not compile")

    store = Store(tmp_path)
    with pytest.raises(BundleError, match=r"does not compile"):
        store.ensure("hello", INPUTS, fail)
    assert store.get(key_of(INPUTS)) is None
    assert leftovers(store) == []


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    def fail(place: Path) -> Facts:
        fill(place)
        raise OSError(errno.ENOSPC, "No space left on device", str(place))

    store = Store(tmp_path)
    with pytest.raises(BundleError, match=r"hello v1: no space left under .* Free some space, or set kiban_work"):
        store.ensure("hello v1", INPUTS, fail)
    assert leftovers(store) == []


def _slow(root: Path) -> None:
    def slowly(place: Path) -> Facts:
        (place / "hello").write_text("half")
        (root / "started").touch()
        time.sleep(60)
        return Facts()

    Store(root / "store").ensure("hello", INPUTS, slowly)


def test_a_killed_build_is_not_finished_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_slow, args=(tmp_path,))
    process.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store = Store(tmp_path / "store")
    assert len(leftovers(store)) == 1
    assert store.get(key_of(INPUTS)) is None
    item, made = store.ensure("hello", INPUTS, fill)
    assert made
    assert leftovers(store) == [item.key]


def _count(root: Path) -> None:
    def counted(place: Path) -> Facts:
        with open(root / "count", "a") as stream:
            stream.write("x")
        time.sleep(0.2)
        return fill(place)

    Store(root / "store").ensure("hello", INPUTS, counted)


def test_runs_side_by_side_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=_count, args=(tmp_path,)) for _number in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0] * 4
    assert (tmp_path / "count").read_text() == "x"


@pytest.mark.parametrize("damage", ["cut", "gone", "no record"])
def test_a_damaged_result_is_made_again(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    item, _made = store.ensure("hello", INPUTS, fill)
    victim = item.path / ("item.json" if damage == "no record" else "hello")
    if damage == "cut":
        victim.chmod(0o755)
        victim.write_text("hel")
    else:
        victim.unlink()
    assert store.get(item.key) is None
    again, made = store.ensure("hello", INPUTS, fill)
    assert made
    assert again.files == item.files


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"hello: .*file.*: Not a directory|hello: .*file.*: File exists"):
        Store(tmp_path / "file" / "store").ensure("hello", INPUTS, fill)
