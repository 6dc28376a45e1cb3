# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""The hardware record: one schema for all BMCs. What a BMC does not say is null; nothing is made up.

Each `*_of` is a pure function from a Redfish resource to a part of the record. `Hardware` reads the resources, with
as few requests as the BMC allows. The schema is documented in modules/bmc_info.py.
"""

from __future__ import annotations

import math
import re
import typing as t

from .boot import parse as parse_override
from .power import power_state
from .resource import Json, Resources, as_list, complete, dig, link, links, text

__all__ = ("SUBSETS", "SUBSET_CHOICES", "Hardware")

SUBSETS = ("system", "processors", "memory", "ports", "lldp", "storage", "firmware", "boot", "manager")
# What is read only where it is named.
SUBSET_CHOICES = (*SUBSETS, "sensors")

_LINK = {"linkup": "up", "up": "up", "linkdown": "down", "down": "down", "nolink": "down"}


class Hardware:
    """Reads the record of one server."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._linked_chassis: list[Json] | None = None
        self._every_chassis: list[Json] | None = None

    def read(self, subset: t.Collection[str] = SUBSETS) -> dict[str, t.Any]:
        """The record; parts outside of `subset` are null."""
        system = self._resources.system()
        readers: dict[str, t.Callable[[], t.Any]] = {
            "system": lambda: system_of(system),
            "processors": lambda: self._collection(system, "Processors", processor_of),
            "memory": lambda: self._memory(system),
            "ports": lambda: self._ports(system, "lldp" in subset),
            "storage": lambda: self._storage(system),
            "firmware": self._firmware,
            "boot": lambda: boot_of(system),
            "manager": self._manager,
        }
        record: dict[str, t.Any] = dict.fromkeys(readers)
        for name, reader in readers.items():
            if name in subset:
                known = self._resources.known()
                record[name] = reader()
                # A thousand servers are read side by side: only what other parts need stays in memory.
                self._resources.forget_all_but(known)
        return record

    def _collection(self, parent: Json, name: str, convert: t.Callable[[Json], Json]) -> list[Json]:
        return [convert(body) for body in self._resources.members(link(parent, name)) if is_present(body)]

    def _memory(self, system: Json) -> Json:
        dimms = [
            dimm_of(body)
            for body in self._resources.members(link(system, "Memory"))
            if is_present(body) and not _empty(body, "CapacityMiB", "SerialNumber", "PartNumber")
        ]
        total = number(dig(system, "MemorySummary", "TotalSystemMemoryGiB"))
        sizes = [dimm["capacity_mib"] for dimm in dimms if dimm["capacity_mib"] is not None]
        # Some BMCs leave the summary at null or 0 while the server is off.
        total_mib = round(total * 1024) if total else (sum(sizes) if sizes else None)
        return {"total_mib": total_mib, "dimms": dimms}

    # -- network ports

    def _ports(self, system: Json, with_lldp: bool) -> list[Json]:
        interfaces = self._resources.members(link(system, "EthernetInterfaces"))
        ports = [port_of(body) for body in interfaces if is_present(body)]
        table = self._resources.behaviour.lldp
        if table:
            return self._with_lldp_table(ports, system, table) if with_lldp else ports
        if with_lldp or not ports:
            self._with_adapters(ports, system, fill=not ports)
        return ports

    def _with_lldp_table(self, ports: list[Json], system: Json, table: t.Mapping[str, t.Any]) -> list[Json]:
        place = f"{_uri(system)}{table['path']}"
        rows = {text(row.get(table["port"])): row for row in self._resources.members(place, guessed=True)}
        for port in ports:
            row = rows.get(port["id"], {})
            chassis, name = text(row.get(table["chassis_id"])), text(row.get(table["port_id"]))
            if chassis and chassis not in table["empty"]:
                port["lldp"] = {"chassis_id": chassis, "port_id": name, "system_name": None}
        return ports

    def _with_adapters(self, ports: list[Json], system: Json, fill: bool) -> None:
        """Complete the ports by what their adapters say, the only source where a system lists no interfaces."""
        by_mac = {port["mac"]: port for port in ports if port["mac"]}
        for adapter in self._adapters(system, anywhere=fill):
            for found in self._ports_of(adapter, fill):
                known = by_mac.get(found["mac"])
                if known is not None:
                    for name, value in found.items():
                        if known[name] is None and name not in ("id", "name"):
                            known[name] = value
                elif fill:
                    ports.append(found)
                    by_mac.update({found["mac"]: found} if found["mac"] else {})

    def _adapters(self, system: Json, anywhere: bool) -> list[Json]:
        """Network adapters: through the system where it lists them, else through its chassis, else through any."""
        found = self._resources.members(link(system, "NetworkInterfaces"))
        if any(link(item, "Ports") or link(item, "NetworkPorts") for item in found):
            return found
        named = [link(item.get("Links"), "NetworkAdapter") for item in found]
        found = [body for body in (self._resources.maybe(uri) for uri in named) if body is not None]
        for every in (False, anywhere):
            found = found or [
                adapter
                for chassis in self._chassis(system, every)
                for adapter in self._resources.members(link(chassis, "NetworkAdapters"))
            ]
        return found

    def _ports_of(self, adapter: Json, fill: bool) -> list[Json]:
        """The ports of one adapter; where they tell no address, its functions do."""
        # NetworkPorts is what Ports was called before. It knows no neighbours, so only who needs ports reads it.
        uri = link(adapter, "Ports") or (link(adapter, "NetworkPorts") if fill else None)
        bodies = [body for body in self._resources.members(uri) if is_present(body) and _may_be_network(body)]
        found = [adapter_port_of(body) for body in bodies]
        if fill and not any(port["mac"] for port in found):
            by_uri = {str(body.get("@odata.id")).rstrip("/"): port for body, port in zip(bodies, found)}
            for body in self._resources.members(link(adapter, "NetworkDeviceFunctions")):
                address = mac(dig(body, "Ethernet", "PermanentMACAddress")) or mac(dig(body, "Ethernet", "MACAddress"))
                if not is_present(body) or address is None:
                    continue
                place = [
                    link(body.get("Links"), name)
                    for name in ("PhysicalNetworkPortAssignment", "PhysicalPortAssignment")
                ]
                port = by_uri.get(next((uri.rstrip("/") for uri in place if uri), ""))
                if port is None:
                    found.append({**adapter_port_of(body), "mac": address})
                elif port["mac"] is None:
                    port["mac"] = address
        return found

    def _chassis(self, system: Json, every: bool) -> list[Json]:
        """The chassis that the system names; or every one, if the BMC is not asked for one of several systems."""
        if self._linked_chassis is None:
            named = [self._resources.maybe(uri) for uri in links(dig(system, "Links", "Chassis"))]
            self._linked_chassis = [body for body in named if body is not None]
        if not every or self._resources.session.transport.endpoint.system:
            return self._linked_chassis
        if self._every_chassis is None:
            self._every_chassis = self._resources.members(link(self._resources.session.root, "Chassis"))
        return self._every_chassis

    # -- storage

    def _storage(self, system: Json) -> Json:
        controllers: list[Json] = []
        drives: dict[str, Json] = {}
        volumes: dict[str, Json] = {}
        # Some call it Storages.
        for storage in self._resources.members(link(system, "Storage") or link(system, "Storages")):
            if not is_present(storage):
                continue
            whole = storage
            if not self._drives_at_hand(system, storage):
                whole = self._resources.with_children(str(storage["@odata.id"]), "Drives")
            found = self._controllers(whole)
            controllers.extend(found)
            name = ident(storage)
            for body in self._drive_bodies(whole):
                _add_drive(drives, body, name)
            if not _cannot_have_volumes(whole):
                for body in self._resources.members(link(whole, "Volumes")):
                    volumes.setdefault(_uri(body), volume_of(body, name))
        for body in self._drives_of_chassis(system, drives):
            _add_drive(drives, body, ident({"@odata.id": link(body.get("Links"), "Storage")}))
        found = list(drives.values())
        if not found:
            simple, found = self._simple_storage(system)
            controllers = controllers or simple
        return {"controllers": controllers, "drives": found, "volumes": list(volumes.values())}

    def _drives_at_hand(self, system: Json, storage: Json) -> bool:
        """Whether the drives of this storage need no request of its own. One to the chassis they are in serves all."""
        named = links(storage.get("Drives"))
        for place in self._own_bays(system, named):
            self._resources.members(place)
        known = self._resources.known()
        return all(uri.rstrip("/") in known for uri in named)

    def _drives_of_chassis(self, system: Json, known: t.Collection[str]) -> list[Json]:
        """Drives that no storage lists, such as those without a RAID controller.

        Where the known ones are in the chassis of the server, others are beside them; where none is known, any chassis
        may have some.
        """
        found = [body for place in self._own_bays(system, known) for body in self._resources.members(place)]
        for every in (False, True) if not known else ():
            for chassis in self._chassis(system, every) if not found else ():
                found += self._resources.members(link(chassis, "Drives"))
                if not link(chassis, "Drives"):
                    named = (self._resources.maybe(uri) for uri in links(dig(chassis, "Links", "Drives")))
                    found += [body for body in named if body is not None]
        return found

    def _own_bays(self, system: Json, drives: t.Iterable[str]) -> list[str]:
        """URIs of the Drives of the server's chassis, as far as these drives are in them."""
        own = {uri.rstrip("/").lower() for uri in links(dig(system, "Links", "Chassis"))}
        parents = dict.fromkeys(uri.rpartition("/Drives/")[0] for uri in drives)
        return [f"{uri}/Drives" for uri in parents if uri.lower() in own]

    def _drive_bodies(self, storage: Json) -> list[Json]:
        found = self._resources.members(link(storage, "Drives"))
        for item in as_list(storage.get("Drives")):
            body = item if complete(item) else self._resources.maybe(text(item.get("@odata.id")))
            if body is not None:
                found.append(body)
        return found

    def _controllers(self, storage: Json) -> list[Json]:
        """Controllers inside the resource where they tell enough, else those of its collection."""
        bodies = [body for body in as_list(storage.get("StorageControllers")) if is_present(body)]
        thin = not bodies or any(not text(body.get("Name")) or not text(body.get("Model")) for body in bodies)
        if thin and link(storage, "Controllers"):
            bodies = [
                body for body in self._resources.members(link(storage, "Controllers")) if is_present(body)
            ] or bodies
        return [controller_of(body, storage, len(bodies)) for body in bodies]

    def _simple_storage(self, system: Json) -> tuple[list[Json], list[Json]]:
        """What old BMCs have instead of Storage: device names without serial numbers."""
        controllers: list[Json] = []
        drives: list[Json] = []
        for body in self._resources.members(link(system, "SimpleStorage")):
            devices = [device for device in as_list(body.get("Devices")) if is_present(device)]
            if devices:
                controllers.append(controller_of({}, body, 1))
            for device in devices:
                drives.append(drive_of(device, ident(body)))
        return controllers, drives

    # -- the BMC itself

    def _firmware(self) -> list[Json]:
        service = link(self._resources.session.root, "UpdateService")
        if not service:
            return []
        # The usual place first: it saves reading the service itself.
        usual = service.rstrip("/") + "/FirmwareInventory"
        found = self._resources.members(usual, guessed=True)
        if not found:
            named = link(self._resources.maybe(service), "FirmwareInventory")
            if named and named.rstrip("/") != usual:
                found = self._resources.members(named)
        return [firmware_of(body) for body in found]

    def _manager(self) -> Json | None:
        managers = self._resources.managers()
        own = str(self._resources.system().get("@odata.id")).rstrip("/")
        # Chassis and rack managers may be listed beside the BMC.
        for fits in (
            lambda body: own in (uri.rstrip("/") for uri in links(dig(body, "Links", "ManagerForServers"))),
            lambda body: text(body.get("ManagerType")) == "BMC",
            lambda body: True,
        ):
            for manager in managers:
                if fits(manager):
                    return manager_of(manager)
        return None


