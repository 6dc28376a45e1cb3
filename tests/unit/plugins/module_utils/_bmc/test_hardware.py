# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the hardware record, fed with what BMCs of many kinds have been seen to answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcError, Options, connect
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.hardware import (
    SUBSETS,
    adapter_port_of,
    boot_of,
    controller_of,
    dimm_of,
    drive_of,
    firmware_of,
    location,
    mac,
    manager_of,
    port_of,
    processor_of,
    system_of,
    volume_of,
)
from ansible_collections.kiban.baremetal.plugins.modules import bmc_info
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import (
    MANAGER,
    SYSTEM,
    FakeBmc,
    Json,
    Reply,
    collection,
    error,
    reference,
    resource,
    small_tree,
)

MakeBmc = Callable[..., FakeBmc]


def hardware(bmc: FakeBmc, *subset: str) -> Json:
    with connect(Options(**bmc.options)) as client:
        return client.hardware(subset or SUBSETS)


def add(tree: Json, parent: str, name: str, *bodies: Json) -> None:
    """A collection below a resource, with members."""
    uri = f"{parent}/{name}"
    tree[parent][name] = reference(uri)
    tree[uri] = collection(uri, *[body["@odata.id"] for body in bodies])
    tree.update({body["@odata.id"]: body for body in bodies})


@pytest.mark.parametrize(
    "convert",
    [
        system_of,
        processor_of,
        dimm_of,
        port_of,
        adapter_port_of,
        firmware_of,
        manager_of,
        boot_of,
        lambda body: drive_of(body, None),
        lambda body: volume_of(body, None),
        lambda body: controller_of(body, {}, 1),
    ],
)
@pytest.mark.parametrize("rubbish", [None, "", [], {}, 7, True, "x", [None], {"x": None}])
def test_nothing_is_made_up_from_nothing(convert: Callable[[Json], Json], rubbish: Any) -> None:
    """Whatever stands where something is expected, the record keeps its keys and types, and nothing is invented."""
    empty = convert({})
    assert all(value in (None, []) for value in empty.values())
    names = (
        "Status Manufacturer Model UUID PowerState TotalCores CapacityMiB MACAddress SpeedMbps LinkStatus Ethernet"
        " Links Location PhysicalLocation CapacityBytes FailurePredicted Updateable Boot SupportedDeviceProtocols Id"
        " Name"
    )
    found = convert(dict.fromkeys(names.split(), rubbish))
    assert set(found) == set(empty)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("02:BB:46:AF:6C:37", "02:bb:46:af:6c:37"),
        ("00620B4C284E", "00:62:0b:4c:28:4e"),
        ("00-62-0b-4c-28-4e", "00:62:0b:4c:28:4e"),
        ("", None),
        (None, None),
        ("00:00:00:00:00:00", None),
        ("N/A", None),
        ("00:11:22:33:44:55:66:77", None),
    ],
)
def test_mac_addresses(given: str | None, expected: str | None) -> None:
    assert mac(given) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"PhysicalLocation": {"PartLocation": {"ServiceLabel": "Bay 4"}}}, "Bay 4"),
        ({"PhysicalLocation": {"PartLocation": {"LocationType": "Slot", "LocationOrdinalValue": 0}}}, "Slot 0"),
        ({"Location": {"PartLocation": {"ServiceLabel": "CPU 1"}}}, "CPU 1"),
        ({"Location": [{"PartLocation": {"ServiceLabel": "Bay 1"}}]}, "Bay 1"),
        ({"Location": [{"Info": "1I:1:3", "InfoFormat": "x"}]}, "1I:1:3"),
        ({"Location": []}, None),
        ({"PhysicalLocation": {"PartLocation": {"LocationType": "Slot"}}}, None),
    ],
)
def test_locations(body: Json, expected: str | None) -> None:
    assert location(body) == expected


ON_DEMAND = "when asked for"


