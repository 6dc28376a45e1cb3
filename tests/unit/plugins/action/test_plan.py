# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups that a plan gives a run, and how a wave waits for its turn."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from ansible_collections.kiban.baremetal.plugins.action import plan as action
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.changes import Change, Intent, Problem
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.plan import Plan
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import SiteState


def plan(*servers: str, refused: str = "", waves: tuple[tuple[str, ...], ...] = ()) -> Plan:
    changes = tuple(Change(name, "os", "ramdisk", "operating system", "a", "b", "data") for name in servers)
    problems = (Problem(refused, "must not be disrupted now"),) if refused else ()
    return Plan("lab", servers, changes, problems, waves=waves)


def test_servers_of_later_waves_are_in_one_group_and_in_their_order() -> None:
    found = action.todo_hosts(plan("a", "b", "c", "d", waves=(("c",), ("d", "a"), ("b",))), Intent("x"), SiteState())
    assert [(one["name"], one["groups"]) for one in found] == [
        ("c", ["todo", "todo_os"]),
        ("d", ["todo", "todo_waits"]),
        ("a", ["todo", "todo_waits"]),
        ("b", ["todo", "todo_waits"]),
    ]


@pytest.mark.parametrize(("wave", "last"), [(["c"], ["a", "b"]), (["d", "e"], ["c"]), (["e"], ["c"]), (["a"], [])])
def test_the_wave_before(wave: list[str], last: list[str]) -> None:
    assert list(action.before([["a", "b"], ["c"], ["d", "e"]], wave)) == last


def test_a_wave_is_asked_about_until_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [plan("b", refused="c"), plan("b", refused="c"), plan("b", "c")]
    asked: list[list[str]] = []
    pauses: list[float] = []

    def look(names: Collection[str]) -> tuple[Plan, SiteState]:
        asked.append([*names])
        return answers[len(asked) - 1], SiteState()

    monkeypatch.setattr(action.time, "sleep", pauses.append)
    found, _state = action._when_allowed(look, ["b", "c"], ["a"], 60)
    assert {change.server for change in found.changes} == {"b", "c"} and not found.problems
    assert asked == [["a", "b", "c"]] * 3 and len(pauses) == 2


def test_who_is_refused_to_the_end_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action.time, "sleep", lambda _seconds: None)
    found, _state = action._when_allowed(lambda _names: (plan("b", refused="c"), SiteState()), ["b", "c"], [], 0)
    assert [change.server for change in found.changes] == ["b"]
    assert [problem.server for problem in found.problems] == ["c"]


def test_a_wave_before_that_is_not_in_order_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action.time, "sleep", lambda _seconds: pytest.fail("it waits"))
    found, _state = action._when_allowed(lambda _names: (plan("a", "b"), SiteState()), ["b"], ["a"], 60)
    assert not found.changes and "a has to be worked on (operating system)" in found.problems[0].message
