# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hardware record of trees that nobody has seen.

Servers are made up first, then told by a tree in one of the many ways that makers have; the record has to be the
server. And trees in which anything is missing, null or of a wrong type: the record keeps its schema, and nothing is in
it that the tree does not say.
"""

from __future__ import annotations

import copy
import json
import math
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.hardware import SUBSET_CHOICES
from ansible_collections.kiban.baremetal.plugins.modules import bmc_info
from ansible_collections.kiban.baremetal.tests.simulator import synthetic
from ansible_collections.kiban.baremetal.tests.simulator.profiles import PROFILES
from ansible_collections.kiban.baremetal.tests.unit.plugins import bmc_trees, memory_bmc
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import Json, collection, reference, resource

SCHEMA = yaml.safe_load(bmc_info.RETURN)["hardware"]
TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool, "dict": dict, "list": list}
ROOT = "/redfish/v1"
EXPAND = {"NoLinks": True, "ExpandAll": True, "Links": True, "Levels": True, "MaxLevels": 1}


def read(tree: Json, expand: bool) -> Json:
    root = {name: value for name, value in tree[ROOT].items() if name != "ProtocolFeaturesSupported"}
    if expand:
        root["ProtocolFeaturesSupported"] = {"ExpandQuery": EXPAND}
    with memory_bmc.client({**tree, ROOT: root}) as bmc:
        return bmc.hardware(SUBSET_CHOICES)


# -- servers, and the ways to tell them


class Maker:
    """One server, and a tree that tells it. What it decides by chance is kept in `ways`, for who reads a failure."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ways: dict[str, str] = {}
        name = self.choose("name", "1", "System.Embedded.1", "Self", "Node0", "437XR1138R2", "with space")
        self.system, self.chassis = f"{ROOT}/Systems/{name}", f"{ROOT}/Chassis/{name}"
        self.manager = f"{ROOT}/Managers/BMC"
        self.tree: Json = {}
        self.serial = 0

    def choose(self, what: str, *ways: str) -> str:
        self.ways[what] = self.random.choice(ways)
        return self.ways[what]

    def count(self, most: int = 4) -> range:
        return range(self.random.randint(0, most))

    def new(self, prefix: str) -> str:
        self.serial += 1
        return f"{prefix}{self.serial:04}"

    def mac(self) -> str:
        self.serial += 1
        return f"02:00:00:00:{self.serial >> 8:02x}:{self.serial & 255:02x}"

    def written(self, mac: str) -> str:
        """An address as this or that BMC writes it."""
        digits = mac.replace(":", "")
        return self.random.choice([mac, mac.upper(), digits, mac.replace(":", "-"), digits.upper()])

    def told(self, number: int) -> Any:
        """A number as this or that BMC writes it."""
        return self.random.choice([number, number, str(number), float(number)])

    def put(self, body: Json) -> str:
        """A resource, among things that do not belong to it."""
        uri = str(body["@odata.id"])
        if self.random.random() < 0.3:
            body["Oem"] = {"Maker": {"SerialNumber": "not this", "Drives": [reference(f"{ROOT}/nowhere")]}}
        self.tree[uri] = body
        return uri

    def link(self, uri: str) -> Json:
        return reference(uri + "/" if self.ways.get("slashes") == "trailing" else uri)

    def gather(self, parent: str, name: str, members: list[str], uri: str = "") -> None:
        """A collection that the parent names, in one page or more, with members that are not there."""
        uri = uri or f"{parent}/{name}"
        self.tree[parent][name] = self.link(uri)
        cut = self.random.randint(0, len(members)) if self.ways["pages"] == "two" else len(members)
        self.tree[uri] = {**collection(uri, *members[:cut]), "Members@odata.count": len(members)}
        if cut < len(members):
            more = self.random.choice([f"{uri}/more", f"{uri}?$skip={cut}"])
            self.tree[uri]["Members@odata.nextLink"] = more
            self.tree[more] = {**collection(uri, *members[cut:]), "Members@odata.count": len(members)}
        if self.random.random() < 0.2:
            self.tree[uri]["Members"].append(self.random.choice([None, {}, {"@odata.id": None}, "x"]))
        for body in (self.tree[member] for member in members):
            if self.ways["types"] == "none":
                body.pop("@odata.type", None)

    def absent(self, uri: str, kind: str) -> list[str]:
        """An empty place, that some BMCs list."""
        if self.random.random() < 0.6:
            return []
        return [self.put(resource(uri, kind, Status={"State": "Absent"}))]

    def make(self) -> Json:
        """The tree; what `expected` is comes back."""
        self.choose("slashes", "none", "trailing")
        self.choose("pages", "one", "one", "two")
        self.choose("types", "given", "none")
        self.put(resource(ROOT, "ServiceRoot", RedfishVersion="1.6.0", UUID=None))
        self.put(resource(self.system, "ComputerSystem", PowerState="On", SerialNumber=self.new("SN")))
        self.tree[self.system]["Actions"] = {"#ComputerSystem.Reset": {"target": f"{self.system}/Actions/Reset"}}
        self.tree[self.system]["Links"] = {
            "Chassis": [self.link(self.chassis)],
            "ManagedBy": [self.link(self.manager)],
        }
        self.put(resource(self.chassis, "Chassis"))
        self.put(resource(self.manager, "Manager", ManagerType="BMC", FirmwareVersion="1.2.3"))
        self.gather(ROOT, "Systems", [*self.others(), self.system])
        shelf = [self.put(resource(f"{ROOT}/Chassis/Shelf", "Chassis"))] if self.random.random() < 0.5 else []
        self.gather(ROOT, "Chassis", self.random.choice([[*shelf, self.chassis], [self.chassis, *shelf]]))
        self.gather(ROOT, "Managers", [self.manager])
        processors, dimms = self.processors(), self.dimms()
        total = sum(size for _serial, size in dimms) or None
        if dimms and self.random.random() < 0.5:
            self.tree[self.system]["MemorySummary"] = {"TotalSystemMemoryGiB": total and total / 1024}
        return {
            "serial": self.tree[self.system]["SerialNumber"],
            "processors": processors,
            "dimms": dimms,
            "total_mib": total,
            "ports": sorted(self.ports()),
            "storage": self.storage(),
        }

    def others(self) -> list[str]:
        """Computers that are no servers."""
        kind = self.choose("beside", "nothing", "Virtual", "DPU", "baseboard")
        if kind == "nothing":
            return []
        body = resource(f"{ROOT}/Systems/Other", "ComputerSystem", PowerState="On", SystemType=kind)
        if kind == "baseboard":
            body["SystemType"] = "Physical"
        else:
            body["Actions"] = {"#ComputerSystem.Reset": {"target": f"{ROOT}/Systems/Other/Actions/Reset"}}
        return [self.put(body)]

    def processors(self) -> list[tuple[Any, ...]]:
        found, members = [], []
        for n in self.count():
            uri, cores = f"{self.system}/Processors/CPU{n}", self.random.choice([8, 64])
            members.append(self.put(resource(uri, "Processor", ProcessorType="CPU", TotalCores=self.told(cores))))
            found.append((f"CPU{n}", "CPU", cores))
            members += self.absent(f"{self.system}/Processors/Empty{n}", "Processor")
        if members or self.random.random() < 0.5:
            self.gather(self.system, "Processors", members)
        return found

    def dimms(self) -> list[tuple[str, int]]:
        found, members = [], []
        for n in self.count():
            size, serial = self.random.choice([16384, 65536]), self.new("DIMM")
            body = resource(f"{self.system}/Memory/{n}", "Memory", SerialNumber=serial, CapacityMiB=self.told(size))
            members.append(self.put(body))
            found.append((serial, size))
            members += self.absent(f"{self.system}/Memory/Empty{n}", "Memory")
        if members or self.random.random() < 0.5:
            self.gather(self.system, "Memory", members)
        return found

    # -- ports

    def ports(self) -> list[tuple[str, str, int]]:
        """(mac, link, Mbit/s)"""
        truth = [(self.mac(), *self.random.choice([("up", 25000), ("down", 0)])) for _ in self.count()]
        how = self.choose("ports", "interfaces", "interface ports", "chassis", "old", "functions", "linked adapter")
        if how == "interfaces":
            self.gather(
                self.system,
                "EthernetInterfaces",
                [
                    self.put(
                        resource(
                            f"{self.system}/EthernetInterfaces/NIC{n}",
                            "EthernetInterface",
                            MACAddress=self.written(mac),
                            LinkStatus="LinkUp" if state == "up" else self.random.choice(["LinkDown", "NoLink"]),
                            SpeedMbps=self.told(speed),
                        )
                    )
                    for n, (mac, state, speed) in enumerate(truth)
                ],
            )
            return truth
        adapter = f"{self.system if how == 'interface ports' else self.chassis}/NetworkAdapters/A"
        self.put(resource(adapter, "NetworkAdapter"))
        if how == "interface ports":
            self.gather(self.system, "NetworkInterfaces", [adapter], f"{self.system}/NetworkInterfaces")
        elif how == "linked adapter":
            interface = resource(f"{self.system}/NetworkInterfaces/1", "NetworkInterface")
            self.gather(
                self.system,
                "NetworkInterfaces",
                [self.put({**interface, "Links": {"NetworkAdapter": self.link(adapter)}})],
            )
        else:
            self.gather(self.chassis, "NetworkAdapters", [adapter])
        members, functions = [], []
        for n, (mac, state, speed) in enumerate(truth):
            uri = f"{adapter}/{'NetworkPorts' if how == 'old' else 'Ports'}/P{n}"
            body = resource(uri, "NetworkPort" if how == "old" else "Port", LinkStatus=state.title())
            if how == "old":
                body.update(AssociatedNetworkAddresses=[self.written(mac)], CurrentLinkSpeedMbps=self.told(speed))
            else:
                body.update(CurrentSpeedGbps=speed / 1000, LinkStatus="LinkUp" if state == "up" else "LinkDown")
                if how == "functions":
                    place = self.random.choice(["PhysicalPortAssignment", "PhysicalNetworkPortAssignment"])
                    function = resource(f"{adapter}/NetworkDeviceFunctions/F{n}", "NetworkDeviceFunction")
                    name = self.random.choice(["MACAddress", "PermanentMACAddress"])
                    function["Ethernet"] = {name: self.written(mac)}
                    functions.append(self.put({**function, "Links": {place: self.link(uri)}}))
                else:
                    body["Ethernet"] = {"AssociatedMACAddresses": [self.written(mac)]}
            members.append(self.put(body))
        self.gather(adapter, "NetworkPorts" if how == "old" else "Ports", members)
        if functions:
            self.gather(adapter, "NetworkDeviceFunctions", functions)
        return truth

    # -- storage

    def storage(self) -> Json:
        how = self.choose("drives", "below", "bays", "collection", "chassis", "chassis links", "simple", "none")
        truth: Json = {"drives": [], "controllers": [], "volumes": []}
        bodies = [
            {"SerialNumber": self.new("DRV"), "CapacityBytes": self.told(10**12 + n), "Protocol": "NVMe"}
            for n in self.count(6)
        ]
        if how == "none" or not bodies:
            return truth
        if how == "simple":
            unit = resource(f"{self.system}/SimpleStorage/1", "SimpleStorage", Name="AHCI")
            unit["Devices"] = [{"Name": f"Disk {n}", **body} for n, body in enumerate(bodies)]
            unit["Devices"].append({"Name": "Bay", "Status": {"State": "Absent"}})
            self.gather(self.system, "SimpleStorage", [self.put(unit)])
            truth["controllers"] = [("1", None)]
            truth["drives"] = [(body["SerialNumber"], "1") for body in bodies]
            return truth
        if how.startswith("chassis"):
            uris = self.bays(bodies)
            if how == "chassis":
                self.gather(self.chassis, "Drives", uris)
            else:
                self.tree[self.chassis]["Links"] = {"Drives": [self.link(uri) for uri in uris]}
            truth["drives"] = [(body["SerialNumber"], None) for body in bodies]
            return truth
        units = []
        cut = self.random.randint(0, len(bodies))
        for name, part in (("RAID.1", bodies[:cut]), ("2", bodies[cut:])):
            units.append(self.unit(f"{self.system}/Storage/{name}", how, part, truth))
        if how == "bays":
            self.gather(self.chassis, "Drives", [uri for uri in self.tree if uri.startswith(f"{self.chassis}/Drives/")])
        self.gather(self.system, "Storage", units)
        return truth

    def bays(self, bodies: list[Json], place: str = "") -> list[str]:
        """Drives, and an empty bay."""
        place = place or f"{self.chassis}/Drives"
        found = [self.put(resource(f"{place}/{b['SerialNumber']}", "Drive", **b)) for b in bodies]
        return [*found, *self.absent(f"{place}/Empty{len(self.tree)}", "Drive")]

    def unit(self, uri: str, how: str, bodies: list[Json], truth: Json) -> str:
        """One storage subsystem with its controllers, drives and volumes."""
        name = uri.rsplit("/", 1)[-1]
        self.put(resource(uri, "Storage"))
        uris = self.bays(bodies, "" if how == "bays" else f"{uri}/Drives")
        if how == "collection":
            self.gather(uri, "Drives", uris)
        else:
            self.tree[uri]["Drives"] = [self.link(drive) for drive in uris]
        truth["drives"] += [(body["SerialNumber"], name) for body in bodies]
        body = {"Name": "Controller", "Model": "C1", "SerialNumber": self.new("CTL")}
        kind = self.choose(f"controllers of {name}", "array", "collection", "thin array", "none")
        if kind != "none":
            truth["controllers"].append((name, body["SerialNumber"]))
        if kind == "array":
            inline = {"@odata.id": f"{uri}#/StorageControllers/0", "MemberId": "0", **body}
            self.tree[uri]["StorageControllers"] = [inline]
        if kind == "thin array":
            self.tree[uri]["StorageControllers"] = [{"@odata.id": f"{uri}#/StorageControllers/0", "MemberId": "0"}]
        if kind in ("collection", "thin array"):
            member = resource(f"{uri}/Controllers/0", "StorageController", **body)
            self.gather(uri, "Controllers", [self.put(member)])
        if bodies and self.random.random() < 0.5:
            volume = resource(f"{uri}/Volumes/1", "Volume", Name=self.new("VOL"), RAIDType="RAID1")
            volume["Links"] = {"Drives": [self.link(uris[0])]}
            self.gather(uri, "Volumes", [self.put(volume)])
            truth["volumes"].append((volume["Name"], name, [bodies[0]["SerialNumber"]]))
        return uri


