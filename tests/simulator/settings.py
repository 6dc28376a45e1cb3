# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pending settings: BIOS attributes, boot settings objects, secure boot. Applied at a start of the server."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from .messages import Json, Refusal, Reply, message
from .patching import changed, check, merge, patch
from .power import parameter
from .tree import Tree, link, schema

if TYPE_CHECKING:
    from .bmc import Bmc, Call

JOB = "BIOS settings"  # the name of the work
_USUAL = ("Settings", "SD", "Pending")


def find(tree: Tree) -> dict[str, str]:
    """Settings objects and the resources that they belong to; also those that nothing names (Gigabyte)."""
    found: dict[str, str] = {}
    for kind in ("Bios", "ComputerSystem", "EthernetInterface", "Storage", "Volume", "SecureBoot"):
        for uri in tree.of_schema(kind):
            named = link(tree.need(uri), "@Redfish.Settings", "SettingsObject")
            guesses = [f"{uri}/{name}" for name in _USUAL] if kind == "Bios" else []
            if kind == "ComputerSystem":
                guesses = [f"{uri}/{name}" for name in _USUAL if schema(tree.get(f"{uri}/{name}") or {}) == kind]
            for settings in [named] if named else guesses:
                if settings != uri and tree.get(settings) is not None and tree.key(settings) not in found.values():
                    found[tree.key(settings)] = tree.key(uri)
    return {settings: uri for settings, uri in found.items() if uri not in found}


def patch_pending(bmc: Bmc, call: Call, uri: str) -> Reply:
    owner = bmc.settings[uri]
    kind = schema(bmc.tree.need(owner))
    if kind == "Bios":
        return _patch_bios(bmc, call, uri, owner)
    sent = {name: value for name, value in call.body.items() if not name.startswith("@")}
    check(bmc, sent, bmc.tree.need(owner), kind)
    bmc.power.check_post(call, owner)
    merge(bmc.tree.edit(uri), sent)
    if kind == "ComputerSystem":
        bmc.power.patched(uri, sent)
        merge(bmc.tree.edit(owner), sent)
        bmc.power.patched(owner, sent)
    return changed(bmc, uri)


def _patch_bios(bmc: Bmc, call: Call, uri: str, owner: str) -> Reply:
    profile = bmc.profile
    sent = call.body.get("Attributes")
    if not isinstance(sent, dict):
        raise Refusal(400, "PropertyMissing", "Attributes")
    extra = [name for name in call.body if name not in ("Attributes", "@Redfish.SettingsApplyTime")]
    if extra:
        raise Refusal(400, "PropertyUnknown", extra[0])
    current = bmc.tree.need(owner).get("Attributes") or {}
    _check_attributes(bmc, owner, sent, current)
    bmc.power.check_post(call, owner)
    jobs = [work for work in bmc.tasks.waiting() if work.name == JOB]
    if jobs and profile.bios_locked_by_job:
        raise Refusal(
            503,
            "IDRAC.2.8.SYS011",
            text="Pending configuration values are already committed, unable to perform another set operation.",
        )
    when = _apply_time(bmc, call, owner)
    _add_pending(bmc, uri, owner, sent)
    if profile.bios_needs_apply_time:
        if when is None:
            return changed(bmc, uri)
        return _start_job(bmc, call, uri, owner, when)
    if when in ("Immediate",):
        return _start_job(bmc, call, uri, owner, when)
    if not jobs and when is not None:
        return _start_job(bmc, call, uri, owner, when)
    return changed(bmc, uri)


def _start_job(bmc: Bmc, call: Call, uri: str, owner: str, when: str) -> Reply:
    def finish() -> None:
        apply(bmc, uri, owner)

    seconds = bmc.profile.bios_seconds
    waits = when in ("OnReset", "InMaintenanceWindowOnReset")
    pause = 0.0
    if "MaintenanceWindow" in when:
        start = call.body["@Redfish.SettingsApplyTime"].get("MaintenanceWindowStartTime")
        pause = max(0.0, (_date(start) - bmc.clock.date()).total_seconds())
    if waits:
        return bmc.tasks.start(call, JOB, finish, seconds=seconds, on_reset=True)
    return bmc.tasks.start(call, JOB, finish, seconds=pause + seconds)


