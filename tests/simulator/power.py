# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power of the server, its start (POST), and what a start does: boot override, BIOS settings, waiting jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .messages import Json, Refusal, Reply
from .tree import dig, schema

if TYPE_CHECKING:
    from .bmc import Bmc, Call

OFF = ("ForceOff", "GracefulShutdown")
RESETS = ("ForceRestart", "GracefulRestart", "PowerCycle", "FullPowerCycle")


class Power:
    def __init__(self, bmc: Bmc) -> None:
        self.bmc = bmc
        self.boots: list[str] = []  # what the server booted from, oldest first
        self.at_start: list[Callable[[], None]] = []  # at each start of the server
        self.next_start: list[Callable[[], None]] = []  # at the next one
        self._post_until = -1.0
        self._changed = float("-inf")
        self._off_since = float("-inf")
        self._round = 0
        resets = [found[1] for found in bmc.tree.base.actions.values() if found[0] == "ComputerSystem.Reset"]
        systems = bmc.tree.of_schema("ComputerSystem")
        self.system = next(iter(resets), next(iter(systems), ""))

    @property
    def on(self) -> bool:
        return (self.bmc.tree.get(self.system) or {}).get("PowerState") in ("On", "PoweringOff")

    @property
    def in_post(self) -> bool:
        return self.on and self.bmc.clock.moment() < self._post_until

    def check_post(self, call: Call, uri: str) -> None:
        """Some BMCs take no boot or BIOS settings while the server starts."""
        answer = self.bmc.profile.post_refuses
        touches = "Boot" in call.body or "Attributes" in call.body
        if answer is not None and touches and self.in_post:
            raise self.bmc.refuse(answer)

    def patched(self, uri: str, sent: Json) -> None:
        """Side effects of a PATCH of the system."""
        boot = sent.get("Boot")
        if not isinstance(boot, dict) or schema(self.bmc.tree.need(uri)) != "ComputerSystem":
            return
        now = self.bmc.tree.edit(uri)["Boot"]
        if boot.get("BootSourceOverrideEnabled") == "Disabled":
            now["BootSourceOverrideTarget"] = "None"
        elif boot.get("BootSourceOverrideTarget") == "None":
            now["BootSourceOverrideEnabled"] = "Disabled"
        elif "BootSourceOverrideTarget" in boot and now.get("BootSourceOverrideEnabled") == "Disabled":
            now["BootSourceOverrideEnabled"] = "Once"
        if self.bmc.profile.boot_needs_mode and "BootSourceOverrideMode" not in boot:
            now["BootSourceOverrideMode"] = "Legacy"

    def reset(self, kind: str) -> None:
        """Begin what a reset type means; the state follows after a while."""
        seconds = self.bmc.profile.power_seconds
        self._changed = self.bmc.clock.moment()
        self._round += 1
        mine = self._round
        clock = self.bmc.clock

        def later(pause: float, act: Callable[[], None]) -> None:
            clock.after(pause, lambda: act() if self._round == mine else None)

        if kind in OFF or (kind == "PushPowerButton" and self.on):
            later(seconds, self._switch_off)
        elif kind in RESETS:
            later(seconds, self._switch_off)
            later(2 * seconds, self._switch_on)
        elif kind in ("On", "ForceOn", "PushPowerButton"):
            later(seconds, self._switch_on)

    def refusal(self, kind: str) -> Refusal | None:
        profile, now = self.bmc.profile, self.bmc.clock.moment()
        if now - self._changed < profile.power_busy:
            return self.bmc.refuse(profile.power_busy_answer, kind)
        if kind in ("On", "ForceOn") and now - self._off_since < profile.power_conflict:
            return self.bmc.refuse(profile.power_conflict_answer, "ResetType", kind)
        same = self.on == (kind in ("On", "ForceOn")) and (kind in ("On", "ForceOn") or kind in OFF)
        if same and profile.power_same >= 400:
            return Refusal(profile.power_same, "ActionParameterValueConflict", "ResetType", kind)
        if not self.on and kind in (*RESETS, "Nmi"):
            return Refusal(409, "ActionParameterValueConflict", "ResetType", kind)
        return None

    # -- below

    def _switch_off(self) -> None:
        if self.on:
            self._off_since = self.bmc.clock.moment()
        self._show("Off", "None")

    def _switch_on(self) -> None:
        self._show("On", "SystemHardwareInitializationComplete")
        self._boot()
        once, self.next_start = self.next_start, []
        for event in (*once, *self.at_start):
            event()
        seconds = self.bmc.profile.post_seconds
        self._post_until = self.bmc.clock.moment() + seconds
        mine = self._round
        self.bmc.clock.after(seconds, lambda: self._show("On", "OSRunning") if self._round == mine else None)

    def _boot(self) -> None:
        body = self.bmc.tree.edit(self.system)
        boot = body.get("Boot")
        if not isinstance(boot, dict):
            return
        enabled, target = boot.get("BootSourceOverrideEnabled"), boot.get("BootSourceOverrideTarget")
        override = enabled in ("Once", "Continuous") and target not in (None, "None")
        order = boot.get("BootOrder")
        self.boots.append(str(target) if override else str(order[0]) if isinstance(order, list) and order else "Hdd")
        if enabled == "Once":
            boot["BootSourceOverrideEnabled"] = "Disabled"
            if "None" in (boot.get("BootSourceOverrideTarget@Redfish.AllowableValues") or ["None"]):
                boot["BootSourceOverrideTarget"] = "None"

    def _show(self, state: str, progress: str) -> None:
        body = self.bmc.tree.edit(self.system)
        body["PowerState"] = state
        if isinstance(body.get("BootProgress"), dict):
            body["BootProgress"]["LastState"] = progress