def said(record: Json) -> Json:
    """What `Maker.make` decided, from a record."""
    storage = record["storage"]
    return {
        "serial": record["system"]["serial_number"],
        "processors": [(item["id"], item["type"], item["cores"]) for item in record["processors"]],
        "dimms": [(item["serial_number"], item["capacity_mib"]) for item in record["memory"]["dimms"]],
        "total_mib": record["memory"]["total_mib"],
        "ports": sorted((item["mac"], item["link"], item["speed_mbps"]) for item in record["ports"]),
        "storage": {
            "drives": [(item["serial_number"], item["controller"]) for item in storage["drives"]],
            "controllers": [(item["storage"], item["serial_number"]) for item in storage["controllers"]],
            "volumes": [(item["name"], item["controller"], item["drives"]) for item in storage["volumes"]],
        },
    }


@pytest.mark.parametrize("expand", [False, True], ids=["plain", "expand"])
@pytest.mark.parametrize("first", range(0, 400, 50))
def test_a_server_that_was_made_up(first: int, expand: bool) -> None:
    for seed in range(first, first + 50):
        maker = Maker(seed)
        truth = maker.make()
        record = read(maker.tree, expand)
        assert said(record) == truth, f"seed {seed}: {maker.ways}"
        assert not list(violations(record, SCHEMA))


