# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Read resources tolerantly and collections with as few requests as the BMC honestly allows."""

from __future__ import annotations

import contextlib
import functools
import threading
import typing as t

from .errors import (
    BmcAuthError,
    BmcBadAnswer,
    BmcBusy,
    BmcDenied,
    BmcNotFound,
    BmcRefused,
    BmcTimeout,
    BmcUnsupported,
)
from .quirk import Behaviour, Identity, asks_for_manager, behaviour_of
from .session import Session

__all__ = ("Json", "Resources", "as_list", "complete", "dig", "link", "links", "text")

Json = t.Dict[str, t.Any]  # noqa: UP006  (evaluated at run time on Python 3.9)

# Platforms on which $expand was caught lying, for all BMCs of this process: (vendor, product, kind of collection).
_lies: set[tuple[str, str, str]] = set()
_lies_lock = threading.Lock()
_INNER = ("Virtual", "VirtuallyPartitioned", "OS", "DPU")


class Resources:
    """What one BMC serves. Each resource is read once, unless `fresh` is asked for."""

    def __init__(self, session: Session, quirks: t.Sequence[t.Mapping[str, t.Any]] = ()) -> None:
        self.session = session
        self.address = session.address
        self._extra_quirks = quirks
        self._cache: dict[str, Json] = {}
        self._etags: dict[str, str] = {}
        self._system_uri: str | None = None
        self._behaviour: tuple[Json | None, Behaviour] | None = None
        self._lenient = False

    # -- single resources

    def get(self, uri: str, fresh: bool = False, timeout: float | None = None) -> Json:
        key = _key(uri)
        if fresh or key not in self._cache:
            answer = self.session.get(uri, timeout)
            body = answer.json
            if text(body.get("@odata.id")) is None:
                body["@odata.id"] = uri  # it must have one by the specification, and this is what names it
            self._keep(uri, body)
            if answer.etag:
                self._etags[key] = answer.etag
        return self._cache[key]

    def maybe(self, uri: str | None) -> Json | None:
        """A resource that a BMC may lack, or refuse to show: None then. A BMC that stops answering still raises."""
        if not uri:
            return None
        try:
            return self.get(uri)
        except BmcBadAnswer as exc:
            if not self._lenient:
                raise
            self.session.notes.append(f"{uri} could not be read and is left out: {exc.message}")
            return None
        except BmcRefused as exc:
            # Busy is not absent, and a login that is not accepted is not a missing part.
            if isinstance(exc, BmcBusy) or (isinstance(exc, BmcAuthError) and not isinstance(exc, BmcDenied)):
                raise
            if exc.status != 404:
                self.session.notes.append(f"{uri} could not be read and is left out: {exc.message}")
            return None

    @contextlib.contextmanager
    def lenient(self) -> t.Iterator[None]:
        """For reports, from which nothing is decided: a part that is not JSON is missing, as one that is refused is."""
        self._lenient = True
        try:
            yield
        finally:
            self._lenient = False

    def etag(self, uri: str) -> str | None:
        header = self._etags.get(_key(uri))
        body = self._cache.get(_key(uri), {}).get("@odata.etag")
        value = header or (body if isinstance(body, str) else None)
        return value if value and value.strip('"') else None

    def forget(self, uri: str | None = None) -> None:
        """What was read of this resource (or of all) is no longer true."""
        if uri is None:
            self._cache.clear()
            self._etags.clear()
        else:
            self._cache.pop(_key(uri), None)
            self._etags.pop(_key(uri), None)

    def known(self) -> frozenset[str]:
        """What was read and is still kept, for C(forget_all_but)."""
        return frozenset(self._cache)

    def forget_all_but(self, known: t.Collection[str]) -> None:
        self._cache = {uri: body for uri, body in self._cache.items() if uri in known}
        self._etags = {uri: etag for uri, etag in self._etags.items() if uri in known}

    def patch(self, uri: str, body: t.Mapping[str, t.Any], timeout: float | None = None) -> t.Any:
        """PATCH with the ETag that was read. After 412 or 428 (so: nothing was done) the resource is read again."""
        return self._conditional(uri, lambda etag: self.session.patch(uri, body, etag, timeout))

    def delete(self, uri: str, timeout: float | None = None) -> t.Any:
        """DELETE, in the same way."""
        return self._conditional(uri, lambda etag: self.session.delete(uri, etag, timeout))

    def _conditional(self, uri: str, send: t.Callable[[str | None], t.Any]) -> t.Any:
        etag = self.etag(uri)
        try:
            return send(etag)
        except BmcRefused as exc:
            if exc.status not in (412, 428):
                raise
            first = exc
        self.get(uri, fresh=True)
        current = self.etag(uri)
        strong = current[2:] if current and current.startswith("W/") else None
        # The same tag again only if it is new; some BMCs hand out weak tags and want strong ones; some want none.
        for candidate in dict.fromkeys((current, strong, None)):
            if candidate == etag:
                continue
            try:
                return send(candidate)
            except BmcRefused as exc:
                if exc.status not in (412, 428):
                    raise
                first = exc
        raise first

    # -- collections

    def members(
        self, uri: str | None, required: t.Sequence[str] = (), needed: bool = False, guessed: bool = False
    ) -> list[Json]:
        """All members of a collection, in its order. An absent collection has none, unless it is `needed`.

        Where the URI is `guessed`, one 404 is enough to know that there is nothing.
        """
        if not uri:
            return []
        known = self._known_members(uri)
        if known is not None:
            return known
        if self._may_expand(_kind(uri)):
            found = self._expanded(uri, required, guessed)
            if found is not None:
                return found
        named = [member for page in self._pages(uri, needed) for member in links(page.get("Members"))]
        found = [body for body in (self.maybe(member) for member in named) if body is not None]
        if needed and named and not found:
            self.get(named[0])  # raises what kept it from being read
        return found

    def fresh_members(self, uri: str) -> list[Json]:
        """All members as they are now. The collection has to be there."""
        for member in links(self.get(uri, fresh=True).get("Members")):
            self.forget(member)
        return self.members(uri, needed=True)

    def with_children(self, uri: str, name: str) -> Json:
        """A resource with the resources of its list `name` inside where $expand gives them, else as it is."""
        kind = "one of " + _kind(uri.rstrip("/").rpartition("/")[0])
        if not self._may_expand(kind):
            return self.get(uri)
        try:
            body = self.session.get(f"{uri}?{self._expand_query()}").json
        except BmcBusy:
            return self.get(uri)
        except (BmcBadAnswer, BmcRefused, BmcTimeout):
            self._remember_lie(uri, kind)
            return self.get(uri)
        children = as_list(body.get(name))
        if not complete(body) or not children or not all(complete(child) for child in children):
            self._remember_lie(uri, kind)
            return self.get(uri)
        self._keep(uri, body)
        for child in children:
            self._keep(str(child["@odata.id"]), child)
        for value in body.values():
            # Collections below came along too: with their members or with references to them.
            if isinstance(value, dict) and "Members" in value and text(value.get("@odata.id")):
                self._keep(str(value["@odata.id"]), value)
        return body

    def _known_members(self, uri: str) -> list[Json] | None:
        """Members of a collection that was read already, where that is all there is to know."""
        body = self._cache.get(_key(uri))
        if body is None or not isinstance(body.get("Members"), list) or body.get("Members@odata.nextLink"):
            return None
        found = as_list(body["Members"])
        whole = all(complete(member) for member in found) and body.get("Members@odata.count", len(found)) == len(found)
        return found if whole else None

    def _pages(self, uri: str, needed: bool) -> t.Iterator[Json]:
        seen: set[str] = set()
        following: str | None = uri
        while following and following not in seen:
            seen.add(following)
            page = self.get(following) if needed else self.maybe(following)
            if page is None:
                return
            yield page
            following = text(page.get("Members@odata.nextLink")) or text(page.get("@odata.nextLink"))

    def _expanded(self, uri: str, required: t.Sequence[str], guessed: bool) -> list[Json] | None:
        """The members through $expand, or None if that did not give the truth."""
        found: list[Json] = []
        following: str | None = f"{uri}?{self._expand_query()}"
        declared: t.Any = None
        seen: set[str] = set()
        try:
            while following and following not in seen:
                seen.add(following)
                page = self.session.get(following).json
                found.extend(as_list(page.get("Members")))
                declared = page.get("Members@odata.count", declared)
                following = text(page.get("Members@odata.nextLink")) or text(page.get("@odata.nextLink"))
        except BmcNotFound:
            return [] if guessed else None  # the collection itself may be missing: the plain read tells
        except BmcBusy:
            return None
        except BmcAuthError:
            raise
        except (BmcBadAnswer, BmcRefused, BmcTimeout):
            self._remember_lie(uri, _kind(uri))
            return None
        whole = not isinstance(declared, int) or declared == len(found)
        if not whole or any(not complete(member, required) for member in found):
            self._remember_lie(uri, _kind(uri))
            return None
        for member in found:
            self._keep(str(member["@odata.id"]), member)
        if len(seen) == 1:
            self._keep(uri, page)
        return found

    def _may_expand(self, kind: str) -> bool:
        features = self.session.root.get("ProtocolFeaturesSupported")
        query = features.get("ExpandQuery") if isinstance(features, dict) else None
        if not isinstance(query, dict) or not (query.get("NoLinks") or query.get("ExpandAll")):
            return False
        if self.behaviour.no_expand:
            return False
        key = self._lie_key(kind)
        with _lies_lock:
            # Who was caught twice is not asked again for anything.
            return key not in _lies and sum(lie[:2] == key[:2] for lie in _lies) < 2

    def _expand_query(self) -> str:
        query = dig(self.session.root, "ProtocolFeaturesSupported", "ExpandQuery") or {}
        sign = "." if query.get("NoLinks") else "*"
        return f"$expand={sign}($levels=1)" if query.get("Levels") else f"$expand={sign}"

    def _lie_key(self, kind: str) -> tuple[str, str, str]:
        identity = Identity.of(self.session.root)
        # Firmware is not known yet; the address stands in where nothing names the platform.
        platform = identity.product or text(self.session.root.get("RedfishVersion")) or ""
        return (identity.vendor or self.address, platform, kind)

    def _remember_lie(self, uri: str, kind: str) -> None:
        with _lies_lock:
            _lies.add(self._lie_key(kind))
        if not any(note.startswith("$expand") for note in self.session.notes):
            self.session.notes.append(f"$expand of {uri} did not give whole members; they are read one by one")

    def _keep(self, uri: str, body: Json) -> None:
        self._cache[_key(uri)] = body

    # -- the server behind the BMC

    @property
    def behaviour(self) -> Behaviour:
        system = self._known_system()
        if self._behaviour is None or self._behaviour[0] is not system:
            self._behaviour = (system, _behaviour_of(self.identity, self._extra_quirks))
            if system is not None and asks_for_manager(self.identity, self._extra_quirks):
                # What is known so far holds while the manager is read.
                identity = Identity.of(self.session.root, system, next(iter(self.managers()), None))
                self._behaviour = (system, _behaviour_of(identity, self._extra_quirks))
        return self._behaviour[1]

    @property
    def identity(self) -> Identity:
        return Identity.of(self.session.root, self._known_system())

    def _known_system(self) -> Json | None:
        return self._cache.get(_key(self._system_uri)) if self._system_uri else None

    def system(self, fresh: bool = False, timeout: float | None = None) -> Json:
        """The ComputerSystem of this BMC."""
        if self._system_uri is not None:
            return self.get(self._system_uri, fresh, timeout)
        named = self.session.transport.endpoint.system
        if named:
            body = self.get(named, fresh, timeout)
        else:
            collection = link(self.session.root, "Systems")
            if collection is None:
                raise BmcUnsupported(
                    self.address,
                    "its service root names no Systems",
                    hint="It is not the BMC of a server, or it is still starting: wait, or reset the BMC",
                )
            body = self._choose_system(self.members(collection, needed=True))
        self._system_uri = str(body.get("@odata.id") or named)
        self._keep(self._system_uri, body)
        if "PowerState" in body:
            return body
        # Optional by the schema, but where it can be switched it must say so: an expansion may have cut it off.
        with contextlib.suppress(BmcNotFound):  # it has another URI than it says
            body = self.get(self._system_uri, fresh=True)
        return body

    def _choose_system(self, found: list[Json]) -> Json:
        """Some BMCs list more than servers, so only what can be switched on and off counts."""
        real = [item for item in found if dig(item, "Actions", "#ComputerSystem.Reset")] or found
        # Virtual machines, and the computer on a network card, are listed beside the server that they are in.
        candidates = [item for item in real if text(item.get("SystemType")) not in _INNER] or real
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            raise BmcUnsupported(
                self.address, "it lists no system", hint="The BMC may still be starting: wait, or reset it"
            )
        names = ", ".join(str(item.get("@odata.id")) for item in candidates)
        raise BmcUnsupported(
            self.address,
            f"it serves {len(candidates)} systems: {names}",
            hint=f"Name one in the address, such as https://{self.address}{candidates[0].get('@odata.id')}",
        )

    def managers(self) -> list[Json]:
        """The managers of the system: those it names, else all."""
        named = links(dig(self.system(), "Links", "ManagedBy"))
        found = [body for body in (self.maybe(uri) for uri in named) if body is not None]
        return found or self.members(link(self.session.root, "Managers"))

    def needed_managers(self) -> list[Json]:
        """The same, where nothing can be done without one: what keeps them from being read is raised."""
        found = self.managers()
        uri = link(self.session.root, "Managers")
        return found if found or not uri else self.members(uri, needed=True)


