# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a wave waits for its turn."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from ansible_collections.kiban.baremetal.plugins.action import plan as action
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.plan import Plan
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import SiteState
from ansible_collections.kiban.baremetal.tests.unit.plugins.plugin_utils._site.test_todo import plan


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
