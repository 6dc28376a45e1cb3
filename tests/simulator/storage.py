# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that are made and deleted by tasks, and the secure erase of drives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .messages import Json, Refusal, Reply
from .tree import dig, link, links

if TYPE_CHECKING:
    from .bmc import Bmc, Call

# RAID type -> fewest drives, and the part of their capacity that is left.
RAID = {
    "None": (1, lambda n: n),
    "RAID0": (1, lambda n: n),
    "RAID1": (2, lambda n: n / 2),
    "RAID5": (3, lambda n: n - 1),
    "RAID6": (4, lambda n: n - 2),
    "RAID10": (4, lambda n: n / 2),
    "RAID50": (6, lambda n: n - 2),
    "RAID60": (8, lambda n: n - 4),
}
_OLD = {"NonRedundant": "RAID0", "Mirrored": "RAID1", "StripedWithParity": "RAID5", "SpannedMirrors": "RAID10"}
_OPTIONAL = (
    "Name", "DisplayName", "CapacityBytes", "StripSizeBytes", "OptimumIOSizeBytes", "ReadCachePolicy",
    "WriteCachePolicy", "InitializeMethod", "InitMethod", "Encrypted", "VolumeType", "RAIDType", "Links", "Drives",
    "Oem",
)  # fmt: skip


def create(bmc: Bmc, call: Call, uri: str) -> Reply:
    """POST to a collection of volumes."""
    profile, storage = bmc.profile, _storage_of(bmc, uri)
    body = {name: value for name, value in call.body.items() if not name.startswith("@")}
    for name in body:
        if name not in _OPTIONAL:
            raise Refusal(400, "PropertyUnknown", name, related=f"#/{name}")
    for required in profile.volume_requires:
        if dig(body, *required.split("/")) in (None, [], ""):
            raise Refusal(400, "CreateFailedMissingReqProperties", required.split("/")[-1], related=f"#/{required}")
    name = body.get("DisplayName") or body.get("Name") or ""
    if len(name) > profile.volume_name_max:
        raise Refusal(400, "PropertyValueFormatError", name, "Name", related="#/Name")
    kind = body.get("RAIDType") or _OLD.get(str(body.get("VolumeType")), "RAID0")
    _check_raid(bmc, storage, kind)
    drives = _drives(bmc, storage, kind, links(dig(body, "Links", "Drives")) or links(body.get("Drives")))
    room = int(min(bmc.tree.need(drive).get("CapacityBytes") or 0 for drive in drives) * RAID[kind][1](len(drives)))
    capacity = body.get("CapacityBytes") or room
    if not isinstance(capacity, int) or capacity > room:
        raise Refusal(400, "PropertyValueOutOfRange", capacity, "CapacityBytes", related="#/CapacityBytes")
    when = _apply_time(bmc, call, storage)
    _busy(bmc, storage)

    def finish() -> None:
        _add(bmc, uri, storage, body, kind, capacity, drives)

    if profile.volume_status == 201:
        made = _add(bmc, uri, storage, body, kind, capacity, drives)
        return Reply(201, bmc.tree.encoded(made), {"Location": made})
    return bmc.tasks.start(call, "Create volume", finish, on_reset=when == "OnReset", controller=storage)


def delete(bmc: Bmc, call: Call, uri: str) -> Reply:
    body = bmc.tree.need(uri)
    collection = bmc.tree.parent(uri)
    if collection is None or body.get("VolumeType") == "RawDevice":
        raise Refusal(405, "ResourceCannotBeDeleted")
    storage = _storage_of(bmc, collection)
    # A body of DELETE carries the apply time on the BMCs that take it at all.
    when = _apply_time(bmc, call, storage, deleting=True)
    _busy(bmc, storage)

    def finish() -> None:
        for drive in links(dig(body, "Links", "Drives")):
            _unlink(bmc, drive, uri)
        bmc.tree.drop_member(collection, uri)

    if bmc.profile.volume_status == 201:
        finish()
        return Reply(204)
    return bmc.tasks.start(call, "Delete volume", finish, on_reset=when == "OnReset", controller=storage)


def initialize(bmc: Bmc, call: Call, uri: str) -> Reply:
    return bmc.tasks.start(call, "Initialize volume", lambda: None)


def erase(bmc: Bmc, call: Call, uri: str) -> Reply:
    """Drive.SecureErase. A drive of a volume is refused; while it runs the drive is Updating."""
    drive = bmc.tree.need(uri)
    if links(dig(drive, "Links", "Volumes")):
        raise Refusal(409, "ResourceInUse")
    running = f"Erase {uri}"
    if any(work.name == running for work in bmc.tasks.waiting()):
        raise Refusal(409, "ResourceInUse")
    body = bmc.tree.edit(uri)
    status = body["Status"] = dict(body.get("Status") or {})
    before = status.get("State")
    if before is not None:
        status["State"] = "Updating"

    def idle() -> None:
        if before is not None:
            bmc.tree.edit(uri)["Status"]["State"] = before

    def finish() -> None:
        idle()
        bmc.erased.append(uri)

    return bmc.tasks.start(call, running, finish, seconds=3 * bmc.profile.task_seconds, undo=idle)


