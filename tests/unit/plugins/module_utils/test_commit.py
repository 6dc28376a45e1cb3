# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change that nobody confirms takes itself back, once, and never another one's."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._commit import Commit


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def commit(tmp_path: Path) -> Commit:
    return Commit(str(tmp_path / "it's here"))


def test_it_heals_without_anybody(commit: Commit, tmp_path: Path) -> None:
    healed = tmp_path / "healed"
    commit.arm([["false"], ["touch", str(healed)]], 1)
    assert commit.pending
    eventually(lambda: commit.reverted)
    assert healed.exists(), "a step that fails keeps the others from running"
    assert not commit.confirm()


def test_a_confirmed_change_stays(commit: Commit, tmp_path: Path) -> None:
    commit.arm([["touch", str(tmp_path / "healed")]], 1)
    assert commit.confirm()
    assert not commit.pending
    time.sleep(1.5)
    assert not (tmp_path / "healed").exists()
    assert not commit.confirm()
    assert not commit.reverted


def test_it_is_taken_back_at_once_on_request(commit: Commit, tmp_path: Path) -> None:
    commit.arm([["touch", str(tmp_path / "healed")]], 600)
    assert commit.revert()
    assert (tmp_path / "healed").exists()
    assert commit.reverted
    assert not commit.revert()


def test_the_timer_of_one_change_leaves_the_next_alone(commit: Commit, tmp_path: Path) -> None:
    commit.arm([["touch", str(tmp_path / "first")]], 1)
    assert commit.confirm()
    commit.arm([["touch", str(tmp_path / "second")]], 600)
    time.sleep(1.5)
    assert not (tmp_path / "first").exists()
    assert commit.pending
    commit.revert()
    assert (tmp_path / "second").exists()