def _date(value: Any) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
    except ValueError:
        raise Refusal(400, "PropertyValueFormatError", value, "MaintenanceWindowStartTime") from None


def _apply_time(bmc: Bmc, call: Call, owner: str) -> str | None:
    given = call.body.get("@Redfish.SettingsApplyTime")
    if given is None:
        return None
    when = given.get("ApplyTime") if isinstance(given, dict) else None
    offered = (bmc.tree.need(owner).get("@Redfish.Settings") or {}).get("SupportedApplyTimes")
    if not offered:
        raise Refusal(400, "PropertyUnknown", "@Redfish.SettingsApplyTime")
    if not isinstance(when, str) or when not in offered:
        raise Refusal(400, "PropertyValueNotInList", when, "ApplyTime")
    if "MaintenanceWindow" in when and "MaintenanceWindowStartTime" not in given:
        raise Refusal(400, "PropertyMissing", "MaintenanceWindowStartTime")
    return str(when)


def _check_attributes(bmc: Bmc, owner: str, sent: Json, current: Json) -> None:
    known = _registry(bmc, owner)
    for name, value in sent.items():
        related = f"#/Attributes/{name}"
        if name not in current:
            raise Refusal(400, "PropertyUnknown", name, related=related)
        entry = known.get(name, {})
        if entry.get("ReadOnly"):
            raise Refusal(400, "PropertyNotWritable", name, related=related)
        values = [item.get("ValueName") for item in entry.get("Value") or []]
        if values and value not in values:
            raise Refusal(400, "PropertyValueNotInList", value, name, related=related)
        was = current[name]
        if was is not None and value is not None and type(value) is not type(was):
            raise Refusal(400, "PropertyValueTypeError", value, name, related=related)


def _registry(bmc: Bmc, owner: str) -> dict[str, Json]:
    name = bmc.tree.need(owner).get("AttributeRegistry")
    for uri in bmc.tree.of_schema("AttributeRegistry"):
        body = bmc.tree.need(uri)
        if name in (body.get("Id"), body.get("@Redfish.Copyright")) or str(body.get("Id", "")).startswith(f"{name}."):
            entries = (body.get("RegistryEntries") or {}).get("Attributes") or []
            return {entry["AttributeName"]: entry for entry in entries if "AttributeName" in entry}
    return {}


def pending(bmc: Bmc, uri: str, owner: str) -> Json:
    """What differs from the current values."""
    current = bmc.tree.need(owner).get("Attributes") or {}
    shown = bmc.tree.need(uri).get("Attributes") or {}
    return {name: value for name, value in shown.items() if current.get(name) != value}


def _add_pending(bmc: Bmc, uri: str, owner: str, sent: Json) -> None:
    current = bmc.tree.need(owner).get("Attributes") or {}
    wanted = {**pending(bmc, uri, owner), **sent}
    wanted = {name: value for name, value in wanted.items() if current.get(name) != value}
    _show_pending(bmc, uri, owner, wanted)


def prepare(bmc: Bmc) -> None:
    """Show settings objects as the profile has them while nothing is pending."""
    wrong = {"all": lambda shown: not shown, "absent": lambda shown: shown == {}}.get(bmc.profile.bios_pending)
    for uri, owner in bmc.settings.items():
        body = bmc.tree.need(uri)
        if schema(body) == "Bios" and wrong is not None and wrong(body.get("Attributes")):
            _show_pending(bmc, uri, owner, {})


def _show_pending(bmc: Bmc, uri: str, owner: str, wanted: Json) -> None:
    mode, body = bmc.profile.bios_pending, bmc.tree.edit(uri)
    if mode == "all":
        body["Attributes"] = {**(bmc.tree.need(owner).get("Attributes") or {}), **wanted}
    elif wanted or mode == "modified":
        body["Attributes"] = wanted
    else:
        body.pop("Attributes", None)


