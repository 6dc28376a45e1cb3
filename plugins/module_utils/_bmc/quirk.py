# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Differences between BMCs, as data. No code elsewhere asks for a vendor; it asks for a Behaviour."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import typing as t

from .errors import BmcOptionError
from .quirk_table import QUIRKS

__all__ = ("OF_MANAGER", "Behaviour", "Identity", "asks_for_manager", "behaviour_of", "load", "matching")

# Conditions on the firmware of the BMC: from this version on, and before that one.
_RANGE = ("firmware_from", "firmware_below")
# Conditions that only its Manager resource tells.
OF_MANAGER = ("manager", "firmware", *_RANGE)


@dataclasses.dataclass(frozen=True)
class Identity:
    """What is known about a BMC and its server. Fields fill up as resources are read; empty means unknown."""

    vendor: str = ""  # ServiceRoot.Vendor, else the first key of its Oem
    product: str = ""  # ServiceRoot.Product
    root: str = ""  # ServiceRoot.Id
    manufacturer: str = ""  # ComputerSystem.Manufacturer
    model: str = ""  # ComputerSystem.Model
    system: str = ""  # last part of the ComputerSystem's URI
    manager: str = ""  # Manager.Model
    firmware: str = ""  # Manager.FirmwareVersion

    @classmethod
    def of(
        cls,
        root: t.Mapping[str, t.Any],
        system: t.Mapping[str, t.Any] | None = None,
        manager: t.Mapping[str, t.Any] | None = None,
    ) -> Identity:
        oem = root.get("Oem")
        oem_name = next(iter(oem), "") if isinstance(oem, dict) else ""
        system, manager = system or {}, manager or {}
        return cls(
            vendor=_text(root.get("Vendor")) or oem_name,
            product=_text(root.get("Product")),
            root=_text(root.get("Id")),
            manufacturer=_text(system.get("Manufacturer")),
            model=_text(system.get("Model")),
            system=_text(system.get("@odata.id")).rstrip("/").rsplit("/", 1)[-1],
            manager=_text(manager.get("Model")),
            firmware=_text(manager.get("FirmwareVersion")),
        )


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """How to treat one BMC. The defaults are what the Redfish specification says."""

    # $expand is never asked for.
    no_expand: bool = False
    # What BootSourceOverrideEnabled reads back says nothing; only the target is compared.
    boot_enabled_unreliable: bool = False
    # There is no way back to no override at all.
    boot_always_overridden: bool = False
    # Override target that was set -> what the BMC shows afterwards.
    boot_reads_back: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    # Target of this collection (disk, cd, ...) -> value to send, where it is not the usual one.
    boot_names: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    # BootSourceOverrideMode has to go along with each override, or the BMC resets it.
    boot_sends_mode: bool = False
    # Overrides are written to the object behind @Redfish.Settings.
    boot_by_settings: bool = False
    # Target -> what has to be true before; used in the hint of an error.
    boot_hints: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    # Only media slots whose Id matches can take an image by URL.
    media_slots: str = ""
    # Properties that InsertMedia demands beyond the image.
    media_extra: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    # Where the BMC keeps LLDP neighbours outside of the standard: path below the system, and names of the properties.
    lldp: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    # ForceRestart is not to be used; off, wait, on does the same.
    restart_by_off_on: bool = False
    # Where the settings object of the BIOS is, below the BIOS, when nothing links to it.
    bios_settings: str = ""
    # Where the HTTPS certificate is imported in a way of its own: path below the manager, action and its parameter.
    certificate_import: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    # What a version in the firmware inventory may begin with, beyond the version itself.
    firmware_version_prefix: str = ""
    # HttpPushUri is there, but not in the way of the standard.
    firmware_push_unusual: bool = False
    # Accounts are fixed slots: Ids of slots that cannot be used, and the bodies of the PATCHes that empty one.
    user_slots_reserved: t.Sequence[str] = ()
    user_slot_emptied: t.Sequence[t.Mapping[str, t.Any]] = ({"Enabled": False, "UserName": ""},)
    # Ids of messages that come with 503 although the refusal does not pass by itself.
    lasting_refusals: t.Sequence[str] = ()
    # Refusals that pass by themselves after a power change: HTTP status, part of a message id, seconds to wait at most.
    passing_refusals: t.Sequence[tuple[int, str, float]] = ()


