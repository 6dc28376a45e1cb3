# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switching servers on and off: check, do, again, the other way, restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kiban.baremetal.plugins.modules import bmc_power
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import RESET, SYSTEM, FakeBmc, Reply, error

MakeBmc = Callable[..., FakeBmc]
RunModule = Callable[..., dict[str, Any]]


def test_the_ladder(make_bmc: MakeBmc, run_module: RunModule) -> None:
    bmc = make_bmc()

    def run(state: str, check: bool = False, **more: Any) -> dict[str, Any]:
        result = run_module(bmc_power, check_mode=check, diff_mode=True, **bmc.options, state=state, **more)
        assert not result["failed"], result
        return result

    planned = run("on", check=True)
    assert planned["changed"] and planned["power_state"] == "off" and planned["resets"] == ["On"]
    assert bmc.resource(SYSTEM)["PowerState"] == "Off"
    done = run("on")
    assert done["changed"] and done["power_state"] == "on"
    assert done["diff"] == planned["diff"]
    assert done["diff"]["before"] == {"power_state": "off", "resets": []}
    assert done["diff"]["after"] == {"power_state": "on", "resets": ["On"]}
    again = run("on")
    assert not again["changed"] and again["resets"] == []
    assert again["diff"]["before"] == again["diff"]["after"]
    for check in (True, False):
        restarted = run("restarted", check=check, method="forced")
        assert restarted["changed"] and restarted["resets"] == ["ForceRestart"]
    assert run("off", method="forced")["resets"] == ["ForceOff"]
    assert not run("off", method="graceful")["changed"]
    assert run("restarted")["resets"] == ["On"], "a server that is off is switched on"
    assert run("off")["resets"] == ["GracefulShutdown"]
    assert [call.body["ResetType"] for call in bmc.calls if call.path == RESET] == [
        "On",
        "ForceRestart",
        "ForceOff",
        "On",
        "GracefulShutdown",
    ]


def test_a_server_that_is_switching_on_by_itself_is_waited_for_but_not_changed(
    make_bmc: MakeBmc, run_module: RunModule
) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["PowerState"] = "PoweringOn"

    def on(_call: Any) -> None:
        bmc.resource(SYSTEM)["PowerState"] = "On"

    bmc.on("GET", SYSTEM, lambda _call: None, lambda _call: None, on)
    result = run_module(bmc_power, **bmc.options, state="on")
    assert result["power_state"] == "on"
    assert not result["changed"]
    assert bmc.writes() == []


def test_a_time_out_after_the_reset_counts_as_changed(make_bmc: MakeBmc, run_module: RunModule) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["PowerState"] = "On"
    bmc.on("POST", RESET, Reply(204))
    result = run_module(bmc_power, **bmc.options, state="off", wait_timeout=1)
    assert result["failed"] and result["changed"]
    assert result["failure"]["kind"] == "timeout"
    assert result["failure"]["done"] == ["reset GracefulShutdown was sent"]


def test_a_refused_reset_is_no_change(make_bmc: MakeBmc, run_module: RunModule) -> None:
    bmc = make_bmc()
    bmc.on("POST", RESET, error(400, "X.1.Fans", "no fans"))
    result = run_module(bmc_power, **bmc.options, state="on")
    assert result["failed"] and not result["changed"]
    assert "no fans" in result["msg"]
    assert len(bmc.writes()) == 1
