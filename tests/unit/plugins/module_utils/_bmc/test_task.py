# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that goes on after the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import (
    Bmc,
    BmcTaskFailed,
    BmcTimeout,
    Options,
    connect,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.task import finish
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import FakeBmc, Json, Reply, error

MakeBmc = Callable[..., FakeBmc]
ACTION = "/redfish/v1/UpdateService/Actions/Do"
TASK = "/redfish/v1/TaskService/Tasks/1"


def run(client: Bmc, total: float = 10) -> bool:
    return finish(client.session, client.session.post(ACTION, {}), total)


def started(bmc: FakeBmc, body: Json | None = None, **headers: str) -> Bmc:
    bmc.on("POST", ACTION, Reply(202, body, {name.replace("_", "-"): value for name, value in headers.items()}))
    return connect(Options(**bmc.options))


def state(name: str, **more: Any) -> Reply:
    return Reply(200, {"@odata.id": TASK, "TaskState": name, **more})


def test_what_is_done_is_not_waited_for(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("POST", ACTION, Reply(204))
    with connect(Options(**bmc.options)) as client:
        assert run(client) is True


def test_202_that_names_nothing(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with started(bmc) as client:
        assert run(client) is False, "the caller has to read the state"


def test_a_task_is_followed_to_its_end(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", TASK, state("New"), state("Running"), state("Completed"))
    with started(bmc, {"@odata.id": TASK, "TaskState": "New"}) as client:
        assert run(client) is True


def test_a_monitor_answers_202_and_then_the_result(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", "/taskmon/1", Reply(202), Reply(202, {"TaskState": "Running"}), Reply(204))
    with started(bmc, Location="/taskmon/1", Retry_After="1") as client:
        assert run(client) is True


def test_a_vendor_job(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    job = "/redfish/v1/Managers/1/Jobs/JID_1"
    bmc.on("GET", job, Reply(200, {"JobState": "Running"}), Reply(200, {"JobState": "Completed"}))
    with started(bmc, Location=job) as client:
        assert run(client) is True


@pytest.mark.parametrize("ending", ["Exception", "Killed", "Cancelled"])
def test_a_task_that_fails_says_why(make_bmc: MakeBmc, ending: str) -> None:
    bmc = make_bmc()
    bmc.on("GET", TASK, state(ending, Messages=[{"Message": "disk 3 is foreign", "MessageId": "X.1.Foreign"}]))
    with started(bmc, Location=TASK) as client, pytest.raises(BmcTaskFailed, match="disk 3 is foreign") as caught:
        run(client)
    assert caught.value.as_dict()["messages"] == ["disk 3 is foreign [X.1.Foreign]"]


def test_a_vendor_job_that_fails(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", TASK, Reply(200, {"JobState": "CompletedWithErrors", "Message": "half of it"}))
    with started(bmc, Location=TASK) as client, pytest.raises(BmcTaskFailed, match="half of it"):
        run(client)


def test_a_monitor_that_answers_with_the_error_of_the_work(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", "/taskmon/1", Reply(202), error(400, "X.1.Bad", "the image is bad"))
    with started(bmc, Location="/taskmon/1") as client, pytest.raises(BmcTaskFailed, match="the image is bad"):
        run(client)


def test_a_task_may_be_missing_for_a_moment(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", TASK, Reply(404), Reply(404), state("Completed"))
    with started(bmc, Location=TASK) as client:
        assert run(client) is True


def test_a_task_that_was_purged_leaves_it_open(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", TASK, state("Running"))
    with started(bmc, Location=TASK) as client:
        assert run(client, 20) is False


def test_a_bmc_that_restarts_in_the_middle(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", TASK, Reply(drop=True), Reply(503), Reply(drop=True), state("Completed"))
    with started(bmc, Location=TASK) as client:
        assert run(client, 30) is True


def test_a_task_that_does_not_end(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", TASK, lambda _call: None)
    bmc.tree[TASK] = {"@odata.id": TASK, "TaskState": "Running"}
    began = time.monotonic()
    with started(bmc, Location=TASK) as client, pytest.raises(BmcTimeout, match="did not end within 1 s") as caught:
        run(client, 1)
    assert time.monotonic() - began < 4
    assert TASK in caught.value.hint
