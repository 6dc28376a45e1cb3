# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a server is started: what its BMC is asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.kiban.baremetal.plugins.action.server_boot import start
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options
from ansible_collections.kiban.baremetal.tests.simulator import Simulator


@pytest.mark.parametrize(
    ("power", "restart", "resets"),
    [
        ("On", "forced", [["ForceRestart"]]),
        # Off first: the system that still answers would be taken for the one that comes.
        ("On", "graceful", [["GracefulShutdown"], ["On"]]),
        ("Off", "graceful", [["On"]]),
    ],
)
def test_a_server_is_started_from_its_disk(
    simulator: Callable[..., Simulator], power: str, restart: str, resets: list[list[str]]
) -> None:
    bmc = simulator(power=power)
    start(Options(**bmc.options), "disk", None, restart, 60)
    assert [[*request.body.values()] for request in bmc.requests if "Reset" in request.path and request.is_write] == (
        resets
    )
