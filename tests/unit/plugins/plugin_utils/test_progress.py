# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._progress import Board, clock


@pytest.mark.parametrize(("seconds", "expected"), [(0, "0:00"), (83.9, "1:23"), (3723, "1:02:03")])
def test_clock(seconds: float, expected: str) -> None:
    assert clock(seconds) == expected


def board() -> Board:
    found = Board()
    for number in range(1, 5):
        found.begin(f"node{number}", "provision", "Boot the deploy media", 10.0 * number)
    assert found.done("node1", 100) == 90
    found.failed("node2", 100)
    return found


def test_who_works_comes_first_and_who_failed_last() -> None:
    assert board().lines(130, 200, 10) == [
        "node3  provision     1:40  Boot the deploy media",
        "node4  provision     1:30  Boot the deploy media",
        "node1  provision     0:30  waits for the others",
        "node2  provision     0:30  failed: Boot the deploy media",
    ]


def test_it_fits_the_screen() -> None:
    lines = board().lines(130, 20, 3)
    assert lines == ["node3  provision", "node4  provision", "and 2 more, 0 of th"] or all(len(x) <= 20 for x in lines)
    assert len(lines) == 3
    assert board().lines(130, 80, 0) == []


def test_the_next_play_forgets_who_is_done_and_keeps_who_failed() -> None:
    found = board()
    found.next_play()
    assert [line.split()[0] for line in found.lines(130, 80, 10)] == ["node2"]
