# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time of a simulated BMC: real time made faster, or time that moves only when a test says so.

What falls due is worked off when the BMC is next asked or the clock is moved, in order. An idle BMC costs nothing.
"""

from __future__ import annotations

import datetime
import heapq
import itertools
import time
from collections.abc import Callable


class Clock:
    """Seconds since the BMC began. `speed`: simulated seconds in a real one; 0: only `advance` moves it."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._origin = time.monotonic()
        self._date = datetime.datetime.now(datetime.UTC)
        self._added = 0.0
        self._reached = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def now(self) -> float:
        return (time.monotonic() - self._origin) * self.speed + self._added

    def date(self, at: float | None = None) -> datetime.datetime:
        return self._date + datetime.timedelta(seconds=self._reached if at is None else at)

    def stamp(self) -> str:
        """The date as Redfish writes it."""
        return self.date().strftime("%Y-%m-%dT%H:%M:%SZ")

    def moment(self) -> float:
        """The time of the event that is being worked off, else of the last look at the clock."""
        return self._reached

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self._reached + seconds, next(self._number), event))

    def catch_up(self) -> None:
        """Work off what is due. An event may set up others, which count from its own time."""
        now = self.now()
        while self._due and self._due[0][0] <= now:
            at, _number, event = heapq.heappop(self._due)
            self._reached = max(self._reached, at)
            event()
        self._reached = max(self._reached, now)

    def advance(self, seconds: float) -> None:
        self._added += seconds
        self.catch_up()

    def next_event(self) -> float | None:
        """Real seconds until something falls due; None where nothing will by itself."""
        if not self._due or self.speed <= 0:
            return None
        return max(0.0, (self._due[0][0] - self.now()) / self.speed)
