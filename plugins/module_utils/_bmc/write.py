# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""One request that changes something, followed to its effect: sent once, its work awaited, and the state read again.

A request is sent again only where the BMC said that it did not take it up, and the state still shows no effect.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t

from .errors import BmcAuthError, BmcBusy, BmcError, BmcRefused, BmcTaskFailed, BmcTimeout, BmcUncertain
from .resource import Resources
from .session import retry_after_seconds
from .task import Tasks, follow, monitor_of
from .transport import Answer
from .wait import wait_for

__all__ = ("Outcome", "passing", "perform", "reporting", "unclear")

SETTLE = 20.0  # some BMCs show what they took only some seconds later
PATIENCE = 60.0  # for a trace of a request whose answer was lost
BROKEN = (500, 502, 504)  # something broke inside: most often before the work, but now and then after it
BROKEN_PATIENCE = 10.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """`scheduled`: the BMC has taken it up and does it at a reset or in a window; `task` is where it tells."""

    scheduled: bool = False
    task: str | None = None
    answer: Answer | None = None


def perform(
    resources: Resources,
    send: t.Callable[[], Answer],
    target: str,
    what: str,
    deadline: float,
    shows: t.Callable[[], bool] | None,
    works: bool = False,
    until_scheduled: bool = False,
    wait: str = "shown",
) -> Outcome:
    """Send one request and wait for its effect.

    `shows` reads the state and says whether it is as wanted; None where no state shows it. `works`: the BMC may go on
    after its answer, so its task list is remembered, to find the work again where the answer is lost. `what` is for
    errors: what was done, in the past tense. `wait`: until the effect is `shown`, the work has `ended`, or only until
    it is `taken` up.
    """
    tasks = Tasks(resources) if works else None
    before = tasks.known() if tasks else frozenset()

    def trace() -> str | None:
        return tasks.newcomer(before, target) if tasks else None

    def seen() -> tuple[str | None, bool]:
        return trace(), bool(shows and shows())

    began = time.monotonic()
    answer: Answer | None = None
    lost: BmcError | None = None
    uri = None
    while True:
        try:
            answer = send()
        except (BmcUncertain, BmcRefused) as exc:
            if unclear(exc):
                lost = exc
                patience = PATIENCE if isinstance(exc, BmcUncertain) else BROKEN_PATIENCE
                found = wait_for(seen, any, _left(deadline, patience))
                if not found.ready or found.last is None:
                    raise
                uri = found.last[0]
                if uri is None:
                    return Outcome()
                break
            if isinstance(exc, BmcUncertain):
                raise AssertionError from exc
            pause = passing(resources, exc, began, deadline)
            if pause is None:
                raise
            time.sleep(pause)
            uri, shown = seen()
            if shown:
                return Outcome()
            if uri is None:
                continue
        break
    request = lost.request if lost else (answer.request if answer else f"POST {target}")
    end = "done"
    if answer is not None and answer.status == 202:
        uri = monitor_of(answer) or trace()
        end = "unknown" if uri is None else end
    if wait == "taken":
        return Outcome(task=uri, answer=answer)
    if uri is not None:
        interval = retry_after_seconds(answer.headers.get("retry-after")) if answer else None
        try:
            end = follow(resources.session, uri, _left(deadline), request, interval, until_scheduled)
        except BmcTaskFailed as exc:
            if shows is not None and wait_for(shows, bool, 1.0).ready:
                exc.done = [what]
            raise
        except BmcError as exc:
            exc.done = [f"{what}, and goes on"]
            raise
    if end == "scheduled" or (until_scheduled and end == "unknown"):
        return Outcome(True, uri, answer)
    if shows is None or (wait == "ended" and lost is None):
        return Outcome(task=uri, answer=answer)
    if wait_for(shows, bool, _left(deadline, None if end == "unknown" else SETTLE)).ready:
        return Outcome(task=uri, answer=answer)
    if lost is not None:
        raise lost
    error = BmcTimeout(
        resources.address,
        f"it accepted the request ({what}), but does not show its effect",
        hint="Look at the BMC's own page or log for the reason, then run again",
        request=request,
    )
    # What was accepted and leaves no trace has changed nothing; work that was lost sight of may have.
    error.done = [f"{what}, with an end that is not known"] if end == "unknown" else []
    raise error


def unclear(exc: BmcError) -> bool:
    """Whether a write may have been done although its answer says nothing of the kind."""
    return isinstance(exc, BmcUncertain) or (isinstance(exc, BmcRefused) and exc.status in BROKEN)


def passing(resources: Resources, exc: BmcRefused, began: float, deadline: float) -> float | None:
    """Seconds to wait where a refusal passes by itself, else None."""
    lasting = resources.behaviour.lasting_refusals
    if isinstance(exc, BmcAuthError) or any(name in found for found in exc.message_ids for name in lasting):
        return None
    limit = deadline
    if isinstance(exc, BmcBusy):
        pause = exc.retry_after if exc.retry_after is not None else 3.0
    else:
        pause = 5.0
        match = [
            seconds
            for status, name, seconds in resources.behaviour.passing_refusals
            if exc.status == status and any(name in found for found in exc.message_ids)
        ]
        if not match:
            return None
        limit = min(deadline, began + max(match))
    return pause if time.monotonic() + pause < limit else None


@contextlib.contextmanager
def reporting(done: list[str]) -> t.Iterator[list[str]]:
    """An error that leaves this block names what is in `done` then as already done."""
    try:
        yield done
    except BmcError as exc:
        exc.done = [*done, *exc.done]
        raise


def _left(deadline: float, most: float | None = None) -> float:
    left = max(1.0, deadline - time.monotonic())
    return left if most is None else min(left, most)