# -- below


def _storage_of(bmc: Bmc, collection: str) -> str:
    parent = bmc.tree.parent(collection)
    if parent is None:
        raise KeyError(collection)
    return parent


def _check_raid(bmc: Bmc, storage: str, kind: Any) -> None:
    body = bmc.tree.need(storage)
    controllers = [c for c in body.get("StorageControllers") or [] if isinstance(c, dict)]
    controllers += [bmc.tree.get(uri) or {} for uri in bmc.tree.members(link(body, "Controllers") or "/")]
    offered = [kind for controller in controllers for kind in controller.get("SupportedRAIDTypes") or []]
    if kind not in RAID or (offered and kind not in offered):
        raise Refusal(400, "PropertyValueNotInList", kind, "RAIDType", related="#/RAIDType")


def _drives(bmc: Bmc, storage: str, kind: str, wanted: list[str]) -> list[str]:
    own = [bmc.tree.key(uri) for uri in links(bmc.tree.need(storage).get("Drives"))]
    free = [uri for uri in own if not links(dig(bmc.tree.get(uri) or {}, "Links", "Volumes"))]
    given = [bmc.tree.key(uri) for uri in wanted] or free
    for uri in given:
        if uri not in own:
            raise Refusal(400, "PropertyValueNotInList", uri, "Drives", related="#/Links/Drives")
        if uri not in free:
            raise Refusal(409, "ResourceInUse")
    if len(given) < RAID[kind][0]:
        raise Refusal(400, "PropertyValueConflict", "RAIDType", "Drives", related="#/RAIDType")
    return given


def _apply_time(bmc: Bmc, call: Call, storage: str, deleting: bool = False) -> str | None:
    try:
        given = call.body if isinstance(call.body, dict) else json.loads(call.data or b"{}")
    except ValueError:
        raise Refusal(400, "MalformedJSON") from None
    when = given.get("@Redfish.OperationApplyTime")
    offered = _offered(bmc, storage)
    if when is None:
        return offered[0] if offered else None
    if deleting and not bmc.profile.volume_delete_takes_apply_time:
        raise Refusal(400, "IDRAC.2.8.SYS029", text="Unable to apply the configuration at the requested time.")
    if when not in offered:
        raise Refusal(400, "PropertyValueNotInList", when, "@Redfish.OperationApplyTime")
    return str(when)


def _offered(bmc: Bmc, storage: str) -> tuple[str, ...]:
    """Apply times that the collection of volumes names, else those of the profile."""
    volumes = bmc.tree.get(link(bmc.tree.need(storage), "Volumes") or "/") or {}
    named = dig(volumes, "@Redfish.OperationApplyTimeSupport", "SupportedValues")
    return tuple(named) if isinstance(named, list) else bmc.profile.volume_apply_times


def _busy(bmc: Bmc, storage: str) -> None:
    if bmc.profile.one_task_per_controller and bmc.tasks.waiting(storage):
        raise Refusal(409, "IDRAC.2.8.SYS518", text="A configuration job for the controller is pending. Retry later.")


def _add(bmc: Bmc, collection: str, storage: str, body: Json, kind: str, capacity: int, drives: list[str]) -> str:
    taken = {uri.rsplit("/", 1)[-1] for uri in bmc.tree.members(collection)}
    number = next(str(n) for n in range(1, 1000) if str(n) not in taken)
    uri = f"{collection}/{number}"
    name = body.get("DisplayName") or body.get("Name") or f"Volume {number}"
    volume: Json = {
        "@odata.id": uri,
        "@odata.type": "#Volume.v1_9_0.Volume",
        "Id": number,
        "Name": name,
        "DisplayName": name,
        "RAIDType": kind,
        "CapacityBytes": capacity,
        "Status": {"State": "Enabled", "Health": "OK"},
        "Links": {"Drives": [{"@odata.id": drive} for drive in drives]},
        "Actions": {"#Volume.Initialize": {"target": f"{uri}/Actions/Volume.Initialize"}},
    }
    for extra in ("StripSizeBytes", "ReadCachePolicy", "WriteCachePolicy", "Encrypted"):
        if extra in body:
            volume[extra] = body[extra]
    bmc.tree.add_member(collection, uri, volume)
    for drive in drives:
        links_of = bmc.tree.edit(drive).setdefault("Links", {})
        links_of["Volumes"] = [*(links_of.get("Volumes") or []), {"@odata.id": uri}]
        links_of["Volumes@odata.count"] = len(links_of["Volumes"])
    return uri


def _unlink(bmc: Bmc, drive: str, volume: str) -> None:
    if bmc.tree.get(drive) is None:
        return
    links_of = bmc.tree.edit(drive).setdefault("Links", {})
    gone = bmc.tree.key(volume)
    links_of["Volumes"] = [v for v in links_of.get("Volumes") or [] if bmc.tree.key(v.get("@odata.id", "")) != gone]
    links_of["Volumes@odata.count"] = len(links_of["Volumes"])


ACTIONS = {"Drive.SecureErase": erase, "Volume.Initialize": initialize}
CREATES = {"VolumeCollection": create}
DELETES = {"Volume": delete}
