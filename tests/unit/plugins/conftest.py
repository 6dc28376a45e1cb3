# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that tests of several kinds of plugins share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import resource
from ansible_collections.kiban.baremetal.tests.simulator import Simulator
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import FakeBmc, Tls, behave, small_tree

MakeBmc = Callable[..., FakeBmc]
MakeSimulator = Callable[..., Simulator]


@pytest.fixture(scope="session")
def bmc_tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def make_bmc(bmc_tls: Tls) -> Iterator[MakeBmc]:
    """Starts BMCs; at the end of the test each must have been asked for all that was scripted, and hold no session."""
    made: list[FakeBmc] = []
    resource._lies.clear()

    def make(tree: dict[str, Any] | None = None, behaving: bool = True, **options: Any) -> FakeBmc:
        bmc = FakeBmc(bmc_tls, small_tree() if tree is None else tree, **options)
        made.append(bmc)
        return behave(bmc) if behaving and tree is None else bmc

    yield make
    for bmc in made:
        bmc.stop()
    for bmc in made:
        bmc.check()
        assert not bmc.sessions, f"sessions were left open: {list(bmc.sessions.values())}"


@pytest.fixture
def simulator() -> Iterator[MakeSimulator]:
    """Starts simulated BMCs whose server is on; at the end none may hold a session or have seen a blind repeat."""
    made: list[Simulator] = []
    resource._lies.clear()

    def make(profile: str = "well-behaved", **behaviour: Any) -> Simulator:
        found = Simulator(profile, **{"power": "On", **behaviour})
        found.start()
        made.append(found)
        return found

    yield make
    for found in made:
        found.stop()
    for found in made:
        found.check()
