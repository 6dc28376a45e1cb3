# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""RAID volumes: kept, created with what the controller says that it takes, and deleted only where that is declared."""

from __future__ import annotations

import dataclasses
import re
import time
import typing as t

from .change import Change
from .errors import BmcNotFound, BmcOptionError, BmcUnsupported
from .power import Power
from .resource import Json, Resources, as_list, dig, link, links, text
from .task import Tasks, follow
from .wait import wait_for
from .write import perform, reporting

__all__ = ("Volume", "VolumePlan", "Volumes")

# VolumeType of services before Redfish had RAIDType.
_OLD_TYPES = {
    "NonRedundant": "RAID0",
    "Mirrored": "RAID1",
    "StripedWithParity": "RAID5",
    "SpannedMirrors": "RAID10",
    "SpannedStripesWithParity": "RAID50",
}
_LEAST = {"RAID1": 2, "RAID5": 3, "RAID6": 4, "RAID10": 4, "RAID50": 6, "RAID60": 8}
# Our option -> property, for what can be changed later, and for what is set at creation.
_LATER = {"read_cache_policy": "ReadCachePolicy", "write_cache_policy": "WriteCachePolicy"}
_CREATE = {**_LATER, "raid_type": "RAIDType", "capacity_bytes": "CapacityBytes", "strip_size_bytes": "StripSizeBytes"}


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume as it is, or as it shall be; None where that is not known or left to the controller."""

    name: str | None
    raid_type: str | None
    drives: tuple[str, ...]  # Ids
    capacity_bytes: int | None = None
    strip_size_bytes: int | None = None
    read_cache_policy: str | None = None
    write_cache_policy: str | None = None
    uri: str | None = None
    names: tuple[str, ...] = ()

    def as_dict(self) -> Json:
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in ("uri", "names")}


@dataclasses.dataclass(frozen=True)
class VolumePlan:
    found: Volume | None
    create: Json | None = None
    update: Json | None = None
    delete: bool = False
    restart: str | None = None
    change: Change = dataclasses.field(default_factory=lambda: Change({}, {}))


class Volumes:
    """The volumes of one controller, named by its Id or its name; None: of the only one that has volumes."""

    def __init__(self, resources: Resources, power: Power, controller: str | None = None) -> None:
        self._resources = resources
        self._power = power
        self._wanted_controller = controller
        self.address = resources.address

    def plan(self, state: str, wanted: Volume, restart: str | None = None) -> VolumePlan:
        """What has to be done; nothing is sent that changes something."""
        wanted = dataclasses.replace(wanted, drives=tuple(self._drive(name) for name in wanted.drives))
        volumes = self.read()
        found = self._match(wanted, volumes)
        before = {"volume": found.as_dict() if found else None}
        if state == "absent":
            if found and wanted.drives and set(found.drives) != set(wanted.drives):
                raise self._other(found, wanted, "drives")
            return VolumePlan(found, delete=found is not None, restart=restart, change=Change(before, {"volume": None}))
        if found is None:
            body = self._payload(wanted, volumes)
            change = Change(before, {"volume": wanted.as_dict()})
            return VolumePlan(None, create=body, restart=restart, change=change)
        update = self._update(found, wanted)
        after = {**found.as_dict(), **{o: update[p] for o, p in self._names(found).items() if p in update}}
        return VolumePlan(found, update=update, change=Change(before, {"volume": after}))

    def apply(self, plan: VolumePlan, wanted: Volume, timeout: float) -> tuple[Volume | None, bool]:
        """Do it. Gives the volume, and whether the BMC keeps the work for a reset."""
        deadline = time.monotonic() + timeout
        collection = self._collection()
        drives = tuple(self._drive(name) for name in wanted.drives)
        wanted = dataclasses.replace(wanted, drives=drives)
        done: list[str] = []
        with reporting(done):
            if plan.update and plan.found and plan.found.uri:
                self._patch(plan.found.uri, plan.update, deadline)
            if plan.create is None and not plan.delete:
                return self._match(wanted, self.read()), False
            later = "Immediate" not in (self._apply_times() or ["Immediate"])
            if later and plan.restart:
                # Only one job a controller: what waits already goes first, and may be the very work that is wanted.
                waiting = Tasks(self._resources).scheduled()
                if waiting:
                    self._restart(plan.restart, done, deadline)
                    for uri in waiting:
                        follow(
                            self._resources.session, uri, max(1.0, deadline - time.monotonic()), f"earlier work {uri}"
                        )
                    if (self._match(wanted, self.read()) is None) is plan.delete:
                        return self._match(wanted, self.read()), False

            def shows() -> bool:
                return (self._match(wanted, self.read()) is None) is plan.delete

            session, resources = self._resources.session, self._resources
            if plan.delete and plan.found and plan.found.uri:
                uri, what = plan.found.uri, f"deleted the volume {plan.found.name}"
                outcome = perform(resources, lambda: resources.delete(uri), uri, what, deadline, shows, True, later)
            else:
                body, what = plan.create or {}, f"created the volume {wanted.name}"
                outcome = perform(
                    resources, lambda: session.post(collection, body), collection, what, deadline, shows, True, later
                )
            done.append(f"{what}, to be done at the next reset" if outcome.scheduled else what)
            if outcome.scheduled and not plan.restart:
                return plan.found, True
            if outcome.scheduled and plan.restart:
                self._restart(plan.restart, done, deadline)
                if outcome.task:
                    left = max(1.0, deadline - time.monotonic())
                    follow(session, outcome.task, left, f"work {outcome.task}")
                wait_for(shows, bool, max(1.0, deadline - time.monotonic()))
            found = self._match(wanted, self.read())
            if found and found.uri and plan.create is not None:
                # Some controllers take the name only afterwards.
                rest = self._update(found, wanted)
                if rest:
                    self._patch(found.uri, rest, deadline)
                    found = self._match(wanted, self.read())
            return found, False

    def read(self) -> list[Volume]:
        """The volumes of the controller. Bare drives that a BMC lists as volumes do not count."""
        found = self._resources.fresh_members(self._collection())
        named = {
            uri.rstrip("/").lower(): str(self._resources.get(uri)["Id"]) for uri in links(self._storage().get("Drives"))
        }
        return [_volume(body, named) for body in found if body.get("VolumeType") != "RawDevice"]

    # -- below: what is there

    def _match(self, wanted: Volume, volumes: t.Sequence[Volume]) -> Volume | None:
        named = [volume for volume in volumes if wanted.name in volume.names]
        if len(named) > 1:
            raise BmcOptionError(
                self.address,
                f"{len(named)} volumes are named {wanted.name}",
                hint="Rename them on the BMC's own page, so that a name means one volume",
            )
        if named:
            return named[0]
        # Some controllers name volumes themselves; the same drives are the same volume.
        return next((v for v in volumes if wanted.drives and set(v.drives) == set(wanted.drives)), None)

    def _storage(self) -> Json:
        uri = link(self._resources.system(), "Storage")
        try:
            members = self._resources.members(uri, needed=True) if uri else []
        except BmcNotFound as exc:
            exc.hint = "Some BMCs show storage only while the server is on: switch it on with bmc_power, then run again"
            raise
        name = self._wanted_controller
        if name is not None:
            fits = [body for body in members if name in (body.get("Id"), body.get("Name"))]
        else:
            fits = [body for body in members if link(body, "Volumes")]
        if len(fits) == 1 and link(fits[0], "Volumes"):
            return fits[0]
        known = ", ".join(f"{body.get('Id')} ({body.get('Name')})" for body in members) or "none"
        if len(fits) == 1 or not members:
            raise BmcUnsupported(
                self.address,
                f"its controller {name or ''} has no volumes (controllers: {known})",
                hint="It may be no RAID controller, or in HBA mode, or show volumes only while the server is on",
            )
        raise BmcOptionError(
            self.address,
            f"the controller {name} is not one of its controllers"
            if name
            else "it has several controllers with volumes",
            hint=f"Name one as controller: {known}",
        )

    def _collection(self) -> str:
        return str(link(self._storage(), "Volumes"))

    def _drive(self, name: str) -> str:
        """The Id of a drive that is named by its Id or its serial number."""
        drives = [self._resources.get(uri) for uri in links(self._storage().get("Drives"))]
        fits = [body for body in drives if name in (text(body.get("SerialNumber")), text(body.get("Id")))]
        if len(fits) == 1:
            return str(fits[0]["Id"])
        known = ", ".join(f"{body.get('Id')} ({body.get('SerialNumber')})" for body in drives) or "none"
        raise BmcOptionError(
            self.address,
            f"its controller {self._storage().get('Id')} has {'no' if not fits else 'more than one'} drive {name}",
            hint=f"Name drives by Id or serial number: {known}",
        )

    def _apply_times(self) -> list[str]:
        offered = dig(self._resources.get(self._collection()), "@Redfish.OperationApplyTimeSupport", "SupportedValues")
        return [str(item) for item in offered] if isinstance(offered, list) else []

    # -- below: what to send

    def _payload(self, wanted: Volume, volumes: t.Sequence[Volume]) -> Json:
        used = {drive: volume.name for volume in volumes for drive in volume.drives}
        taken = [f"{drive} (in {used[drive]})" for drive in wanted.drives if drive in used]
        if taken:
            raise BmcOptionError(
                self.address,
                f"drives for the volume {wanted.name} are in use: {', '.join(taken)}",
                hint="A volume is deleted only where that is declared: bmc_volume with state: absent",
            )
        least = _LEAST.get(wanted.raid_type or "", 1)
        if len(wanted.drives) < least:
            raise BmcOptionError(self.address, f"{wanted.raid_type} takes at least {least} drives")
        capabilities = self._capabilities()
        by_id = {str(self._resources.get(uri).get("Id")): uri for uri in links(self._storage().get("Drives"))}
        body: Json = {"Links": {"Drives": [{"@odata.id": by_id[drive]} for drive in wanted.drives]}}
        for option, name in _CREATE.items():
            value = getattr(wanted, option)
            if value is not None:
                body[name] = value
        names = ("Name", "DisplayName")
        key = next((name for name in names if capabilities is None or _taken(capabilities, name)), None)
        if wanted.name and key:
            body[key] = wanted.name
        self._check(body, capabilities)
        times = self._apply_times()
        if times:
            body["@Redfish.OperationApplyTime"] = "Immediate" if "Immediate" in times else times[0]
        return body

    def _capabilities(self) -> Json | None:
        collection = self._resources.get(self._collection())
        for item in as_list(dig(collection, "@Redfish.CollectionCapabilities", "Capabilities")):
            if item.get("UseCase") in (None, "VolumeCreation"):
                return self._resources.maybe(link(item, "CapabilitiesObject"))
        return None

    def _check(self, body: Json, capabilities: Json | None) -> None:
        """Against what the controller says that it takes."""
        if capabilities is None:
            offered = self._raid_types()
            if offered and body["RAIDType"] not in offered:
                raise self._cannot(f"a volume of {body['RAIDType']} (it offers: {', '.join(offered)})")
            return
        for name, value in body.items():
            if not _taken(capabilities, name):
                raise self._cannot(f"{name} at the creation of a volume")
            reason = _outside(capabilities, name, value)
            if reason:
                raise self._cannot(f"{name} {value} ({reason})")
        mark = "@Redfish.RequiredOnCreate"
        missing = [k[: -len(mark)] for k, v in capabilities.items() if k.endswith(mark) and v is True]
        missing = [name for name in missing if name not in body]
        if missing:
            raise self._cannot(f"a volume without {', '.join(missing)}, for which there is no option")

    def _raid_types(self) -> list[str]:
        storage = self._storage()
        controllers = as_list(storage.get("StorageControllers")) or self._resources.members(
            link(storage, "Controllers")
        )
        found: list[str] = []
        for body in controllers:
            values = body.get("SupportedRAIDTypes")
            found.extend(str(value) for value in values if value) if isinstance(values, list) else None
        return found

    def _update(self, found: Volume, wanted: Volume) -> Json:
        for option in ("raid_type", "drives", "strip_size_bytes"):
            have, want = getattr(found, option), getattr(wanted, option)
            same = set(have) == set(want) if option == "drives" else have == want
            if want and have and not same:
                raise self._other(found, wanted, option)
        sizes = found.capacity_bytes, wanted.capacity_bytes
        if sizes[0] and sizes[1] and abs(sizes[0] - sizes[1]) > sizes[1] // 100:  # controllers round
            raise self._other(found, wanted, "capacity_bytes")
        body = self._resources.get(str(found.uri))
        writable = body.get("@Redfish.WriteableProperties")
        update: Json = {}
        for option, name in self._names(found).items():
            want = getattr(wanted, option)
            if want is None or want == getattr(found, option) or (option == "name" and want in found.names):
                continue
            possible = name in writable if isinstance(writable, list) else name in body
            if possible:
                update[name] = want
            elif option != "name":
                raise self._cannot(f"a change of {name} of an existing volume")
        return update

    def _names(self, found: Volume) -> dict[str, str]:
        body = self._resources.get(str(found.uri))
        return {"name": "DisplayName" if "DisplayName" in body else "Name", **_LATER}

    def _patch(self, uri: str, update: Json, deadline: float) -> None:
        settings = dig(self._resources.get(uri), "@Redfish.Settings")
        target = text(dig(settings, "SettingsObject", "@odata.id")) or uri
        body = dict(update)
        if target != uri and "Immediate" in (dig(settings, "SupportedApplyTimes") or ()):
            body["@Redfish.SettingsApplyTime"] = {"ApplyTime": "Immediate"}

        def shows() -> bool:
            now = self._resources.get(uri, fresh=True)
            return all(now.get(name) == value for name, value in update.items())

        what = f"changed {', '.join(update)} of the volume"
        if target != uri:
            self._resources.get(target, fresh=True)
        perform(self._resources, lambda: self._resources.patch(target, body), target, what, deadline, shows, True)

    def _restart(self, method: str, done: list[str], deadline: float) -> None:
        steps = self._power.plan("restarted", method)
        self._power.apply(steps, max(1.0, deadline - time.monotonic()))
        done.append("restarted the server")

    def _cannot(self, what: str) -> BmcUnsupported:
        storage = self._storage().get("Id")
        return BmcUnsupported(self.address, f"its controller {storage} does not take {what}")

    def _other(self, found: Volume, wanted: Volume, option: str) -> BmcOptionError:
        have, want = getattr(found, option), getattr(wanted, option)
        shown = [", ".join(value) if isinstance(value, tuple) else value for value in (have, want)]
        return BmcOptionError(
            self.address,
            f"the volume {found.name} is there with {option} {shown[0]}, not {shown[1]}; it is left as it is",
            hint="A volume is never replaced by itself. Delete it with state: absent where its data may be lost",
        )


def _volume(body: Json, drives_by_uri: t.Mapping[str, str]) -> Volume:
    def number(name: str) -> int | None:
        value = body.get(name)
        return value if isinstance(value, int) else None

    names = tuple(dict.fromkeys(n for n in (text(body.get("DisplayName")), text(body.get("Name"))) if n))
    uris = (uri.rstrip("/") for uri in links(dig(body, "Links", "Drives")))
    return Volume(
        name=names[0] if names else text(body.get("Id")),
        raid_type=text(body.get("RAIDType")) or _OLD_TYPES.get(str(body.get("VolumeType"))),
        # By what the drives call themselves: the same URI may come in another case.
        drives=tuple(sorted(drives_by_uri.get(uri.lower(), uri.rsplit("/", 1)[-1]) for uri in uris)),
        capacity_bytes=number("CapacityBytes"),
        strip_size_bytes=number("StripSizeBytes"),
        read_cache_policy=text(body.get("ReadCachePolicy")),
        write_cache_policy=text(body.get("WriteCachePolicy")),
        uri=str(body["@odata.id"]),
        names=names,
    )


def _taken(capabilities: Json, name: str) -> bool:
    return any(capabilities.get(f"{name}@Redfish.{mark}OnCreate") is True for mark in ("Required", "Optional"))


def _outside(capabilities: Json, name: str, value: t.Any) -> str | None:
    """Why a value is not one that is allowed, None where it is."""
    values = capabilities.get(f"{name}@Redfish.AllowableValues")
    if isinstance(values, list) and values and value not in values:
        return f"it offers: {', '.join(map(str, values))}"
    numbers = capabilities.get(f"{name}@Redfish.AllowableNumbers")
    if isinstance(numbers, list) and numbers and not any(_within(str(item), value) for item in numbers):
        return f"it offers: {', '.join(map(str, numbers))}"
    pattern = capabilities.get(f"{name}@Redfish.AllowablePattern")
    if isinstance(pattern, str) and isinstance(value, str):
        try:
            return None if re.search(pattern, value) else f"it has to look like {pattern}"
        except re.error:
            return None
    return None


def _within(item: str, value: t.Any) -> bool:
    """A number, or a range `low:high` that may be open at an end."""
    low, colon, high = item.partition(":")
    try:
        if not colon:
            return float(low) == float(value)
        return (not low or float(low) <= value) and (not high or value <= float(high.split(":")[0]))
    except (TypeError, ValueError):
        return True
