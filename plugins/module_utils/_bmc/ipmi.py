# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""A BMC over IPMI, with the face of a Redfish one: power, boot device, identity, sensors, event log.

For BMCs without Redfish, or with one that is broken. Whatever else is asked for is BmcUnsupported. Numbers of commands
and bits are those of the IPMI 2.0 specification, revision 1.1; its sections are named.
"""

from __future__ import annotations

import contextlib
import re
import time
import typing as t
import uuid

from .boot import SETTLE, Boot, BootState
from .client import Bmc
from .errors import BmcBusy, BmcOptionError, BmcTimeout, BmcUncertain, BmcUnsupported
from .hardware import SUBSETS, boot_of, manager_of, system_of
from .ipmitool import IpmiTool
from .log import Logs
from .options import Options
from .power import Power, Step
from .resource import Json
from .sensors import sensor_of_sdr
from .wait import ticks, wait_for

__all__ = ("IpmiBmc",)

# Chassis Control, 28.3, by the names that Redfish has for the same.
CONTROL = {"ForceOff": 0, "On": 1, "PowerCycle": 2, "ForceRestart": 3, "GracefulShutdown": 5}
# Boot flags, 28.13 table 28-14: the device selector, and bits of the first byte.
DEVICES = {"pxe": 1, "disk": 2, "cd": 5}
VALID, PERSISTENT, EFI = 0x80, 0x40, 0x20
_SETS_STATE = ("On", "ForceOff", "GracefulShutdown")
# What is asked for by attributes of a Bmc, in words.
_OTHERS = {
    "media": "virtual media",
    "bios": "BIOS attributes",
    "accounts": "accounts",
    "boot_settings": "boot order, boot mode and secure boot",
    "certificates": "certificates",
    "drives": "drives",
    "firmware": "firmware",
    "volumes": "volumes",
    "network": "the network of the BMC",
}


class IpmiBmc(Bmc):
    """Each command is a session of its own, closed when its answer is there; so there is nothing to close."""

    def __init__(self, options: Options) -> None:  # pylint: disable=super-init-not-called
        if not options.timeout > 0:
            raise BmcOptionError(options.address, "the timeout must be greater than 0")
        self._tool = IpmiTool(options)
        self.address = self._tool.address
        self.power = IpmiPower(self._tool)
        self.boot = IpmiBoot(self._tool)
        self.logs = IpmiLogs(self._tool)

    def __getattr__(self, name: str) -> t.NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise self._unsupported(_OTHERS.get(name, "this"))

    def _unsupported(self, what: str) -> BmcUnsupported:
        return BmcUnsupported(
            self.address,
            f"the driver ipmi knows nothing of {what}: it has power, boot device, sensors and the event log",
            hint="Use the driver redfish, or do it in the web interface of the BMC",
        )

    def close(self) -> None:
        """Nothing is open."""

    @property
    def requests(self) -> int:
        """Commands so far."""
        return self._tool.requests

    @property
    def notes(self) -> list[str]:
        return []

    def volumes(self, controller: str | None = None) -> t.NoReturn:
        raise self._unsupported(_OTHERS["volumes"])

    def network(self, interface: str | None = None) -> t.NoReturn:
        raise self._unsupported(_OTHERS["network"])

    def status(self, media: bool = True) -> dict[str, t.Any]:
        """As of Redfish. No media: nothing can be inserted over IPMI, and what is in a drive it does not tell."""
        system = self._system(self.power.read())
        names = ("power_state", "health", "manufacturer", "model", "serial_number", "uuid")
        return {**{name: system[name] for name in names}, "media": [], "requests": self.requests}

    def hardware(self, subset: t.Collection[str] = SUBSETS) -> dict[str, t.Any]:
        """The record as bmc_info documents it. IPMI knows little: the rest is null."""
        readers: dict[str, t.Callable[[], t.Any]] = {
            "system": lambda: self._system(self.power.read()),
            "boot": lambda: {**boot_of({}), "override": self._or_none(lambda: self.boot.read().as_dict())},
            "manager": self._manager,
        }
        record = {name: readers[name]() if name in subset and name in readers else None for name in SUBSETS}
        record.pop("lldp", None)
        if "sensors" in subset:
            found = map(sensor_of_sdr, self._tool.run("sdr", "elist", "full").splitlines())
            record["sensors"] = [sensor for sensor in found if sensor is not None]
        return {**record, "requests": self.requests}

    def _system(self, power: str) -> Json:
        names = {"manufacturer": "Product Manufacturer", "model": "Product Name", "serial_number": "Product Serial"}
        fields = _fru(self._or_none(lambda: self._tool.run("fru", "print", "0")) or "")
        found = {ours: fields.get(theirs) for ours, theirs in {**names, "asset_tag": "Product Asset Tag"}.items()}
        return {**system_of({}), **found, "uuid": self._or_none(self._uuid), "power_state": power}

    def _uuid(self) -> str | None:
        """Get System GUID, 22.14. BMCs differ in the order of its bytes; where no order gives a UUID it is null."""
        data = self._tool.raw(0x06, 0x37)
        if len(data) != 16:
            return None
        orders = (uuid.UUID(bytes_le=data), uuid.UUID(bytes=data[::-1]), uuid.UUID(bytes=data))
        valid = [found for found in orders if found.variant == uuid.RFC_4122 and found.version in (1, 2, 3, 4, 5)]
        return str(valid[0]) if len(valid) == 1 else None

    def _manager(self) -> Json:
        """Get Device ID, 20.1: the minor revision is in BCD."""
        data = self._tool.raw(0x06, 0x01)
        version = f"{data[2] & 0x7F}.{data[3]:02x}" if len(data) > 3 else None
        return {**manager_of({}), "firmware_version": version}

    @staticmethod
    def _or_none(read: t.Callable[[], t.Any]) -> t.Any:
        """What a BMC cannot tell is null; a BMC that cannot be reached is an error."""
        try:
            return read()
        except BmcUnsupported:
            return None


class IpmiPower(Power):
    """The decisions are those of Redfish; what is offered is the list of the specification."""

    def __init__(self, tool: IpmiTool) -> None:
        super().__init__(t.cast(t.Any, tool))
        self._tool = tool

    def read(self) -> str:
        """Get Chassis Status, 28.2."""
        data = self._tool.raw(0x00, 0x01)
        return "on" if data and data[0] & 1 else "off"

    def _allowed(self) -> list[str]:
        return list(CONTROL)

    def _reset(self, step: Step, deadline: float, sent: list[str]) -> None:
        reset = str(step.reset)
        try:
            self._tool.raw(0x00, 0x02, CONTROL[reset], once=True)
        except BmcUncertain as exc:
            patience = min(30.0, max(1.0, deadline - time.monotonic()))
            if reset not in _SETS_STATE or not wait_for(self.read, lambda now: now == step.then, patience).ready:
                exc.hint = (
                    f"The reset {reset} may have been done or not, and is not sent again by itself. "
                    "Look at the server, then run again"
                )
                raise
        sent.append(reset)


class IpmiBoot(Boot):
    """The boot flags, always for UEFI: legacy starts are not what this collection prepares servers for."""

    def __init__(self, tool: IpmiTool) -> None:
        super().__init__(t.cast(t.Any, tool))
        self._tool = tool

    def read(self) -> BootState:
        data = self._tool.raw(0x00, 0x09, 5, 0, 0)
        if len(data) < 4 or not data[2] & VALID or not data[3] & 0x3C:
            return BootState("none", None)
        number = (data[3] & 0x3C) >> 2
        name = next((ours for ours, theirs in DEVICES.items() if theirs == number), f"ipmi_{number}")
        return BootState(name, "continuous" if data[2] & PERSISTENT else "once")

    def check(self, wanted: BootState) -> None:
        if wanted.target != "none" and wanted.target not in DEVICES:
            raise BmcUnsupported(
                self.address, f"IPMI cannot boot from {wanted.target}", hint=f"It knows {', '.join(DEVICES)} and none"
            )

    def apply(self, wanted: BootState, timeout: float = 60.0) -> BootState:
        self.check(wanted)
        flags = 0
        if wanted.target != "none":
            flags = VALID | EFI | (PERSISTENT if wanted.enabled == "continuous" else 0)
        with contextlib.suppress(BmcUnsupported):
            # Without this the BMC forgets the flags after 60 s, 28.13 parameter 3. Not all know it; then they do not.
            self._tool.raw(0x00, 0x08, 3, 0x1F)
        self._tool.raw(0x00, 0x08, 5, flags, DEVICES.get(wanted.target, 0) << 2, 0, 0, 0)
        waited = wait_for(self.read, lambda found: self.same(wanted, found), min(timeout, SETTLE))
        if waited.last is None or not waited.ready:
            shown = waited.last.target if waited.last else "nothing"
            raise BmcTimeout(
                self.address,
                f"it took the boot device {wanted.target}, but shows {shown}",
                hint="This BMC does not keep boot devices over IPMI; use the boot order of the BIOS",
            )
        return waited.last


class IpmiLogs(Logs):
    """The system event log, section 31. Its texts are those of ipmitool."""

    def __init__(self, tool: IpmiTool) -> None:
        super().__init__(t.cast(t.Any, tool))
        self._tool = tool

    def services(self) -> list[Json]:
        return [{"@odata.id": "sel", "Id": "SEL"}]

    def choose(self, name: str | None) -> Json:
        if name is not None and name.lower() != "sel":
            raise BmcOptionError(self.address, f"IPMI has no log {name}", hint="Its only log is SEL")
        return self.services()[0]

    def clearable(self, log: Json) -> str:
        return str(log["@odata.id"])

    def clear(self, log: Json, timeout: float) -> None:
        """Reserve SEL and Clear SEL, 31.4 and 31.9; a reservation that is lost means that nothing was cleared."""
        reservation = self._tool.raw(0x0A, 0x42)
        data = (*reservation[:2], 0x43, 0x4C, 0x52)
        with contextlib.suppress(BmcUncertain):  # whether the log is empty tells
            self._tool.raw(0x0A, 0x47, *data, 0xAA, once=True)
        waited = wait_for(lambda: self.is_clear(log), bool, timeout)
        if not waited.ready:
            raise BmcTimeout(self.address, f"its log is not empty after {timeout:.0f} s")

    def _entries(self, uri: str) -> list[Json]:
        for left in ticks(5.0):
            try:
                return [_entry(line) for line in self._tool.run("sel", "elist").splitlines() if "|" in line]
            except BmcBusy:
                if not left:
                    raise
        raise AssertionError("ticks ends with 0")


def _entry(line: str) -> Json:
    """A line of `ipmitool sel elist`, as a LogEntry of Redfish: id, date, time, sensor, event, direction."""
    ident, date, clock, sensor, event, direction = [*(part.strip() for part in line.split("|")), *[""] * 5][:6]
    found = re.fullmatch(r"(\d\d)/(\d\d)/(\d{2}|\d{4})", date)
    hours = re.match(r"\d\d:\d\d:\d\d", clock)
    created = None
    if found and hours:
        year = found.group(3) if len(found.group(3)) == 4 else f"20{found.group(3)}"
        created = f"{year}-{found.group(1)}-{found.group(2)}T{hours.group(0)}+00:00"
    return {
        "@odata.id": f"sel/{ident}",
        "Id": str(int(ident, 16)) if re.fullmatch(r"[0-9a-f]+", ident) else ident,
        "Created": created,
        "Message": ", ".join(part for part in (sensor, event, direction) if part),
        "SensorType": sensor.split("#")[0].strip() or None,
    }


def _fru(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, mark, value in pairs if mark and value.strip()}
