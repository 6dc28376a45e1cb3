# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Power of a server: decide first (pure), then act step by step and wait for what each step should lead to."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from .errors import BmcBadAnswer, BmcError, BmcRefused, BmcTimeout, BmcUncertain, BmcUnsupported
from .quirk import Behaviour
from .resource import Resources, dig, link, text
from .task import finish
from .wait import wait_for
from .write import BROKEN_PATIENCE, passing, unclear

__all__ = ("Power", "Step", "decide", "power_state")

_STATES = {"On": "on", "Off": "off", "PoweringOn": "powering_on", "PoweringOff": "powering_off", "Paused": "paused"}


@dataclasses.dataclass(frozen=True)
class Step:
    """One Reset action and the state that has to follow. No reset: only wait."""

    reset: str | None
    then: str


def power_state(system: t.Mapping[str, t.Any]) -> str | None:
    value = text(system.get("PowerState"))
    return _STATES.get(value, value.lower()) if value else None


def decide(
    state: str, method: str, now: str | None, allowed: t.Sequence[str], behaviour: Behaviour
) -> list[Step] | str:
    """The steps from `now` to `state`, or the sentence that says why there is no way.

    `allowed` are the reset types that the BMC names; empty where it names none, which allows all.
    """

    def first(*names: str) -> str | None:
        return next((name for name in names if not allowed or name in allowed), None)

    shown = ", ".join(allowed)
    power_on = first("On", "ForceOn")
    force_off = first("ForceOff")
    shut_down = first("GracefulShutdown")
    if now == "paused":
        return "the server is paused; resume or switch it off first"
    if state == "on":
        if now in ("on", "powering_on"):
            return [] if now == "on" else [Step(None, "on")]
        if power_on is None:
            return f"it offers no way to switch on (it offers: {shown})"
        return [*_settled(now), Step(power_on, "on")]
    off_step = force_off if method == "forced" else shut_down
    if state == "off":
        if now in ("off", "powering_off"):
            return [] if now == "off" else [Step(None, "off")]
        if off_step is None:
            return f"it offers no {method} way to switch off (it offers: {shown})"
        return [Step(off_step, "off")]
    if now in ("off", "powering_off"):
        return (
            [*_settled(now), Step(power_on, "on")]
            if power_on
            else f"it offers no way to switch on (it offers: {shown})"
        )
    direct = first("GracefulRestart") if method == "graceful" else first("ForceRestart", "PowerCycle")
    if direct and not (method == "forced" and behaviour.restart_by_off_on):
        return [Step(direct, "on")]
    if off_step and power_on:
        return [Step(off_step, "off"), Step(power_on, "on")]
    return f"it offers no {method} way to restart (it offers: {shown})"


def _settled(now: str | None) -> list[Step]:
    return [Step(None, "off")] if now == "powering_off" else []


