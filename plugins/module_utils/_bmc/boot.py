# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""The boot override: what the server boots from next, or from now on."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from .errors import BmcAuthError, BmcError, BmcRefused, BmcTimeout, BmcUncertain, BmcUnsupported
from .quirk import Behaviour
from .resource import Json, Resources, dig, text
from .task import finish
from .wait import wait_for
from .write import BROKEN_PATIENCE, passing, reporting, unclear

__all__ = ("Boot", "BootState")

# Our names and those of Redfish, in order of preference.
TARGETS: dict[str, tuple[str, ...]] = {
    "none": ("None",),
    "disk": ("Hdd",),
    "cd": ("Cd", "UsbCd"),
    "pxe": ("Pxe",),
    "uefi_http": ("UefiHttp",),
}
_TARGETS = "BootSourceOverrideTarget@Redfish.AllowableValues"
_ENABLED = {"once": "Once", "continuous": "Continuous"}
SETTLE = 20.0  # some BMCs show an override only some seconds after they took it


@dataclasses.dataclass(frozen=True)
class BootState:
    """An override in the words of this collection. `target` none means that there is no override."""

    target: str
    enabled: str | None  # once, continuous; None without an override

    def as_dict(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)


def parse(boot: t.Mapping[str, t.Any]) -> BootState:
    """What a Boot object says. Targets that this collection does not set keep the BMC's name, in lower case."""
    target = text(boot.get("BootSourceOverrideTarget")) or "None"
    enabled = text(boot.get("BootSourceOverrideEnabled")) or "Disabled"
    if target == "None" or enabled == "Disabled":
        return BootState("none", None)
    name = next((ours for ours, theirs in TARGETS.items() if target in theirs), target.lower())
    return BootState(name, {"Once": "once", "Continuous": "continuous"}.get(enabled, enabled.lower()))


def same(wanted: BootState, found: BootState, behaviour: Behaviour) -> bool:
    """Whether the server does what is wanted, as far as this BMC can tell."""
    if wanted.target != found.target and _reads_back(wanted.target, behaviour) != found.target:
        return False
    return wanted.target == "none" or behaviour.boot_enabled_unreliable or wanted.enabled == found.enabled


def _reads_back(target: str, behaviour: Behaviour) -> str | None:
    for name in TARGETS.get(target, ()):
        if name in behaviour.boot_reads_back:
            return parse(
                {"BootSourceOverrideTarget": behaviour.boot_reads_back[name], "BootSourceOverrideEnabled": "Once"}
            ).target
    return None


