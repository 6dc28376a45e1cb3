# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power: the decision as a table, and the steps against a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import (
    Bmc,
    BmcRefused,
    BmcTimeout,
    BmcUncertain,
    BmcUnsupported,
    Options,
    connect,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.power import Step, decide
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.quirk import Behaviour
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import RESET, RESETS, SYSTEM, FakeBmc, Reply, error

MakeBmc = Callable[..., FakeBmc]
PLAIN = Behaviour()


def client_of(bmc: FakeBmc, **changes: Any) -> Bmc:
    return connect(Options(**{**bmc.options, **changes}))


def short(steps: list[Step] | str) -> list[str] | str:
    return steps if isinstance(steps, str) else [f"{step.reset}>{step.then}" for step in steps]


@pytest.mark.parametrize(
    ("state", "method", "now", "steps"),
    [
        ("on", "graceful", "on", []),
        ("on", "graceful", "off", ["On>on"]),
        ("on", "graceful", "powering_on", ["None>on"]),
        ("on", "graceful", "powering_off", ["None>off", "On>on"]),
        ("off", "graceful", "on", ["GracefulShutdown>off"]),
        ("off", "forced", "on", ["ForceOff>off"]),
        ("off", "forced", "powering_on", ["ForceOff>off"]),
        ("off", "graceful", "off", []),
        ("off", "graceful", "powering_off", ["None>off"]),
        ("restarted", "graceful", "on", ["GracefulRestart>on"]),
        ("restarted", "forced", "on", ["ForceRestart>on"]),
        ("restarted", "forced", "off", ["On>on"]),
        ("restarted", "forced", "powering_off", ["None>off", "On>on"]),
    ],
)
def test_decisions(state: str, method: str, now: str, steps: list[str]) -> None:
    assert short(decide(state, method, now, RESETS, PLAIN)) == steps
    assert short(decide(state, method, now, [], PLAIN)) == steps, "a BMC that names no reset types allows all"


@pytest.mark.parametrize(
    ("state", "method", "allowed", "steps"),
    [
        ("on", "graceful", ["ForceOn"], ["ForceOn>on"]),
        ("restarted", "forced", ["On", "ForceOff", "PowerCycle"], ["PowerCycle>on"]),
        ("restarted", "forced", ["On", "ForceOff"], ["ForceOff>off", "On>on"]),
        ("restarted", "graceful", ["On", "GracefulShutdown"], ["GracefulShutdown>off", "On>on"]),
    ],
)
def test_only_what_is_offered_is_used(state: str, method: str, allowed: list[str], steps: list[str]) -> None:
    assert short(decide(state, method, "off" if state == "on" else "on", allowed, PLAIN)) == steps


@pytest.mark.parametrize(
    ("state", "method", "now", "allowed"),
    [
        ("on", "graceful", "off", ["ForceOff"]),
        ("off", "graceful", "on", ["On", "ForceOff"]),
        ("off", "forced", "on", ["On", "GracefulShutdown"]),
        ("restarted", "graceful", "on", ["On", "ForceOff", "ForceRestart"]),
        ("on", "graceful", "paused", RESETS),
    ],
)
def test_graceful_never_becomes_forced(state: str, method: str, now: str, allowed: list[str]) -> None:
    answer = decide(state, method, now, allowed, PLAIN)
    assert isinstance(answer, str) and answer


def test_a_restart_that_hangs_is_replaced_by_off_and_on() -> None:
    hangs = Behaviour(restart_by_off_on=True)
    assert short(decide("restarted", "forced", "on", RESETS, hangs)) == ["ForceOff>off", "On>on"]


