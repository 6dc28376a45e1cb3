# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._runs.power import Feed, PowerTimeout, power_slot


@given(
    st.lists(st.integers(0, 2000), max_size=6),
    st.integers(0, 2000),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(1, 5000),
)
def test_what_a_rack_bears(others: list[int], watts: int, servers: int | None, limit: int | None) -> None:
    if Feed("a01", servers, limit).bears(others, watts):
        assert servers is None or len(others) + 1 <= servers
        assert limit is None or sum(others) + watts <= limit or not others
    else:
        assert (servers is not None and len(others) >= servers) or (limit is not None and sum(others) + watts > limit)


def test_number(tmp_path: Path) -> None:
    feed = Feed("a01", servers=2)
    with ExitStack() as held:
        for name in ("n1", "n2"):
            held.enter_context(power_slot(str(tmp_path), feed, name, 0, 0))
        with (
            pytest.raises(PowerTimeout, match=r"rack a01 .* n1, n2 started"),
            power_slot(str(tmp_path), feed, "n3", 0, 0, 0),
        ):
            pass
        with power_slot(str(tmp_path), Feed("a02", servers=2), "n3", 0, 0):
            pass
    with power_slot(str(tmp_path), feed, "n3", 0, 0):
        pass


def test_watts(tmp_path: Path) -> None:
    feed = Feed("a01", watts=2000)
    with power_slot(str(tmp_path), feed, "big", 1500, 0):
        with power_slot(str(tmp_path), feed, "small", 500, 0):
            pass
        with pytest.raises(PowerTimeout), power_slot(str(tmp_path), feed, "medium", 501, 0, 0):
            pass


def test_no_limit_leaves_nothing_behind(tmp_path: Path) -> None:
    with power_slot(str(tmp_path), Feed("a01"), "n1", 1500, 0):
        assert list(tmp_path.iterdir()) == []


def start(site_dir: str, feed: Feed, name: str, counts: Any, killed: bool) -> None:
    with power_slot(site_dir, feed, name, 0, 60, 0.01):
        with counts[0].get_lock():
            counts[0].value += 1
            counts[1].value = max(counts[1].value, counts[0].value)
        time.sleep(random.uniform(0, 0.05))
        with counts[0].get_lock():
            counts[0].value -= 1
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)


def test_many_processes_some_of_them_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    counts = context.Value("i", 0), context.Value("i", 0)
    feed = Feed("a01", servers=3)
    processes = [
        context.Process(target=start, args=(str(tmp_path), feed, f"n{number}", counts, number % 3 == 0))
        for number in range(12)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert {process.exitcode for process in processes} == {0, -9}
    assert 1 <= counts[1].value <= 3
