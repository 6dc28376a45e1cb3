# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._verify_result import (
    ResultError,
    begin,
    conclude,
    end,
    failed_checks,
    stamp,
    start,
    unproved_checks,
)

NOON = 1767268800.0


def fresh(*names: str) -> dict[str, Any]:
    return start("lab", "v1.36.3", list(names), NOON)


def passed(result: dict[str, Any], name: str) -> dict[str, Any]:
    return end(begin(result, name, NOON + 1), name, True, "shown", {}, NOON + 3.25)


def test_nothing_is_ok_at_the_start() -> None:
    result = fresh("nodes", "web")
    assert result == {
        "format": 1,
        "site": "lab",
        "kubernetes": "v1.36.3",
        "started": "2026-01-01T12:00:00.000Z",
        "finished": None,
        "ok": False,
        "checks": [
            {"name": "nodes", "ok": False, "seconds": 0.0, "detail": "did not run", "figures": {}},
            {"name": "web", "ok": False, "seconds": 0.0, "detail": "did not run", "figures": {}},
        ],
    }


def test_all_passed_is_ok() -> None:
    result = conclude(passed(passed(fresh("nodes", "web"), "nodes"), "web"), NOON + 9)
    assert result["ok"] is True
    assert result["finished"] == "2026-01-01T12:00:09.000Z"
    assert result["checks"][0]["seconds"] == 2.2
    assert result["checks"][0]["started"] == "2026-01-01T12:00:01.000Z"


def test_one_failure_is_not_ok() -> None:
    result = passed(fresh("nodes", "web"), "nodes")
    result = end(begin(result, "web", NOON), "web", False, "no answer", {}, NOON)
    assert failed_checks(result) == unproved_checks(result) == ["web"]
    assert conclude(result, NOON)["ok"] is False


def test_a_check_that_did_not_run_is_not_ok() -> None:
    result = passed(fresh("nodes", "web"), "nodes")
    assert unproved_checks(result) == []
    assert conclude(result, NOON)["ok"] is False


def test_a_check_that_did_not_finish_is_not_ok() -> None:
    result = begin(fresh("nodes"), "nodes", NOON)
    assert (failed_checks(result), unproved_checks(result)) == ([], ["nodes"])
    assert conclude(result, NOON)["ok"] is False


def test_a_second_try_that_fails_takes_the_first_ones_success_back() -> None:
    result = passed(fresh("nodes"), "nodes")
    assert conclude(begin(result, "nodes", NOON + 5), NOON + 6)["ok"] is False


def test_a_check_of_several_steps_counts_its_time_from_the_first() -> None:
    result = begin(begin(fresh("nodes", "web"), "nodes", NOON), "web", NOON + 1)
    result = end(begin(result, "nodes", NOON + 5), "nodes", True, "shown", {}, NOON + 7)
    assert (result["checks"][0]["seconds"], result["checks"][0]["ok"]) == (7.0, True)


def test_a_check_whose_first_step_has_failed_stays_failed() -> None:
    result = end(begin(fresh("nodes"), "nodes", NOON), "nodes", False, "no answer", {}, NOON + 2)
    assert begin(result, "nodes", NOON + 5) == result


def test_a_check_cannot_pass_without_having_begun() -> None:
    with pytest.raises(ResultError, match="was not begun"):
        end(fresh("nodes"), "nodes", True, "", {}, NOON)


def test_a_check_that_nobody_announced() -> None:
    with pytest.raises(ResultError, match="there is no check 'webb'"):
        begin(fresh("web"), "webb", NOON)


def test_no_checks_are_no_proof() -> None:
    with pytest.raises(ResultError, match="proves nothing"):
        fresh()


def test_a_name_twice() -> None:
    with pytest.raises(ResultError, match="named twice"):
        fresh("web", "web")


def test_a_finished_result_stays_as_it_is() -> None:
    with pytest.raises(ResultError, match="was finished at"):
        begin(conclude(fresh("web"), NOON), "web", NOON)


def test_steps_leave_the_state_before_alone() -> None:
    before = fresh("web")
    begin(before, "web", NOON)
    conclude(before, NOON)
    assert before == fresh("web")


def test_stamp() -> None:
    assert stamp(0) == "1970-01-01T00:00:00.000Z"
