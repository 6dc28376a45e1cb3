# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot overrides: check, set, again, another, none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kiban.baremetal.plugins.modules import bmc_boot
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import SYSTEM, FakeBmc

MakeBmc = Callable[..., FakeBmc]
RunModule = Callable[..., dict[str, Any]]


def test_the_ladder(make_bmc: MakeBmc, run_module: RunModule) -> None:
    bmc = make_bmc()

    def run(target: str, check: bool = False, **more: Any) -> dict[str, Any]:
        result = run_module(bmc_boot, check_mode=check, diff_mode=True, **bmc.options, target=target, **more)
        assert not result["failed"], result
        return result

    planned = run("cd", check=True)
    assert planned["changed"] and planned["override"] == {"target": "none", "enabled": None}
    assert bmc.writes() == []
    done = run("cd")
    assert done["changed"] and done["override"] == {"target": "cd", "enabled": "once"}
    assert done["diff"] == planned["diff"]
    assert done["diff"] == {"before": planned["override"], "after": done["override"]}
    assert not run("cd")["changed"]
    assert run("cd", enabled="continuous")["changed"]
    assert run("disk", enabled="continuous")["override"] == {"target": "disk", "enabled": "continuous"}
    assert run("none")["override"] == {"target": "none", "enabled": None}
    assert not run("none")["changed"]
    assert len(bmc.writes()) == 4


def test_what_the_bmc_cannot_is_unsupported_in_check_mode_too(make_bmc: MakeBmc, run_module: RunModule) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["Boot"]["BootSourceOverrideEnabled@Redfish.AllowableValues"] = ["Once", "Disabled"]
    for check in (True, False):
        result = run_module(bmc_boot, check_mode=check, **bmc.options, target="disk", enabled="continuous")
        assert result["failed"] and not result["changed"]
        assert result["failure"]["kind"] == "unsupported"
    assert bmc.writes() == []
