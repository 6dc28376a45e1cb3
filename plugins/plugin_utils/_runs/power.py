# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many servers of a rack start at once, by number and by watts, over all processes of all runs on this host."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Feed", "PowerTimeout", "power_slot"]


class PowerTimeout(Exception):
    """The rack's budget did not become free in time."""


@dataclass(frozen=True)
class Feed:
    """What a rack bears while servers start; None: no limit."""

    rack: str
    servers: int | None = None
    watts: int | None = None

    def bears(self, others: list[int], watts: int) -> bool:
        """Whether one more server of C(watts) may start beside C(others), their watts. One alone always may."""
        if not others:
            return True
        enough = self.servers is None or len(others) < self.servers
        return enough and (self.watts is None or sum(others) + watts <= self.watts)


@contextlib.contextmanager
def power_slot(
    site_dir: str, feed: Feed, server: str, watts: int, timeout: float, pause: float = 1.0
) -> Iterator[None]:
    """Wait until the rack bears one more server that starts, and hold its place until the block ends.

    A place is a file that its holder has locked: one whose holder was killed is free.
    """
    if feed.servers is None and feed.watts is None:
        yield
        return
    directory = os.path.join(site_dir, "power", feed.rack)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    deadline = time.monotonic() + timeout
    while (place := _take(directory, feed, server, watts)) is None:
        if time.monotonic() > deadline:
            raise PowerTimeout(
                f"rack {feed.rack} has not borne one more server that starts within {timeout:.0f} s: "
                f"{', '.join(sorted(_held(directory, server)))} started all that time"
            )
        time.sleep(pause)
    try:
        yield
    finally:
        os.close(place)


def _take(directory: str, feed: Feed, server: str, watts: int) -> int | None:
    gate = os.open(os.path.join(directory, ".gate"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)
        if not feed.bears(list(_held(directory, server).values()), watts):
            return None
        place = os.open(os.path.join(directory, server), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        fcntl.flock(place, fcntl.LOCK_EX)
        os.write(place, str(watts).encode())
        return place
    finally:
        os.close(gate)


def _held(directory: str, own: str) -> dict[str, int]:
    """The other servers whose places are held, with their watts."""
    found = {}
    for name in os.listdir(directory):
        if name.startswith(".") or name == own:
            continue
        with open(os.path.join(directory, name), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found[name] = int(file.read() or 0)
    return found
