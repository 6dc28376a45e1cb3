# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""BIOS attributes: compared with what is in force and with what waits for a reset, written once, applied as asked."""

from __future__ import annotations

import dataclasses
import difflib
import time
import typing as t

from .change import Change
from .errors import BmcOptionError, BmcTimeout, BmcUnsupported
from .message import one_sentence
from .power import Power
from .resource import Json, Resources, as_list, dig, link, links, text
from .task import Tasks, follow
from .transport import Answer
from .wait import wait_for
from .write import SETTLE, perform, reporting

__all__ = ("Bios", "BiosPlan", "BiosState")

APPLY: dict[str, str] = {
    "immediate": "Immediate",
    "on_reset": "OnReset",
    "at_window_start": "AtMaintenanceWindowStart",
    "on_reset_in_window": "InMaintenanceWindowOnReset",
}


@dataclasses.dataclass(frozen=True)
class BiosState:
    """All attributes in force, and those that will have another value after the next reset."""

    current: Json
    pending: Json

    @property
    def effective(self) -> Json:
        return {**self.current, **self.pending}


@dataclasses.dataclass(frozen=True)
class BiosPlan:
    wanted: Json
    write: Json  # what the BMC does not have yet, in force or pending
    apply_time: Json  # what @Redfish.SettingsApplyTime has to say, empty for nothing
    immediate: bool
    window: bool  # applied in a maintenance window, which may be far away
    restart: str | None  # graceful or forced, where a restart is asked for and needed
    change: Change

    @property
    def applies(self) -> bool:
        """Whether the values are in force at the end."""
        return self.immediate or self.restart is not None