def matching(identity: Identity, extra: t.Iterable[t.Mapping[str, t.Any]] = ()) -> list[t.Mapping[str, t.Any]]:
    """Entries of the table, and of a site's own, that apply to this BMC; later ones win."""
    return [entry for entry in (*QUIRKS, *extra) if _applies(entry["match"], identity)]


def behaviour_of(identity: Identity, extra: t.Iterable[t.Mapping[str, t.Any]] = ()) -> Behaviour:
    behaviour = Behaviour()
    for entry in matching(identity, extra):
        behaviour = dataclasses.replace(behaviour, **entry["behaviour"])
    return behaviour


def asks_for_manager(identity: Identity, extra: t.Iterable[t.Mapping[str, t.Any]] = ()) -> bool:
    """Whether an entry applies or not by what only the manager tells, which costs a request."""
    for entry in (*QUIRKS, *extra):
        others = {name: value for name, value in entry["match"].items() if name not in OF_MANAGER}
        if len(others) < len(entry["match"]) and (not others or _applies(others, identity)):
            return True
    return False


def load(address: str, path: str) -> tuple[t.Mapping[str, t.Any], ...]:
    """A site's own entries, from a JSON file."""
    place = os.path.expanduser(path)
    try:
        return _loaded(place, os.stat(place).st_mtime_ns)
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise BmcOptionError(
            address, f"the file of quirks {path} cannot be used: {why}", hint="docs/bmc.md says what it holds"
        ) from exc


@functools.lru_cache(maxsize=16)
def _loaded(place: str, _mtime: int) -> tuple[t.Mapping[str, t.Any], ...]:
    with open(place, encoding="utf-8") as file:
        entries = json.load(file)
    if not isinstance(entries, list):
        raise ValueError("it is not a list")
    for number, entry in enumerate(entries, 1):
        problem = _problem(entry)
        if problem:
            name = entry.get("name") if isinstance(entry, dict) else None
            raise ValueError(f"entry {name or number}: {problem}")
    return tuple(entries)


def _problem(entry: t.Any) -> str | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("match"), dict) or not entry["match"]:
        return "it has no match"
    if not isinstance(entry.get("behaviour"), dict):
        return "it has no behaviour"
    conditions = [field.name for field in dataclasses.fields(Identity)] + list(_RANGE)
    for name, pattern in entry["match"].items():
        if name not in conditions:
            return f"match has {name}; it knows {', '.join(conditions)}"
        try:
            re.compile(pattern)
        except (re.error, TypeError) as exc:
            return f"match.{name} is no regular expression ({exc})"
        if name in _RANGE and not _version(pattern):
            return f"match.{name} is no version"
    defaults = dataclasses.asdict(Behaviour())
    for name, value in entry["behaviour"].items():
        if name not in defaults:
            return f"behaviour has {name}; it knows {', '.join(defaults)}"
        kinds = (list, tuple) if isinstance(defaults[name], (list, tuple)) else type(defaults[name])
        if not isinstance(value, kinds):
            return f"behaviour.{name} has to be a {type(defaults[name]).__name__}"
    return None


def _applies(match: t.Mapping[str, str], identity: Identity) -> bool:
    """All conditions hold. A value that is not known does not match, so a quirk never applies by accident."""
    return bool(match) and all(_holds(name, wanted, identity) for name, wanted in match.items())


def _holds(name: str, wanted: str, identity: Identity) -> bool:
    if name not in _RANGE:
        return bool(re.search(wanted, getattr(identity, name), re.IGNORECASE))
    found, bound = _version(identity.firmware), _version(wanted)
    return bool(found) and (found >= bound if name == "firmware_from" else found < bound)


def _version(said: str) -> tuple[int, ...]:
    """The numbers of a version, in order. Of several words the first that has a dot counts."""
    words = re.findall(r"\d+(?:\.\d+)+", said) or re.findall(r"\d+", said)
    return tuple(int(number) for number in words[0].split(".")) if words else ()


def _text(value: t.Any) -> str:
    return value.strip() if isinstance(value, str) else ""
