# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request that changes something: sent once, and followed to its effect."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import (
    Bmc,
    BmcRefused,
    BmcTaskFailed,
    BmcTimeout,
    BmcUncertain,
    Options,
    connect,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.task import Tasks
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.write import Outcome, perform
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import (
    FakeBmc,
    Reply,
    collection,
    error,
    reference,
    resource,
    small_tree,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.hurry import hurry

MakeBmc = Callable[..., FakeBmc]
ACTION = "/redfish/v1/UpdateService/Actions/Do"
TASKS = "/redfish/v1/TaskService/Tasks"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def bmc(make_bmc: MakeBmc) -> FakeBmc:
    tree = small_tree()
    tree["/redfish/v1"]["Tasks"] = reference("/redfish/v1/TaskService")
    tree["/redfish/v1/TaskService"] = resource("/redfish/v1/TaskService", "TaskService", Tasks=reference(TASKS))
    tree[TASKS] = collection(TASKS)
    return make_bmc(tree)


def task(bmc: FakeBmc, number: int, state: str, started_by: str | None = None) -> str:
    """A task appears on the BMC."""
    uri = f"{TASKS}/{number}"
    more: dict[str, Any] = {"Payload": {"TargetUri": started_by}} if started_by else {}
    bmc.tree[uri] = resource(uri, "Task", TaskState=state, **more)
    bmc.tree[TASKS]["Members"].append(reference(uri))
    return uri


def do(client: Bmc, shows: Callable[[], bool] | None = None, total: float = 100, **more: Any) -> Outcome:
    def send() -> Any:
        return client.session.post(ACTION, {"a": 1})

    return perform(client.resources, send, ACTION, "did it", time.monotonic() + total, shows, **{"works": True, **more})


def test_a_202_that_names_nothing_is_found_in_the_task_list(bmc: FakeBmc) -> None:
    task(bmc, 1, "Running")  # somebody else's, from before

    def begin(_call: Any) -> Reply:
        task(bmc, 2, "Running")
        bmc.on(
            "GET", f"{TASKS}/2", lambda _call: None, lambda _call: bmc.tree[f"{TASKS}/2"].update(TaskState="Completed")
        )
        return Reply(202)

    bmc.on("POST", ACTION, begin)
    with connect(Options(**bmc.options)) as client:
        assert do(client).task == f"{TASKS}/2"
    assert bmc.writes() == [f"POST {ACTION}"]


def test_the_work_of_a_lost_answer_is_found_and_followed(bmc: FakeBmc) -> None:
    def begin(_call: Any) -> Reply:
        task(bmc, 7, "Completed")
        return Reply(drop=True)

    bmc.on("POST", ACTION, begin)
    with connect(Options(**bmc.options)) as client:
        assert do(client).task == f"{TASKS}/7"
    assert bmc.writes() == [f"POST {ACTION}"]


def test_a_task_that_names_another_request_is_not_taken_for_ours(bmc: FakeBmc) -> None:
    def begin(_call: Any) -> Reply:
        task(bmc, 7, "Running", started_by="/redfish/v1/Elsewhere")
        return Reply(drop=True)

    bmc.on("POST", ACTION, begin)
    with connect(Options(**bmc.options)) as client, pytest.raises(BmcUncertain):
        do(client)
    assert bmc.writes() == [f"POST {ACTION}"]


def test_of_two_new_tasks_the_one_that_names_the_request_is_ours(bmc: FakeBmc) -> None:
    with connect(Options(**bmc.options)) as client:
        tasks = Tasks(client.resources)
        before = tasks.known()
        task(bmc, 1, "Running")
        assert tasks.newcomer(before, ACTION) == f"{TASKS}/1"
        task(bmc, 2, "Running")
        assert tasks.newcomer(before, ACTION) is None, "either may be it"
        bmc.tree[f"{TASKS}/1"]["Payload"] = {"TargetUri": "/elsewhere"}
        bmc.tree[f"{TASKS}/2"]["Payload"] = {"TargetUri": ACTION}
        assert tasks.newcomer(before, ACTION) == f"{TASKS}/2"
        assert [body["Id"] for body in tasks.unfinished(ACTION)] == ["2"]


def test_503_means_not_done_but_the_state_is_read_before_it_is_sent_again(bmc: FakeBmc) -> None:
    done: list[int] = []
    bmc.on("POST", ACTION, Reply(503, headers={"Retry-After": "1"}), lambda _call: done.append(1) or Reply(204))
    with connect(Options(**bmc.options)) as client:
        do(client, shows=lambda: bool(done))
    assert bmc.writes() == [f"POST {ACTION}"] * 2
    between = bmc.sent()[bmc.sent().index(f"POST {ACTION}") + 1 :]
    assert between[0].startswith("GET "), "read first"


def test_503_although_it_was_done(bmc: FakeBmc) -> None:
    done: list[int] = []
    bmc.on("POST", ACTION, lambda _call: done.append(1) or Reply(503, headers={"Retry-After": "1"}))
    with connect(Options(**bmc.options)) as client:
        do(client, shows=lambda: bool(done))
    assert bmc.writes() == [f"POST {ACTION}"]


def test_500_although_it_was_done(bmc: FakeBmc) -> None:
    done: list[int] = []
    bmc.on("POST", ACTION, lambda _call: done.append(1) or error(500, "X.1.Broken", "broken inside"))
    with connect(Options(**bmc.options)) as client:
        do(client, shows=lambda: bool(done))
    assert bmc.writes() == [f"POST {ACTION}"]


def test_500_and_nothing_done(bmc: FakeBmc) -> None:
    bmc.on("POST", ACTION, error(500, "X.1.Broken", "broken inside"))
    with connect(Options(**bmc.options)) as client, pytest.raises(BmcRefused, match="broken inside") as caught:
        do(client, shows=lambda: False)
    assert caught.value.done == [] and bmc.writes() == [f"POST {ACTION}"]


def test_work_that_waits_for_a_reset(bmc: FakeBmc) -> None:
    uri = task(bmc, 1, "Pending")
    bmc.on("POST", ACTION, Reply(202, headers={"Location": uri}))
    with connect(Options(**bmc.options)) as client:
        assert do(client, until_scheduled=True).scheduled


def test_work_that_stays_new_counts_as_waiting_only_where_that_is_the_end(bmc: FakeBmc) -> None:
    uri = task(bmc, 1, "New")
    bmc.on("POST", ACTION, *[Reply(202, headers={"Location": uri})] * 2)
    with connect(Options(**bmc.options)) as client:
        assert do(client, until_scheduled=True).scheduled
        with pytest.raises(BmcTimeout) as caught:
            do(client, total=5)
    assert caught.value.done == ["did it, and goes on"]


def test_work_that_fails_has_changed_nothing(bmc: FakeBmc) -> None:
    uri = task(bmc, 1, "Exception")
    bmc.tree[uri]["Messages"] = [{"MessageId": "X.1.No", "Message": "no room"}]
    bmc.on("POST", ACTION, Reply(202, headers={"Location": uri}))
    with connect(Options(**bmc.options)) as client, pytest.raises(BmcTaskFailed, match="no room") as caught:
        do(client, shows=lambda: False)
    assert caught.value.done == []


def test_what_is_accepted_without_effect_is_a_failure(bmc: FakeBmc) -> None:
    bmc.on("POST", ACTION, Reply(200, {}))
    with (
        connect(Options(**bmc.options)) as client,
        pytest.raises(BmcTimeout, match="does not show its effect") as caught,
    ):
        do(client, shows=lambda: False, works=False)
    assert caught.value.done == []


def test_work_that_was_forgotten_may_have_changed_something(bmc: FakeBmc) -> None:
    bmc.on("POST", ACTION, Reply(202, headers={"Location": f"{TASKS}/99"}))
    with connect(Options(**bmc.options)) as client, pytest.raises(BmcTimeout) as caught:
        do(client, shows=lambda: False, total=20)
    assert caught.value.done == ["did it, with an end that is not known"]