def _allowed(bmc: Bmc, uri: str, action: str, parameter: str) -> list[str] | None:
    """Values that the BMC names for a parameter: beside the action or in its ActionInfo."""
    found = dig(bmc.tree.need(uri), "Actions", f"#{action}") or {}
    values = found.get(f"{parameter}@Redfish.AllowableValues")
    if isinstance(values, list):
        return values
    info = found.get("@Redfish.ActionInfo")
    body = bmc.tree.get(info) if isinstance(info, str) else None
    for item in (body or {}).get("Parameters") or []:
        if item.get("Name") == parameter and isinstance(item.get("AllowableValues"), list):
            return list(item["AllowableValues"])
    return None


def parameter(bmc: Bmc, call: Call, uri: str, action: str, name: str, default: str | None = None) -> str:
    """A parameter of an action, checked against what the BMC offers."""
    value = call.body.get(name, default)
    if value is None:
        raise Refusal(400, "ActionParameterMissing", action, name)
    if not isinstance(value, str):
        raise Refusal(400, "ActionParameterValueTypeError", value, name, action)
    allowed = _allowed(bmc, uri, action, name)
    if allowed is not None and value not in allowed:
        raise Refusal(400, "ActionParameterValueNotInList", value, name, action)
    return value


def reset(bmc: Bmc, call: Call, uri: str) -> Reply:
    kind = parameter(bmc, call, uri, "ComputerSystem.Reset", "ResetType")
    refused = bmc.power.refusal(kind)
    if refused is not None:
        raise refused
    if bmc.tree.key(uri) == bmc.tree.key(bmc.power.system):
        bmc.power.reset(kind)
    return Reply(204)


def reset_manager(bmc: Bmc, call: Call, uri: str) -> Reply:
    parameter(bmc, call, uri, "Manager.Reset", "ResetType", "GracefulRestart")
    bmc.clock.after(0.5, bmc.restart)
    return Reply(204)


ACTIONS = {"ComputerSystem.Reset": reset, "Manager.Reset": reset_manager}
