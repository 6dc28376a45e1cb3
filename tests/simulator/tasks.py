# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that takes time: tasks, task monitors and makers' jobs, all with progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .messages import Json, Refusal, Reply, message
from .tree import ROOT, link, matches, schema

if TYPE_CHECKING:
    from .bmc import Bmc, Call

STEPS = 4
GOOD = "Completed"


@dataclass
class Outcome:
    """How the next work of a kind ends, when a test says so. `on`: "METHOD pattern" of the request."""

    on: str
    state: str = "Exception"
    message: Json | None = None
    seconds: float | None = None
    purged: bool = False
    times: int | None = 1


@dataclass
class Work:
    uri: str
    name: str
    seconds: float
    finish: Callable[[], None]
    waits_for_reset: bool = False
    restarts_bmc: bool = False
    controller: str = ""
    outcome: Outcome | None = None
    percent: int = 0
    state: str = "New"
    made: float = 0.0
    ended: float | None = None
    messages: list[Json] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    undo: Callable[[], None] | None = None  # where it ends in another way than well


class Tasks:
    def __init__(self, bmc: Bmc) -> None:
        self.bmc = bmc
        self.works: dict[str, Work] = {}
        self.outcomes: list[Outcome] = []
        self._number = 0
        self._monitors: dict[str, str] = {}

    @property
    def collection(self) -> str:
        service = link(self.bmc.tree.need(ROOT), "Tasks") or f"{ROOT}/TaskService"
        return link(self.bmc.tree.get(service) or {}, "Tasks") or f"{service}/Tasks"

    @property
    def jobs(self) -> list[str]:
        """Collections in which a maker shows its tasks as jobs too."""
        return [*self.bmc.tree.of_schema("DellJobCollection"), *self.bmc.tree.of_schema("JobCollection")]

    def start(
        self,
        call: Call,
        name: str,
        finish: Callable[[], None],
        *,
        seconds: float | None = None,
        on_reset: bool = False,
        restarts_bmc: bool = False,
        controller: str = "",
        undo: Callable[[], None] | None = None,
    ) -> Reply:
        """Begin it, now or at the next reset of the server. The answer is 202."""
        profile, clock = self.bmc.profile, self.bmc.clock
        self._number += 1
        ident = f"JID_{200000000000 + self._number}" if profile.task_location == "job" else str(self._number)
        uri = f"{self.collection}/{ident}"
        outcome = self._outcome(call)
        wanted = seconds if seconds is not None else profile.task_seconds
        work = Work(uri, name, wanted, finish, on_reset, restarts_bmc, controller, outcome, made=clock.moment())
        work.undo = undo
        if outcome is not None and outcome.seconds is not None:
            work.seconds = outcome.seconds
        self.works[uri] = work
        self._monitors[self.bmc.tree.key(self._monitor(ident))] = uri
        work.state = "New" if on_reset else profile.task_first_state
        body: Json = {
            "@odata.id": uri,
            "@odata.type": "#Task.v1_7_4.Task",
            "Id": ident,
            "Name": name,
            "TaskMonitor": self._monitor(ident),
            "StartTime": clock.stamp(),
        }
        self.bmc.tree.add_member(self.collection, uri, body)
        for jobs in self.jobs if profile.task_location == "job" else ():
            self.bmc.tree.add_member(jobs, f"{jobs}/{ident}", self._job(work, f"{jobs}/{ident}", jobs))
            work.jobs.append(f"{jobs}/{ident}")
        self._show(work)
        if not on_reset:
            self._run(work)
        headers: dict[str, str] = {}
        if profile.retry_after is not None:
            headers["Retry-After"] = str(profile.retry_after)
        place = profile.task_location
        if place != "none":
            headers["Location"] = body["TaskMonitor"] if place == "monitor" else uri
        return Reply(202, None if place in ("none", "job") else dict(self.bmc.tree.shown(uri)), headers)

    def waiting(self, controller: str | None = None) -> list[Work]:
        """Work that has not ended."""
        return [
            work
            for work in self.works.values()
            if work.ended is None and (controller is None or work.controller == controller)
        ]

    def server_reset(self) -> None:
        """What waited for a reset begins."""
        for work in self.waiting():
            if work.waits_for_reset and work.state == "New":
                self._run(work)

    def cancel(self, work: Work) -> None:
        self._end(work, "Cancelled")

    def get(self, uri: str) -> Reply | None:
        """The answer for a task or its monitor; None: it is not one."""
        monitor = uri in self._monitors
        work = self.works.get(self._monitors.get(uri, uri))
        if work is None:
            return None
        now, profile = self.bmc.clock.moment(), self.bmc.profile
        purged = 0.0 if work.outcome is not None and work.outcome.purged else profile.task_purged
        gone = work.ended is not None and purged is not None and now - work.ended >= purged
        if gone or now - work.made < profile.task_hidden:
            raise KeyError(uri)
        if not monitor:
            return None  # an ordinary resource
        body = dict(self.bmc.tree.shown(work.uri))
        if work.ended is None:
            return Reply(202, body, {"Location": uri})
        if work.state == GOOD:
            return Reply(200, body)
        return Reply(
            400,
            {
                "error": {
                    "code": "Base.1.18.GeneralError",
                    "message": "The work failed.",
                    "@Message.ExtendedInfo": work.messages,
                }
            },
        )

    # -- below

    def _monitor(self, ident: str) -> str:
        service, tasks = self.collection.rsplit("/", 1)[0], self.collection
        return self.bmc.profile.monitor.format(service=service, tasks=tasks, id=ident)

    def _job(self, work: Work, uri: str, jobs: str) -> Json:
        kind = "DellJob" if schema(self.bmc.tree.need(jobs)).startswith("Dell") else "Job"
        types = {"BIOS": "BIOSConfiguration", "Create": "RAIDConfiguration", "Delete": "RAIDConfiguration"}
        body: Json = {
            "@odata.id": uri,
            "@odata.type": f"#{kind}.v1_1_0.{kind}",
            "Id": uri.rsplit("/", 1)[-1],
            "Name": work.name,
            "StartTime": self.bmc.clock.stamp(),
        }
        if kind == "DellJob":
            body["JobType"] = types.get(work.name.split()[0], "FirmwareUpdate")
        return body

    def _outcome(self, call: Call) -> Outcome | None:
        for outcome in self.outcomes:
            method, _space, pattern = outcome.on.partition(" ")
            if method == call.method and matches(pattern, call.uri, True) and outcome.times != 0:
                if outcome.times is not None:
                    outcome.times -= 1
                return outcome
        return None

    def _run(self, work: Work) -> None:
        work.state = "Running"
        self._show(work)
        for step in range(1, STEPS):
            self.bmc.clock.after(work.seconds * step / STEPS, lambda s=step: self._progress(work, s))  # type: ignore[misc]
        self.bmc.clock.after(work.seconds, lambda: self._finish(work))

    def _progress(self, work: Work, step: int) -> None:
        if work.ended is None:
            work.percent = 100 * step // STEPS
            self._show(work)

    def _finish(self, work: Work) -> None:
        if work.ended is not None:
            return
        outcome = work.outcome
        if outcome is None or outcome.state == GOOD:
            work.finish()
            self._end(work, GOOD)
            if work.restarts_bmc:
                self.bmc.restart()
        else:
            said = outcome.message or message("OperationFailed")
            self._end(work, outcome.state, said)

    def _end(self, work: Work, state: str, said: Json | None = None) -> None:
        work.state, work.ended = state, self.bmc.clock.moment()
        work.percent = 100 if state == GOOD else work.percent
        work.messages.append(said or message("Success" if state == GOOD else "OperationFailed"))
        if state != GOOD and work.undo is not None:
            work.undo()
        self.bmc.work_ended()
        self._show(work)

    def _show(self, work: Work) -> None:
        for uri in work.jobs:
            last = work.messages[-1] if work.messages else message("Success", text="The job is waiting or running.")
            states = {"New": "Scheduled" if work.waits_for_reset else "New", "Exception": "Failed"}
            shown = {"JobState": states.get(work.state, work.state), "PercentComplete": work.percent}
            if "JobType" in self.bmc.tree.need(uri):
                shown |= {"Message": last["Message"], "MessageId": last["MessageId"]}
            self.bmc.tree.edit(uri).update(shown)
        body = self.bmc.tree.edit(work.uri)
        bad = work.ended is not None and work.state != GOOD
        body.update({"TaskState": work.state, "TaskStatus": "Critical" if bad else "OK"})
        body.update({"PercentComplete": work.percent, "Messages": list(work.messages)})
        if work.ended is not None:
            body["EndTime"] = self.bmc.clock.stamp()


def delete(bmc: Bmc, call: Call, uri: str) -> Reply:
    """Cancel a task or a maker's job that has not ended; forget one that has."""
    work = next((work for own, work in bmc.tasks.works.items() if uri in (own, *work.jobs)), None)
    if work is None:
        raise Refusal(405, "ResourceCannotBeDeleted")
    if work.ended is None:
        bmc.tasks.cancel(work)
    for own in (work.uri, *work.jobs):
        bmc.tree.drop_member(own.rsplit("/", 1)[0], own)
    return Reply(204)


DELETES = {"Task": delete, "Job": delete, "DellJob": delete}