# -- from Redfish to the record


def system_of(body: Json) -> Json:
    return {
        "manufacturer": text(body.get("Manufacturer")),
        "model": text(body.get("Model")),
        "sku": text(body.get("SKU")),
        "serial_number": text(body.get("SerialNumber")),
        "uuid": lower(body.get("UUID")),
        "asset_tag": text(body.get("AssetTag")),
        "hostname": text(body.get("HostName")),
        "bios_version": text(body.get("BiosVersion")),
        "power_state": power_state(body),
        "health": health(body),
    }


def processor_of(body: Json) -> Json:
    return {
        "id": ident(body),
        "socket": text(body.get("Socket")),
        "type": text(body.get("ProcessorType")),
        "manufacturer": text(body.get("Manufacturer")),
        "model": text(body.get("Model")),
        "cores": whole(body.get("TotalCores")),
        "threads": whole(body.get("TotalThreads")),
        "max_speed_mhz": whole(body.get("MaxSpeedMHz")),
        "serial_number": text(body.get("SerialNumber")),
        "health": health(body),
    }


def dimm_of(body: Json) -> Json:
    return {
        "id": ident(body),
        "location": location(body) or text(body.get("DeviceLocator")),
        "manufacturer": text(body.get("Manufacturer")),
        "part_number": text(body.get("PartNumber")),
        "serial_number": text(body.get("SerialNumber")),
        "type": text(body.get("MemoryDeviceType")),
        "capacity_mib": whole(body.get("CapacityMiB")),
        "speed_mhz": whole(body.get("OperatingSpeedMhz")),
        "health": health(body),
    }


