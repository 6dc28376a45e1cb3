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
from .session import Session, retry_after_seconds
from .transport import Answer
from .wait import ticks

__all__ = ("finish",)

_DONE = ("completed", "completedok")
_FAILED = ("exception", "killed", "cancelled", "interrupted", "failed", "completedwitherrors", "rebootfailed")
# A task may be missing for a moment after it was made, before it counts as purged.
_MISSING_TRIES = 4


def finish(session: Session, answer: Answer, total: float) -> bool:
    """Wait for the end of what `answer` started.

    True: it is known to have ended well. False: the BMC names no task, or forgot it; read the state to know.
    """
    if answer.status != 202:
        return True
    uri = _monitor_of(answer)
    if uri is None:
        return False
    interval = retry_after_seconds(answer.headers.get("retry-after"))
    missing = 0
    last: BmcError | None = None
    for left in ticks(total, first=min(interval or 0.5, 10.0), longest=max(5.0, min(interval or 0.0, 30.0))):
        try:
            now = session.get(uri, timeout=max(1.0, min(session.options.timeout, left or 1.0)))
        except BmcNotFound as exc:
            missing += 1
            last = exc
            if missing >= _MISSING_TRIES:
                return False
            continue
        except (BmcAuthError, BmcTlsError):
            raise
        except BmcBusy as exc:
            last = exc
            continue
        except BmcRefused as exc:
            # A monitor answers with the error of the work itself.
            raise BmcTaskFailed(
                session.address,
                f"the work failed: {exc.message}",
                [one_sentence([m]) for m in exc.messages],
                request=answer.request,
            ) from exc
        except BmcError as exc:
            last = exc  # the BMC may restart in the middle of its own work
            continue
        missing = 0
        state = _state_of(now)
        if state in _FAILED:
            raise _failed(session, answer, now)
        if state in _DONE or (state == "" and now.status != 202):
            return True
    raise BmcTimeout(
        session.address,
        f"the work started by {answer.request} did not end within {total:.0f} s"
        + (f"; last: {last.message}" if last else ""),
        hint=f"It may still go on in the BMC ({uri}). Look at its task list, then run again",
        request=answer.request,
    )


def _monitor_of(answer: Answer) -> str | None:
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


def _state_of(answer: Answer) -> str:
    body = answer.loose
    if not isinstance(body, dict):
        return ""
    state = body.get("TaskState") or body.get("JobState")
    return str(state).replace(" ", "").lower() if state else ""


def _failed(session: Session, started: Answer, now: Answer) -> BmcTaskFailed:
    body: dict[str, t.Any] = now.loose if isinstance(now.loose, dict) else {}
    raw = body.get("Messages")
    messages = [item for item in raw if isinstance(item, dict)] if isinstance(raw, list) else []
    said = [one_sentence([item]) for item in messages]
    if not said and isinstance(body.get("Message"), str):
        said = [body["Message"]]
    state = body.get("TaskState") or body.get("JobState")
    return BmcTaskFailed(
        session.address,
        f"the work started by {started.request} ended as {state}:"
        f" {'; '.join(filter(None, said)) or 'it gives no reason'}",
        said,
        hint="Look at the task and the log of the BMC",
        request=started.request,
    )
