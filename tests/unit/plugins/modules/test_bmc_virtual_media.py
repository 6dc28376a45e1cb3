# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual media: check, insert, again, another image, eject."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.modules import bmc_virtual_media
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import FakeBmc, behave, error, small_tree

MakeBmc = Callable[..., FakeBmc]
RunModule = Callable[..., dict[str, Any]]
A = "http://192.0.2.2:8080/a.iso"
B = "http://user:canary-pw@192.0.2.2:8080/b.iso"
B_SHOWN = "http://192.0.2.2:8080/b.iso"


@pytest.mark.parametrize("actions", [True, False])
def test_the_ladder(make_bmc: MakeBmc, run_module: RunModule, actions: bool) -> None:
    bmc = behave(make_bmc(small_tree(media_actions=actions)))

    def run(check: bool = False, **more: Any) -> dict[str, Any]:
        result = run_module(bmc_virtual_media, check_mode=check, diff_mode=True, **bmc.options, **more)
        assert not result["failed"], result
        assert "canary" not in str({**result, "invocation": None})
        return result

    planned = run(check=True, image=A)
    assert planned["changed"] and planned["images"] == [] and planned["actions"] == [f"inserted {A}"]
    assert bmc.writes() == []
    done = run(image=A)
    assert done["changed"] and done["images"] == [A] and done["actions"] == [f"inserted {A} in 2"]
    assert done["diff"] == planned["diff"] == {"before": {"images": []}, "after": {"images": [A]}}
    again = run(image=A)
    assert not again["changed"] and again["images"] == [A] and again["actions"] == []
    other = run(image=B)
    assert other["changed"] and other["images"] == [B_SHOWN]
    assert other["diff"] == {"before": {"images": [A]}, "after": {"images": [B_SHOWN]}}
    assert not run(image=B)["changed"]
    assert not run(state="ejected", image=A)["changed"]
    gone = run(check=True, state="ejected")
    assert gone["changed"] and gone["images"] == [B_SHOWN]
    assert run(state="ejected")["images"] == []
    assert not run(state="ejected")["changed"]
    assert len(bmc.writes()) == 4


def test_an_image_is_needed_to_insert(run_module: RunModule) -> None:
    result = run_module(bmc_virtual_media, address="192.0.2.1", username="u", password="p")
    assert result["failed"]
    assert "image" in result["msg"]


def test_an_ejection_before_a_failure_counts_as_changed(make_bmc: MakeBmc, run_module: RunModule) -> None:
    bmc = make_bmc()
    drive = "/redfish/v1/Managers/1/VirtualMedia/2"
    bmc.resource(drive).update(Image=A, Inserted=True)
    bmc.on("POST", f"{drive}/Actions/VirtualMedia.InsertMedia", error(400, "X.1.No", "cannot fetch it"))
    result = run_module(bmc_virtual_media, **bmc.options, image=B)
    assert result["failed"] and result["changed"]
    assert result["failure"]["done"] == [f"ejected {A} from 2"]
    assert "canary" not in result["msg"]
