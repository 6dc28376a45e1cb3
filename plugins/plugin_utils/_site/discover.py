# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""From what a scan of BMCs found to a piece of site model for those that the model does not have."""

from __future__ import annotations

import collections
import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Discovery", "discover"]

_NO_SERIAL = re.compile(
    r"^[\W0x]*$|^(n/?a|none|null|unknown|default|not |to be filled|system serial|0?123456789)", re.I
)
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Discovery:
    known: list[dict[str, str]] = field(default_factory=list)
    """Servers of the model that were met: C(name), C(address), and C(by), what told it."""
    unknown: list[dict[str, Any]] = field(default_factory=list)
    """Servers that the model does not have: C(name) (a proposal), C(address), C(also_at), C(profile), C(hardware)."""
    failed: list[dict[str, str]] = field(default_factory=list)
    """BMCs that answered and could not be read, with the reason. Addresses where nothing is are not among them."""
    text: str = ""
    """The piece of site model; empty where nothing is unknown."""


def discover(found: Iterable[Record], servers: Iterable[Record] = ()) -> Discovery:
    """`found`: entries of bmc_scan; `servers`: those of the model, as inventory hosts have them in kiban_server."""
    result = Discovery()
    owners = {str(server["bmc"]["address"]): str(server["name"]) for server in servers}
    entries = list(found)
    # Those whose address the model has come first: by what is read of them, others turn out to be the same server.
    entries.sort(key=lambda entry: _host(entry["address"]) not in owners and not entry.get("name"))
    identities: list[tuple[Record, str]] = []
    fresh: list[dict[str, Any]] = []
    for entry in entries:
        address, hardware = str(entry["address"]), entry.get("hardware")
        owner = entry.get("name") or owners.get(_host(address))
        if hardware is None:
            failure = entry.get("failure") or {}
            if failure.get("kind") != "unreachable" or owner:
                reason = {"kind": str(failure.get("kind")), "message": str(failure.get("message"))}
                result.failed.append({"address": address, "name": owner or "", **reason})
            continue
        system = hardware.get("system") or {}
        if owner:
            result.known.append({"name": owner, "address": address, "by": "address"})
            identities.append((system, owner))
            continue
        twin = next((name for other, name in identities if _same(system, other)), None)
        if twin is not None:
            result.known.append({"name": twin, "address": address, "by": "serial number or uuid"})
            continue
        double = next((one for one in fresh if _same(system, one["hardware"]["system"] or {})), None)
        if double is not None:
            double["also_at"].append(address)
            continue
        fresh.append({"address": address, "also_at": [], "hardware": hardware})
    taken = set(owners.values())
    profiles = _profiles(fresh)
    for one, profile in zip(fresh, profiles, strict=True):
        name = _name(one, taken)
        taken.add(name)
        result.unknown.append({"name": name, "profile": profile, **one})
    text = _text(result.unknown) if result.unknown else ""
    return Discovery(result.known, result.unknown, result.failed, text)


def _host(address: str) -> str:
    """The address without scheme, path and the usual port, as the model has it."""
    bare = re.sub(r"^https?://", "", address).split("/")[0]
    return bare.removesuffix(":443").strip("[]") if bare.endswith((":443", "]")) else bare


def _same(one: Record, other: Record) -> bool:
    """Whether these are one server. Some makers give every board the same UUID or serial number, so none may differ."""
    agreed = []
    for key, usable in (("uuid", _uuid), ("serial_number", _serial)):
        mine, theirs = usable(one.get(key)), usable(other.get(key))
        if mine and theirs:
            agreed.append(mine == theirs)
    return bool(agreed) and all(agreed)


def _uuid(value: Any) -> str:
    digits = re.sub(r"[^0-9a-f]", "", str(value or "").lower())
    return digits if len(digits) == 32 and len(set(digits)) > 2 else ""


def _serial(value: Any) -> str:
    text = str(value or "").strip()
    return "" if not text or _NO_SERIAL.match(text) else text.lower()


def _label(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50].strip("-")


def _name(one: Record, taken: Collection[str]) -> str:
    serial = _serial((one["hardware"].get("system") or {}).get("serial_number"))
    return _free(f"server-{_label(serial) or _label(one['address'])}", taken)


def _free(base: str, taken: Collection[str]) -> str:
    names = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


def _profiles(fresh: Sequence[Record]) -> list[str]:
    """A name of a profile for each: servers of one model with the same memory and drives share one."""
    names: dict[tuple[Any, ...], str] = {}
    for kind in map(_kind, fresh):
        if kind not in names:
            names[kind] = _free(_label(str(kind[0] or "")) or "server", names.values())
    return [names[kind] for kind in map(_kind, fresh)]


def _kind(one: Record) -> tuple[Any, ...]:
    system = one["hardware"].get("system") or {}
    return (system.get("model"), system.get("manufacturer"), _memory(one["hardware"]), _drive_kinds(one["hardware"]))