class Power:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.address = resources.address

    def read(self) -> str:
        """The state now: on, off, powering_on, powering_off or paused."""
        found = power_state(self._resources.system(fresh=True))
        if found is None:
            raise BmcUnsupported(
                self.address,
                "it does not tell the power state of its system",
                hint="The BMC may still be starting: wait and run again; if it stays so, reset the BMC",
            )
        return found

    def plan(self, state: str, method: str = "graceful", now: str | None = None) -> list[Step]:
        """What has to be done; nothing is sent that changes something. `now` is the state where it was just read."""
        now = now or self.read()
        if now == state:
            return []
        steps = decide(state, method, now, self._allowed(), self._resources.behaviour)
        if isinstance(steps, str):
            other = "graceful" if method == "forced" else "forced"
            raise BmcUnsupported(self.address, steps, hint=f"Try method: {other}" if state != "on" else "")
        return steps

    def apply(self, steps: t.Sequence[Step], timeout: float) -> tuple[str, list[str]]:
        """Do the steps and wait after each; returns the state that was read last, and the resets that were sent."""
        deadline = time.monotonic() + timeout
        sent: list[str] = []
        state = None
        for step in steps:
            try:
                if step.reset is not None:
                    self._reset(step, deadline, sent)
                state = self._wait(step, max(1.0, deadline - time.monotonic()), timeout)
            except BmcError as exc:
                exc.done = [*(f"reset {name} was sent" for name in sent), *exc.done]
                raise
        return (state if state is not None else self.read()), sent

    def _reset(self, step: Step, deadline: float, sent: list[str]) -> None:
        if step.reset is None:
            raise AssertionError
        system = self._resources.system()
        target = dig(system, "Actions", "#ComputerSystem.Reset", "target")
        if not isinstance(target, str):
            raise BmcUnsupported(
                self.address, "its system has no Reset action", hint="The licence or the firmware may lack it"
            )
        began = time.monotonic()
        before = text(system.get("LastResetTime"))
        while True:
            try:
                answer = self._resources.session.post(target, {"ResetType": step.reset})
            except (BmcUncertain, BmcRefused) as exc:
                if unclear(exc):
                    if self._happened(step, before, deadline, exc):
                        sent.append(step.reset)
                        return
                    if isinstance(exc, BmcUncertain) or not exc.hint:
                        exc.hint = (
                            f"The reset {step.reset} may have been done or not, and is not sent again by itself. "
                            "Look at the server, then run again"
                        )
                    raise
                if isinstance(exc, BmcUncertain):
                    raise AssertionError from exc
                # Refused means that nothing was done. Wait, read again, and only then decide to send it.
                pause = passing(self._resources, exc, began, deadline)
                if pause is None:
                    raise
                time.sleep(pause)
                if step.then in ("on", "off") and step.reset in _SETS_STATE and self.read() == step.then:
                    return
                continue
            sent.append(step.reset)
            finish(self._resources.session, answer, max(1.0, deadline - time.monotonic()))
            return

    def _happened(self, step: Step, before: str | None, deadline: float, exc: BmcError) -> bool:
        """After a lost answer: does the server show that the reset was done?"""

        def shows(system: t.Mapping[str, t.Any]) -> bool:
            if step.reset in _SETS_STATE:
                return power_state(system) == step.then
            now = text(system.get("LastResetTime"))
            return now is not None and before is not None and now != before

        patience = 30.0 if isinstance(exc, BmcUncertain) else BROKEN_PATIENCE
        patience = min(patience, max(1.0, deadline - time.monotonic()))
        return wait_for(lambda: self._resources.system(fresh=True), shows, patience).ready

    def _wait(self, step: Step, left: float, timeout: float) -> str:
        waited = wait_for(self.read, lambda state: state == step.then, left)
        if waited.ready:
            return step.then
        hint = "Look at the console of the server, then run again"
        if step.then == "off" and step.reset == "GracefulShutdown":
            hint = "Its operating system did not shut down. Use method: forced if losing unsaved data is acceptable"
        raise BmcTimeout(
            self.address,
            f"the server is still {waited.last} and not {step.then} after {timeout:.0f} s",
            hint=hint,
        )

    def _allowed(self) -> list[str]:
        """Reset types that the BMC names: beside the action, or in its ActionInfo."""
        action = dig(self._resources.system(), "Actions", "#ComputerSystem.Reset")
        if not isinstance(action, dict):
            raise BmcUnsupported(
                self.address, "its system has no Reset action", hint="The licence or the firmware may lack it"
            )
        values = action.get("ResetType@Redfish.AllowableValues")
        if not isinstance(values, list):
            info = self._resources.maybe(text(action.get("@Redfish.ActionInfo")) or link(action, "@Redfish.ActionInfo"))
            parameters = info.get("Parameters") if info else None
            values = next(
                (
                    item.get("AllowableValues")
                    for item in (parameters if isinstance(parameters, list) else [])
                    if isinstance(item, dict) and item.get("Name") == "ResetType"
                ),
                [],
            )
        if values is not None and not isinstance(values, list):
            raise BmcBadAnswer(self.address, "the reset types that it names cannot be read")
        return [str(value) for value in values or []]


# Resets that lead from one state to the other, so that the state shows whether they were done.
_SETS_STATE = ("On", "ForceOn", "ForceOff", "GracefulShutdown")
