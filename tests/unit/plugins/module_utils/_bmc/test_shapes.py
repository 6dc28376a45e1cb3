# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hardware record of trees in shapes that other BMCs have. Each is small and made up after what such BMCs serve.

The shapes are known from public mockups and clients: NVIDIA/libredfish, HewlettPackard/ilo-redfish-emulator, mockups
of DMTF (DSP2043), Huawei/Huawei-iBMC-Cmdlets, check_redfish. The expectations are written down by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcUnsupported, Options, connect
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.hardware import number
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import (
    MANAGER,
    RESET,
    SYSTEM,
    FakeBmc,
    Json,
    collection,
    reference,
    resource,
    small_tree,
)

MakeBmc = Callable[..., FakeBmc]
CHASSIS = "/redfish/v1/Chassis/1"


def hardware(bmc: FakeBmc) -> Json:
    with connect(Options(**bmc.options)) as client:
        record = client.hardware()
        assert not [note for note in client.notes if "$expand" not in note]
    return record


def add(tree: Json, parent: str, name: str, *bodies: Json, place: str = "") -> None:
    """A collection, with members, that the parent names. C(place): not where one would expect it."""
    uri = place or f"{parent}/{name}"
    tree[parent][name] = reference(uri)
    tree[uri] = collection(uri, *[body["@odata.id"] for body in bodies])
    tree.update({body["@odata.id"]: body for body in bodies})


def in_chassis(tree: Json, *others: str) -> None:
    """The system is in the first chassis; the service lists others, too."""
    tree[SYSTEM]["Links"]["Chassis"] = [reference(CHASSIS)]
    chassis = [resource(uri, "Chassis") for uri in (CHASSIS, *others)]
    add(tree, "/redfish/v1", "Chassis", *chassis)


def drive(uri: str, serial: str, **more: Any) -> Json:
    return resource(uri, "Drive", SerialNumber=serial, **more)


def serials(record: Json) -> list[tuple[Any, Any]]:
    return [(item["serial_number"], item["controller"]) for item in record["storage"]["drives"]]


