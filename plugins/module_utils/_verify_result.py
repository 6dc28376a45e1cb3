# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a verification: pure steps from one state of it to the next. Nothing is ok before it was shown."""

# This is a private module utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import copy
from datetime import datetime, timezone
from typing import Any

__all__ = ["ResultError", "begin", "conclude", "end", "failed_checks", "stamp", "start", "unproved_checks"]

Result = dict[str, Any]

NOT_RUN = "did not run"
NOT_FINISHED = "was begun and did not finish"


class ResultError(Exception):
    """A step that does not fit the result it is meant for."""


def stamp(now: float) -> str:
    return datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def start(site: str, kubernetes: str, checks: list[str], now: float) -> Result:
    """A result that lists every check that must run, each as failed until it has passed."""
    if not checks:
        raise ResultError("a verification without checks proves nothing")
    if len(set(checks)) < len(checks):
        raise ResultError(f"a check is named twice: {', '.join(sorted(checks))}")
    return {
        "format": 1,
        "site": site,
        "kubernetes": kubernetes,
        "started": stamp(now),
        "finished": None,
        "ok": False,
        "checks": [{"name": name, "ok": False, "seconds": 0.0, "detail": NOT_RUN, "figures": {}} for name in checks],
    }


def _step(result: Result, name: str) -> tuple[Result, dict[str, Any]]:
    if result["finished"] is not None:
        raise ResultError(f"the verification was finished at {result['finished']}")
    changed = copy.deepcopy(result)
    for check in changed["checks"]:
        if check["name"] == name:
            return changed, check
    raise ResultError(f"there is no check '{name}' in this verification")


def begin(result: Result, name: str, now: float) -> Result:
    """A check has begun, or goes on: its time counts from its first step. One that has failed stays as it is."""
    changed, check = _step(result, name)
    if name in failed_checks(result) or check["detail"] == NOT_FINISHED:
        return changed
    check.update(ok=False, detail=NOT_FINISHED, started=stamp(now), seconds=0.0, figures={})
    return changed


def end(result: Result, name: str, ok: bool, detail: str, figures: dict[str, Any], now: float) -> Result:
    changed, check = _step(result, name)
    if "started" not in check:
        if ok:
            raise ResultError(f"check '{name}' cannot have passed: it was not begun")
        check["started"] = stamp(now)
    began = datetime.fromisoformat(check["started"].replace("Z", "+00:00")).timestamp()
    check.update(ok=ok, detail=detail, figures=figures, seconds=round(max(now - began, 0.0), 1))
    return changed


def conclude(result: Result, now: float) -> Result:
    """The end: ok if every single check has passed."""
    changed = copy.deepcopy(result)
    changed["ok"] = bool(changed["checks"]) and all(check["ok"] for check in changed["checks"])
    changed["finished"] = stamp(now)
    return changed


def failed_checks(result: Result) -> list[str]:
    """Checks that have ended without passing."""
    open_ones = (NOT_RUN, NOT_FINISHED)
    return [check["name"] for check in result["checks"] if not check["ok"] and check["detail"] not in open_ones]


def unproved_checks(result: Result) -> list[str]:
    """Checks that were begun or given up and have not passed."""
    return [check["name"] for check in result["checks"] if not check["ok"] and check["detail"] != NOT_RUN]