def apply(bmc: Bmc, uri: str, owner: str) -> None:
    wanted = pending(bmc, uri, owner)
    body = bmc.tree.edit(owner)
    body["Attributes"] = {**(body.get("Attributes") or {}), **wanted}
    info = body.get("@Redfish.Settings")
    if isinstance(info, dict):
        info["Time"] = bmc.clock.stamp()
        info["ETag"] = f'"{bmc.tree.etag(uri)}"'
        info["Messages"] = [message("Success")]
    _show_pending(bmc, uri, owner, {})


def server_reset(bmc: Bmc) -> None:
    """What is pending without a job is applied by the start itself, unless this BMC wants a job for it."""
    jobs = [work for work in bmc.tasks.waiting() if work.name == JOB]
    for uri, owner in bmc.settings.items():
        if schema(bmc.tree.need(owner)) != "Bios" or jobs or bmc.profile.bios_needs_apply_time:
            continue
        if pending(bmc, uri, owner):
            bmc.clock.after(bmc.profile.bios_seconds, lambda u=uri, o=owner: apply(bmc, u, o))  # type: ignore[misc]
    for uri in bmc.tree.of_schema("SecureBoot"):
        body = bmc.tree.need(uri)
        if "SecureBootEnable" in body:
            wanted = "Enabled" if body["SecureBootEnable"] else "Disabled"
            if body.get("SecureBootCurrentBoot") not in (None, wanted):
                bmc.tree.edit(uri)["SecureBootCurrentBoot"] = wanted


def reset_bios(bmc: Bmc, call: Call, uri: str) -> Reply:
    """All attributes go back to the defaults of the registry at the next start."""
    settings = next((s for s, owner in bmc.settings.items() if owner == bmc.tree.key(uri)), None)
    defaults = {
        name: entry["DefaultValue"]
        for name, entry in _registry(bmc, uri).items()
        if "DefaultValue" in entry and not entry.get("ReadOnly")
    }
    if settings is not None:
        _add_pending(bmc, settings, bmc.tree.key(uri), defaults)
    return Reply(204)


def reset_keys(bmc: Bmc, call: Call, uri: str) -> Reply:
    kind = parameter(bmc, call, uri, "SecureBoot.ResetKeys", "ResetKeysType")
    bmc.tree.edit(uri)["SecureBootMode"] = "SetupMode" if kind == "DeleteAllKeys" else "UserMode"
    return Reply(204)


def _patch_bios_itself(bmc: Bmc, call: Call, uri: str) -> Reply:
    raise Refusal(400, "PropertyNotWritable", next(iter(call.body), "Attributes"))


def _patch_system(bmc: Bmc, call: Call, uri: str) -> Reply:
    if bmc.profile.boot_on_settings and "Boot" in call.body:
        raise Refusal(400, "PropertyNotWritable", "Boot", related="#/Boot")
    return patch(bmc, call, uri)


def create_job(bmc: Bmc, call: Call, uri: str) -> Reply:
    """Dell: a configuration job for what is pending without one."""
    target = call.body.get("TargetSettingsURI")
    if not isinstance(target, str):
        raise Refusal(400, "PropertyMissing", "TargetSettingsURI")
    settings = bmc.tree.key(target)
    owner = bmc.settings.get(settings)
    if owner is None:
        raise Refusal(400, "PropertyValueNotInList", target, "TargetSettingsURI")
    if not pending(bmc, settings, owner):
        raise Refusal(400, "IDRAC.2.8.SYS404", text="There are no pending values to be committed.")
    if any(work.name == JOB for work in bmc.tasks.waiting()):
        raise Refusal(400, "IDRAC.2.8.RAC053", text="A job for this component is there already.")
    return _start_job(bmc, call, settings, owner, "OnReset")


CREATES = {"DellJobCollection": create_job}
ACTIONS = {"Bios.ResetBios": reset_bios, "SecureBoot.ResetKeys": reset_keys}
PATCHES = {"Bios": _patch_bios_itself, "ComputerSystem": _patch_system}