def dig(value: t.Any, *path: str) -> t.Any:
    """A nested property, None where any part of the way is absent."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def link(body: t.Any, name: str) -> str | None:
    return text(dig(body, name, "@odata.id"))


def links(value: t.Any) -> list[str]:
    return [uri for uri in (text(item.get("@odata.id")) for item in as_list(value)) if uri]


def text(value: t.Any) -> str | None:
    """A string with something in it, else None."""
    return value.strip() or None if isinstance(value, str) else None


def as_list(value: t.Any) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def complete(member: Json, required: t.Sequence[str] = ()) -> bool:
    """Whether this is the resource itself, not only a reference to it or a part of it."""
    # Every resource has these three by the specification, so an expanded member without them was cut short.
    whole = "Id" in member and "Name" in member and text(member.get("@odata.id")) is not None
    return whole and all(name in member for name in required) if required else whole


def _behaviour_of(identity: Identity, extra: t.Sequence[t.Mapping[str, t.Any]]) -> Behaviour:
    # Most servers of a site are of a few kinds, so the table is gone through once for each.
    return behaviour_of(identity, extra) if extra else _cached_behaviour(identity)


_cached_behaviour = functools.lru_cache(maxsize=256)(behaviour_of)


def _key(uri: str) -> str:
    return uri.rstrip("/")


def _kind(uri: str) -> str:
    """What a collection holds, by the last part of its URI."""
    return uri.rstrip("/").rsplit("/", 1)[-1]