def port_of(body: Json) -> Json:
    return {
        "id": ident(body),
        "name": text(body.get("Name")),
        "mac": mac(body.get("MACAddress")) or mac(body.get("PermanentMACAddress")),
        "speed_mbps": whole(body.get("SpeedMbps")),
        "link": _LINK.get((text(body.get("LinkStatus")) or "").lower()),
        "lldp": None,
        "health": health(body),
    }


def adapter_port_of(body: Json) -> Json:
    """A Port of a network adapter, or a NetworkPort, as it was called before."""
    macs = dig(body, "Ethernet", "AssociatedMACAddresses") or body.get("AssociatedNetworkAddresses")
    speed = number(body.get("CurrentSpeedGbps"))
    return {
        "id": ident(body),
        "name": text(body.get("Name")),
        "mac": mac(macs[0]) if isinstance(macs, list) and macs else None,
        "speed_mbps": round(speed * 1000) if speed is not None else whole(body.get("CurrentLinkSpeedMbps")),
        "link": _LINK.get((text(body.get("LinkStatus")) or "").lower()),
        "lldp": lldp_of(dig(body, "Ethernet", "LLDPReceive")),
        "health": health(body),
    }


def lldp_of(body: t.Any) -> Json | None:
    """The neighbour that was heard; null where nothing was."""
    chassis, port = text(dig(body, "ChassisId")), text(dig(body, "PortId"))
    if not chassis and not port:
        return None
    return {"chassis_id": chassis, "port_id": port, "system_name": text(dig(body, "SystemName"))}


