# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Logs of a BMC: read from a point on, followed until something is said, and cleared."""

from __future__ import annotations

import datetime
import re
import time
import typing as t

from .errors import BmcOptionError, BmcTimeout, BmcUnsupported
from .resource import Json, Resources, as_list, complete, dig, link, links, text
from .wait import wait_for
from .write import perform

__all__ = ("Logs",)

MOST = 5000  # entries that are read of one log; a whole one may take minutes


class Logs:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.address = resources.address

    def services(self) -> list[Json]:
        """The log services of the system and of its managers, each once."""
        holders = [self._resources.system(), *self._resources.needed_managers()]
        found: dict[str, Json] = {}
        for uri in dict.fromkeys(link(body, "LogServices") for body in holders):
            for body in self._resources.members(uri, needed=True) if uri else ():
                found.setdefault(str(body["@odata.id"]).rstrip("/"), body)
        return list(found.values())

    def choose(self, name: str | None) -> Json:
        """A log by its Id or the end of its URI; None: the system event log, else the first one that can be read."""
        services = [body for body in self.services() if link(body, "Entries")]
        if not services:
            raise BmcUnsupported(
                self.address, "it has no log that can be read", hint="Use the ipmi log, or its own page"
            )
        if name is None:
            event = [
                body for body in services if body.get("LogEntryType") == "SEL" or str(body.get("Id")).upper() == "SEL"
            ]
            return next((body for body in event if _clear_target(body)), None) or (event or services)[0]
        fits = [b for b in services if name == b.get("Id") or str(b["@odata.id"]).rstrip("/").endswith(f"/{name}")]
        if len(fits) == 1:
            return fits[0]
        known = ", ".join(str(body["@odata.id"]) for body in services)
        raise BmcOptionError(
            self.address,
            f"{len(fits) or 'none'} of its logs {'are' if fits else 'is'} named {name}",
            hint=f"Name one by the end of its URI: {known}",
        )

    def read(self, log: Json, since: str | None = None, pattern: str | None = None) -> list[Json]:
        """Entries, oldest first: those after `since` (a cursor or a date) whose message fits."""
        found = sorted((_entry(body) for body in self._entries(str(link(log, "Entries")))), key=_order)
        if since:
            found = [entry for entry in found if _after(entry, since, self.address)]
        return [entry for entry in found if re.search(pattern, str(entry["message"]))] if pattern else found

    def follow(self, log: Json, since: str | None, pattern: str | None, timeout: float) -> list[Json]:
        """Wait until there is an entry of that kind."""
        waited = wait_for(lambda: self.read(log, since, pattern), bool, timeout)
        if waited.ready and waited.last:
            return waited.last
        raise BmcTimeout(
            self.address,
            f"its log {log.get('Id')} has no {'such ' if pattern else ''}entry after {timeout:.0f} s",
            hint=f"Waited for: {pattern}" if pattern else "",
        )

    def is_clear(self, log: Json) -> bool:
        """Empty, but for the entry that says that it was cleared."""
        entries = self._entries(str(link(log, "Entries")))
        return not entries or (len(entries) == 1 and bool(re.search("clear", str(entries[0].get("Message")), re.I)))

    def clearable(self, log: Json) -> str:
        target = _clear_target(log)
        if target is None:
            raise BmcUnsupported(
                self.address, f"its log {log.get('Id')} cannot be cleared", hint="Another of its logs may be meant"
            )
        return target

    def clear(self, log: Json, timeout: float) -> None:
        target = self.clearable(log)
        perform(
            self._resources,
            lambda: self._resources.session.post(target, {}),
            target,
            f"cleared the log {log.get('Id')}",
            time.monotonic() + timeout,
            lambda: self.is_clear(log),
        )

    def _entries(self, uri: str) -> list[Json]:
        """All of them up to a limit, newest where the BMC can leave out old ones."""
        found: list[Json] = []
        following: str | None = uri
        while following and len(found) < MOST:
            page = self._resources.session.get(following).json
            inline = as_list(page.get("Members"))
            if inline and not all(complete(item) for item in inline):
                self._resources.forget()
                inline = self._resources.members(uri)
                return inline[:MOST]
            found.extend(inline)
            following = text(page.get("Members@odata.nextLink")) or text(page.get("@odata.nextLink"))
        if following:
            self._resources.session.notes.append(f"of the log {uri} only {len(found)} entries were read")
        return found


def _clear_target(log: Json) -> str | None:
    return text(dig(log, "Actions", "#LogService.ClearLog", "target"))


def _entry(body: Json) -> Json:
    return {
        "id": str(body.get("Id")),
        "created": text(body.get("Created")) or text(body.get("EventTimestamp")),
        "severity": (text(body.get("Severity")) or "").lower() or None,
        "message": text(body.get("Message")),
        "message_id": text(body.get("MessageId")),
        "sensor_type": text(body.get("SensorType")),
        "origin": next(iter(links([dig(body, "Links", "OriginOfCondition")])), None),
    }


def cursor(entries: t.Sequence[Json], since: str | None) -> str | None:
    """What `since` has to be to get what comes later."""
    return f"{entries[-1]['created'] or ''}#{entries[-1]['id']}" if entries else since


def _order(entry: Json) -> tuple[float, int]:
    return (_seconds(entry["created"]) or 0.0, _number(entry["id"]))


def _after(entry: Json, since: str, address: str) -> bool:
    date, _mark, ident = since.partition("#")
    moment = _seconds(date)
    if date and moment is None:
        raise BmcOptionError(
            address,
            f"since: {since} is neither a date nor a cursor",
            hint="Use a date such as 2030-01-31T22:00:00+00:00",
        )
    own = _seconds(entry["created"])
    if moment is None or own is None:
        return _number(entry["id"]) > _number(ident)
    return own > moment or (own == moment and bool(ident) and _number(entry["id"]) > _number(ident))


def _seconds(value: t.Any) -> float | None:
    try:
        found = datetime.datetime.fromisoformat(str(value).strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc)).timestamp()


def _number(value: t.Any) -> int:
    digits = re.findall(r"\d+", str(value))
    return int(digits[-1]) if digits else -1