def test_the_documented_schema_is_what_is_returned(make_bmc: MakeBmc) -> None:
    """Every documented key is there and no other, down to the leaves."""
    tree = small_tree()
    add(tree, SYSTEM, "Processors", resource(f"{SYSTEM}/Processors/1", "Processor"))
    add(tree, SYSTEM, "Memory", resource(f"{SYSTEM}/Memory/1", "Memory", CapacityMiB=1024))
    lldp = {"ChassisId": "c", "PortId": "p"}
    port = resource(
        "/redfish/v1/Ports/1", "Port", Ethernet={"AssociatedMACAddresses": ["02:00:00:00:00:01"], "LLDPReceive": lldp}
    )
    tree["/redfish/v1/Ports"] = collection("/redfish/v1/Ports", "/redfish/v1/Ports/1")
    tree["/redfish/v1/Ports/1"] = port
    adapter = resource(f"{SYSTEM}/NetworkInterfaces/1", "NetworkInterface", Ports=reference("/redfish/v1/Ports"))
    add(tree, SYSTEM, "NetworkInterfaces", adapter)
    interface = resource(f"{SYSTEM}/EthernetInterfaces/1", "EthernetInterface", MACAddress="02:00:00:00:00:01")
    add(tree, SYSTEM, "EthernetInterfaces", interface)
    drive = resource(f"{SYSTEM}/Drives/1", "Drive", SerialNumber="S1")
    tree[drive["@odata.id"]] = drive
    storage = resource(
        f"{SYSTEM}/Storage/1",
        "Storage",
        Drives=[reference(drive["@odata.id"])],
        StorageControllers=[{"MemberId": "0", "Name": "c", "Model": "m"}],
    )
    add(tree, SYSTEM, "Storage", storage)
    add(tree, f"{SYSTEM}/Storage/1", "Volumes", resource(f"{SYSTEM}/Storage/1/Volumes/1", "Volume"))
    service = "/redfish/v1/UpdateService"
    tree[service] = resource(service, "UpdateService")
    tree["/redfish/v1"]["UpdateService"] = reference(service)
    add(tree, service, "FirmwareInventory", resource(f"{service}/FirmwareInventory/1", "SoftwareInventory"))
    record = hardware(make_bmc(tree))

    def compare(documented: Json, value: Any, path: str) -> None:
        if "contains" not in documented:
            return
        items = value if documented["type"] == "list" else [value]
        assert items, f"{path} is empty, so nothing was compared"
        for item in items:
            always = {name: part for name, part in documented["contains"].items() if part.get("returned") != ON_DEMAND}
            assert set(item) == set(always), path
            for name, inner in always.items():
                compare(inner, item[name], f"{path}.{name}")

    compare(yaml.safe_load(bmc_info.RETURN)["hardware"], record, "hardware")
    assert record["ports"][0]["lldp"] == {"chassis_id": "c", "port_id": "p", "system_name": None}