def controller_of(body: Json, storage: Json, siblings: int) -> Json:
    """A controller of a storage subsystem, or of SimpleStorage, which says nothing but a name."""
    name = ident(storage)
    own = text(body.get("MemberId")) or text(body.get("Id"))
    return {
        "id": f"{name}/{own}" if siblings > 1 else name,
        "storage": name,
        "name": text(body.get("Name")) or text(storage.get("Name")),
        "manufacturer": text(body.get("Manufacturer")),
        "model": text(body.get("Model")),
        "serial_number": text(body.get("SerialNumber")),
        "firmware_version": text(body.get("FirmwareVersion")),
        "protocols": texts(body.get("SupportedDeviceProtocols")) or [],
        "health": health(body) if body else health(storage),
    }


def drive_of(body: Json, storage: str | None) -> Json:
    return {
        "id": ident(body),
        "name": text(body.get("Name")),
        "serial_number": text(body.get("SerialNumber")),
        "manufacturer": text(body.get("Manufacturer")),
        "model": text(body.get("Model")),
        "revision": text(body.get("Revision")),
        "capacity_bytes": whole(body.get("CapacityBytes")),
        "protocol": text(body.get("Protocol")),
        "media_type": text(body.get("MediaType")),
        "location": location(body),
        "health": health(body),
        "failure_predicted": body.get("FailurePredicted") if isinstance(body.get("FailurePredicted"), bool) else None,
        "controller": storage,
    }


def volume_of(body: Json, storage: str | None) -> Json:
    return {
        "id": ident(body),
        "name": text(body.get("DisplayName")) or text(body.get("Name")),
        "raid_type": text(body.get("RAIDType")),
        "volume_type": text(body.get("VolumeType")),
        "capacity_bytes": whole(body.get("CapacityBytes")),
        "health": health(body),
        "controller": storage,
        "drives": [uri.rstrip("/").rsplit("/", 1)[-1] for uri in links(dig(body, "Links", "Drives"))],
    }


def firmware_of(body: Json) -> Json:
    return {
        "id": ident(body),
        "name": text(body.get("Name")),
        "version": text(body.get("Version")),
        "updateable": body.get("Updateable") if isinstance(body.get("Updateable"), bool) else None,
        "state": text(dig(body, "Status", "State")),
    }