@pytest.fixture(params=[False, True], ids=["plain", "expand"])
def expand(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def start(make_bmc: MakeBmc, tree: Json, expand: bool) -> FakeBmc:
    if expand:
        query = {"NoLinks": True, "ExpandAll": True, "Links": True, "Levels": True, "MaxLevels": 1}
        tree["/redfish/v1"]["ProtocolFeaturesSupported"] = {"ExpandQuery": query}
    return make_bmc(tree, expand="right" if expand else "absent")


def test_storages_and_bays_of_the_chassis(make_bmc: MakeBmc, expand: bool) -> None:
    """As on iBMC: Storages, drives below the chassis, one of them without a RAID controller, NetworkPorts."""
    tree = small_tree()
    in_chassis(tree)
    bays = [f"{CHASSIS}/Drives/{name}" for name in ("disk0", "disk1", "nvme50", "empty")]
    bodies = [drive(bays[0], "A", CapacityBytes="480103981056"), drive(bays[1], "B"), drive(bays[2], "C")]
    bodies.append(resource(bays[3], "Drive", SerialNumber="N/A", Model=None, CapacityBytes=None))
    add(tree, CHASSIS, "Drives", *bodies)
    storage = resource(
        f"{SYSTEM}/Storages/RAIDStorage0",
        "Storage",
        StorageControllers=[{"MemberId": "0", "Name": "RAID Card1", "Model": "SAS3508", "Status": {"Health": "OK"}}],
        Drives=[reference(bays[0]), reference(bays[1])],
    )
    add(tree, SYSTEM, "Storages", storage)
    volume = resource(
        f"{SYSTEM}/Storages/RAIDStorage0/Volumes/LogicalDrive0",
        "Volume",
        VolumeType="Mirrored",
        CapacityBytes=1,
        Links={"Drives": [reference(bays[0])]},
    )
    add(tree, f"{SYSTEM}/Storages/RAIDStorage0", "Volumes", volume)
    adapter = f"{CHASSIS}/NetworkAdapters/mainboardNIC"
    add(tree, CHASSIS, "NetworkAdapters", resource(adapter, "NetworkAdapter"))
    port = resource(
        f"{adapter}/NetworkPorts/1",
        "NetworkPort",
        AssociatedNetworkAddresses=["A4-DC-BE-F1-2D-46"],
        LinkStatus="Up",
        CurrentLinkSpeedMbps="25000",
    )
    add(tree, adapter, "NetworkPorts", port)
    record = hardware(start(make_bmc, tree, expand))
    assert serials(record) == [("A", "RAIDStorage0"), ("B", "RAIDStorage0"), ("C", None)]
    assert record["storage"]["drives"][0]["capacity_bytes"] == 480103981056
    assert [item["id"] for item in record["storage"]["controllers"]] == ["RAIDStorage0"]
    assert record["storage"]["volumes"][0]["drives"] == ["disk0"]
    (found,) = record["ports"]
    assert (found["mac"], found["link"], found["speed_mbps"]) == ("a4:dc:be:f1:2d:46", "up", 25000)


def test_bays_of_the_chassis_take_one_request(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    in_chassis(tree)
    bays = [drive(f"{CHASSIS}/Drives/{n}", str(n)) for n in range(4)]
    add(tree, CHASSIS, "Drives", *bays)
    units = [resource(f"{SYSTEM}/Storage/{n}", "Storage", Drives=[reference(bays[n]["@odata.id"])]) for n in range(4)]
    add(tree, SYSTEM, "Storage", *units)
    bmc = start(make_bmc, tree, expand=True)
    assert serials(hardware(bmc)) == [(str(n), str(n)) for n in range(4)]
    assert len([line for line in bmc.sent("GET") if "Drives" in line or "/Storage/" in line]) == 1


@pytest.mark.parametrize("where", ["collection", "links", "another chassis"])
def test_drives_only_in_a_chassis(make_bmc: MakeBmc, expand: bool, where: str) -> None:
    tree = small_tree()
    backplane = "/redfish/v1/Chassis/Backplane"
    in_chassis(tree, backplane)
    bay = drive("/redfish/v1/Chassis/any/Drives/1", "A", Links={"Storage": reference(f"{SYSTEM}/Storage/NVMe")})
    if where == "links":
        tree[bay["@odata.id"]] = bay
        tree[CHASSIS]["Links"] = {"Drives": [reference(bay["@odata.id"])]}
    else:
        add(tree, CHASSIS if where == "collection" else backplane, "Drives", bay)
    assert serials(hardware(start(make_bmc, tree, expand))) == [("A", "NVMe")]


def test_drives_as_a_collection_of_the_storage(make_bmc: MakeBmc, expand: bool) -> None:
    tree = small_tree()
    add(tree, SYSTEM, "Storage", resource(f"{SYSTEM}/Storage/1", "Storage", StorageControllers=None))
    add(tree, f"{SYSTEM}/Storage/1", "Drives", drive(f"{SYSTEM}/Storage/1/Drives/0", "A"))
    assert serials(hardware(start(make_bmc, tree, expand))) == [("A", "1")]


def test_functions_tell_the_addresses_that_ports_do_not(make_bmc: MakeBmc, expand: bool) -> None:
    """As on CIMC: no EthernetInterfaces; interfaces only point to adapters, and functions have the addresses."""
    tree = small_tree()
    in_chassis(tree)
    adapter = f"{CHASSIS}/NetworkAdapters/UCSC-M"
    tree[adapter] = resource(adapter, "NetworkAdapter")
    interface = resource(
        f"{SYSTEM}/NetworkInterfaces/1", "NetworkInterface", Links={"NetworkAdapter": reference(adapter)}
    )
    add(tree, SYSTEM, "NetworkInterfaces", interface)
    port = f"{adapter}/NetworkPorts/Port-1"
    add(tree, adapter, "NetworkPorts", resource(port, "NetworkPort", LinkStatus="Down"))
    functions = [
        resource(
            f"{adapter}/NetworkDeviceFunctions/eth0",
            "NetworkDeviceFunction",
            Ethernet={"MACAddress": "2C:F8:9B:00:00:01"},
            Links={"PhysicalPortAssignment": reference(port)},
        ),
        resource(
            f"{adapter}/NetworkDeviceFunctions/eth1",
            "NetworkDeviceFunction",
            Ethernet={"PermanentMACAddress": "2cf89b000002", "MACAddress": None},
        ),
        resource(f"{adapter}/NetworkDeviceFunctions/fc0", "NetworkDeviceFunction", FibreChannel={"WWPN": "x"}),
    ]
    add(tree, adapter, "NetworkDeviceFunctions", *functions)
    ports = hardware(start(make_bmc, tree, expand))["ports"]
    assert [(item["id"], item["mac"], item["link"]) for item in ports] == [
        ("Port-1", "2c:f8:9b:00:00:01", "down"),
        ("eth1", "2c:f8:9b:00:00:02", None),
    ]


def test_adapters_in_a_chassis_that_the_system_does_not_name(make_bmc: MakeBmc, expand: bool) -> None:
    """As on GB200: the cards are chassis of their own; ports of other kinds are no network ports."""
    tree = small_tree()
    board = "/redfish/v1/Chassis/IO_Board_0"
    in_chassis(tree, board)
    adapter = f"{board}/NetworkAdapters/CX7"
    add(tree, board, "NetworkAdapters", resource(adapter, "NetworkAdapter"))
    mac = {"Ethernet": {"AssociatedMACAddresses": ["02:00:00:00:00:07"]}}
    ports = [
        resource(f"{adapter}/Ports/0", "Port", PortProtocol="Ethernet", **mac),
        resource(f"{adapter}/Ports/1", "Port", PortProtocol="NVLink"),
        resource(f"{adapter}/Ports/2", "Port", LinkNetworkTechnology="FibreChannel", **mac),
    ]
    add(tree, adapter, "Ports", *ports)
    assert [item["mac"] for item in hardware(start(make_bmc, tree, expand))["ports"]] == ["02:00:00:00:00:07"]


def test_null_members_pages_and_missing_ids(make_bmc: MakeBmc, expand: bool) -> None:
    tree = small_tree()
    one, two = f"{SYSTEM}/Processors/CPU0", f"{SYSTEM}/Processors/CPU1"
    tree[SYSTEM]["Processors"] = reference(f"{SYSTEM}/Processors")
    tree[f"{SYSTEM}/Processors"] = {
        **collection(f"{SYSTEM}/Processors", one),
        "Members@odata.count": 2,
        "Members@odata.nextLink": f"{SYSTEM}/ProcessorsPage2",
    }
    tree[f"{SYSTEM}/ProcessorsPage2"] = collection(f"{SYSTEM}/Processors", two)
    tree[one] = {"@odata.id": one, "ProcessorType": "CPU", "TotalCores": "64", "Socket": "0", "MaxSpeedMHz": 3500.4}
    tree[two] = {**resource(two, "Processor"), "TotalCores": "many", "TotalThreads": True, "Status": None}
    for name, members in (("Memory", None), ("EthernetInterfaces", [None, {}, 7])):
        tree[SYSTEM][name] = reference(f"{SYSTEM}/{name}")
        tree[f"{SYSTEM}/{name}"] = {**collection(f"{SYSTEM}/{name}"), "Members": members}
    record = hardware(start(make_bmc, tree, expand))
    found = [(item["id"], item["cores"], item["threads"], item["max_speed_mhz"]) for item in record["processors"]]
    assert found == [("CPU0", 64, None, 3500), ("CPU1", None, None, None)]
    assert record["memory"]["dimms"] == [] and record["ports"] == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (7, 7),
        (7.5, 7.5),
        ("7", 7),
        (" 7.5 ", 7.5),
        ("", None),
        ("7 GiB", None),
        ("-7", None),
        ("7x", None),
        (True, None),
    ]
    + [(None, None), ([7], None), (float("nan"), None), (float("inf"), None), ("1e999", None), ("9" * 400, None)],
)
def test_numbers_as_bmcs_write_them(given: Any, expected: float | None) -> None:
    assert number(given) == expected