class Boot:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.address = resources.address

    def read(self) -> BootState:
        """The override that is in force or, where the BMC keeps changes in a settings object, that will be."""
        return parse(self._boot()[1])

    def same(self, wanted: BootState, found: BootState) -> bool:
        return same(wanted, found, self._resources.behaviour)

    def check(self, wanted: BootState) -> None:
        """Raise where the BMC says that it cannot; nothing is sent that changes something."""
        self._payload(wanted)

    def apply(self, wanted: BootState, timeout: float = 60.0) -> BootState:
        """Set the override, unless it is so already, and read it back."""
        deadline = time.monotonic() + timeout
        began = time.monotonic()
        lost: BmcError | None = None
        while True:
            uri, _boot = self._boot()
            body = self._payload(wanted)
            try:
                answer = self._resources.patch(uri, body)
            except (BmcUncertain, BmcRefused) as exc:
                if unclear(exc):
                    lost = exc  # reading it back tells
                    break
                if isinstance(exc, (BmcUncertain, BmcAuthError)):
                    raise
                pause = passing(self._resources, exc, began, deadline)
                if pause is None:
                    exc.hint = self._resources.behaviour.boot_hints.get(wanted.target) or exc.hint or self._hint(wanted)
                    raise
                time.sleep(pause)
                if self.same(wanted, self.read()):
                    return self.read()
                continue
            finish(self._resources.session, answer, max(1.0, deadline - time.monotonic()))
            break
        patience = BROKEN_PATIENCE if isinstance(lost, BmcRefused) else SETTLE
        with reporting([f"set the boot override {wanted.target}"] if lost is None else []):
            waited = wait_for(self.read, lambda found: self.same(wanted, found), patience)
        last = waited.last
        if waited.ready and last is not None:
            return last
        if lost is not None:
            lost.hint = lost.hint or self._hint(wanted)
            raise lost
        shown = f"{last.target} ({last.enabled})" if last else "nothing"
        raise BmcTimeout(
            self.address,
            f"it took the boot override {wanted.target} ({wanted.enabled}) but still shows {shown}",
            hint="Set it on the BMC's own page to see what it says; the firmware may not support this target",
        )

    # -- below: what to write, and where

    def _payload(self, wanted: BootState) -> dict[str, t.Any]:
        _uri, boot = self._boot(fresh=False)
        behaviour = self._resources.behaviour
        if wanted.target == "none":
            if behaviour.boot_always_overridden:
                raise BmcUnsupported(
                    self.address,
                    "it cannot be without a boot override once it had one",
                    hint="Use target: disk instead",
                )
            override: dict[str, t.Any] = {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}
            if "None" not in (self._allowable(boot, "Target") or ["None"]):
                del override["BootSourceOverrideTarget"]
        else:
            override = {
                "BootSourceOverrideEnabled": self._enabled(wanted, boot),
                "BootSourceOverrideTarget": self._target(wanted, boot, behaviour),
            }
        mode = text(boot.get("BootSourceOverrideMode"))
        if behaviour.boot_sends_mode and mode:
            override["BootSourceOverrideMode"] = mode
        return {"Boot": override}

    def _target(self, wanted: BootState, boot: Json, behaviour: Behaviour) -> str:
        allowed = self._allowable(boot, "Target")
        names = TARGETS[wanted.target]
        preferred = behaviour.boot_names.get(wanted.target)
        for name in (preferred, *names):
            if name and (not allowed or name in allowed):
                return name
        raise BmcUnsupported(
            self.address,
            f"it cannot boot from {wanted.target} by an override (it offers: {', '.join(allowed or [])})",
            hint="Use another target, or the boot order",
        )

    def _enabled(self, wanted: BootState, boot: Json) -> str:
        value = _ENABLED[wanted.enabled or "once"]
        allowed = self._allowable(boot, "Enabled")
        if allowed and value not in allowed:
            raise BmcUnsupported(
                self.address,
                f"it cannot keep a boot override {wanted.enabled} (it offers: {', '.join(allowed)})",
                hint="Use enabled: once, before each start that needs it",
            )
        return value

    def _allowable(self, boot: Json, name: str) -> list[str] | None:
        """Values that the BMC names: in the object that is written, else in the system itself."""
        key = f"BootSourceOverride{name}@Redfish.AllowableValues"
        for place in (boot, dig(self._resources.system(), "Boot")):
            values = place.get(key) if isinstance(place, dict) else None
            if isinstance(values, list) and values:
                return [str(value) for value in values]
        return None

    def _boot(self, fresh: bool = True) -> tuple[str, Json]:
        """URI to write to, and the Boot object that shows the override."""
        system = self._resources.system(fresh=fresh)
        uri = str(system["@odata.id"])
        boot = system.get("Boot")
        boot = boot if isinstance(boot, dict) else {}
        settings = text(dig(system, "@Redfish.Settings", "SettingsObject", "@odata.id"))
        if settings is None and self._resources.behaviour.boot_by_settings:
            settings = uri.rstrip("/") + "/SD"
        if settings is not None:
            # Where the system itself names no targets, the settings object is the place.
            always = self._resources.behaviour.boot_by_settings
            elsewhere = always or not _has_override(boot) or _TARGETS not in boot
            pending = self._resources.get(settings, fresh) if elsewhere else None
            inner = pending.get("Boot") if pending else None
            if isinstance(inner, dict) and (
                always or (_has_override(inner) and (_TARGETS in inner or not _has_override(boot)))
            ):
                return settings, inner
        if not _has_override(boot):
            raise BmcUnsupported(
                self.address,
                "its system has no boot override",
                hint="Use the boot order of the BIOS instead, or newer BMC firmware",
            )
        return uri, boot

    def _hint(self, wanted: BootState) -> str:
        if wanted.target == "cd":
            return "Some BMCs take cd only while virtual media is inserted: use bmc_virtual_media first"
        return "The firmware may refuse this while the server starts: wait until it has, and run again"


def _has_override(boot: t.Mapping[str, t.Any]) -> bool:
    return any(str(key).startswith("BootSourceOverride") for key in boot)