def boot_of(system: Json) -> Json:
    boot = system.get("Boot")
    boot = boot if isinstance(boot, dict) else {}
    has_override = text(boot.get("BootSourceOverrideEnabled")) or text(boot.get("BootSourceOverrideTarget"))
    return {
        "mode": lower(boot.get("BootSourceOverrideMode")),
        "order": texts(boot.get("BootOrder")),
        "override": parse_override(boot).as_dict() if has_override else None,
    }


def manager_of(body: Json) -> Json:
    return {
        "id": ident(body),
        "type": text(body.get("ManagerType")),
        "model": text(body.get("Model")),
        "firmware_version": text(body.get("FirmwareVersion")),
        "uuid": lower(body.get("UUID")),
        "health": health(body),
    }


# -- single values


def ident(body: Json) -> str | None:
    """The Id, else the last part of the URI. BMCs are free in what it is; it is stable on one BMC."""
    uri = text(body.get("@odata.id"))
    return text(body.get("Id")) or (uri.rstrip("/").rsplit("/", 1)[-1] if uri else None)


def is_present(body: Json) -> bool:
    """Empty sockets and bays are listed by many BMCs; they are not hardware."""
    return dig(body, "Status", "State") != "Absent"


def _empty(body: Json, size: str, *names: str) -> bool:
    """Some list what could be there like what is there: without a size, and without or with meaningless names."""
    return not number(body.get(size)) and all(_says_nothing(body.get(name)) for name in names)


def _says_nothing(value: t.Any) -> bool:
    return (text(value) or "").lower().strip(" -_.") in (
        "",
        "n/a",
        "na",
        "none",
        "null",
        "unknown",
        "absent",
        "no dimm",
    )


def _may_be_network(port: Json) -> bool:
    """Ports of adapters that speak Ethernet or InfiniBand, or do not say what they speak."""
    kinds = (port.get(name) for name in ("PortProtocol", "LinkNetworkTechnology", "ActiveLinkTechnology"))
    known = [kind.lower() for kind in map(text, kinds) if kind]
    return not known or any(kind in ("ethernet", "infiniband") for kind in known)


def _add_drive(drives: dict[str, Json], body: Json, storage: str | None) -> None:
    if is_present(body) and not _empty(body, "CapacityBytes", "SerialNumber", "Model"):
        drives.setdefault(_uri(body), drive_of(body, storage))


def _uri(body: Json) -> str:
    return str(body.get("@odata.id")).rstrip("/")


def _cannot_have_volumes(storage: Json) -> bool:
    """No drives and expressly no RAID level: the volumes need not be asked for."""
    inline = as_list(storage.get("StorageControllers"))
    return storage.get("Drives") == [] and bool(inline) and all(body.get("SupportedRAIDTypes") == [] for body in inline)


def health(body: Json) -> str | None:
    return text(dig(body, "Status", "Health")) or text(dig(body, "Status", "HealthRollup"))


def location(body: Json) -> str | None:
    """Where a part sits: the label on the machine, else what kind of place and which."""
    old = body.get("Location")
    for place in (body.get("PhysicalLocation"), old, *as_list(old)):
        part = dig(place, "PartLocation")
        label = text(dig(part, "ServiceLabel"))
        if label:
            return label
        kind, ordinal = text(dig(part, "LocationType")), whole(dig(part, "LocationOrdinalValue"))
        if kind and ordinal is not None:
            return f"{kind} {ordinal}"
        info = text(dig(place, "Info"))
        if info:
            return info
    return None


def number(value: t.Any) -> float | None:
    """A number, also where a BMC writes it as a text. What is not finite is none."""
    if isinstance(value, str):
        try:
            value = float(value) if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value) else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def whole(value: t.Any) -> int | None:
    found = number(value)
    return round(found) if found is not None else None


def texts(value: t.Any) -> list[str] | None:
    """The texts of a list; None where there is no list."""
    return [item for item in map(text, value) if item] if isinstance(value, list) else None


def lower(value: t.Any) -> str | None:
    found = text(value)
    return found.lower() if found else None


def mac(value: t.Any) -> str | None:
    """Twelve hexadecimal digits in pairs, in lower case; BMCs write them in many ways."""
    digits = re.sub(r"[^0-9a-f]", "", (text(value) or "").lower())
    if len(digits) != 12 or not digits.strip("0"):
        return None
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))