def _memory(hardware: Record) -> int | None:
    return (hardware.get("memory") or {}).get("total_mib")


def _drive_kinds(hardware: Record) -> tuple[tuple[int, str, str, int], ...]:
    """How many drives of which protocol, medium and capacity, the smallest first."""
    drives = (hardware.get("storage") or {}).get("drives") or []
    counted = collections.Counter(
        (str(d.get("protocol") or "?"), str(d.get("media_type") or "?"), int(d.get("capacity_bytes") or 0))
        for d in drives
    )
    return tuple((count, *kind) for kind, count in sorted(counted.items(), key=lambda item: item[0][2]))


def _text(unknown: Sequence[Record]) -> str:
    lines = [
        "---",
        "# Servers that were found and are not in the site model. Look at it, edit it, and move it into the site file:",
        "# the names, racks, roles and node addresses are for you to say; null is not accepted there.",
        "profiles:",
    ]
    by_profile: dict[str, list[Record]] = {}
    for one in unknown:
        by_profile.setdefault(one["profile"], []).append(one)
    for profile, members in by_profile.items():
        lines += _profile_text(profile, members)
    lines += ["racks:", "  - name: rack1  # where they are", "    servers:"]
    for one in unknown:
        lines += _server_text(one)
    return "\n".join(lines) + "\n"


def _profile_text(name: str, members: Sequence[Record]) -> list[str]:
    hardware = members[0]["hardware"]
    system, kinds = hardware.get("system") or {}, _drive_kinds(hardware)
    expect = [f"memory.total_mib >= `{_memory(hardware)}`"] if _memory(hardware) else []
    if kinds:
        expect.append(f"length(storage.drives) >= `{sum(kind[0] for kind in kinds)}`")
    small = next((kind for kind in kinds if kind[2] == "SSD" and kind[3]), None)
    return [
        f"  {name}:  # {len(members)} x {_comment(_words(system.get('manufacturer'), system.get('model')))}",
        f"    expect: {json.dumps(expect)}",
        "    disks:",
        f"      # drives of the first: {_comment(_drives_text(kinds))}. Choose the one for the operating system:",
        f"      system: {{select: {json.dumps(_select(small))}, count: 1}}",
    ]


def _select(kind: tuple[int, str, str, int] | None) -> str:
    """The smallest solid-state drives. A tenth more, since a system may count other bytes than the BMC."""
    return f"media_type == 'SSD' && capacity_bytes < `{kind[3] * 11 // 10}`" if kind else "media_type == 'SSD'"


def _server_text(one: Record) -> list[str]:
    hardware = one["hardware"]
    system = hardware.get("system") or {}
    what = [
        _words(system.get("manufacturer"), system.get("model")),
        *(f"{word} {system[key]}" for key, word in _SYSTEM_WORDS.items() if system.get(key)),
    ]
    about = [", ".join(what), _processors_text(hardware), f"drives: {_drives_text(_drive_kinds(hardware))}"]
    about += [f"port {_port_text(port)}" for port in hardware.get("ports") or []]
    about += [f"this BMC also answers at {address}" for address in one["also_at"]]
    return [
        *(f"      # {_comment(line)}" for line in about if line),
        f"      - name: {one['name']}",
        "        roles: [worker]",
        f"        profile: {one['profile']}",
        f"        bmc: {json.dumps(_host(one['address']))}",
        "        addresses: {node: null}",
    ]


_SYSTEM_WORDS = {
    "serial_number": "serial number",
    "uuid": "uuid",
    "hostname": "host name",
    "bios_version": "BIOS",
    "power_state": "power",
    "health": "health",
}


def _processors_text(hardware: Record) -> str:
    models = collections.Counter(str(p.get("model") or p.get("type") or "?") for p in hardware.get("processors") or [])
    parts = [f"{count} x {model}" for model, count in models.items()]
    if _memory(hardware):
        dimms = len((hardware.get("memory") or {}).get("dimms") or [])
        parts.append(f"{_memory(hardware)} MiB" + (f" in {dimms} modules" if dimms else ""))
    return ", ".join(parts)


def _drives_text(kinds: Iterable[tuple[int, str, str, int]]) -> str:
    return ", ".join(f"{n} x {size / 1e9:.0f} GB {protocol} {medium}" for n, protocol, medium, size in kinds) or "none"


def _port_text(port: Record) -> str:
    lldp = port.get("lldp") or {}
    neighbour = _words(lldp.get("system_name") or lldp.get("chassis_id"), lldp.get("port_id"))
    speed = f"{port['speed_mbps']} Mbit/s" if port.get("speed_mbps") else None
    return _words(port.get("id"), port.get("mac"), port.get("link"), speed, neighbour and f"at {neighbour}")


def _words(*parts: Any) -> str:
    return " ".join(str(part) for part in parts if part)


def _comment(text: str) -> str:
    """What a BMC says must not end the comment that it stands in."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
