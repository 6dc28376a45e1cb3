# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Results by the key of their inputs. What is in the store is finished: it gets there whole, by one rename."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from .errors import disk_trouble

__all__ = ["Facts", "File", "Item", "Store", "digest_of", "key_of", "locked"]

# A new number makes every key a new one. Raise it when the way of building changes what comes out.
FORMAT = 1


@dataclass(frozen=True)
class File:
    """One finished file of the store."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass
class Facts:
    """What a build says of its result, beside the files themselves."""

    origin: list[str] = field(default_factory=list)
    packages: list[dict[str, str]] = field(default_factory=list)
    # Files that are results. None: all; an empty list: a tree that is not hashed file by file.
    files: list[str] | None = None


@dataclass(frozen=True)
class Item:
    """One finished result."""

    key: str
    path: Path
    files: dict[str, File]
    origin: list[str]
    packages: list[dict[str, str]]
    seconds: float


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for data in iter(lambda: stream.read(1 << 20), b""):
            digest.update(data)
    return digest.hexdigest()


def key_of(inputs: dict[str, Any]) -> str:
    """The key of a result: a digest over everything that it is made from."""
    text = json.dumps({"format": FORMAT, "inputs": inputs}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time; the lock goes with the process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class Store:
    """A directory of results."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> Item | None:
        """The finished result of a key, if it is there and nothing of it is missing or cut short."""
        folder = self.root / key
        try:
            record = json.loads((folder / "item.json").read_text(encoding="utf-8"))
            files = {}
            for name, known in record["files"].items():
                files[name] = File(folder / name, known["sha256"], known["size_bytes"])
                if (folder / name).stat().st_size != known["size_bytes"]:
                    return None
        except (OSError, ValueError, KeyError):
            return None
        return Item(key, folder, files, record["origin"], record["packages"], record["seconds"])

    def ensure(self, what: str, inputs: dict[str, Any], fill: Callable[[Path], Facts]) -> tuple[Item, bool]:
        """The result for these inputs, made by `fill` in an empty directory if it is not there. True: it was made."""
        key = key_of(inputs)
        item = self.get(key)
        if item is not None:
            return item, False
        with disk_trouble(what, self.root), locked(self.root / f".lock-{key}"):
            item = self.get(key)
            if item is not None:  # somebody else was faster
                return item, False
            self._clear(key)
            return self._make(what, key, inputs, fill), True

    def forget(self, key: str) -> None:
        """Remove a result."""
        with locked(self.root / f".lock-{key}"):
            self._clear(key)

    def _clear(self, key: str) -> None:
        # Whoever left these is dead: the lock is ours.
        for leftover in [self.root / key, *self.root.glob(f".tmp-{key}-*")]:
            _remove(leftover)

    def _make(self, what: str, key: str, inputs: dict[str, Any], fill: Callable[[Path], Facts]) -> Item:
        place = self.root / f".tmp-{key}-{os.getpid()}"
        start = time.monotonic()
        try:
            place.mkdir(parents=True)
            facts = fill(place)
            names = facts.files
            if names is None:
                names = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
            record = {
                "what": what,
                "inputs": inputs,
                "files": {name: _finish(place / name) for name in names},
                "origin": facts.origin,
                "packages": facts.packages,
                "seconds": round(time.monotonic() - start, 1),
            }
            (place / "item.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            place.rename(self.root / key)
        except BaseException:
            _remove(place)
            raise
        item = self.get(key)
        if item is None:
            raise AssertionError
        return item


def _finish(path: Path) -> dict[str, Any]:
    # Read-only, because the bundle shares these very files by hard links.
    path.chmod(0o555 if path.stat().st_mode & 0o100 else 0o444)
    os.utime(path, (0, 0))
    return {"sha256": digest_of(path), "size_bytes": path.stat().st_size}


def _remove(path: Path) -> None:
    """Remove a tree, read-only directories included."""
    if not path.exists():
        return
    for folder, _names, _files in os.walk(path):
        os.chmod(folder, 0o755)
    shutil.rmtree(path, ignore_errors=True)
