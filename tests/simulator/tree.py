# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resources of a BMC: a shared tree that nobody changes, and the changes of one BMC on top of it."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .identity import Identity

Json = dict[str, Any]
ROOT = "/redfish/v1"


def clean(uri: str) -> str:
    """The URI without what does not name a resource: slashes at its end, query and fragment."""
    path = uri.split("?", 1)[0].split("#", 1)[0].rstrip("/")
    return path or "/"


def schema(body: Mapping[str, Any]) -> str:
    """`Volume` of `#Volume.v1_9_0.Volume`."""
    found = body.get("@odata.type")
    return found.rsplit(".", 1)[-1] if isinstance(found, str) else ""


def dig(value: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def link(body: Any, *path: str) -> str | None:
    found = dig(body, *path, "@odata.id")
    return clean(found) if isinstance(found, str) else None


def links(value: Any) -> list[str]:
    if not isinstance(value, list):
        return []
    return [clean(item["@odata.id"]) for item in value if isinstance(item, dict) and "@odata.id" in item]


def encode(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def styled(digits: str, style: str) -> str | None:
    """An ETag as a BMC writes it; None where it has none."""
    return {
        "strong": f'"{digits}"',
        "weak": f'W/"{digits}"',
        "bare": digits,
        "gzip": f'"{digits}-gzip"',
        "empty": "",
    }.get(style)


def digest(body: Json) -> str:
    """Twelve digits that change with the resource."""
    plain = {name: value for name, value in body.items() if name != "@odata.etag"} if "@odata.etag" in body else body
    return hashlib.sha256(encode(plain)).hexdigest()[:12]


class Base:
    """A tree that many BMCs share. `any_case`: URIs are found whatever their case, as HPE does it. `etags`: each
    resource says its ETag, in this style; else only those that do so already."""

    def __init__(self, bodies: Mapping[str, Json], any_case: bool = False, etags: str = "") -> None:
        self.any_case = any_case
        self.etags = etags
        self.bodies: dict[str, Json] = {self.key(uri): body for uri, body in bodies.items()}
        self.actions: dict[str, tuple[str, str]] = {}
        for uri, body in self.bodies.items():
            self.actions.update(self.actions_of(uri, body))
        self.cache: dict[tuple[str, str], tuple[bytes, frozenset[str]]] = {}
        self.digits: dict[str, str] = {}
        for body in self.bodies.values() if etags else ():
            body["@odata.etag"] = styled(digest(body), etags)

    def key(self, uri: str) -> str:
        uri = clean(uri)
        return uri.lower() if self.any_case else uri

    def etag(self, key: str) -> str:
        """Its digits, without what is around them."""
        if key not in self.digits:
            said = self.bodies[key].get("@odata.etag")
            self.digits[key] = said.removeprefix("W/").strip('"') if said else digest(self.bodies[key])
        return self.digits[key]

    def actions_of(self, uri: str, body: Json) -> Iterator[tuple[str, tuple[str, str]]]:
        actions = body.get("Actions")
        for name, action in actions.items() if isinstance(actions, dict) else ():
            if name.startswith("#") and isinstance(action, dict) and isinstance(action.get("target"), str):
                yield self.key(action["target"]), (name[1:], uri)

    @functools.cached_property
    def identity(self) -> Identity:
        return Identity(self.bodies.values(), self.bodies)

    @functools.cached_property
    def by_schema(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for uri, body in self.bodies.items():
            found.setdefault(schema(body), []).append(uri)
        return found


class Tree:
    """One BMC's resources. Read with `get`, change what `edit` returns, `put` and `remove`."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.key = base.key
        self._own: dict[str, Json | None] = {}
        self._actions: dict[str, tuple[str, str]] = {}
        self._etags: dict[str, str] = {}
        self.version = 0

    def get(self, uri: str) -> Json | None:
        """For reading only."""
        key = self.key(uri)
        return self._own[key] if key in self._own else self.base.bodies.get(key)

    def need(self, uri: str) -> Json:
        body = self.get(uri)
        if body is None:
            raise KeyError(uri)
        return body

    def edit(self, uri: str) -> Json:
        """A resource to be changed at once; not to be kept."""
        key = self.key(uri)
        self._changed(key)
        body = self._own.get(key)
        if body is None:
            if key in self._own or key not in self.base.bodies:
                raise KeyError(uri)
            body = self._own[key] = copy.deepcopy(self.base.bodies[key])
        return body

    def put(self, uri: str, body: Json) -> None:
        key = self.key(uri)
        self._changed(key)
        if self.base.etags:
            body.setdefault("@odata.etag", "")
        self._own[key] = body
        self._actions.update(self.base.actions_of(key, body))

    def remove(self, uri: str) -> None:
        key = self.key(uri)
        self._changed(key)
        if key in self.base.bodies:
            self._own[key] = None
        else:
            self._own.pop(key, None)
        self._actions = {target: found for target, found in self._actions.items() if found[1] != key}

    def add_member(self, collection: str, uri: str, body: Json) -> None:
        self.put(uri, body)
        inside = self.edit(collection)
        inside["Members"] = [*(inside.get("Members") or []), {"@odata.id": uri}]
        inside["Members@odata.count"] = len(inside["Members"])

    def drop_member(self, collection: str, uri: str) -> None:
        self.remove(uri)
        inside = self.edit(collection)
        gone = self.key(uri)
        inside["Members"] = [m for m in inside.get("Members") or [] if self.key(m.get("@odata.id", "")) != gone]
        inside["Members@odata.count"] = len(inside["Members"])

    def members(self, collection: str) -> list[str]:
        return links((self.get(collection) or {}).get("Members"))

    def action(self, target: str) -> tuple[str, str] | None:
        """Name of an action such as `Bios.ResetBios`, and the resource that has it."""
        key = self.key(target)
        found = self._actions.get(key) or self.base.actions.get(key)
        return found if found and self.get(found[1]) is not None else None

    def of_schema(self, name: str) -> list[str]:
        """URIs of the resources of a kind, in the order of the tree."""
        found = [uri for uri in self.base.by_schema.get(name, ()) if self._own.get(uri, True) is not None]
        known = set(found)
        own = (uri for uri, body in self._own.items() if body is not None and uri not in known and schema(body) == name)
        return [*found, *own]

    def parent(self, uri: str) -> str | None:
        """The nearest resource above."""
        key = self.key(uri)
        while "/" in key[1:]:
            key = key.rsplit("/", 1)[0]
            if self.get(key) is not None:
                return key
        return None

    def changed(self) -> dict[str, Json | None]:
        """What differs from the shared tree: None is a resource that was removed."""
        return self._own

    def shown(self, uri: str) -> Json:
        """A resource with the ETag that it has now. For reading only."""
        key = self.key(uri)
        body = self._own.get(key)
        if body is not None and "@odata.etag" in body:
            return {**body, "@odata.etag": styled(self.etag(key), self.base.etags or "strong")}
        return self.need(uri)

    def encoded(self, uri: str) -> bytes:
        key = self.key(uri)
        if key in self._own:
            return encode(self.shown(key))
        found = self.base.cache.get((key, ""))
        if found is None:
            found = self.base.cache[key, ""] = (encode(self.base.bodies[key]), frozenset())
        return found[0]

    def etag(self, uri: str) -> str:
        """Digits that change with the resource, without what is around them."""
        key = self.key(uri)
        if key not in self._own:
            return self.base.etag(key)
        if key not in self._etags:
            self._etags[key] = digest(self.need(key))
        return self._etags[key]

    def _changed(self, key: str) -> None:
        self.version += 1
        self._etags.pop(key, None)


def matches(pattern: str, uri: str, any_case: bool = False) -> bool:
    """Whether a URI fits a pattern, in which `*` stands for anything, slashes too."""
    expression = "".join(".*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", pattern.rstrip("/")))
    return re.fullmatch(expression, uri.rstrip("/"), re.IGNORECASE if any_case else 0) is not None
