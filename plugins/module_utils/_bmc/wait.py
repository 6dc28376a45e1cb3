# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""The one way to wait: a clock, and a predicate over what is read. What breaks while waiting counts only at the end."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from .errors import BmcAuthError, BmcError, BmcOptionError, BmcTlsError

__all__ = ("Waited", "ticks", "wait_for")

T = t.TypeVar("T")


@dataclasses.dataclass
class Waited(t.Generic[T]):
    """How it ended: whether it became ready, and what was read last."""

    ready: bool = False
    last: T | None = None


def ticks(total: float, first: float = 0.3, longest: float = 5.0) -> t.Iterator[float]:
    """Yield the seconds left, at once and then at growing intervals; the last value is 0."""
    deadline = time.monotonic() + total
    pause = first
    while True:
        left = deadline - time.monotonic()
        yield max(0.0, left)
        if left <= 0:
            return
        time.sleep(min(pause, max(left, 0.01)))
        pause = min(pause * 1.5, longest)


def wait_for(read: t.Callable[[], T], ready: t.Callable[[T], bool], total: float) -> Waited[T]:
    """Read until `ready`.

    A BMC that cannot be read for a while (restarting, busy) is waited for, and its error raised if it stays so.
    """
    waited: Waited[T] = Waited()
    broken: BmcError | None = None
    for _left in ticks(total):
        try:
            now = read()
        except (BmcAuthError, BmcTlsError, BmcOptionError):
            raise
        except BmcError as exc:
            broken = exc
            continue
        broken = None
        waited.last = now
        if ready(now):
            waited.ready = True
            return waited
    if broken is not None:
        raise broken
    return waited
