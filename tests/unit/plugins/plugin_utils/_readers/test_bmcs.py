# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan reads of BMCs, and how many requests that costs."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options
from ansible_collections.kiban.baremetal.plugins.plugin_utils._readers.bmcs import read_bmcs
from ansible_collections.kiban.baremetal.tests.simulator import Simulator


def test_firmware_is_read_of_those_that_are_named_only(simulator: Callable[..., Simulator]) -> None:
    one, other = simulator(), simulator()
    options = {"one": Options(**one.options), "other": Options(**other.options)}
    states = read_bmcs(options, {"other"})
    assert [(states[name].power, states[name].error) for name in options] == [("on", None), ("on", None)]
    assert states["one"].firmware is None
    assert states["other"].firmware and all(item["id"] for item in states["other"].firmware)
    assert not [request for request in one.requests if "FirmwareInventory" in request.path]
