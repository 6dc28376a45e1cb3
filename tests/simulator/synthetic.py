# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Service trees that nobody recorded: a server of a given shape, valid by the DMTF schemas.

The shape is data: names of the parts as a maker has them, and how many there are.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from .access import PRIVILEGES
from .messages import Json
from .tree import ROOT

# fmt: off
# One argument a line would hide the tree.

GIB = 1024**3
RESETS = ["On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "PowerCycle", "Nmi", "ForceOn",
          "PushPowerButton"]
BOOT_TARGETS = ["None", "Pxe", "Cd", "Usb", "Hdd", "BiosSetup", "UefiHttp"]
OK = {"State": "Enabled", "Health": "OK"}
# Name, value, choices (none for a number or a text), default.
ATTRIBUTES: tuple[tuple[str, Any, tuple[str, ...], Any], ...] = (
    ("BootMode", "Uefi", ("Bios", "Uefi"), "Uefi"),
    ("ProcVirtualization", "Enabled", ("Enabled", "Disabled"), "Enabled"),
    ("LogicalProc", "Enabled", ("Enabled", "Disabled"), "Enabled"),
    ("SriovGlobalEnable", "Disabled", ("Enabled", "Disabled"), "Disabled"),
    ("NumaNodesPerSocket", "1", ("1", "2", "4"), "1"),
    (
        "SysProfile",
        "PerfPerWattOptimizedDapc",
        ("PerfPerWattOptimizedDapc", "PerfOptimized", "Custom"),
        "PerfOptimized",
    ),
    ("PxeDev1EnDis", "Enabled", ("Enabled", "Disabled"), "Enabled"),
    ("HttpDev1Uri", "", (), ""),
    ("AssetTagText", "", (), ""),
    ("MemPatrolScrubHours", 24, (), 24),
)


@dataclasses.dataclass(frozen=True)
class Shape:
    vendor: str = "Example"
    oem: str = ""  # key of Oem in the root
    product: str = "Example BMC"
    root_id: str = "RootService"
    manufacturer: str = "Example"
    model: str = "Well-behaved"
    system: str = "1"
    manager: str = "1"
    manager_model: str = "BMC 1"
    firmware: str = "1.2.3"
    chassis: str = "1"
    expand_levels: int = 6  # 0: not advertised
    processors: int = 2
    dimms: int = 16
    ports: int = 4
    controllers: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"RAID": 6, "NVMe": 2})
    inventory: int = 20
    bios: str = "Bios"
    bios_settings: str = "Settings"
    bios_names_settings: bool = True
    bios_attributes: int = 0  # more than the named ones
    apply_times: tuple[str, ...] = ("Immediate", "OnReset", "AtMaintenanceWindowStart", "InMaintenanceWindowOnReset")
    system_settings: str = ""  # a settings object of the system, such as SD
    media: str = "Systems"  # or Managers, where it was before
    media_actions: bool = True
    media_slots: tuple[tuple[str, tuple[str, ...]], ...] = (("1", ("Floppy", "USBStick")), ("2", ("CD", "DVD")))
    volumes: bool = True
    resets: tuple[str, ...] = tuple(RESETS)
    boot_targets: tuple[str, ...] = tuple(BOOT_TARGETS)
    reset_info: bool = False  # the values are in an ActionInfo
    account_slots: int = 0
    multipart: bool = True
    push: str = ""  # HttpPushUri
    log: str = "SEL"
    update_service: bool = True
    bios_at_all: bool = True
    bios_attributes_at_all: bool = True
    expand_kinds: tuple[str, ...] = ("ExpandAll", "Links", "NoLinks")
    volume_apply_times: tuple[str, ...] = ("Immediate", "OnReset")
    boot_enabled: tuple[str, ...] = ("Disabled", "Once", "Continuous")
    boot_only_in_settings: bool = False
    extra_systems: tuple[str, ...] = ()
    simple_update: bool = True
    sessions: bool = True
    jobs: bool = False  # Dell shows tasks as jobs too
    lldp: bool = True


def ref(uri: str) -> Json:
    return {"@odata.id": uri}


def refs(uris: list[str], name: str) -> Json:
    return {name: [ref(uri) for uri in uris], f"{name}@odata.count": len(uris)}


