# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Firmware: the BMC fetches an image or gets it pushed, and what waits for a reset is applied by one reset for all."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import os
import secrets
import time
import typing as t
import urllib.parse

from .change import Change
from .errors import BmcAuthError, BmcError, BmcOptionError, BmcTimeout, BmcUnsupported
from .message import hide_credentials
from .power import Power
from .resource import Json, Resources, as_list, dig, link, text
from .session import Form
from .task import follow
from .wait import ticks, wait_for
from .write import perform, reporting

__all__ = ("Firmware", "FirmwarePlan", "Update")

APPLY = {"immediate": "Immediate", "on_reset": "OnReset"}
CALM = 60.0  # a version that is still the old one after so many seconds of a readable inventory waits for a reset
_CHUNK = 256 * 1024


@dataclasses.dataclass(frozen=True)
class Update:
    """A component of the inventory, the version that it shall have, and where its image is: a URL or a file here."""

    component: str
    version: str
    image: str | None = None
    path: str | None = None
    targets: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class FirmwarePlan:
    updates: tuple[Update, ...]  # those that are needed
    change: Change


class Firmware:
    def __init__(self, resources: Resources, power: Power) -> None:
        self._resources = resources
        self._power = power
        self.address = resources.address

    def plan(self, updates: t.Sequence[Update], apply: str | None = None) -> FirmwarePlan:
        """What has to be done; nothing is sent that changes something."""
        inventory = self._inventory()
        before = {item.component: self._version(item, inventory) for item in updates}
        needed = tuple(item for item in updates if not self._same(item.version, before[item.component]))
        for item in needed:
            self._possible(item, apply)
        after = {**before, **{item.component: item.version for item in needed}}
        return FirmwarePlan(needed, Change({"firmware": before}, {"firmware": after}))

    def versions(self, updates: t.Sequence[Update]) -> dict[str, str | None]:
        inventory = self._inventory()
        return {item.component: self._version(item, inventory) for item in updates}

    def apply(self, plan: FirmwarePlan, apply: str | None, restart: str | None, timeout: float) -> list[str]:
        """Do it. Gives the components that get their version at the next reset of the server."""
        deadline = time.monotonic() + timeout
        done: list[str] = []
        waiting: dict[Update, str | None] = {}
        with reporting(done):
            for item in plan.updates:
                staged, task = self._update(item, apply, deadline)
                if staged:
                    waiting[item] = task
                done.append(f"{'staged' if staged else 'updated'} {item.component} to {item.version}")
            if waiting and restart:
                steps = self._power.plan("restarted", restart)
                self._power.apply(steps, max(1.0, deadline - time.monotonic()))
                done.append("restarted the server")
                for item, task in waiting.items():
                    if task is not None:
                        left = max(1.0, deadline - time.monotonic())
                        follow(self._resources.session, task, left, f"update of {item.component}")
                    self._arrived(item, deadline)
                waiting.clear()
        return [item.component for item in waiting]

    # -- one update

    def _update(self, item: Update, apply: str | None, deadline: float) -> tuple[bool, str | None]:
        """Whether it waits for a reset, and the task that tells."""
        session = self._resources.session
        times = self._apply_times(item)
        when = APPLY[apply] if apply and APPLY[apply] in times else None
        if item.image is not None:
            target = str(dig(self._service(), "Actions", "#UpdateService.SimpleUpdate", "target"))
            body: Json = {"ImageURI": item.image}
            scheme = urllib.parse.urlsplit(item.image).scheme.upper()
            if scheme in self._protocols():
                body["TransferProtocol"] = scheme
            content: Json | Form = self._with(body, item, when)
        else:
            target, content = self._form(item, when)

        def shows() -> bool:
            return self._same(item.version, self._version(item, self._inventory()))

        def send() -> t.Any:
            return session.post(target, content, timeout=max(1.0, deadline - time.monotonic()))

        what = f"began the update of {item.component} to {item.version}"
        outcome = perform(
            self._resources, send, target, what, deadline, shows, works=True, until_scheduled=True, wait="ended"
        )
        if outcome.scheduled:
            return True, outcome.task
        # The BMC may restart now; its inventory says when it is back, and whether more than that is needed.
        calm_since: float | None = None
        last: BmcError | None = None
        for _left in ticks(max(1.0, deadline - time.monotonic())):
            try:
                if shows():
                    return False, outcome.task
            except BmcAuthError:
                raise
            except BmcError as exc:
                calm_since, last = None, exc
                continue
            last = None
            calm_since = calm_since or time.monotonic()
            if time.monotonic() - calm_since > CALM:
                return True, None
        if last is not None:
            last.done = [what]
            raise last
        return True, None

    def _arrived(self, item: Update, deadline: float) -> None:
        waited = wait_for(
            lambda: self._version(item, self._inventory()),
            lambda version: self._same(item.version, version),
            max(1.0, deadline - time.monotonic()),
        )
        if not waited.ready:
            raise BmcTimeout(
                self.address,
                f"{item.component} has version {waited.last} and not {item.version} after the restart",
                hint="Look at the console of the server and the log of the BMC; the image may be of another version",
            )

    def _form(self, item: Update, when: str | None) -> tuple[str, Form]:
        """Where to push a file, and the body of the request."""
        service, path = self._service(), str(item.path)
        size = os.stat(path).st_size
        multipart = text(service.get("MultipartHttpPushUri"))
        if multipart is None:
            return str(service.get("HttpPushUri")), Form("application/octet-stream", size, lambda: _pieces(path))
        boundary = secrets.token_hex(16)
        parameters = json.dumps(self._with({}, item, when, always_targets=True))
        name = os.path.basename(path).replace('"', "_")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="UpdateParameters"\r\n'
            f"Content-Type: application/json\r\n\r\n{parameters}\r\n"
            f'--{boundary}\r\nContent-Disposition: form-data; name="UpdateFile"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()

        def chunks() -> t.Iterator[bytes]:
            yield head
            yield from _pieces(path)
            yield tail

        kind = f"multipart/form-data; boundary={boundary}"
        return multipart, Form(kind, len(head) + size + len(tail), chunks)

    def _with(self, body: Json, item: Update, when: str | None, always_targets: bool = False) -> Json:
        if item.targets or always_targets:
            body["Targets"] = list(item.targets)
        if when is not None:
            body["@Redfish.OperationApplyTime"] = when
        return body

    # -- what there is

    def _service(self) -> Json:
        uri = link(self._resources.session.root, "UpdateService")
        if uri is None:
            raise BmcUnsupported(self.address, "it has no update service", hint="Use its own page, or newer firmware")
        return self._resources.get(uri)

    def _inventory(self) -> list[Json]:
        uri = link(self._service(), "FirmwareInventory")
        if uri is None:
            raise BmcUnsupported(self.address, "it has no firmware inventory", hint="Its firmware may be too old")
        return self._resources.fresh_members(uri)

    def _version(self, item: Update, inventory: t.Sequence[Json]) -> str | None:
        def names(body: Json) -> list[str]:
            return [str(body.get("Id")), str(body.get("Name"))]

        exact = [body for body in inventory if item.component == body.get("Id")]
        named = exact or [body for body in inventory if item.component == body.get("Name")]
        fits = named or [b for b in inventory if any(fnmatch.fnmatchcase(name, item.component) for name in names(b))]
        versions = {text(body.get("Version")) for body in fits}
        if len(versions) == 1:
            return versions.pop()
        listed = ", ".join(f"{b.get('Id')} ({b.get('Name')} {b.get('Version')})" for b in fits or inventory)
        raise BmcOptionError(
            self.address,
            f"{len(fits)} entries of its firmware inventory are named {item.component}",
            hint=f"Name one by its Id, or by a pattern that fits one: {listed[:2000]}",
        )

    def _same(self, wanted: str, found: str | None) -> bool:
        prefix = self._resources.behaviour.firmware_version_prefix
        plain = (found or "").strip()
        return wanted.strip() in (plain, plain[len(prefix) :] if prefix and plain.startswith(prefix) else plain)

    def _possible(self, item: Update, apply: str | None) -> None:
        """Raise where the BMC offers no way to take this image."""
        service = self._service()
        if item.image is not None:
            if not isinstance(dig(service, "Actions", "#UpdateService.SimpleUpdate", "target"), str):
                raise BmcUnsupported(
                    self.address, "it does not fetch firmware by URL (no SimpleUpdate)", hint="Give a file as path"
                )
            protocols, scheme = self._protocols(), urllib.parse.urlsplit(item.image).scheme.upper()
            if protocols and scheme not in protocols:
                raise BmcUnsupported(
                    self.address,
                    f"it does not fetch firmware by {scheme or 'something without a scheme'}",
                    hint=f"It offers: {', '.join(protocols)}. The image is {hide_credentials(item.image)}",
                )
        else:
            self._pushable(item, service)
        times = self._apply_times(item)
        if apply and times and APPLY[apply] not in times:
            raise BmcUnsupported(
                self.address,
                f"it cannot apply firmware {apply} (it offers: {', '.join(times)})",
                hint="Leave apply out, so that the BMC decides",
            )

    def _pushable(self, item: Update, service: Json) -> None:
        try:
            size = os.stat(str(item.path)).st_size
        except OSError as exc:
            raise BmcOptionError(self.address, f"the image {item.path} cannot be read: {exc.strerror}") from exc
        plain = service.get("HttpPushUri") and not self._resources.behaviour.firmware_push_unusual
        if not service.get("MultipartHttpPushUri") and not plain:
            raise BmcUnsupported(
                self.address, "firmware cannot be pushed to it", hint="Give a URL as image, which it fetches itself"
            )
        most = service.get("MaxImageSizeBytes")
        if isinstance(most, int) and 0 < most < size:
            raise BmcUnsupported(
                self.address,
                f"the image {item.path} has {size} bytes, but it takes at most {most}",
                hint="Give a URL as image, which it fetches itself",
            )

    def _protocols(self) -> list[str]:
        action = dig(self._service(), "Actions", "#UpdateService.SimpleUpdate")
        values = dig(action, "TransferProtocol@Redfish.AllowableValues")
        if not isinstance(values, list):
            info = self._resources.maybe(text(dig(action, "@Redfish.ActionInfo")))
            found = [p for p in as_list(dig(info, "Parameters")) if p.get("Name") == "TransferProtocol"]
            values = found[0].get("AllowableValues") if found else None
        return [str(value) for value in values] if isinstance(values, list) else []

    def _apply_times(self, item: Update) -> list[str]:
        service = self._service()
        holder = dig(service, "Actions", "#UpdateService.SimpleUpdate") if item.image is not None else service
        values = dig(holder, "@Redfish.OperationApplyTimeSupport", "SupportedValues")
        return [str(value) for value in values] if isinstance(values, list) else []


def _pieces(path: str) -> t.Iterator[bytes]:
    with open(path, "rb") as file:
        while True:
            data = file.read(_CHUNK)
            if not data:
                return
            yield data
