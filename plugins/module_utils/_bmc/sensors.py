# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""What a server measures: temperatures, fans, voltages, power. One form for Redfish, old and new, and IPMI."""

from __future__ import annotations

import re

from .hardware import health, is_present, number
from .resource import Json, Resources, as_list, dig, link, links, text

__all__ = ("read_sensors", "sensor_of_sdr")

# Units of Redfish (UCUM) and of ipmitool -> ours.
_UNITS = {
    "cel": "C",
    "degrees c": "C",
    "volts": "V",
    "watts": "W",
    "amps": "A",
    "percent": "%",
    "rpm": "RPM",
    "{rev}/min": "RPM",
}
# What ipmitool says of a sensor -> health; others, such as ns (no reading), tell nothing.
_SDR_HEALTH = {"ok": "OK", "nc": "Warning", "cr": "Critical", "nr": "Critical"}
# Before there were sensors of their own: resource, its list, property of the reading, unit.
_OLD = (
    ("Thermal", "Temperatures", "ReadingCelsius", "C"),
    ("Thermal", "Fans", "Reading", "RPM"),
    ("Power", "Voltages", "ReadingVolts", "V"),
    ("Power", "PowerControl", "PowerConsumedWatts", "W"),
)


def read_sensors(resources: Resources) -> list[Json]:
    """The sensors of the system's chassis that are present."""
    found: list[Json] = []
    for uri in links(dig(resources.system(), "Links", "Chassis")):
        chassis = resources.maybe(uri) or {}
        bodies = resources.members(link(chassis, "Sensors")) if link(chassis, "Sensors") else []
        found.extend(_sensor(body, "Reading", None) for body in bodies if is_present(body))
        if not bodies:
            for name, inside, reading, unit in _OLD:
                whole = resources.maybe(link(chassis, name)) or {}
                found.extend(_sensor(body, reading, unit) for body in as_list(whole.get(inside)) if is_present(body))
    return found


def _sensor(body: Json, reading: str, unit: str | None) -> Json:
    return {
        "name": text(body.get("Name")) or text(body.get("FanName")),
        "reading": number(body.get(reading)),
        "unit": _unit(text(body.get("ReadingUnits")) or unit),
        "health": health(body),
    }


def sensor_of_sdr(line: str) -> Json | None:
    """A line of `ipmitool sdr elist full`: name, number, state, entity, reading."""
    parts = [part.strip() for part in line.split("|")]
    if len(parts) != 5:
        return None
    reading = re.fullmatch(r"(-?\d+(?:\.\d+)?) (.+)", parts[4])
    return {
        "name": parts[0],
        "reading": float(reading.group(1)) if reading else None,
        "unit": _unit(reading.group(2)) if reading else None,
        "health": _SDR_HEALTH.get(parts[2]) if reading else None,
    }


def _unit(name: str | None) -> str | None:
    return _UNITS.get(name.lower(), name) if name else None