def test_empty_sockets_and_bays_are_left_out(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    absent = {"State": "Absent", "Health": None}
    add(
        tree,
        SYSTEM,
        "Memory",
        resource(f"{SYSTEM}/Memory/1", "Memory", CapacityMiB=1024),
        resource(f"{SYSTEM}/Memory/2", "Memory", CapacityMiB=0, Status=absent),
        # some say nothing of the state of an empty socket
        resource(f"{SYSTEM}/Memory/3", "Memory", CapacityMiB=None, SerialNumber="", PartNumber=None),
    )
    add(
        tree,
        SYSTEM,
        "Processors",
        resource(f"{SYSTEM}/Processors/1", "Processor", ProcessorType="CPU"),
        resource(f"{SYSTEM}/Processors/2", "Processor", ProcessorType="CPU", Status=absent),
    )
    found = hardware(make_bmc(tree), "memory", "processors")
    assert [dimm["id"] for dimm in found["memory"]["dimms"]] == ["1"]
    assert found["memory"]["total_mib"] == 1024, "no summary: the sum of the modules"
    assert [cpu["id"] for cpu in found["processors"]] == ["1"]


@pytest.mark.parametrize(
    ("summary", "total"),
    [({"TotalSystemMemoryGiB": 1.5}, 1536), ({"TotalSystemMemoryGiB": 0}, 1024), (None, 1024), ({}, 1024)],
)
def test_total_memory(make_bmc: MakeBmc, summary: Any, total: int) -> None:
    tree = small_tree()
    tree[SYSTEM]["MemorySummary"] = summary
    add(tree, SYSTEM, "Memory", resource(f"{SYSTEM}/Memory/1", "Memory", CapacityMiB=1024))
    assert hardware(make_bmc(tree), "memory")["memory"]["total_mib"] == total


def test_a_server_that_tells_nothing(make_bmc: MakeBmc) -> None:
    found = hardware(make_bmc())
    assert found["processors"] == [] and found["ports"] == [] and found["firmware"] == []
    assert found["memory"] == {"total_mib": None, "dimms": []}
    assert found["storage"] == {"controllers": [], "drives": [], "volumes": []}
    assert found["manager"]["firmware_version"] == "1.0"


def test_ports_of_adapters_where_the_system_lists_none(make_bmc: MakeBmc) -> None:
    """As with blade servers: no EthernetInterfaces, and the adapters are below the chassis."""
    tree = small_tree()
    chassis, adapter = "/redfish/v1/Chassis/1", "/redfish/v1/Chassis/1/NetworkAdapters/1"
    tree[chassis] = resource(chassis, "Chassis")
    tree[SYSTEM]["Links"]["Chassis"] = [reference(chassis)]
    add(tree, chassis, "NetworkAdapters", resource(adapter, "NetworkAdapter"))
    add(
        tree,
        adapter,
        "Ports",
        resource(
            f"{adapter}/Ports/1",
            "Port",
            Ethernet={"AssociatedMACAddresses": ["020000000001"]},
            CurrentSpeedGbps=2.5,
            LinkStatus="LinkUp",
        ),
    )
    for subset in (("ports",), ("ports", "lldp")):
        (port,) = hardware(make_bmc(tree), *subset)["ports"]
        assert (port["mac"], port["speed_mbps"], port["link"]) == ("02:00:00:00:00:01", 2500, "up")


def test_simple_storage_of_old_bmcs(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    devices = [
        {"Name": "Disk 0", "Model": "X", "CapacityBytes": 1000, "Status": {"Health": "OK"}},
        {"Name": "Bay 1", "Status": {"State": "Absent"}},
    ]
    add(
        tree,
        SYSTEM,
        "SimpleStorage",
        resource(f"{SYSTEM}/SimpleStorage/1", "SimpleStorage", Devices=devices),
        resource(f"{SYSTEM}/SimpleStorage/2", "SimpleStorage", Devices=None),
    )
    found = hardware(make_bmc(tree), "storage")["storage"]
    assert [(drive["name"], drive["serial_number"], drive["controller"]) for drive in found["drives"]] == [
        ("Disk 0", None, "1")
    ]
    assert [controller["id"] for controller in found["controllers"]] == ["1"]


def test_two_controllers_of_one_subsystem(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    inside = [{"MemberId": str(n), "Name": f"c{n}", "Model": "m"} for n in (0, 1)]
    add(tree, SYSTEM, "Storage", resource(f"{SYSTEM}/Storage/RAID", "Storage", StorageControllers=inside))
    found = hardware(make_bmc(tree), "storage")["storage"]["controllers"]
    assert [(item["id"], item["storage"]) for item in found] == [("RAID/0", "RAID"), ("RAID/1", "RAID")]


def test_a_subsystem_without_drives_may_have_volumes(make_bmc: MakeBmc) -> None:
    """Only one that says that it knows no RAID level is not asked."""
    for raid_types, expected in ((None, 1), (["RAID1"], 1), ([], 0)):
        tree = small_tree()
        inside = {"MemberId": "0", "Name": "c", "Model": "m"}
        if raid_types is not None:
            inside["SupportedRAIDTypes"] = raid_types
        add(tree, SYSTEM, "Storage", resource(f"{SYSTEM}/Storage/1", "Storage", Drives=[], StorageControllers=[inside]))
        add(tree, f"{SYSTEM}/Storage/1", "Volumes", resource(f"{SYSTEM}/Storage/1/Volumes/1", "Volume"))
        assert len(hardware(make_bmc(tree), "storage")["storage"]["volumes"]) == expected


def test_a_part_that_the_bmc_cannot_give_is_noted_and_the_rest_is_there(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    tree[SYSTEM]["Storage"] = reference(f"{SYSTEM}/Storage")
    add(tree, SYSTEM, "Processors", resource(f"{SYSTEM}/Processors/1", "Processor"))
    bmc = make_bmc(tree)
    bmc.on("GET", f"{SYSTEM}/Storage", error(500, "X.1.Broken", "storage is broken"))
    with connect(Options(**bmc.options)) as client:
        found = client.hardware()
    assert len(found["processors"]) == 1
    assert found["storage"]["drives"] == []
    assert any("storage is broken" in note for note in client.notes)


def test_a_bmc_that_stops_answering_is_an_error_and_not_half_a_record(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    tree[SYSTEM]["Storage"] = reference(f"{SYSTEM}/Storage")
    bmc = make_bmc(tree)
    bmc.on("GET", f"{SYSTEM}/Storage", Reply(200, {}, delay=2))
    with pytest.raises(BmcError), connect(Options(**bmc.options, timeout=1)) as client:
        client.hardware()


def test_only_the_asked_parts_are_read(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    add(tree, SYSTEM, "Processors", resource(f"{SYSTEM}/Processors/1", "Processor"))
    bmc = make_bmc(tree)
    found = hardware(bmc, "system", "boot")
    assert found["system"]["model"] == "M1" and found["boot"]["override"] == {"target": "none", "enabled": None}
    assert found["processors"] is None and found["manager"] is None
    assert not any("Processors" in line or MANAGER in line for line in bmc.sent())


def test_what_is_in_the_record_is_not_kept_twice(make_bmc: MakeBmc) -> None:
    """Of hundreds of servers that are read side by side, only what other parts need stays in memory."""
    tree = small_tree()
    add(tree, SYSTEM, "Processors", *[resource(f"{SYSTEM}/Processors/{n}", "Processor") for n in range(20)])
    add(tree, SYSTEM, "Memory", *[resource(f"{SYSTEM}/Memory/{n}", "Memory", CapacityMiB=1) for n in range(20)])
    with connect(Options(**make_bmc(tree).options)) as client:
        record = client.hardware()
        assert len(record["processors"]) == len(record["memory"]["dimms"]) == 20
        assert client.resources.known() <= {"/redfish/v1/Systems", SYSTEM}


def test_firmware_in_an_unusual_place(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    service, place = "/redfish/v1/UpdateService", "/redfish/v1/Somewhere"
    tree["/redfish/v1"]["UpdateService"] = reference(service)
    tree[service] = resource(service, "UpdateService", FirmwareInventory=reference(place))
    tree[place] = collection(place, f"{place}/BIOS")
    tree[f"{place}/BIOS"] = resource(f"{place}/BIOS", "SoftwareInventory", Version="1", Updateable=True)
    (entry,) = hardware(make_bmc(tree), "firmware")["firmware"]
    assert (entry["id"], entry["version"], entry["updateable"]) == ("BIOS", "1", True)
