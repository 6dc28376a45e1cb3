# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hardware record of recorded trees, against expectations that are derived in another way.

The reader follows links from the service root. The expectations below come from all resources of a tree by their
type, without following a link.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options, connect
from ansible_collections.kiban.baremetal.tests.unit.plugins import bmc_trees
from ansible_collections.kiban.baremetal.tests.unit.plugins.bmc_trees import Tree
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import FakeBmc

MakeBmc = Callable[..., FakeBmc]
Record = dict[str, Any]

if not bmc_trees.NAMES:
    pytest.skip(f"no recorded BMC trees in {bmc_trees.DIRECTORY}", allow_module_level=True)

# At level 1 of $expand, login and logout included.
MOST_REQUESTS = {
    "dell-r750-idrac9": 14,
    "hpe-dl380a-ilo6": 19,
    "lenovo-sr670v2-xcc": 19,
    "supermicro-821ge-x13": 25,
}


def read(make_bmc: MakeBmc, name: str, expand: str) -> tuple[Record, FakeBmc, Tree]:
    tree = bmc_trees.load(name)
    bmc = make_bmc(tree, expand=expand, any_case=name in bmc_trees.ANY_CASE, read_only=True)
    with connect(Options(**bmc.options)) as client:
        record = client.hardware()
    bad = [note for note in client.notes if "$expand" not in note]
    assert not bad
    return record, bmc, tree


