# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan reads of BMCs, and how many requests that costs."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options, connect
from ansible_collections.kiban.baremetal.plugins.plugin_utils._readers.bmcs import read_bmcs
from ansible_collections.kiban.baremetal.tests.simulator import Simulator


def test_firmware_is_read_of_those_that_are_named_only(simulator: Callable[..., Simulator]) -> None:
    one, other = simulator(), simulator()
    options = {"one": Options(**one.options), "other": Options(**other.options)}
    states = read_bmcs(options, {"other": {"firmware"}})
    assert [(states[name].power, states[name].error) for name in options] == [("on", None), ("on", None)]
    assert states["one"].firmware is None
    assert states["other"].firmware and all(item["id"] for item in states["other"].firmware)
    assert not [request for request in one.requests if "FirmwareInventory" in request.path]


def test_bios_attributes_are_read_with_what_waits_for_a_reset(simulator: Callable[..., Simulator]) -> None:
    one, other = simulator(), simulator()
    options = {"one": Options(**one.options), "other": Options(**other.options)}
    before = read_bmcs(options, {"other": {"bios"}})["other"].bios
    assert before is not None and before.current and not before.pending and before.error is None
    name = next(name for name, value in before.current.items() if value == "Enabled")
    with connect(options["other"]) as bmc:
        bmc.bios.apply(bmc.bios.plan({name: "Disabled"}), 60)
    states = read_bmcs(options, {"other": {"bios"}})
    assert states["one"].bios is None and not [request for request in one.requests if "/Bios" in request.path]
    after = states["other"].bios
    assert after is not None and after.current[name] == "Enabled" and after.pending == {name: "Disabled"}
