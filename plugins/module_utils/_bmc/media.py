# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Virtual media: find the slots, see what they hold, insert and eject by whatever way the slot offers."""

from __future__ import annotations

import dataclasses
import re
import time
import typing as t
import urllib.parse

from .errors import (
    BmcAuthError,
    BmcBusy,
    BmcError,
    BmcOptionError,
    BmcRefused,
    BmcTimeout,
    BmcUncertain,
    BmcUnsupported,
)
from .message import hide_credentials
from .resource import Json, Resources, dig, link, text
from .task import finish
from .wait import wait_for
from .write import reporting

__all__ = ("Media", "Plan", "Slot", "same_image")

# A virtual optical drive is what the word cd means; more kinds are to follow.
KINDS: dict[str, tuple[str, ...]] = {"cd": ("CD", "DVD")}
SETTLE = 30.0
LATE = 10.0
# Refusals that say: this slot cannot, or wants more; another slot or a fuller request may do.
_NOT_THIS_SLOT = (400, 404, 405, 409, 500, 501)
_MISSING = ("ActionParameterMissing", "PropertyMissing", "CreateFailedMissingReqProperties")


@dataclasses.dataclass(frozen=True)
class Slot:
    """One virtual drive as the BMC shows it."""

    uri: str
    name: str
    kinds: tuple[str, ...]
    image: str | None  # None: empty
    insert: str | None  # target of the action, None: by PATCH
    eject: str | None
    patchable: bool

    @property
    def takes_url(self) -> bool:
        return self.insert is not None or self.patchable

    @classmethod
    def of(cls, body: Json) -> Slot:
        uri = str(body.get("@odata.id"))
        image = text(body.get("Image"))
        name = text(body.get("ImageName"))
        inserted = body.get("Inserted")
        if inserted is False:
            shown = None
        elif inserted is True:
            shown = image or name or "(an image that the BMC does not name)"
        else:
            shown = image  # old ones do not tell
        insert = text(dig(body, "Actions", "#VirtualMedia.InsertMedia", "target"))
        eject = text(dig(body, "Actions", "#VirtualMedia.EjectMedia", "target"))
        kinds = body.get("MediaTypes")
        return cls(
            uri=uri,
            name=text(body.get("Id")) or uri.rstrip("/").rsplit("/", 1)[-1],
            kinds=tuple(str(kind) for kind in kinds) if isinstance(kinds, list) else (),
            image=shown,
            insert=insert,
            eject=eject,
            patchable=insert is None and "Image" in body,
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """From what is in the drives to what shall be."""

    kind: str
    eject: tuple[Slot, ...]
    insert: str | None
    before: list[str]
    after: list[str]

    @property
    def actions(self) -> list[str]:
        planned = [_ejected(slot) for slot in self.eject]
        return [*planned, f"inserted {hide_credentials(self.insert)}"] if self.insert else planned


def same_image(wanted: str, shown: str | None) -> bool:
    """Whether the image that a BMC shows is the wanted URL. Credentials in it and its encoding do not count."""
    if shown is None:
        return False
    return _plain(wanted) == _plain(shown) or ("/" not in shown and shown == wanted.rsplit("/", 1)[-1])


def _ejected(slot: Slot) -> str:
    return f"ejected {hide_credentials(slot.image or '')} from {slot.name}"


def _plain(url: str) -> str:
    parts = urllib.parse.urlsplit(hide_credentials(url.strip()))
    default = {"http": 80, "https": 443}.get(parts.scheme.lower())
    try:
        port = parts.port
    except ValueError:
        return url
    host = (parts.hostname or "") + (f":{port}" if port and port != default else "")
    return f"{parts.scheme.lower()}://{host}{urllib.parse.unquote(parts.path)}?{parts.query}"


class Media:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.address = resources.address

    def slots(self, kind: str | None = None) -> list[Slot]:
        """Drives that can hold an image by URL; all kinds where none is named."""
        found: list[Slot] = []
        pattern = self._pattern()
        for body in self._bodies():
            slot = Slot.of(body)
            if pattern and not re.search(pattern, slot.name):
                continue
            if kind is None or any(name in KINDS[kind] for name in slot.kinds):
                found.append(slot)
        return found

    def inserted(self) -> list[str]:
        """Images in the drives, as the BMC names them."""
        return [slot.image for slot in self.slots() if slot.image is not None]

    def drives(self, kind: str) -> list[Slot]:
        """The drives of a kind; raises where the BMC has none."""
        found = self.slots(kind)
        if not found:
            raise BmcUnsupported(
                self.address,
                f"it has no virtual {kind} drive that takes an image by URL",
                hint=(
                    "Virtual media often needs a licence (iDRAC Enterprise, iLO Advanced, SFT-DCMS-SINGLE). Boot by pxe"
                    " or uefi_http instead"
                ),
            )
        return found

    def plan(self, state: str, image: str | None, kind: str) -> Plan:
        """What has to be done; nothing is sent that changes something."""
        drives = self.drives(kind)
        before = [slot.image for slot in drives if slot.image is not None]
        if state == "inserted":
            if image is None:
                raise AssertionError
            self._usable(image, drives, kind)
            ejected = [slot for slot in drives if slot.image is not None and not same_image(image, slot.image)]
            insert = None if any(same_image(image, slot.image) for slot in drives) else image
        else:
            ejected = [s for s in drives if s.image is not None and (image is None or same_image(image, s.image))]
            insert = None
        gone = [slot.image for slot in ejected]
        after = [name for name in before if name not in gone]
        return Plan(kind, tuple(ejected), insert, before, [*after, insert] if insert else after)

    def apply(self, plan: Plan, timeout: float) -> list[str]:
        """Do it; returns what was done."""
        done: list[str] = []
        deadline = time.monotonic() + timeout
        try:
            for slot in plan.eject:
                self._eject(slot, deadline)
                done.append(_ejected(slot))
            if plan.insert is not None:
                # What a drive offers may depend on what it holds, so the drives are read again.
                done.append(self._insert_somewhere(plan.insert, plan.kind, deadline, fresh=bool(plan.eject)))
        except BmcError as exc:
            exc.done = [*done, *exc.done]
            raise
        return done

    def _usable(self, image: str, drives: t.Sequence[Slot], kind: str) -> None:
        if urllib.parse.urlsplit(image).scheme == "" and not image.startswith("//"):
            raise BmcOptionError(
                self.address,
                f"the image {image} is not a URL",
                hint="Give a URL that the BMC can reach, such as http://192.0.2.2:8080/ramdisk.iso",
            )
        if not any(slot.takes_url for slot in drives):
            raise BmcUnsupported(
                self.address,
                f"none of its virtual {kind} drives takes an image by URL",
                hint="A licence may be missing",
            )

    # -- one drive

    def _insert_somewhere(self, image: str, kind: str, deadline: float, fresh: bool) -> str:
        """The first drive that takes it. A drive that refuses has done nothing, so the next may be asked."""
        refusal: BmcRefused | None = None
        if fresh:
            self._forget()
        for slot in self.drives(kind):
            if not slot.takes_url:
                continue
            try:
                self._insert(slot, image, deadline)
            except (BmcAuthError, BmcBusy):
                raise
            except BmcRefused as exc:
                if exc.status >= 500 and not self._clear_half_done(slot, image, deadline):
                    exc.done = [f"{slot.name} may hold {hide_credentials(image)} all the same"]
                    raise
                if exc.status not in _NOT_THIS_SLOT:
                    raise
                refusal = refusal or exc
                continue
            return f"inserted {hide_credentials(image)} in {slot.name}"
        if refusal is None:
            raise BmcUnsupported(self.address, f"none of its virtual {kind} drives takes an image by URL")
        refusal.hint = refusal.hint or (
            f"Check that the BMC itself can reach {hide_credentials(image)}: it fetches the image from its own network"
        )
        raise refusal

    def _insert(self, slot: Slot, image: str, deadline: float) -> None:
        extra = {
            name: value.format(scheme=urllib.parse.urlsplit(image).scheme.upper()) if isinstance(value, str) else value
            for name, value in self._resources.behaviour.media_extra.items()
        }
        body: dict[str, t.Any] = {"Image": image, **extra}
        if slot.insert is None:
            body["Inserted"] = True
        lost = None
        for _round in range(3):
            try:
                lost = self._send(slot.uri, slot.insert, body, deadline)
                break
            except (BmcAuthError, BmcBusy):
                raise
            except BmcRefused as exc:
                more = self._demanded(exc, image, body)
                if not more:
                    raise
                body.update(more)
        self._settle(
            slot,
            lambda now: same_image(image, now.image),
            f"does not show {hide_credentials(image)} as inserted",
            deadline,
            lost,
        )

    def _eject(self, slot: Slot, deadline: float) -> None:
        body: dict[str, t.Any] = {} if slot.eject is not None else {"Image": None, "Inserted": False}
        try:
            lost = self._send(slot.uri, slot.eject, body, deadline)
        except BmcRefused as exc:
            if exc.status >= 500 and self._is_empty(slot, exc):
                return
            raise
        self._settle(slot, lambda now: now.image is None, "still holds its image after the ejection", deadline, lost)

    def _is_empty(self, slot: Slot, refusal: BmcRefused) -> bool:
        """A BMC may fail after it did the work: what the drive shows decides, a few seconds later with some."""
        try:
            waited = wait_for(
                lambda: Slot.of(self._resources.get(slot.uri, fresh=True)), lambda now: now.image is None, LATE
            )
            return waited.ready
        except BmcError:
            refusal.done = [f"{slot.name} may be empty all the same"]
            return False

    def _clear_half_done(self, slot: Slot, image: str, deadline: float) -> bool:
        """A BMC may fail and still show the image, without the server seeing it; the next run must not believe that."""
        try:
            now = Slot.of(self._resources.get(slot.uri, fresh=True))
            if same_image(image, now.image):
                self._eject(now, deadline)
        except BmcError as exc:
            self._resources.session.notes.append(f"{slot.name} may hold half an insertion: {exc.message}")
            return False
        return True

    def _send(self, uri: str, action: str | None, body: t.Mapping[str, t.Any], deadline: float) -> BmcUncertain | None:
        """One write. Where its answer is lost, that is returned: what the drive shows afterwards decides."""
        left = max(1.0, deadline - time.monotonic())
        while True:
            try:
                if action is not None:
                    answer = self._resources.session.post(action, body, timeout=left)
                else:
                    answer = self._resources.patch(uri, body, timeout=left)
            except BmcUncertain as exc:
                return exc
            except BmcBusy as exc:
                # Not taken up. Wait as it says, and ask again only if the drive is still as it was.
                pause = exc.retry_after if exc.retry_after is not None else 3.0
                if time.monotonic() + pause >= deadline:
                    raise
                before = self._resources.get(uri)
                time.sleep(pause)
                if Slot.of(self._resources.get(uri, fresh=True)).image != Slot.of(before).image:
                    return None
                continue
            finish(self._resources.session, answer, left)
            return None

    def _settle(
        self,
        slot: Slot,
        ready: t.Callable[[Slot], bool],
        otherwise: str,
        deadline: float,
        lost: BmcUncertain | None,
    ) -> None:
        patience = max(SETTLE, min(deadline - time.monotonic(), 4 * SETTLE))
        with reporting([f"changed what {slot.name} holds"] if lost is None else []):
            waited = wait_for(lambda: Slot.of(self._resources.get(slot.uri, fresh=True)), ready, patience)
        if waited.ready:
            return
        if lost is not None:
            raise lost
        shown = hide_credentials(waited.last.image) if waited.last and waited.last.image else "nothing"
        raise BmcTimeout(
            self.address,
            f"its virtual drive {slot.name} {otherwise} (it shows {shown})",
            hint=(
                "The BMC may not reach the image server, or its media service hangs: try the URL from the BMC network,"
                " or reset the BMC"
            ),
        )

    def _demanded(self, exc: BmcRefused, image: str, sent: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Parameters that the refusal names as missing, with the values that are meant by default."""
        defaults: dict[str, t.Any] = {
            "TransferProtocolType": urllib.parse.urlsplit(image).scheme.upper(),
            "TransferMethod": "Stream",
            "Inserted": True,
            "WriteProtected": True,
            "UserName": "",
            "Password": "",
        }
        if exc.status != 400 or not any(name in _MISSING for name in exc.message_ids):
            return {}
        said = " ".join(
            f"{item.get('MessageArgs')} {item.get('Message')} {item.get('RelatedProperties')}" for item in exc.messages
        )
        return {name: value for name, value in defaults.items() if name in said and name not in sent}

    # -- where the drives are

    def _bodies(self) -> list[Json]:
        """Drives of the system, else of its managers: both places are in use."""
        system = self._resources.system()
        found = self._resources.members(link(system, "VirtualMedia"))
        if found:
            return found
        for manager in self._resources.managers():
            found = self._resources.members(link(manager, "VirtualMedia"))
            if found:
                return found
        return []

    def _pattern(self) -> str:
        return self._resources.behaviour.media_slots

    def _forget(self) -> None:
        self._resources.forget()
        self._resources.system()