@pytest.fixture(params=bmc_trees.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("expand", ["right", "absent"])
def test_the_record_is_what_a_plain_walk_finds(make_bmc: MakeBmc, name: str, expand: str) -> None:
    record, _bmc, tree = read(make_bmc, name, expand)
    expected = expectation(tree)
    for part, value in expected.items():
        assert record[part] == value, part
    assert set(record) == {*expected, "requests"}


def test_a_bmc_whose_expand_lies_gives_the_same_record(make_bmc: MakeBmc, name: str) -> None:
    """Another lie for each tree: they cost hundreds of requests."""
    expand = ("cut", "short", "error", "ignored")[bmc_trees.NAMES.index(name) % 4]
    record, _bmc, tree = read(make_bmc, name, expand)
    assert {part: record[part] for part in record if part != "requests"} == expectation(tree)


def test_nothing_is_read_twice_and_little_at_all(make_bmc: MakeBmc, name: str) -> None:
    record, bmc, _tree = read(make_bmc, name, "right")
    reads = [line.rstrip("/") for line in bmc.sent("GET")]
    assert len(reads) == len(set(reads)), sorted(line for line in reads if reads.count(line) > 1)
    assert bmc.connections == 1
    assert len(bmc.calls) <= MOST_REQUESTS.get(name, 40), "\n".join(bmc.sent())
    assert record["requests"] == len(bmc.calls) - 1, "all but the logout"


def test_a_status_takes_five_requests(make_bmc: MakeBmc, name: str) -> None:
    tree = bmc_trees.load(name)
    bmc = make_bmc(tree, expand="right", any_case=name in bmc_trees.ANY_CASE, read_only=True)
    with connect(Options(**bmc.options)) as client:
        found = client.status()
    system = one(tree, "ComputerSystem")
    assert found["power_state"] == system["PowerState"].lower()
    assert found["serial_number"] == system["SerialNumber"]
    assert found["media"] == []
    # root, login, systems, media and the logout; one more where only the manager names the drives
    assert len(bmc.calls) <= 6, bmc.sent()


# -- the other way to the same record


def of_type(tree: Tree, kind: str, where: str = "") -> list[Record]:
    """Resources of a type, by URI; settings and capabilities of the same type are not parts."""
    found = []
    for uri, body in sorted(tree.items()):
        if re.match(rf"#{kind}\.", str(body.get("@odata.type"))) and re.search(where, uri, re.IGNORECASE):
            last = uri.rstrip("/").rsplit("/", 1)[-1]
            if last not in ("Settings", "Capabilities", "SD", "Pending") and state(body) != "Absent":
                found.append(body)
    unique = {body["@odata.id"].rstrip("/").lower(): body for body in found}
    return list(unique.values())


def one(tree: Tree, kind: str, where: str = "") -> Record:
    (found,) = of_type(tree, kind, where)
    return found


def ordered(tree: Tree, found: list[Record], *collections: str) -> list[Record]:
    """In the order in which the collections list them."""
    rank: dict[str, int] = {}
    for uri, body in sorted(tree.items()):
        if re.search("|".join(collections), uri.rstrip("/"), re.IGNORECASE):
            for member in [*(body.get("Members") or []), *(body.get("Drives") or [])]:
                rank.setdefault(member["@odata.id"].rstrip("/").lower(), len(rank))
    return sorted(found, key=lambda body: rank.get(body["@odata.id"].rstrip("/").lower(), -1))


def state(body: Record) -> Any:
    status = body.get("Status")
    return status.get("State") if isinstance(status, dict) else None


def said(value: Any) -> Any:
    return (value.strip() or None) if isinstance(value, str) else None


def healthy(body: Record) -> Any:
    status = body.get("Status") or {}
    return said(status.get("Health")) or said(status.get("HealthRollup"))


def label(body: Record) -> Any:
    place = body.get("PhysicalLocation") or body.get("Location") or {}
    part = place.get("PartLocation", {}) if isinstance(place, dict) else {}
    if said(part.get("ServiceLabel")):
        return part["ServiceLabel"]
    if part.get("LocationType") and part.get("LocationOrdinalValue") is not None:
        return f"{part['LocationType']} {part['LocationOrdinalValue']}"
    return None


def expectation(tree: Tree) -> Record:
    system = one(tree, "ComputerSystem", r"/Systems/[^/]+/?$")
    manager = one(tree, "Manager", r"/Managers/[^/]+/?$")
    boot = system["Boot"]
    overridden = boot["BootSourceOverrideEnabled"] != "Disabled" and boot["BootSourceOverrideTarget"] != "None"
    assert not overridden, "these trees have none"
    base = system["@odata.id"].rstrip("/")
    return {
        "system": {
            "manufacturer": said(system["Manufacturer"]),
            "model": said(system["Model"]),
            "sku": said(system["SKU"]),
            "serial_number": said(system["SerialNumber"]),
            "uuid": system["UUID"].lower(),
            "asset_tag": said(system.get("AssetTag")),
            "hostname": said(system.get("HostName")),
            "bios_version": said(system["BiosVersion"]),
            "power_state": system["PowerState"].lower(),
            "health": healthy(system),
        },
        "processors": [
            {
                "id": body["Id"],
                "socket": said(body.get("Socket")),
                "type": body["ProcessorType"],
                "manufacturer": said(body.get("Manufacturer")),
                "model": said(body.get("Model")),
                "cores": body.get("TotalCores"),
                "threads": body.get("TotalThreads"),
                "max_speed_mhz": body.get("MaxSpeedMHz"),
                "serial_number": said(body.get("SerialNumber")),
                "health": healthy(body),
            }
            for body in ordered(tree, of_type(tree, "Processor", rf"^{base}/Processors/[^/]+$"), "/Processors$")
        ],
        "memory": {
            "total_mib": int(system["MemorySummary"]["TotalSystemMemoryGiB"] * 1024),
            "dimms": [
                {
                    "id": body["Id"],
                    "location": label(body) or said(body.get("DeviceLocator")),
                    "manufacturer": said(body.get("Manufacturer")),
                    "part_number": said(body.get("PartNumber")),
                    "serial_number": said(body.get("SerialNumber")),
                    "type": said(body.get("MemoryDeviceType")),
                    "capacity_mib": body["CapacityMiB"],
                    "speed_mhz": body.get("OperatingSpeedMhz"),
                    "health": healthy(body),
                }
                for body in ordered(tree, of_type(tree, "Memory"), "/Memory$")
            ],
        },
        "ports": ports(tree, base),
        "storage": storage(tree),
        "firmware": [
            {
                "id": body["Id"],
                "name": said(body["Name"]),
                "version": said(body.get("Version")),
                "updateable": body.get("Updateable"),
                "state": state(body),
            }
            for body in ordered(
                tree, of_type(tree, "SoftwareInventory", "/FirmwareInventory/[^/]+$"), "/FirmwareInventory$"
            )
        ],
        "boot": {
            "mode": boot["BootSourceOverrideMode"].lower(),
            "order": boot["BootOrder"],
            "override": {"target": "none", "enabled": None},
        },
        "manager": {
            "id": manager["Id"],
            "type": said(manager.get("ManagerType")),
            "model": said(manager.get("Model")),
            "firmware_version": said(manager["FirmwareVersion"]),
            "uuid": manager["UUID"].lower() if manager.get("UUID") else None,
            "health": healthy(manager),
        },
    }


def ports(tree: Tree, base: str) -> list[Record]:
    adapters = {
        body["Ethernet"]["AssociatedMACAddresses"][0].lower(): body
        for body in of_type(tree, "Port", "/NetworkAdapters/")
        if body.get("Ethernet", {}).get("AssociatedMACAddresses")
    }
    neighbours = {
        body["FQDD"]: body
        for uri, body in tree.items()
        if "/DellSwitchConnections/" in uri and not body["SwitchConnectionID"].startswith(("No ", "Not "))
    }
    found = []
    interfaces = of_type(tree, "EthernetInterface", rf"^{base}/EthernetInterfaces/")
    for body in ordered(tree, interfaces, rf"{base}/EthernetInterfaces$"):
        mac = (body["MACAddress"] or "").lower() or None
        adapter = adapters.get(mac, {})
        speed = body.get("SpeedMbps")
        if speed is None and adapter.get("CurrentSpeedGbps") is not None:
            speed = int(adapter["CurrentSpeedGbps"] * 1000)
        lldp = None
        heard = adapter.get("Ethernet", {}).get("LLDPReceive", {})
        if heard.get("ChassisId") or heard.get("PortId"):
            lldp = {"chassis_id": heard["ChassisId"], "port_id": heard["PortId"], "system_name": None}
        if body["Id"] in neighbours:
            row = neighbours[body["Id"]]
            lldp = {
                "chassis_id": row["SwitchConnectionID"],
                "port_id": row["SwitchPortConnectionID"],
                "system_name": None,
            }
        link = {"LinkUp": "up", "LinkDown": "down", "NoLink": "down"}
        found.append(
            {
                "id": body["Id"],
                "name": said(body["Name"]),
                "mac": mac,
                "speed_mbps": speed,
                "link": link.get(body.get("LinkStatus")) or link.get(adapter.get("LinkStatus")),
                "lldp": lldp,
                "health": healthy(body) or healthy(adapter),
            }
        )
    return found


def storage(tree: Tree) -> Record:
    controllers: list[Record] = []
    drives: list[Record] = []
    volumes: list[Record] = []
    for unit in ordered(tree, of_type(tree, "Storage", "/Storage/[^/]+$"), "/Storage$"):
        uri = unit["@odata.id"].rstrip("/")
        inside = [body for body in unit.get("StorageControllers", []) if state(body) != "Absent"]
        below = of_type(tree, "StorageController", rf"^{re.escape(uri)}/Controllers/")
        # Where the two places differ, the one that says more counts.
        bodies = inside if inside and all(said(body.get("Name")) for body in inside) else below or inside
        for body in bodies:
            number = body.get("MemberId") or body.get("Id")
            controllers.append(
                {
                    "id": f"{unit['Id']}/{number}" if len(bodies) > 1 else unit["Id"],
                    "storage": unit["Id"],
                    "name": said(body.get("Name")) or said(unit["Name"]),
                    "manufacturer": said(body.get("Manufacturer")),
                    "model": said(body.get("Model")),
                    "serial_number": said(body.get("SerialNumber")),
                    "firmware_version": said(body.get("FirmwareVersion")),
                    "protocols": body.get("SupportedDeviceProtocols", []),
                    "health": healthy(body),
                }
            )
        for reference in unit.get("Drives", []):
            body = next(b for u, b in tree.items() if u.lower() == reference["@odata.id"].rstrip("/").lower())
            if state(body) != "Absent":
                drives.append(drive(body, unit["Id"]))
        for body in ordered(tree, of_type(tree, "Volume", rf"^{re.escape(uri)}/Volumes/[^/]+$"), "/Volumes$"):
            volumes.append(
                {
                    "id": body["Id"],
                    "name": said(body.get("DisplayName")) or said(body["Name"]),
                    "raid_type": body.get("RAIDType"),
                    "volume_type": body.get("VolumeType"),
                    "capacity_bytes": body["CapacityBytes"],
                    "health": healthy(body),
                    "controller": unit["Id"],
                    "drives": [item["@odata.id"].rsplit("/", 1)[-1] for item in body["Links"]["Drives"]],
                }
            )
    assert len(drives) == len(of_type(tree, "Drive")), "each drive belongs to one storage"
    assert len(volumes) == len(of_type(tree, "Volume"))
    return {"controllers": controllers, "drives": drives, "volumes": volumes}


def drive(body: Record, unit: str) -> Record:
    return {
        "id": body["Id"],
        "name": said(body["Name"]),
        "serial_number": said(body.get("SerialNumber")),
        "manufacturer": said(body.get("Manufacturer")),
        "model": said(body.get("Model")),
        "revision": said(body.get("Revision")),
        "capacity_bytes": body.get("CapacityBytes"),
        "protocol": body.get("Protocol"),
        "media_type": body.get("MediaType"),
        "location": label(body),
        "health": healthy(body),
        "failure_predicted": body.get("FailurePredicted"),
        "controller": unit,
    }