def test_memory_sizes_as_texts_and_slots_that_are_listed_empty(make_bmc: MakeBmc, expand: bool) -> None:
    tree = small_tree()
    tree[SYSTEM]["MemorySummary"] = {"TotalSystemMemoryGiB": "128"}
    slots = [
        resource(f"{SYSTEM}/Memory/1", "Memory", CapacityMiB="65536", SerialNumber="1A", DeviceLocator="DIMM000"),
        resource(f"{SYSTEM}/Memory/2", "Memory", CapacityMiB=65536, SerialNumber="1B"),
        resource(f"{SYSTEM}/Memory/3", "Memory", CapacityMiB=0, SerialNumber="NO DIMM", PartNumber="N/A"),
        resource(f"{SYSTEM}/Memory/4", "Memory", CapacityMiB=None, Status={"State": "Absent"}),
        resource(f"{SYSTEM}/Memory/5", "Memory", CapacityMiB=0, SerialNumber="BROKEN", Status={"Health": "Critical"}),
    ]
    add(tree, SYSTEM, "Memory", *slots)
    memory = hardware(start(make_bmc, tree, expand))["memory"]
    assert memory["total_mib"] == 131072
    assert [(item["serial_number"], item["capacity_mib"], item["location"]) for item in memory["dimms"]] == [
        ("1A", 65536, "DIMM000"),
        ("1B", 65536, None),
        ("BROKEN", 0, None),
    ]