def test_all_ways_are_met() -> None:
    met: dict[str, set[str]] = {}
    for seed in range(400):
        maker = Maker(seed)
        maker.make()
        for what, way in maker.ways.items():
            met.setdefault(what, set()).add(way)
    assert {what: len(ways) for what, ways in met.items()} == {
        **{"name": 6, "slashes": 2, "pages": 2, "types": 2, "beside": 4, "ports": 6, "drives": 7},
        **{"controllers of RAID.1": 4, "controllers of 2": 4},
    }


# -- trees in which anything is wrong

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3.7, math.nan, math.inf, 10**30, "", " ", "x", "0x10", "7", "\ud83d"),
    *([], {}, [None], [[]], [{}], [1, "a"], [[[]]], {"State": 7}, {"Health": []}, {"Name": {"a": 1}}),
    *({"@odata.id": uri} for uri in (None, 7, "", "/", "relative", f"{ROOT}/nowhere", "http://[bad", "//other/x")),
    *({"@odata.id": uri} for uri in (f"{ROOT}/Systems", ROOT, f"{ROOT}/a b\r\nHost: c", f"{ROOT}/\u00e4\ud83d", "#/0")),
    *([{"@odata.id": uri}] for uri in (f"{ROOT}/Systems", f"{ROOT}/Chassis", f"{ROOT}/nowhere", None)),
)


