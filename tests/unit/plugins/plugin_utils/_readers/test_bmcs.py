# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan reads of BMCs, and how many requests that costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options, connect
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.volume import Volume
from ansible_collections.kiban.baremetal.plugins.plugin_utils._readers.bmcs import Asked, read_bmcs, read_ports
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import RaidVolume
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import Raid
from ansible_collections.kiban.baremetal.tests.simulator import Simulator


def test_firmware_is_read_of_those_that_are_named_only(simulator: Callable[..., Simulator]) -> None:
    one, other = simulator(), simulator()
    options = {"one": Options(**one.options), "other": Options(**other.options)}
    states = read_bmcs(options, {"other": Asked(firmware=True)})
    assert [(states[name].power, states[name].error) for name in options] == [("on", None), ("on", None)]
    assert states["one"].firmware is None
    assert states["other"].firmware and all(item["id"] for item in states["other"].firmware)
    assert not [request for request in one.requests if "FirmwareInventory" in request.path]


def test_bios_attributes_are_read_with_what_waits_for_a_reset(simulator: Callable[..., Simulator]) -> None:
    one, other = simulator(), simulator()
    options = {"one": Options(**one.options), "other": Options(**other.options)}
    before = read_bmcs(options, {"other": Asked(bios=True)})["other"].bios
    assert before is not None and before.current and not before.pending and before.error is None
    name = next(name for name, value in before.current.items() if value == "Enabled")
    with connect(options["other"]) as bmc:
        bmc.bios.apply(bmc.bios.plan({name: "Disabled"}), 60)
    states = read_bmcs(options, {"other": Asked(bios=True)})
    assert states["one"].bios is None and not [request for request in one.requests if "/Bios" in request.path]
    after = states["other"].bios
    assert after is not None and after.current[name] == "Enabled" and after.pending == {name: "Disabled"}


def test_volumes_of_the_profile_are_told_from_others(simulator: Callable[..., Simulator]) -> None:
    one = simulator()
    options = Options(**one.options)
    with connect(options) as bmc:
        record = bmc.hardware(["storage"])["storage"]
    controller = next(c["id"] for c in record["controllers"] if "RAID" in c["id"].upper())
    drives = tuple(drive["id"] for drive in record["drives"] if drive["controller"] == controller)
    system = RaidVolume("system", "RAID1", drives[:2], controller)
    other = RaidVolume("other", "RAID0", drives[1:3], controller)

    def read(*volumes: RaidVolume) -> Raid | None:
        return read_bmcs({"one": options}, {"one": Asked(volumes=volumes)})["one"].raid

    before = read(system)
    assert before is not None and before.missing == ("system",) and not before.wrong
    with connect(options) as bmc:
        volumes, wanted = bmc.volumes(controller), Volume("system", "RAID1", system.drives)
        volumes.apply(volumes.plan("present", wanted), wanted, 60)
    assert read(system) == replace(before, missing=())
    told = read(other)
    assert told is not None and not told.missing and "in use" in told.wrong["other"]
    assert {*told.foreign} == {*before.foreign, "system"}
    assert read_bmcs({"one": options})["one"].raid is None


def test_ports_are_read_with_what_they_hear(simulator: Callable[..., Simulator]) -> None:
    one = simulator(tree="synthetic")
    one.hear({0: ("tor1", "swp1"), 1: None})
    found = read_ports({"one": Options(**one.options)})["one"]
    assert not isinstance(found, str)
    heard = [port["lldp"] and (port["lldp"]["system_name"], port["lldp"]["port_id"]) for port in found]
    assert heard == [("tor1", "swp1"), None, None, None]
    assert len(one.sent("GET")) <= 6
    refused = read_ports({"one": Options(**{**one.options, "password": "wrong"})})["one"]
    assert isinstance(refused, str) and "password" in refused