def test_nothing_is_sent_where_nothing_is_to_be_done(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with client_of(bmc) as client:
        assert client.power.plan("off") == []
    assert bmc.writes() == []


def test_what_is_not_offered_is_unsupported_with_a_hint(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    action = bmc.resource(SYSTEM)["Actions"]["#ComputerSystem.Reset"]
    action["ResetType@Redfish.AllowableValues"] = ["On", "ForceOff"]
    bmc.resource(SYSTEM)["PowerState"] = "On"
    with client_of(bmc) as client, pytest.raises(BmcUnsupported, match="method: forced") as caught:
        client.power.plan("off", "graceful")
    assert "On, ForceOff" in str(caught.value)


def test_reset_types_come_from_action_info(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    info = f"{SYSTEM}/ResetActionInfo"
    action = bmc.resource(SYSTEM)["Actions"]["#ComputerSystem.Reset"]
    del action["ResetType@Redfish.AllowableValues"]
    action["@Redfish.ActionInfo"] = info
    parameters = [{"Name": "Other"}, {"Name": "ResetType", "AllowableValues": ["ForceOn"]}]
    bmc.tree[info] = {"@odata.id": info, "Parameters": parameters}
    with client_of(bmc) as client:
        assert short(client.power.plan("on")) == ["ForceOn>on"]


@pytest.mark.parametrize("missing", ["PowerState", "Actions"])
def test_a_system_that_lacks_what_is_needed(make_bmc: MakeBmc, missing: str) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)[missing] = None
    with client_of(bmc) as client, pytest.raises(BmcUnsupported):
        client.power.plan("on")
    assert bmc.writes() == []


def test_the_state_is_waited_for(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()

    def slowly(_call: Any) -> Reply:
        bmc.resource(SYSTEM)["PowerState"] = "PoweringOn"
        return Reply(204)

    def now_on(_call: Any) -> None:
        bmc.resource(SYSTEM)["PowerState"] = "On"

    bmc.on("POST", RESET, slowly)
    with client_of(bmc) as client:
        steps = client.power.plan("on")
        bmc.on("GET", SYSTEM, lambda _call: None, now_on)
        assert client.power.apply(steps, 20) == ("on", ["On"])


def test_a_server_that_does_not_shut_down(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["PowerState"] = "On"
    bmc.on("POST", RESET, Reply(204))
    with client_of(bmc) as client, pytest.raises(BmcTimeout) as caught:
        client.power.apply(client.power.plan("off"), 1)
    assert "method: forced" in caught.value.hint
    assert caught.value.done == ["reset GracefulShutdown was sent"]
    assert len(bmc.writes()) == 1


def test_a_lost_answer_is_settled_by_the_state(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()

    def cut(_call: Any) -> Reply:
        bmc.resource(SYSTEM)["PowerState"] = "On"
        return Reply(drop=True)

    bmc.on("POST", RESET, cut)
    with client_of(bmc) as client:
        assert client.power.apply(client.power.plan("on"), 10) == ("on", ["On"])
    assert bmc.writes() == [f"POST {RESET}"]


def test_a_lost_answer_with_no_effect_is_reported_and_not_sent_again(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("POST", RESET, Reply(drop=True))
    with client_of(bmc) as client, pytest.raises(BmcUncertain) as caught:
        client.power.apply(client.power.plan("on"), 2)
    assert "not sent again" in caught.value.hint
    assert bmc.writes() == [f"POST {RESET}"]


def test_a_lost_restart_is_seen_by_its_time(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM).update(PowerState="On", LastResetTime="2026-01-01T00:00:00Z")

    def cut(_call: Any) -> Reply:
        bmc.resource(SYSTEM)["LastResetTime"] = "2026-01-02T00:00:00Z"
        return Reply(drop=True)

    bmc.on("POST", RESET, cut)
    with client_of(bmc) as client:
        assert client.power.apply(client.power.plan("restarted", "forced"), 10) == ("on", ["ForceRestart"])


def test_a_busy_bmc_is_asked_again_only_after_reading_the_state(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("POST", RESET, Reply(503, None, {"Retry-After": "0"}))
    with client_of(bmc) as client:
        assert client.power.apply(client.power.plan("on"), 10) == ("on", ["On"])
    order = [str(call) for call in bmc.calls if RESET in call.path or call.path == SYSTEM]
    assert order[-4:-1] == [f"POST {RESET}", f"GET {SYSTEM}", f"POST {RESET}"]


def test_a_busy_bmc_that_did_it_all_the_same(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()

    def busy_but_done(_call: Any) -> Reply:
        bmc.resource(SYSTEM)["PowerState"] = "On"
        return Reply(503, None, {"Retry-After": "0"})

    bmc.on("POST", RESET, busy_but_done)
    with client_of(bmc) as client:
        state, _sent = client.power.apply(client.power.plan("on"), 10)
    assert state == "on"
    assert len(bmc.writes()) == 1


def test_a_refusal_that_passes_is_waited_for_where_the_quirk_table_says_so(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.tree["/redfish/v1"]["Vendor"] = "Dell"
    conflict = error(409, "Base.1.8.ActionParameterValueConflict", "not so soon")
    bmc.on("POST", RESET, conflict)
    began = time.monotonic()
    with client_of(bmc) as client:
        assert client.power.apply(client.power.plan("on"), 30)[0] == "on"
    assert time.monotonic() - began > 4
    assert len(bmc.writes()) == 2

    plain = make_bmc()
    plain.on("POST", RESET, conflict)
    with client_of(plain) as client, pytest.raises(BmcRefused, match="not so soon"):
        client.power.apply(client.power.plan("on"), 30)
    assert len(plain.writes()) == 1


def test_a_reset_as_a_task(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    task = "/redfish/v1/TaskService/Tasks/7"

    def later(_call: Any) -> Reply:
        bmc.resource(SYSTEM)["PowerState"] = "On"
        bmc.tree[task] = {"@odata.id": task, "TaskState": "Completed"}
        return Reply(202, {"@odata.id": task, "TaskState": "New"}, {"Location": task})

    bmc.on("POST", RESET, later)
    with client_of(bmc) as client:
        assert client.power.apply(client.power.plan("on"), 10)[0] == "on"
    assert f"GET {task}" in bmc.sent()


def test_steps_that_were_done_are_told_when_a_later_one_fails(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["PowerState"] = "On"
    action = bmc.resource(SYSTEM)["Actions"]["#ComputerSystem.Reset"]
    action["ResetType@Redfish.AllowableValues"] = ["On", "ForceOff"]

    def off(_call: Any) -> Reply:
        bmc.resource(SYSTEM)["PowerState"] = "Off"
        return Reply(204)

    bmc.on("POST", RESET, off, error(500, "X.1.Broken", "broken"))
    with client_of(bmc) as client, pytest.raises(BmcRefused) as caught:
        client.power.apply(client.power.plan("restarted", "forced"), 10)
    assert caught.value.done == ["reset ForceOff was sent"]
    assert "ForceOff" in str(caught.value)