def digits(*words: object, length: int = 12) -> str:
    """The same text for the same words."""
    return hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()[:length].upper()


class _Builder:
    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.bodies: dict[str, Json] = {}

    def add(self, uri: str, kind: str, version: str, name: str, **properties: Any) -> str:
        own = {"@odata.id": uri, "@odata.type": f"#{kind}.{version}.{kind}", "Id": uri.rsplit("/", 1)[-1], "Name": name}
        self.bodies[uri] = {**own, **properties}
        return uri

    def collection(self, uri: str, kind: str, members: list[str], **properties: Any) -> str:
        name = f"{kind} collection"
        own = {"@odata.id": uri, "@odata.type": f"#{kind}Collection.{kind}Collection", "Name": name}
        self.bodies[uri] = {**own, **refs(members, "Members"), **properties}
        return uri

    # -- the parts

    def build(self) -> dict[str, Json]:
        s = self.shape
        system, manager = f"{ROOT}/Systems/{s.system}", f"{ROOT}/Managers/{s.manager}"
        chassis = f"{ROOT}/Chassis/{s.chassis}"
        self._root()
        self._system(system, manager, chassis)
        self._manager(manager, system, chassis)
        self._chassis(chassis, system, manager)
        self._services(system, manager)
        return self.bodies

    def _root(self) -> None:
        s = self.shape
        links = {name: ref(f"{ROOT}/{name}") for name in (
            "Systems", "Chassis", "Managers", "SessionService", "AccountService", "CertificateService", "EventService",
            "Registries", "JsonSchemas") if s.sessions or name != "SessionService"}
        links["Tasks"] = ref(f"{ROOT}/TaskService")
        if s.update_service:
            links["UpdateService"] = ref(f"{ROOT}/UpdateService")
        levels = s.expand_levels
        kinds = ("ExpandAll", "Links", "NoLinks")
        expand: Json = {name: levels > 0 and name in s.expand_kinds for name in kinds} | {"Levels": levels > 0}
        if levels:
            expand["MaxLevels"] = levels
        features = {
            "ExpandQuery": expand,
            "SelectQuery": levels > 0,
            "FilterQuery": False,
            "OnlyMemberQuery": levels > 0,
            "ExcerptQuery": False,
            "TopSkipQuery": levels > 0,
            "DeepOperations": {"DeepPATCH": False, "DeepPOST": False},
        }
        more: Json = {"Vendor": s.vendor} if s.vendor else {}
        more |= {"Product": s.product} if s.product else {}
        more |= {"Oem": {s.oem: {}}} if s.oem else {}
        more["Links"] = {"Sessions": ref(f"{ROOT}/SessionService/Sessions")} if s.sessions else {}
        self.add(ROOT, "ServiceRoot", "v1_17_0", "Root Service", RedfishVersion="1.20.0", UUID=_uuid(s.model, "root"),
                 ProtocolFeaturesSupported=features, **links, **more)
        self.bodies[ROOT]["Id"] = s.root_id

    def _system(self, uri: str, manager: str, chassis: str) -> None:
        s = self.shape
        reset: Json = {"target": f"{uri}/Actions/ComputerSystem.Reset"}
        if s.reset_info:
            values = {"Name": "ResetType", "Required": True, "DataType": "String", "AllowableValues": list(s.resets)}
            reset["@Redfish.ActionInfo"] = self.add(f"{uri}/ResetActionInfo", "ActionInfo", "v1_4_2", "Reset",
                                                    Parameters=[values])
        else:
            reset["ResetType@Redfish.AllowableValues"] = list(s.resets)
        boot: Json = {
            "BootSourceOverrideEnabled": "Disabled",
            "BootSourceOverrideEnabled@Redfish.AllowableValues": list(s.boot_enabled),
            "BootSourceOverrideTarget": "None",
            "BootSourceOverrideTarget@Redfish.AllowableValues": list(s.boot_targets),
            "BootSourceOverrideMode": "UEFI",
            "BootSourceOverrideMode@Redfish.AllowableValues": ["Legacy", "UEFI"],
            "BootOrder": [f"Boot{number:04X}" for number in range(4)],
            "BootOptions": ref(f"{uri}/BootOptions"),
        }
        if "UefiHttp" in s.boot_targets:
            boot["HttpBootUri"] = None
        more: Json = {}
        if s.bios_at_all:
            more["Bios"] = ref(f"{uri}/{s.bios}")
            more["SecureBoot"] = ref(f"{uri}/SecureBoot")
            self._bios(uri)
        if s.media == "Systems":
            more["VirtualMedia"] = ref(self._media(uri))
        if s.system_settings:
            more["@Redfish.Settings"] = {"@odata.type": "#Settings.v1_4_0.Settings",
                                         "SettingsObject": ref(f"{uri}/{s.system_settings}")}
            self.add(f"{uri}/{s.system_settings}", "ComputerSystem", "v1_22_0", "Settings of the system",
                     Boot=dict(boot))
            if s.boot_only_in_settings:
                boot = {name: value for name, value in boot.items() if "Override" not in name}
        self.add(uri, "ComputerSystem", "v1_22_0", "System", SystemType="Physical", Manufacturer=s.manufacturer,
                 Model=s.model, SKU="SKU-" + digits(s.model, length=6),
                 SerialNumber=digits(s.model, "serial", length=10),
                 UUID=_uuid(s.model, "system"), AssetTag="", HostName="", BiosVersion="2.1.0", PowerState="Off",
                 PowerRestorePolicy="LastState", LocationIndicatorActive=False, Status=dict(OK),
                 BootProgress={"LastState": "None"}, Boot=boot,
                 ProcessorSummary={"Count": s.processors, "Model": "Example 8000"},
                 MemorySummary={"TotalSystemMemoryGiB": 32 * s.dimms},
                 Processors=ref(f"{uri}/Processors"), Memory=ref(f"{uri}/Memory"), Storage=ref(f"{uri}/Storage"),
                 EthernetInterfaces=ref(f"{uri}/EthernetInterfaces"), LogServices=ref(f"{uri}/LogServices"),
                 NetworkInterfaces=ref(f"{uri}/NetworkInterfaces"),
                 Links={"Chassis": [ref(chassis)], "ManagedBy": [ref(manager)]},
                 Actions={"#ComputerSystem.Reset": reset}, **more)
        extra = [self.add(f"{ROOT}/Systems/{name}", "ComputerSystem", "v1_22_0", name) for name in s.extra_systems]
        self.collection(f"{ROOT}/Systems", "ComputerSystem", [uri, *extra])
        self.collection(f"{uri}/BootOptions", "BootOption", [
            self.add(f"{uri}/BootOptions/{name}", "BootOption", "v1_0_6", f"Boot option {name}",
                     BootOptionReference=name,
                     DisplayName=f"Device {name}", BootOptionEnabled=True) for name in boot["BootOrder"]])
        self._parts(uri, chassis)
        self._storage(uri, chassis)
        self._log(uri, s.log)

    def _parts(self, uri: str, chassis: str) -> None:
        s = self.shape
        self.collection(f"{uri}/Processors", "Processor", [
            self.add(f"{uri}/Processors/CPU{n}", "Processor", "v1_20_0", f"Processor {n}", Socket=f"CPU {n}",
                     ProcessorType="CPU", ProcessorArchitecture="x86", InstructionSet="x86-64", Manufacturer="Example",
                     Model="Example 8000", TotalCores=32, TotalThreads=64, MaxSpeedMHz=3600, Status=dict(OK))
            for n in range(1, s.processors + 1)])
        self.collection(f"{uri}/Memory", "Memory", [
            self.add(f"{uri}/Memory/DIMM{n}", "Memory", "v1_20_0", f"DIMM {n}",
                     Location={"PartLocation": {"ServiceLabel": f"DIMM {n}", "LocationType": "Slot"}},
                     MemoryType="DRAM", MemoryDeviceType="DDR5", BaseModuleType="RDIMM", CapacityMiB=32768,
                     OperatingSpeedMhz=4800, Manufacturer="Example", PartNumber="M321R4GA3BB6", RankCount=2,
                     SerialNumber=digits(s.model, "dimm", n, length=8), ErrorCorrection="MultiBitECC", Status=dict(OK))
            for n in range(1, s.dimms + 1)])
        names = list(range(1, s.ports + 1))
        self.collection(f"{uri}/EthernetInterfaces", "EthernetInterface", [
            self.add(f"{uri}/EthernetInterfaces/NIC.{n}", "EthernetInterface", "v1_12_0", f"Port {n}",
                     MACAddress=_mac(s.model, n), PermanentMACAddress=_mac(s.model, n), SpeedMbps=25000 if n < 3 else 0,
                     FullDuplex=True, LinkStatus="LinkUp" if n < 3 else "LinkDown", Status=dict(OK))
            for n in names])
        adapter = f"{chassis}/NetworkAdapters/1"
        self.collection(f"{chassis}/NetworkAdapters", "NetworkAdapter", [
            self.add(adapter, "NetworkAdapter", "v1_11_0", "Adapter 1", Manufacturer="Example", Model="25GbE adapter",
                     SerialNumber=digits(s.model, "adapter"), Ports=ref(f"{adapter}/Ports"), Status=dict(OK))])
        self.collection(f"{adapter}/Ports", "Port", [
            self.add(f"{adapter}/Ports/{n}", "Port", "v1_12_0", f"Port {n}", PortId=str(n),
                     PortType="BidirectionalPort",
                     CurrentSpeedGbps=25 if n < 3 else 0, LinkStatus="LinkUp" if n < 3 else "LinkDown",
                     LinkNetworkTechnology="Ethernet", InterfaceEnabled=True,
                     Ethernet={"AssociatedMACAddresses": [_mac(s.model, n)], **self._neighbour(n)}, Status=dict(OK))
            for n in names])
        self.collection(f"{uri}/NetworkInterfaces", "NetworkInterface", [
            self.add(f"{uri}/NetworkInterfaces/1", "NetworkInterface", "v1_2_3", "Adapter 1", Status=dict(OK),
                     Ports=ref(f"{adapter}/Ports"), Links={"NetworkAdapter": ref(adapter)})])

    def _neighbour(self, port: int) -> Json:
        if not self.shape.lldp or port > 2:
            return {}
        return {"LLDPReceive": {"ChassisId": "02:00:00:00:FE:00", "PortId": f"02:00:00:00:FE:{port:02X}",
                                "SystemName": "leaf-1"}}

    def _storage(self, uri: str, chassis: str) -> None:
        s = self.shape
        units = []
        for name, count in s.controllers.items():
            unit = f"{uri}/Storage/{name}"
            raid = name.upper().startswith("RAID") or "raid" in name.lower()
            drives = [self._drive(chassis, name, n, raid) for n in range(1, count + 1)]
            controller = self.add(
                f"{unit}/Controllers/1", "StorageController", "v1_8_0", f"{name} controller", Manufacturer="Example",
                Model=f"{name} 9500", SerialNumber=digits(s.model, name), FirmwareVersion="51.16.0-4076",
                SupportedControllerProtocols=["PCIe"], SupportedDeviceProtocols=["SAS", "SATA"] if raid else ["NVMe"],
                SupportedRAIDTypes=["RAID0", "RAID1", "RAID5", "RAID6", "RAID10"] if raid else ["None"],
                Status=dict(OK),
            )
            self.collection(f"{unit}/Controllers", "StorageController", [controller])
            more: Json = {}
            if s.volumes and raid:
                times = {"@odata.type": "#Settings.v1_4_0.OperationApplyTimeSupport",
                         "SupportedValues": list(s.volume_apply_times)}
                offered = {"@Redfish.OperationApplyTimeSupport": times} if s.volume_apply_times else {}
                more["Volumes"] = ref(self.collection(f"{unit}/Volumes", "Volume", [], **offered))
            units.append(self.add(unit, "Storage", "v1_17_0", f"{name} storage", Controllers=ref(f"{unit}/Controllers"),
                                  **refs(drives, "Drives"), Status={**OK, "HealthRollup": "OK"},
                                  Links={"Enclosures": [ref(chassis)], "Enclosures@odata.count": 1}, **more))
        self.collection(f"{uri}/Storage", "Storage", units)
        drives = [uri for uri in self.bodies if uri.startswith(f"{chassis}/Drives/")]
        self.collection(f"{chassis}/Drives", "Drive", drives)

    def _drive(self, chassis: str, controller: str, number: int, raid: bool) -> str:
        uri = f"{chassis}/Drives/{controller}.{number}"
        return self.add(
            uri, "Drive", "v1_20_0", f"Drive {controller} {number}", Manufacturer="Example", Model="PM1743",
            SerialNumber=digits(self.shape.model, controller, number, length=14), Revision="1.0.2",
            CapacityBytes=(480 if raid else 1920) * 10**9, MediaType="SSD", Protocol="SATA" if raid else "NVMe",
            FailurePredicted=False, BlockSizeBytes=512, RotationSpeedRPM=None, StatusIndicator="OK",
            PhysicalLocation={"PartLocation": {"ServiceLabel": f"Bay {number}", "LocationType": "Bay",
                                               "LocationOrdinalValue": number}},
            Status=dict(OK), Links={"Volumes": [], "Volumes@odata.count": 0, "Chassis": ref(chassis)},
            Actions={"#Drive.SecureErase": {"target": f"{uri}/Actions/Drive.SecureErase"}},
        )

    def _bios(self, system: str) -> None:
        s = self.shape
        uri = f"{system}/{s.bios}"
        named = [*ATTRIBUTES, *((f"Option{n:03d}", "Enabled", ("Enabled", "Disabled"), "Enabled")
                                for n in range(s.bios_attributes))]
        values = {name: value for name, value, _choices, _default in named}
        more: Json = {}
        if s.bios_names_settings:
            more["@Redfish.Settings"] = {
                "@odata.type": "#Settings.v1_4_0.Settings",
                "SettingsObject": ref(f"{uri}/{s.bios_settings}"),
            }
            if s.apply_times:
                more["@Redfish.Settings"]["SupportedApplyTimes"] = list(s.apply_times)
        actions = {"#Bios.ResetBios": {"target": f"{uri}/Actions/Bios.ResetBios"}}
        self._secure_boot(system)
        if not s.bios_attributes_at_all:
            self.add(uri, "Bios", "v1_2_3", "BIOS", Actions=actions)
            return
        registry = f"BiosAttributeRegistry{s.vendor}.v1_0_0"
        self.add(uri, "Bios", "v1_2_3", "BIOS", AttributeRegistry=registry, Attributes=values, **more,
                 Actions=actions)
        self.add(f"{uri}/{s.bios_settings}", "Bios", "v1_2_3", "BIOS settings", AttributeRegistry=registry,
                 Attributes={})
        place = f"{ROOT}/Registries/{registry}"
        entries = [_attribute(*item) for item in named]
        self.add(f"{place}/{registry}.json", "AttributeRegistry", "v1_4_0", "BIOS attributes", Language="en",
                 OwningEntity=s.vendor, RegistryVersion="1.0.0", RegistryEntries={"Attributes": entries})
        self.bodies[f"{place}/{registry}.json"]["Id"] = registry
        self._registry(registry, f"{place}/{registry}.json")

    def _secure_boot(self, system: str) -> None:
        self.add(f"{system}/SecureBoot", "SecureBoot", "v1_1_2", "UEFI Secure Boot", SecureBootEnable=False,
                 SecureBootCurrentBoot="Disabled", SecureBootMode="UserMode", Actions={"#SecureBoot.ResetKeys": {
                     "target": f"{system}/SecureBoot/Actions/SecureBoot.ResetKeys",
                     "ResetKeysType@Redfish.AllowableValues": ["ResetAllKeysToDefault", "DeleteAllKeys", "DeletePK"]}})

    def _registry(self, name: str, place: str) -> None:
        self.add(f"{ROOT}/Registries/{name}", "MessageRegistryFile", "v1_1_5", f"{name} file", Languages=["en"],
                 Registry=name, Location=[{"Language": "en", "Uri": place}])

    def _media(self, owner: str) -> str:
        s = self.shape
        members = []
        for name, kinds in s.media_slots:
            uri = f"{owner}/VirtualMedia/{name}"
            more: Json = {}
            if s.media_actions:
                more["Actions"] = {
                    f"#VirtualMedia.{action}": {"target": f"{uri}/Actions/VirtualMedia.{action}"}
                    for action in ("InsertMedia", "EjectMedia")
                }
            members.append(self.add(uri, "VirtualMedia", "v1_6_5", f"Virtual drive {name}", MediaTypes=list(kinds),
                                    Image=None, ImageName=None, Inserted=False, WriteProtected=True,
                                    ConnectedVia="NotConnected", **more))
        return self.collection(f"{owner}/VirtualMedia", "VirtualMedia", members)

    def _log(self, owner: str, name: str) -> None:
        uri = f"{owner}/LogServices/{name}"
        entries = [
            self.add(f"{uri}/Entries/{n}", "LogEntry", "v1_18_0", f"Log entry {n}",
                     EntryType="SEL" if name == "SEL" else "Event",
                     Severity="OK", Message=f"Event number {n}.", Created=f"2026-01-0{n}T00:00:00Z",
                     **({"SensorType": "System Event", "EntryCode": "Assert"} if name == "SEL" else {}))
            for n in range(1, 4)
        ]
        self.collection(f"{uri}/Entries", "LogEntry", entries)
        self.collection(f"{owner}/LogServices", "LogService", [
            self.add(uri, "LogService", "v1_7_0", f"Log {name}", ServiceEnabled=True, OverWritePolicy="WrapsWhenFull",
                     MaxNumberOfRecords=1000, DateTime="2026-01-01T00:00:00Z", DateTimeLocalOffset="+00:00",
                     LogEntryType="SEL" if name == "SEL" else "Event", Status=dict(OK), Entries=ref(f"{uri}/Entries"),
                     Actions={"#LogService.ClearLog": {"target": f"{uri}/Actions/LogService.ClearLog"}})])

    def _manager(self, uri: str, system: str, chassis: str) -> None:
        s = self.shape
        more = {"VirtualMedia": ref(self._media(uri))} if s.media == "Managers" else {}
        self.add(uri, "Manager", "v1_20_0", "Manager", ManagerType="BMC", Model=s.manager_model,
                 FirmwareVersion=s.firmware,
                 UUID=_uuid(s.model, "manager"), PowerState="On", Status=dict(OK), DateTime="2026-01-01T00:00:00Z",
                 DateTimeLocalOffset="+00:00", EthernetInterfaces=ref(f"{uri}/EthernetInterfaces"),
                 NetworkProtocol=ref(f"{uri}/NetworkProtocol"), LogServices=ref(f"{uri}/LogServices"),
                 Links={"ManagerForServers": [ref(system)], "ManagerForChassis": [ref(chassis)]},
                 Actions={"#Manager.Reset": {"target": f"{uri}/Actions/Manager.Reset",
                                             "ResetType@Redfish.AllowableValues": ["GracefulRestart", "ForceRestart"]}},
                 **more)
        self.collection(f"{ROOT}/Managers", "Manager", [uri])
        self.collection(f"{uri}/EthernetInterfaces", "EthernetInterface", [
            self.add(f"{uri}/EthernetInterfaces/1", "EthernetInterface", "v1_12_0", "Management port",
                     InterfaceEnabled=True, MACAddress=_mac(s.model, "bmc"), PermanentMACAddress=_mac(s.model, "bmc"),
                     SpeedMbps=1000, AutoNeg=True, FullDuplex=True, MTUSize=1500, HostName="bmc",
                     FQDN="bmc.example.com",
                     LinkStatus="LinkUp", DHCPv4={"DHCPEnabled": False, "UseDNSServers": False},
                     DHCPv6={"OperatingMode": "Disabled"}, NameServers=["192.0.2.53"], StaticNameServers=["192.0.2.53"],
                     IPv4Addresses=[{"Address": "192.0.2.10", "SubnetMask": "255.255.255.0", "AddressOrigin": "Static",
                                     "Gateway": "192.0.2.1"}],
                     IPv4StaticAddresses=[{"Address": "192.0.2.10", "SubnetMask": "255.255.255.0",
                                            "Gateway": "192.0.2.1"}],
                     IPv6Addresses=[], IPv6StaticAddresses=[], VLAN={"VLANEnable": False, "VLANId": 0},
                     Status=dict(OK))])
        self.add(f"{uri}/NetworkProtocol", "ManagerNetworkProtocol", "v1_11_0", "Network protocols", HostName="bmc",
                 FQDN="bmc.example.com", Status=dict(OK), HTTP={"ProtocolEnabled": False, "Port": 80},
                 HTTPS={"ProtocolEnabled": True, "Port": 443,
                        "Certificates": ref(f"{uri}/NetworkProtocol/HTTPS/Certificates")},
                 SSH={"ProtocolEnabled": True, "Port": 22}, IPMI={"ProtocolEnabled": False, "Port": 623},
                 NTP={"ProtocolEnabled": True, "Port": 123, "NTPServers": ["192.0.2.123", ""]},
                 SNMP={"ProtocolEnabled": False, "Port": 161}, KVMIP={"ProtocolEnabled": True, "Port": 5900},
                 VirtualMedia={"ProtocolEnabled": True, "Port": 5120})
        self.collection(f"{uri}/NetworkProtocol/HTTPS/Certificates", "Certificate", [
            self.add(f"{uri}/NetworkProtocol/HTTPS/Certificates/1", "Certificate", "v1_9_0", "HTTPS certificate",
                     CertificateType="PEM", Subject={"CommonName": "bmc"},
                     Issuer={"CommonName": "bmc"}, ValidNotBefore="2026-01-01T00:00:00Z",
                     ValidNotAfter="2036-01-01T00:00:00Z", CertificateUsageTypes=["Web"])])
        self._log(uri, "Log")

    def _chassis(self, uri: str, system: str, manager: str) -> None:
        s = self.shape
        self.add(uri, "Chassis", "v1_25_2", "Chassis", ChassisType="RackMount",
                 Manufacturer=s.manufacturer, Model=s.model,
                 SerialNumber=digits(s.model, "serial", length=10), PowerState="On", AssetTag="", HeightMm=44.45,
                 LocationIndicatorActive=False, Status=dict(OK), NetworkAdapters=ref(f"{uri}/NetworkAdapters"),
                 Drives=ref(f"{uri}/Drives"), Links={"ComputerSystems": [ref(system)], "ManagedBy": [ref(manager)]})
        self.collection(f"{ROOT}/Chassis", "Chassis", [uri])

    # -- services

    def _services(self, system: str, manager: str) -> None:
        self._accounts()
        if self.shape.update_service:
            self._update()
        if self.shape.sessions:
            sessions = f"{ROOT}/SessionService"
            self.add(sessions, "SessionService", "v1_2_0", "Session service", ServiceEnabled=True, SessionTimeout=1800,
                     Status=dict(OK), Sessions=ref(f"{sessions}/Sessions"))
            self.collection(f"{sessions}/Sessions", "Session", [])
        if self.shape.jobs:
            self.collection(f"{manager}/Oem/Dell/Jobs", "DellJob", [])
        self.add(f"{ROOT}/TaskService", "TaskService", "v1_2_1", "Task service", ServiceEnabled=True, Status=dict(OK),
                 DateTime="2026-01-01T00:00:00Z", CompletedTaskOverWritePolicy="Oldest",
                 LifeCycleEventOnTaskStateChange=False,
                 Tasks=ref(f"{ROOT}/TaskService/Tasks"))
        self.collection(f"{ROOT}/TaskService/Tasks", "Task", [])
        service = f"{ROOT}/CertificateService"
        self.add(service, "CertificateService", "v1_1_1", "Certificate service",
                 CertificateLocations=ref(f"{service}/CertificateLocations"), Actions={
                     f"#CertificateService.{name}": {"target": f"{service}/Actions/CertificateService.{name}"}
                     for name in ("GenerateCSR", "ReplaceCertificate")})
        self.add(f"{service}/CertificateLocations", "CertificateLocations", "v1_0_4", "Certificates", Links=refs(
            [f"{manager}/NetworkProtocol/HTTPS/Certificates/1"], "Certificates"))
        events = f"{ROOT}/EventService"
        self.add(events, "EventService", "v1_11_0", "Event service", ServiceEnabled=True, Status=dict(OK),
                 DeliveryRetryAttempts=3, DeliveryRetryIntervalSeconds=60, EventFormatTypes=["Event"],
                 Subscriptions=ref(f"{events}/Subscriptions"))
        self.collection(f"{events}/Subscriptions", "EventDestination", [])
        found = [uri for uri in self.bodies if uri.startswith(f"{ROOT}/Registries/") and uri.count("/") == 4]
        self.collection(f"{ROOT}/Registries", "MessageRegistryFile", found)
        self.collection(f"{ROOT}/JsonSchemas", "JsonSchemaFile", [])

    def _accounts(self) -> None:
        s, service = self.shape, f"{ROOT}/AccountService"
        self.add(service, "AccountService", "v1_17_0", "Account service", ServiceEnabled=True, MinPasswordLength=8,
                 MaxPasswordLength=40, AccountLockoutThreshold=0, AccountLockoutDuration=0, Status=dict(OK),
                 AccountLockoutCounterResetAfter=0, Accounts=ref(f"{service}/Accounts"), Roles=ref(f"{service}/Roles"))
        self.collection(f"{service}/Roles", "Role", [
            self.add(f"{service}/Roles/{name}", "Role", "v1_3_3", name, RoleId=name, IsPredefined=True,
                     AssignedPrivileges=sorted(rights))
            for name, rights in {**PRIVILEGES, **({"None": ()} if s.account_slots else {})}.items()])
        accounts = []
        for n in range(1, (s.account_slots or 1) + 1):
            # The first of fixed slots is nobody's.
            user = "admin" if n == (2 if s.account_slots else 1) else ""
            role = "Administrator" if user else "None" if s.account_slots else "ReadOnly"
            accounts.append(self.add(
                f"{service}/Accounts/{n}", "ManagerAccount", "v1_13_0", "User account", UserName=user, Password=None,
                RoleId=role, Enabled=bool(user), Locked=False, AccountTypes=["Redfish"], PasswordChangeRequired=False,
                Links={"Role": ref(f"{service}/Roles/{role}")}))
        self.collection(f"{service}/Accounts", "ManagerAccount", accounts)

    def _update(self) -> None:
        s, service = self.shape, f"{ROOT}/UpdateService"
        names = [("BIOS", "System BIOS", "2.1.0"), ("BMC", "BMC firmware", s.firmware)]
        names += [(f"Device{n}", f"Device {n} firmware", f"1.{n}") for n in range(1, s.inventory - 1)]
        self.collection(f"{service}/FirmwareInventory", "SoftwareInventory", [
            self.add(f"{service}/FirmwareInventory/{ident}", "SoftwareInventory", "v1_12_0", name, Version=version,
                     Updateable=True, SoftwareId=digits(ident, length=6), Status=dict(OK))
            for ident, name, version in names])
        more: Json = {}
        if s.multipart:
            more["MultipartHttpPushUri"] = f"{service}/upload"
        if s.push:
            more |= {"HttpPushUri": s.push, "HttpPushUriTargets": [], "HttpPushUriTargetsBusy": False}
        if s.simple_update:
            more["Actions"] = {"#UpdateService.SimpleUpdate": {
                "target": f"{service}/Actions/UpdateService.SimpleUpdate",
                "TransferProtocol@Redfish.AllowableValues": ["HTTP", "HTTPS", "NFS", "CIFS"]}}
        self.add(service, "UpdateService", "v1_15_0", "Update service", ServiceEnabled=True, Status=dict(OK),
                 MaxImageSizeBytes=2 * GIB, **more,
                 FirmwareInventory=ref(f"{service}/FirmwareInventory"))


def build(shape: Shape) -> dict[str, Json]:
    return _Builder(shape).build()


def _attribute(name: str, value: Any, choices: tuple[str, ...], default: Any) -> Json:
    kind = "Enumeration" if choices else "Integer" if isinstance(value, int) else "String"
    found = {"AttributeName": name, "DisplayName": name, "Type": kind, "DefaultValue": default, "ReadOnly": False}
    if default == "":
        del found["DefaultValue"]
    if choices:
        found["Value"] = [{"ValueName": choice, "ValueDisplayName": choice} for choice in choices]
    if kind == "Integer":
        found.update({"LowerBound": 0, "UpperBound": 65535})
    return found


def _mac(*words: object) -> str:
    raw = digits(*words, length=8)
    return "02:00:" + ":".join(raw[n : n + 2] for n in range(0, 8, 2))


def _uuid(*words: object) -> str:
    raw = digits(*words, length=32).lower()
    return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:]}"
