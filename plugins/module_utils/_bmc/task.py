# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Wait for work that the BMC does later: Task, TaskMonitor, vendor job, or a 202 that names nothing."""

from __future__ import annotations

import typing as t

from .errors import BmcAuthError, BmcBusy, BmcError, BmcNotFound, BmcRefused, BmcTaskFailed, BmcTimeout, BmcTlsError
from .message import one_sentence
from .resource import Json, Resources, link, links, text
from .session import Session, retry_after_seconds
from .transport import Answer
from .wait import ticks

__all__ = ("Tasks", "finish", "follow", "monitor_of")

_DONE = ("completed", "completedok")
_FAILED = ("exception", "killed", "cancelled", "interrupted", "failed", "completedwitherrors", "rebootfailed")
# What waits for a reset or a window, and goes on by itself then.
_SCHEDULED = ("pending", "scheduled", "waiting", "suspended", "userintervention", "rebootpending")
# New work, and on some BMCs for as long as it waits for a reset; read so often in a row, it counts as waiting.
_NEW = ("new", "starting")
_NEW_TRIES = 3
# A task may be missing for a moment after it was made, before it counts as purged.
_MISSING_TRIES = 4
# A BMC may stumble over the reading of a task; read so often in a row, 5xx is the error of the work.
_BROKEN_TRIES = 3


def finish(session: Session, answer: Answer, total: float) -> bool:
    """Wait for the end of what `answer` started.

    True: it is known to have ended well. False: the BMC names no task, or forgot it; read the state to know.
    """
    if answer.status != 202:
        return True
    uri = monitor_of(answer)
    if uri is None:
        return False
    interval = retry_after_seconds(answer.headers.get("retry-after"))
    return follow(session, uri, total, answer.request, interval=interval) == "done"


def follow(
    session: Session,
    uri: str,
    total: float,
    request: str,
    interval: float | None = None,
    until_scheduled: bool = False,
) -> str:
    """Follow a task, monitor or job. `done`: it ended well. `unknown`: the BMC forgot it; the state tells.

    `scheduled`: it waits for a reset or a window; only where that is the end that is waited for.
    """
    missing = new = broken = 0
    last: BmcError | None = None
    for left in ticks(total, first=min(interval or 0.5, 10.0), longest=max(5.0, min(interval or 0.0, 30.0))):
        try:
            now = session.get(uri, timeout=max(1.0, min(session.options.timeout, left or 1.0)))
        except BmcNotFound as exc:
            missing += 1
            last = exc
            if missing >= _MISSING_TRIES:
                return "unknown"
            continue
        except (BmcAuthError, BmcTlsError):
            raise
        except BmcBusy as exc:
            last = exc
            continue
        except BmcRefused as exc:
            broken += 1
            last = exc
            if exc.status >= 500 and broken < _BROKEN_TRIES:
                continue
            # A monitor answers with the error of the work itself.
            raise BmcTaskFailed(
                session.address,
                f"the work failed: {exc.message}",
                [one_sentence([m]) for m in exc.messages],
                request=request,
            ) from exc
        except BmcError as exc:
            last = exc  # the BMC may restart in the middle of its own work
            continue
        missing = broken = 0
        state = _state_of(now.loose)
        if state in _FAILED:
            raise _failed(session, request, now)
        if state in _DONE or (state == "" and now.status != 202):
            return "done"
        new = new + 1 if state in _NEW else 0
        if until_scheduled and (state in _SCHEDULED or new >= _NEW_TRIES):
            return "scheduled"
    raise BmcTimeout(
        session.address,
        f"the work started by {request} did not end within {total:.0f} s" + (f"; last: {last.message}" if last else ""),
        hint=f"It may still go on in the BMC ({uri}). Look at its task list, then run again",
        request=request,
    )


class Tasks:
    """The task list of a BMC: to find the work of a request whose answer named none, or was lost."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def known(self) -> frozenset[str]:
        """URIs of all tasks and jobs that the BMC lists now."""
        found: list[str] = []
        for uri in self._lists():
            try:
                found.extend(links(self._resources.get(uri, fresh=True).get("Members")))
            except BmcRefused as exc:
                if isinstance(exc, BmcAuthError):
                    raise
        return frozenset(found)

    def newcomer(self, before: t.Collection[str], target: str) -> str | None:
        """The one task that was not there before. A task that says what started it has to name `target`."""
        fresh = [uri for uri in sorted(self.known()) if uri not in before]
        ours = [uri for uri in fresh if self._started_by(self._body(uri), target) is not False]
        return ours[0] if len(ours) == 1 else None

    def unfinished(self, target: str) -> list[Json]:
        """Tasks that say that `target` started them, and that have not ended."""
        bodies = [self._body(uri) for uri in sorted(self.known())]
        return [body for body in bodies if self._started_by(body, target) and _state_of(body) not in (*_DONE, *_FAILED)]

    def scheduled(self) -> list[str]:
        """Work that waits for a reset or a window, or is about to begin."""
        return [uri for uri in sorted(self.known()) if _state_of(self._body(uri)) in (*_SCHEDULED, *_NEW)]

    def _lists(self) -> list[str]:
        root = self._resources.session.root
        services = ((link(root, "Tasks"), "Tasks"), (link(root, "JobService"), "Jobs"))
        bodies = ((self._resources.maybe(uri), name) for uri, name in services)
        return [uri for uri in (link(body, name) for body, name in bodies) if uri]

    def _body(self, uri: str) -> Json:
        try:
            return self._resources.get(uri, fresh=True)
        except BmcNotFound:
            return {}

    def _started_by(self, body: Json, target: str) -> bool | None:
        payload = body.get("Payload")
        named = text(payload.get("TargetUri")) if isinstance(payload, dict) else None
        return None if named is None else named.rstrip("/").lower() == target.rstrip("/").lower()


def monitor_of(answer: Answer) -> str | None:
    """Where the work that an answer started can be followed."""
    location = answer.headers.get("location")
    if location:
        return location
    body = answer.loose
    if isinstance(body, dict):
        monitor = body.get("TaskMonitor")
        if isinstance(monitor, str) and monitor:
            return monitor
        uri = body.get("@odata.id")
        if isinstance(uri, str) and ("TaskState" in body or "JobState" in body or "/Tasks/" in uri):
            return uri
    return None


def _state_of(body: t.Any) -> str:
    if not isinstance(body, dict):
        return ""
    state = body.get("TaskState") or body.get("JobState")
    return str(state).replace(" ", "").lower() if state else ""


def _failed(session: Session, request: str, now: Answer) -> BmcTaskFailed:
    body: dict[str, t.Any] = now.loose if isinstance(now.loose, dict) else {}
    raw = body.get("Messages")
    messages = [item for item in raw if isinstance(item, dict)] if isinstance(raw, list) else []
    said = [one_sentence([item]) for item in messages]
    if not said and isinstance(body.get("Message"), str):
        said = [body["Message"]]
    state = body.get("TaskState") or body.get("JobState")
    return BmcTaskFailed(
        session.address,
        f"the work started by {request} ended as {state}: {'; '.join(filter(None, said)) or 'it gives no reason'}",
        said,
        hint="Look at the task and the log of the BMC",
        request=request,
    )