def other_system(**more: Any) -> Json:
    return resource("/redfish/v1/Systems/Other", "ComputerSystem", PowerState="On", **more)


@pytest.mark.parametrize(
    "other",
    [
        other_system(SystemType="Physical"),  # a baseboard that has no power switch of its own
        other_system(SystemType="DPU", Actions={"#ComputerSystem.Reset": {"target": f"{RESET}x"}}),
        other_system(SystemType="Virtual", Actions={"#ComputerSystem.Reset": {"target": f"{RESET}x"}}),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_the_server_among_other_systems(make_bmc: MakeBmc, expand: bool, other: Json, first: bool) -> None:
    tree = small_tree()
    tree[other["@odata.id"]] = other
    named = [other["@odata.id"], SYSTEM] if first else [SYSTEM, other["@odata.id"]]
    tree["/redfish/v1/Systems"] = collection("/redfish/v1/Systems", *named)
    assert hardware(start(make_bmc, tree, expand))["system"]["serial_number"] == "SN1"


def test_blades_behind_one_service_have_to_be_named(make_bmc: MakeBmc, expand: bool) -> None:
    tree = small_tree()
    blade = other_system(SystemType="Physical", Actions={"#ComputerSystem.Reset": {"target": f"{RESET}x"}})
    tree[blade["@odata.id"]] = blade
    tree["/redfish/v1/Systems"] = collection("/redfish/v1/Systems", SYSTEM, blade["@odata.id"])
    bmc = start(make_bmc, tree, expand)
    with pytest.raises(BmcUnsupported, match="2 systems"):
        hardware(bmc)
    options = {**bmc.options, "address": f"https://{bmc.address}{blade['@odata.id']}"}
    with connect(Options(**options)) as client:
        assert client.hardware()["system"]["power_state"] == "on"


def test_the_bmc_among_other_managers(make_bmc: MakeBmc, expand: bool) -> None:
    """As on Cray blades: controllers of the rack come first, and the system names none."""
    for told in ({"Links": {"ManagerForServers": [reference(f"{SYSTEM}/")]}}, {"ManagerType": "BMC"}):
        tree = small_tree()
        del tree[SYSTEM]["Links"]["ManagedBy"]
        rack = resource("/redfish/v1/Managers/Rack", "Manager", ManagerType="EnclosureManager", FirmwareVersion="9")
        tree[rack["@odata.id"]] = rack
        tree[MANAGER].update(told)
        tree["/redfish/v1/Managers"] = collection("/redfish/v1/Managers", rack["@odata.id"], MANAGER)
        assert hardware(start(make_bmc, tree, expand))["manager"]["firmware_version"] == "1.0"


def test_an_old_bmc_with_next_to_nothing(make_bmc: MakeBmc) -> None:
    """Redfish 1.0: no storage, no firmware list, no adapters, nothing about a chassis."""
    tree = small_tree()
    tree["/redfish/v1"]["RedfishVersion"] = "1.0.1"
    tree[SYSTEM].update(Boot=None, MemorySummary=None, Status=None, UUID="", BiosVersion=None)
    port = resource(f"{SYSTEM}/EthernetInterfaces/1", "EthernetInterface", MACAddress="AC1F6B18A45A", SpeedMbps=0)
    add(tree, SYSTEM, "EthernetInterfaces", port)
    bmc = make_bmc(tree)
    record = hardware(bmc)
    assert record["system"]["uuid"] is None and record["boot"] == {"mode": None, "order": None, "override": None}
    assert [item["mac"] for item in record["ports"]] == ["ac:1f:6b:18:a4:5a"]
    assert record["storage"] == {"controllers": [], "drives": [], "volumes": []} and record["firmware"] == []
    assert len(bmc.calls) == 8, bmc.sent()
