# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""What can go wrong with the bundle."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["BundleError", "disk_trouble", "full_disk"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BundleError(Exception):
    """A sentence for a person: what is wrong, where, and what to do."""


def full_disk(place: Path) -> str:
    """The sentence for a full disk."""
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    return (
        f"no space left under {place} ({usage.free >> 20} MiB free of {usage.total >> 20} MiB). "
        "Nothing unfinished was kept. Free some space, or set kiban_work to a larger place, and run again"
    )


@contextmanager
def disk_trouble(what: str, place: Path) -> Iterator[None]:
    """Turn errors of the operating system into the sentence for them."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise BundleError(f"{what}: {full_disk(place)}") from error
        name = os.fsdecode(error.filename) if error.filename else str(place)
        raise BundleError(f"{what}: {name}: {error.strerror or error}") from error