class Bios:
    def __init__(self, resources: Resources, power: Power) -> None:
        self._resources = resources
        self._power = power
        self.address = resources.address

    def read(self) -> BiosState:
        current = self._attributes(self._body(fresh=True))
        uri = self._settings_uri()
        pending = self._attributes(self._resources.get(uri, fresh=True)) if uri else {}
        # Some list all attributes here and some only changed ones, so what differs counts.
        return BiosState(current, {k: v for k, v in pending.items() if k in current and v != current[k]})

    def plan(
        self,
        wanted: Json | None,
        apply: str = "on_reset",
        restart: str | None = None,
        window: tuple[str, int] | None = None,
    ) -> BiosPlan:
        """What has to be done; nothing is sent that changes something. `wanted` None: nothing shall be pending."""
        state = self.read()
        if wanted is None:
            wanted = {name: state.current[name] for name in state.pending}
        wanted = {name: self._fitting(name, value, state.current) for name, value in wanted.items()}
        write = {name: value for name, value in wanted.items() if state.effective[name] != value}
        missing = {name: value for name, value in wanted.items() if state.current[name] != value}
        apply_time = self._apply_time(apply, window) if write else {}
        if write:
            self._allowed(write)
        immediate = apply == "immediate"
        restart = restart if missing and not immediate else None
        now = {name: state.current[name] for name in wanted}
        before = {"attributes": now, "pending": {k: v for k, v in state.pending.items() if k in wanted}}
        after = {"attributes": now, "pending": missing}
        if (immediate and write) or restart:
            after = {"attributes": wanted, "pending": {}}
        in_window = apply not in ("immediate", "on_reset")
        return BiosPlan(wanted, write, apply_time, immediate, in_window, restart, Change(before, after))

    def apply(self, plan: BiosPlan, timeout: float) -> BiosState:
        """Do it. Ends when the BMC shows the values, in force or pending as planned."""
        deadline = time.monotonic() + timeout
        done: list[str] = []
        task = None
        with reporting(done):
            if plan.restart and not plan.write and self._without_job():
                # Pending values that no job holds (any more) would not be applied; writing them again makes one.
                current = self.read().current
                write = {name: value for name, value in plan.wanted.items() if current[name] != value}
                plan = dataclasses.replace(plan, write=write, apply_time=self._apply_time("on_reset", None))
            if plan.write:
                task = self._write(plan, deadline)
                done.append(f"wrote {', '.join(plan.write)}")
            if plan.restart:
                steps = self._power.plan("restarted", plan.restart)
                self._power.apply(steps, max(1.0, deadline - time.monotonic()))
                done.append("restarted the server")
                self._wait_applied(plan, task, deadline)
            return self.read()

    def _without_job(self) -> bool:
        """Whether this BMC makes jobs of pending values, and has none."""
        offered = dig(self._body(), "@Redfish.Settings", "SupportedApplyTimes")
        return isinstance(offered, list) and "OnReset" in offered and not Tasks(self._resources).scheduled()

    # -- below: the way to write, and what may be written

    def _write(self, plan: BiosPlan, deadline: float) -> str | None:
        uri = self._settings_uri()
        if uri is None:
            raise AssertionError
        body: Json = {"Attributes": plan.write}
        if plan.apply_time:
            body["@Redfish.SettingsApplyTime"] = plan.apply_time

        def send() -> Answer:
            answer: Answer = self._resources.patch(uri, body)
            return answer

        def shows() -> bool:
            state = self.read()
            found = state.current if plan.immediate else state.effective
            return all(found.get(name) == value for name, value in plan.wanted.items())

        outcome = perform(
            self._resources,
            send,
            uri,
            f"wrote {', '.join(plan.write)}",
            deadline,
            shows,
            works=True,
            until_scheduled=not plan.immediate,
            wait="taken" if plan.window else "shown",
        )
        if plan.window and not wait_for(shows, bool, SETTLE).ready:
            raise BmcTimeout(
                self.address,
                f"it took the BIOS attributes {', '.join(plan.write)}, but does not show them as pending",
                hint="Look at its list of jobs for the reason",
            )
        return outcome.task

    def _wait_applied(self, plan: BiosPlan, task: str | None, deadline: float) -> None:
        if task is not None:
            follow(
                self._resources.session, task, max(1.0, deadline - time.monotonic()), f"PATCH {self._settings_uri()}"
            )

        def applied(state: BiosState) -> bool:
            return all(state.current.get(name) == value for name, value in plan.wanted.items())

        waited = wait_for(self.read, applied, max(1.0, deadline - time.monotonic()))
        if waited.ready:
            return
        found = waited.last.current if waited.last else {}
        wrong = [name for name, value in plan.wanted.items() if found.get(name) != value]
        said = one_sentence(as_list(dig(self._body(fresh=True), "@Redfish.Settings", "Messages")))
        raise BmcTimeout(
            self.address,
            f"the server was restarted, but these BIOS attributes do not have their value: {', '.join(wrong)}"
            + (f". It says: {said}" if said else ""),
            hint="Look at the console of the server: it may still be starting, or the BIOS has refused a value",
        )

    def _apply_time(self, apply: str, window: tuple[str, int] | None) -> Json:
        body = self._body()
        if self._settings_uri() is None:
            raise BmcUnsupported(
                self.address,
                "its BIOS has no settings object, so attributes can only be read",
                hint="Set them in the setup of the server, or update the BMC's firmware",
            )
        offered = dig(body, "@Redfish.Settings", "SupportedApplyTimes")
        offered = [str(item) for item in offered] if isinstance(offered, list) else []
        name = APPLY[apply]
        if name in offered:
            found: Json = {"@odata.type": "#Settings.v1_1_0.PreferredApplyTime", "ApplyTime": name}
            if window:
                found["MaintenanceWindowStartTime"], found["MaintenanceWindowDurationInSeconds"] = window
            return found
        if apply == "on_reset" and not offered:
            return {}  # the only way there is, so it is not asked for
        raise BmcUnsupported(
            self.address,
            f"it cannot apply BIOS attributes {apply} (it offers: {', '.join(offered) or 'at the next reset only'})",
            hint="Use apply: on_reset, with restart where the server may be restarted now",
        )

    def _fitting(self, name: str, value: t.Any, current: Json) -> t.Any:
        """The value in the type that the attribute has; YAML may have made another of it."""
        if name not in current:
            near = difflib.get_close_matches(name, current, n=3, cutoff=0.6)
            raise BmcOptionError(
                self.address,
                f"its BIOS has no attribute {name}",
                hint=f"Did you mean {' or '.join(near)}" if near else "See what bmc_bios returns without attributes",
            )
        now = current[name]
        fits: t.Any
        if isinstance(now, bool):
            fits = value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())
        elif isinstance(now, int):
            try:
                fits = None if isinstance(value, bool) else int(value)
            except (TypeError, ValueError):
                fits = None
        elif isinstance(now, str):
            fits = None if isinstance(value, bool) else str(value)
        else:
            return value
        if fits is None:
            kind = {"bool": "true or false", "int": "a number", "str": "a text"}[type(now).__name__]
            raise BmcOptionError(
                self.address,
                f"the BIOS attribute {name} takes {kind}, not {value} (it is {now!r} now)",
                hint="Quote words such as on, off, yes and no, which YAML takes for true and false",
            )
        return fits

    def _allowed(self, write: Json) -> None:
        """Against the attribute registry, where the BMC has it: a value that cannot be is not sent."""
        entries = self._registry()
        for name, value in write.items():
            for entry in entries.get(name, ()):
                reason = _refusal(entry, value)
                if reason:
                    raise BmcOptionError(
                        self.address, f"the BIOS attribute {name} {reason}", hint="See its attribute registry"
                    )

    def _registry(self) -> dict[str, list[Json]]:
        named = text(self._body().get("AttributeRegistry"))
        collection = self._resources.maybe(link(self._resources.session.root, "Registries")) if named else None
        if named is None or collection is None:
            return {}
        uris = {uri.rstrip("/").rsplit("/", 1)[-1]: uri for uri in links(collection.get("Members"))}
        # Its version may differ from that of the file that describes it.
        uri = uris.get(named) or next((u for n, u in uris.items() if n.split(".")[0] == named.split(".")[0]), None)
        places = as_list(dig(self._resources.maybe(uri), "Location"))
        english = [place for place in places if str(place.get("Language", "en")).startswith("en")]
        body = self._resources.maybe(text(english[0].get("Uri"))) if english else None
        found: dict[str, list[Json]] = {}
        for entry in as_list(dig(body, "RegistryEntries", "Attributes")):
            found.setdefault(str(entry.get("AttributeName")), []).append(entry)
        # Where several entries share a name, none of them can be said to be the one.
        return {name: entries for name, entries in found.items() if len(entries) == 1}

    def _body(self, fresh: bool = False) -> Json:
        uri = link(self._resources.system(), "Bios")
        if uri is None:
            raise BmcUnsupported(
                self.address,
                "its system has no BIOS attributes",
                hint="Set them in the setup of the server; its licence or firmware may lack them",
            )
        body = self._resources.get(uri, fresh)
        if not isinstance(body.get("Attributes"), dict):
            raise BmcUnsupported(
                self.address,
                "it shows no BIOS attributes",
                hint="Some BMCs know them only once the server has started with this firmware",
            )
        return body

    def _settings_uri(self) -> str | None:
        body = self._body()
        named = text(dig(body, "@Redfish.Settings", "SettingsObject", "@odata.id"))
        suffix = self._resources.behaviour.bios_settings
        return named or (str(body["@odata.id"]).rstrip("/") + suffix if suffix else None)

    @staticmethod
    def _attributes(body: Json) -> Json:
        found = body.get("Attributes")
        return {k: v for k, v in found.items() if "@" not in k} if isinstance(found, dict) else {}


def _refusal(entry: Json, value: t.Any) -> str | None:
    """Why the registry does not allow a value, None where it does."""
    if entry.get("ReadOnly") is True or entry.get("Immutable") is True:
        return "cannot be written"
    kind = entry.get("Type")
    names = [str(item.get("ValueName")) for item in as_list(entry.get("Value"))]
    if kind == "Enumeration" and names and str(value) not in names:
        return f"cannot be {value} (it can be: {', '.join(names)})"
    if kind == "Integer" and isinstance(value, int):
        low, high = entry.get("LowerBound"), entry.get("UpperBound")
        if (isinstance(low, int) and value < low) or (isinstance(high, int) and value > high):
            return f"cannot be {value} (it goes from {low} to {high})"
    if kind == "String" and isinstance(value, str):
        most = entry.get("MaxLength")
        if isinstance(most, int) and len(value) > most > 0:
            return f"takes at most {most} characters"
    return "is a password and not set by this module" if kind == "Password" else None