def spots(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from spots(inner)


def spoiled(tree: Json, seed: str) -> Json:
    """The same tree with up to forty things wrong."""
    rng = random.Random(seed)
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 40)):
        uri = rng.choice(sorted(tree))
        if rng.random() < 0.02:
            tree[uri] = rng.choice([None, [], "x", 7, {}])
        elif isinstance(tree[uri], dict) and tree[uri]:
            place, key = rng.choice(list(spots(tree[uri])))
            if rng.random() < 0.3:
                del place[key]
            else:
                place[key] = copy.deepcopy(rng.choice(ODD))
    return tree


def violations(value: Any, schema: Json, path: str = "hardware") -> Iterator[str]:
    """Where a value is not of the documented schema; null is allowed for what is no list of parts."""
    kind = schema["type"]
    if value is None and "contains" not in schema:
        return
    if value is None and path.rsplit(".", 1)[-1] in ("lldp", "manager"):
        return
    if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
        yield f"{path}: {value!r} is no {kind}"
        return
    for number, item in enumerate(value if kind == "list" else ()):
        if "contains" in schema:
            yield from violations(item, {**schema, "type": "dict"}, f"{path}[{number}]")
        elif not isinstance(item, TYPES[schema["elements"]]):
            yield f"{path}[{number}]: {item!r} is no {schema['elements']}"
    if kind == "dict" and "contains" in schema:
        if set(value) != set(schema["contains"]):
            yield f"{path} has {sorted(value)}"
        for name in set(value) & set(schema["contains"]):
            yield from violations(value[name], schema["contains"][name], f"{path}.{name}")


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


