# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Secure erase of drives that are named by serial number. Nothing else is ever touched."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from .errors import BmcNotFound, BmcOptionError, BmcTimeout, BmcUnsupported
from .resource import Json, Resources, as_list, dig, link, links, text
from .task import follow
from .wait import wait_for
from .write import perform, reporting

__all__ = ("Drives", "Erasure")


@dataclasses.dataclass(frozen=True)
class Erasure:
    """One drive. `running`: the BMC is at it already, so it is only waited for."""

    serial_number: str
    uri: str
    target: str
    body: Json
    running: bool


class Drives:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.address = resources.address

    def plan(self, serial_numbers: t.Sequence[str], method: str | None = None) -> list[Erasure]:
        """All or nothing: raises where one of them cannot be erased, before anything is sent."""
        drives = self._all()
        return [self._erasure(name, drives, method) for name in dict.fromkeys(serial_numbers)]

    def erase(self, plan: t.Sequence[Erasure], timeout: float) -> None:
        """Start them all, then wait for each: that takes hours on large disks, one after the other days."""
        deadline = time.monotonic() + timeout
        session = self._resources.session
        started: dict[str, str | None] = {}
        done: list[str] = []
        with reporting(done):
            for item in plan:
                what = f"began to erase {item.serial_number}"
                if item.running:
                    started[item.uri] = None
                    continue

                def send(item: Erasure = item) -> t.Any:
                    return session.post(item.target, item.body)

                def begun(item: Erasure = item) -> bool:
                    return _busy(self._resources.get(item.uri, fresh=True))

                outcome = perform(self._resources, send, item.target, what, deadline, begun, works=True, wait="taken")
                done.append(what)
                started[item.uri] = outcome.task
            for item in plan:
                task = started[item.uri]
                if task is not None:
                    request = f"POST {item.target}"
                    follow(session, task, max(1.0, deadline - time.monotonic()), request)
                waited = wait_for(
                    lambda uri=item.uri: self._resources.get(uri, fresh=True),  # type: ignore[misc]
                    lambda body: not _busy(body),
                    max(1.0, deadline - time.monotonic()),
                )
                if not waited.ready:
                    raise BmcTimeout(
                        self.address,
                        f"the drive {item.serial_number} is still being erased after {timeout:.0f} s",
                        hint="Run again: it is then only waited for",
                    )
                done.append(f"erased {item.serial_number}")

    def _all(self) -> list[Json]:
        uri = link(self._resources.system(), "Storage")
        try:
            storages = self._resources.members(uri, needed=True) if uri else []
        except BmcNotFound as exc:
            exc.hint = "Some BMCs show storage only while the server is on: switch it on with bmc_power, then run again"
            raise
        named = dict.fromkeys(drive for storage in storages for drive in links(storage.get("Drives")))
        return [self._resources.get(drive) for drive in named]

    def _erasure(self, name: str, drives: list[Json], method: str | None) -> Erasure:
        fits = [body for body in drives if text(body.get("SerialNumber")) == name]
        if len(fits) != 1:
            known = ", ".join(str(text(body.get("SerialNumber"))) for body in drives) or "none"
            raise BmcOptionError(
                self.address,
                f"{len(fits) or 'none'} of its drives {'have' if fits else 'has'} the serial number {name}",
                hint=f"Its drives: {known}. Some BMCs show them only while the server is on",
            )
        body = fits[0]
        action = dig(body, "Actions", "#Drive.SecureErase")
        target = text(dig(action, "target"))
        if target is None:
            raise BmcUnsupported(
                self.address,
                f"it cannot erase the drive {name}",
                hint="Erase it from the deploy ramdisk instead (storage role, or nvme and hdparm)",
            )
        volumes = [self._resources.get(uri) for uri in links(dig(body, "Links", "Volumes"))]
        held = [str(volume.get("Name")) for volume in volumes if volume.get("VolumeType") != "RawDevice"]
        if held:
            raise BmcOptionError(
                self.address,
                f"the drive {name} is part of the volume {', '.join(held)}",
                hint="Delete the volume first, with bmc_volume and state: absent",
            )
        return Erasure(name, str(body["@odata.id"]), target, self._body(name, action, method), _busy(body))

    def _body(self, name: str, action: t.Any, method: str | None) -> Json:
        if method is None:
            return {}
        values = dig(action, "SanitizationType@Redfish.AllowableValues")
        if not isinstance(values, list):
            info = self._resources.maybe(text(dig(action, "@Redfish.ActionInfo")))
            found = [p for p in as_list(dig(info, "Parameters")) if p.get("Name") == "SanitizationType"]
            values = found[0].get("AllowableValues") if found else []
        if not isinstance(values, list) or method not in values:
            offered = ", ".join(map(str, values or [])) or "no choice"
            raise BmcUnsupported(self.address, f"it does not erase the drive {name} by {method} (it offers: {offered})")
        return {"SanitizationType": method}


def _busy(body: Json) -> bool:
    names = [str(item.get("OperationName") or item.get("Operation")) for item in as_list(body.get("Operations"))]
    state = text(dig(body, "Status", "State"))
    return state == "Updating" or any(word in name for name in names for word in ("Sanitize", "Erase", "Format"))