# Words of the schema, for what a BMC says in its own.
WORDS = {"up", "down", "none", "once", "continuous", "disk", "cd", "pxe", "uefi_http", "powering_on", "powering_off"}
WORDS |= {"c", "rpm", "v", "w", "a", "%", "j", "kwh", "hz", "celsius"}


def invented(record: Json, tree: Json) -> list[Any]:
    """What is in the record and not in the tree."""
    texts, numbers = set(WORDS), set()
    for leaf in [*leaves(tree), *tree]:
        if isinstance(leaf, str):
            word = leaf.strip().lower()
            texts |= {word, word.rstrip("/").rsplit("/", 1)[-1], re.sub(r"[^0-9a-f]", "", word)}
            if re.fullmatch(r"\d+(\.\d+)?", word):
                numbers.add(float(word))
        elif isinstance(leaf, int | float):
            numbers.add(leaf)
    wrong: list[Any] = []
    total = record["memory"]["total_mib"]
    sizes = [dimm["capacity_mib"] for dimm in record["memory"]["dimms"] if dimm["capacity_mib"]]
    for leaf in leaves({**record, "requests": None}):
        if isinstance(leaf, str):
            word = leaf.lower()
            parts = {word, word.replace(":", ""), word.rpartition("/")[2], word.rpartition(" ")[0]}
            if not parts & texts:
                wrong.append(leaf)
        elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
            told = {n for n in numbers if math.isfinite(n)}
            near = any(round(n * unit) == round(leaf) for n in told for unit in (1, 1000, 1024))
            if leaf not in told and not near and not (leaf == total == sum(sizes)):
                wrong.append(leaf)
    return wrong


BASES = sorted(PROFILES)


@pytest.mark.parametrize("base", [*BASES, "made up"])
def test_a_tree_in_which_anything_is_wrong(base: str) -> None:
    refused = 0
    for seed in range(60):
        if base == "made up":
            maker = Maker(seed)
            maker.make()
            whole = maker.tree
        else:
            whole = synthetic.build(synthetic.Shape(**dict(PROFILES[base].shape)))
        tree = spoiled(whole, f"{base} {seed}")
        try:
            record = read(tree, expand=seed % 2 == 1) if isinstance(tree[ROOT], dict) else None
        except BmcError:
            refused += 1  # the way to the system itself is broken
            continue
        if record is not None:
            json.dumps(record)
            assert not list(violations(record, SCHEMA)), seed
            assert not invented(record, tree), seed
    assert refused < 25, "most of a broken tree can be told"


@pytest.mark.parametrize("name", bmc_trees.NAMES)
def test_a_recorded_tree_in_which_anything_is_wrong(name: str) -> None:
    whole = {uri: body for uri, body in bmc_trees.load(name).items() if not re.search(NOT_READ, uri)}
    for seed in range(4):
        tree = spoiled(whole, f"{name} {seed}")
        try:
            record = read(tree, expand=seed % 2 == 1)
        except BmcError:
            continue
        assert not list(violations(record, SCHEMA)), seed
        assert not invented(record, tree), seed


NOT_READ = "LogServices|Registries|JsonSchemas|SchemaStore|Certificates|AccountService|TaskService|/Assembly"
