# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One simulated BMC: from a request to an answer. It knows nothing of sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import accounts, certificates, events, firmware, logs, media, power, query, settings, storage, tasks
from .access import Access
from .clock import Clock
from .faults import Fault
from .messages import Json, Refusal, Reply, error_body, refusal
from .patching import WRITABLE, patch
from .profile import Profile
from .tasks import Tasks
from .tree import ROOT, Base, Tree, clean, encode, matches, schema, styled

Handler = Callable[["Bmc", "Call", str], Reply]

# By name of the action, by kind of the collection or resource.
ACTIONS: dict[str, Handler] = {
    **power.ACTIONS,
    **settings.ACTIONS,
    **storage.ACTIONS,
    **media.ACTIONS,
    **firmware.ACTIONS,
    **certificates.ACTIONS,
    **logs.ACTIONS,
}
CREATES: dict[str, Handler] = {**storage.CREATES, **accounts.CREATES, **settings.CREATES, **events.CREATES}
DELETES: dict[str, Handler] = {**storage.DELETES, **accounts.DELETES, **tasks.DELETES, **events.DELETES}
PATCHES: dict[str, Handler] = {**accounts.PATCHES, **media.PATCHES, **settings.PATCHES}

_OPEN = {("GET", "/redfish"), ("GET", ROOT), ("GET", f"{ROOT}/odata"), ("GET", f"{ROOT}/$metadata")}


@dataclass
class Call:
    """A request as it arrived. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    data: bytes
    connection: int
    uri: str = ""
    query: str = ""
    body: Any = None
    account: str | None = None

    def __post_init__(self) -> None:
        path, _mark, self.query = self.path.partition("?")
        self.uri = clean(path)


class Bmc:
    """`number`: which server of a fleet it is, see identity.py."""

    def __init__(
        self, base: Base, profile: Profile, clock: Clock, username: str, password: str, number: int = 0
    ) -> None:
        self.number = number
        self.profile = profile
        self.clock = clock
        self.tree = Tree(base)
        self.faults: list[Fault] = []
        self.access = Access(self, username, password)
        self.tasks = Tasks(self)
        self.power = power.Power(self)
        self.power.at_start = [self.tasks.server_reset, lambda: settings.server_reset(self)]
        self.settings = settings.find(self.tree)
        settings.prepare(self)
        self.pushed: list[tuple[Json, bytes]] = []
        self.erased: list[str] = []
        self.keys: dict[str, Any] = {}  # of certificate requests, by the certificate collection
        self.serve_certificate: Callable[[bytes], None] = lambda pem: None
        self.on_restart: Callable[[float], None] = lambda seconds: None
        self.gaps_until = -1.0
        self.not_ready_until = -1.0
        self._added = 0.0
        self._tokens = max(profile.rate or 0.0, 1.0)
        self._counted = time.monotonic()

    # -- for the server

    def fault_for(self, call: Call) -> Fault | None:
        self.clock.catch_up()
        return next((fault for fault in self.faults if fault.meets(self, call)), None)

    def answer(self, call: Call) -> Reply:
        """Never raises for what a client sent."""
        self.clock.catch_up()
        try:
            reply = self._answer(call)
        except Refusal as exc:
            reply = exc.reply
        except KeyError as exc:
            reply = refusal(404, "ResourceMissingAtURI", str(exc.args[0] if exc.args else call.uri))
        if reply.status >= 400 and isinstance(reply.body, dict):
            self._shape(reply)
        if self.number and reply.body is not None:
            data = reply.body if isinstance(reply.body, bytes) else encode(reply.body)
            reply.body = self.tree.base.identity.apply(data, self.number)
        if reply.status == 401 and self.profile.basic:
            reply.headers.setdefault("WWW-Authenticate", 'Basic realm="Redfish"')
        return reply

    # -- for behaviour

    def idle_time(self) -> float:
        return time.monotonic() + self._added

    def advance(self, seconds: float) -> None:
        self._added += seconds
        self.clock.advance(seconds)

    def restart(self, refused: float | None = None, partial: float | None = None) -> None:
        """The BMC restarts: no connection for a while, then a tree with gaps. Sessions are lost."""
        refused = self.profile.restart_refused if refused is None else refused
        partial = self.profile.restart_partial if partial is None else partial
        self.access.close_all()
        self.gaps_until = self.clock.moment() + refused + partial
        self.on_restart(refused)

    def work_ended(self) -> None:
        self.not_ready_until = self.clock.moment() + self.profile.gap

    def refuse(self, answer: tuple[int, str, str], *args: Any) -> Refusal:
        return Refusal(answer[0], answer[1], *args, text=answer[2] or None)

    # -- below

    def _answer(self, call: Call) -> Reply:
        method = "GET" if call.method == "HEAD" else call.method
        if method == "POST" and call.uri.endswith("/Members"):  # the same as the collection itself
            call.uri = call.uri.removesuffix("/Members")
        uri = self.tree.key(call.uri)
        if call.headers.get("odata-version", "4.0") != "4.0":
            raise Refusal(412, "HeaderInvalid", "OData-Version")
        if self._throttled():
            reply = refusal(429, "ServiceTemporarilyUnavailable", 1)
            reply.headers["Retry-After"] = "1"
            return reply
        if method == "POST" and uri == self.tree.key(self.access.collection or " "):
            call.body = _json(call.data)
            return self.access.open(call)
        call.account = self.access.identify(call)
        if call.account is None and (method, call.uri) not in _OPEN:
            raise Refusal(401, "NoValidSession")
        if call.account and self.access.must_change(call, uri):
            raise Refusal(403, "PasswordChangeRequired", call.account)
        if method == "GET":
            return self._get(call, uri)
        if method not in ("POST", "PATCH", "DELETE", "PUT"):
            raise Refusal(501 if method not in ("OPTIONS", "TRACE") else 405, "OperationNotAllowed")
        return self._write(call, uri)

    def _get(self, call: Call, uri: str) -> Reply:
        special = self._special(call.uri)
        if special is not None:
            return special
        if self._gap(uri):
            raise KeyError(call.uri)
        task = self.tasks.get(uri)
        if task is not None:
            return task
        body = self.tree.get(uri)
        if body is None or self._hidden(uri):
            raise KeyError(call.uri)
        accepted = call.headers.get("accept-encoding", "")
        if "gzip" not in accepted and any(matches(pattern, call.uri) for pattern in self.profile.identity_refused):
            raise Refusal(406, "HeaderInvalid", "Accept-Encoding")
        kind = str(body.get("@odata.type", "")).removeprefix("#").rsplit(".", 1)[0]
        described = f"<http://redfish.dmtf.org/schemas/v1/{kind}.json>; rel=describedby"
        headers = {"Allow": self._allow(uri, body), "Link": described}
        if call.query or (schema(body) == "LogEntryCollection" and self.profile.logs_expanded):
            return Reply(200, query.answer(self, uri, call.query), headers)
        etag = self.etag(uri)
        if etag is not None:
            headers["ETag"] = etag
            if call.headers.get("if-none-match") in (etag, "*"):
                return Reply(304, None, headers)
        return Reply(200, self.tree.encoded(uri), headers)

    def _special(self, path: str) -> Reply | None:
        if path == "/redfish":
            return Reply(200, {"v1": f"{ROOT}/"})
        if path == f"{ROOT}/odata":
            root = self.tree.need(ROOT)
            names = [
                {"name": name, "kind": "Singleton", "url": value["@odata.id"]}
                for name, value in root.items()
                if isinstance(value, dict) and "@odata.id" in value
            ]
            service = {"name": "Service", "kind": "Singleton", "url": f"{ROOT}/"}
            return Reply(200, {"@odata.context": f"{ROOT}/$metadata", "value": [service, *names]})
        if path == f"{ROOT}/$metadata":
            return Reply(200, metadata(self.tree), {"Content-Type": "application/xml;charset=utf-8"})
        return None

    def _write(self, call: Call, uri: str) -> Reply:
        action = self.tree.action(uri) if call.method == "POST" else None
        body = self.tree.get(uri)
        pushed = call.method == "POST" and uri in firmware.push_uris(self.tree)
        if action is None and not pushed and (body is None or self._gap(uri) or self._hidden(uri)):
            raise KeyError(call.uri)
        kind = schema(body) if body is not None else action[0].split(".")[0] if action else ""
        handler = firmware.push if pushed else self._handler(call.method, action, kind, uri)
        if handler is None:
            reply = refusal(405, "OperationNotAllowed")
            reply.headers["Allow"] = self._allow(uri, body or {})
            return reply
        if call.method in ("PATCH", "POST") and not call.headers.get("content-type", "").startswith("multipart/"):
            call.body = _json(call.data) if call.data or call.method == "PATCH" else {}
            if not isinstance(call.body, dict):
                raise Refusal(400, "UnrecognizedRequestBody")
        self.access.allow(call, kind, uri)
        if self.clock.moment() < self.not_ready_until:
            raise self.refuse(self.profile.gap_answer, 5)
        if action is not None:
            refused = any(matches(name, action[0]) for name in self.profile.action_if_match_refused)
            if refused and "if-match" in call.headers:
                raise Refusal(412, "PreconditionFailed")
            return handler(self, call, action[1])
        if call.method in ("PATCH", "DELETE") and kind != "Session" and not self._matches(call, uri):
            return Reply(200, self.tree.encoded(uri))
        return handler(self, call, uri)

    def _handler(self, method: str, action: tuple[str, str] | None, kind: str, uri: str) -> Handler | None:
        if action is not None:
            return ACTIONS.get(action[0], _unknown_action)
        if method == "POST":
            return CREATES.get(kind)
        if method == "PATCH":
            if uri in self.settings:
                return settings.patch_pending
            return PATCHES.get(kind) or (patch if kind in WRITABLE else None)
        if method == "DELETE":
            if kind == "Session":
                return _end_session
            return DELETES.get(kind)
        return None

    def _allow(self, uri: str, body: Json) -> str:
        kind = schema(body)
        found = ["GET", "HEAD"]
        if kind in CREATES or uri == self.tree.key(self.access.collection or " "):
            found.append("POST")
        if self._handler("PATCH", None, kind, uri) is not None:
            found.append("PATCH")
        if kind in DELETES or kind == "Session":
            found.append("DELETE")
        return ", ".join(found)

    # -- ETags

    def etag(self, uri: str) -> str | None:
        style = self.profile.etag
        said = self.tree.need(uri).get("@odata.etag")
        if said and style in ("strong", "weak") and self.tree.key(uri) not in self.tree.changed():
            return str(said)
        return styled(self.tree.etag(uri), style)

    def _matches(self, call: Call, uri: str) -> bool:
        """Whether a write goes on. False: it is dropped without a word, as some BMCs do."""
        rule = self.profile.if_match
        if rule == "ignored" or not any(matches(pattern, uri) for pattern in self.profile.if_match_on):
            return True
        given = call.headers.get("if-match")
        if given is None:
            if rule == "required":
                raise self.refuse(self.profile.if_match_missing)
            return rule != "dropped"
        wanted = self.tree.etag(uri)
        if self.profile.etag in ("weak", "gzip"):  # only the strong form is taken, whatever is sent
            good = given.strip() in ("*", f'"{wanted}"')
        else:
            good = any(part.strip() in ("*", self.etag(uri), f'"{wanted}"') for part in given.split(","))
        if not good:
            raise Refusal(412, "PreconditionFailed")
        return True

    # -- states in which something is missing

    def _gap(self, uri: str) -> bool:
        return self.clock.moment() < self.gaps_until and any(matches(gap, uri) for gap in self.profile.restart_gaps)

    def _hidden(self, uri: str) -> bool:
        return self.profile.volumes_need_power and "/storage" in uri.lower() and not self.power.on

    def _throttled(self) -> bool:
        rate = self.profile.rate
        if rate is None:
            return False
        now = time.monotonic()
        self._tokens = min(max(rate, 1.0), self._tokens + (now - self._counted) * rate)
        self._counted = now
        if self._tokens < 1:
            return True
        self._tokens -= 1
        return False

    def _shape(self, reply: Reply) -> None:
        if self.profile.errors == "plain":
            reply.body, reply.headers["Content-Type"] = b"<html>Error</html>", "text/html"
        elif self.profile.errors == "object":
            info = reply.body["error"].get("@Message.ExtendedInfo")
            if isinstance(info, list) and info:
                reply.body = error_body(*info, as_object=True)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise Refusal(400, "MalformedJSON") from None


def _unknown_action(bmc: Bmc, call: Call, uri: str) -> Reply:
    raise Refusal(501, "ActionNotSupported", call.uri.rsplit("/", 1)[-1])


def _end_session(bmc: Bmc, call: Call, uri: str) -> Reply:
    bmc.access.close(uri)
    return Reply(204)


def metadata(tree: Tree) -> bytes:
    """The OData document that names the schemas in use."""
    kinds: dict[str, set[str]] = {}
    for uri in [*tree.base.bodies, *tree.changed()]:
        name = (tree.get(uri) or {}).get("@odata.type")
        if isinstance(name, str) and name.startswith("#"):
            parts = name[1:].split(".")
            kinds.setdefault(parts[0], set()).update(parts[1:2] if len(parts) == 3 else ())
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    lines.append('<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">')
    for kind, versions in sorted(kinds.items()):
        lines.append(f'<edmx:Reference Uri="http://redfish.dmtf.org/schemas/v1/{kind}_v1.xml">')
        lines.append(f'<edmx:Include Namespace="{kind}"/>')
        lines.extend(f'<edmx:Include Namespace="{kind}.{version}"/>' for version in sorted(versions))
        lines.append("</edmx:Reference>")
    lines.append('<edmx:DataServices><Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="Service">')
    lines.append('<EntityContainer Name="Service" Extends="ServiceRoot.v1_0_0.ServiceContainer"/>')
    lines.append("</Schema></edmx:DataServices></edmx:Edmx>")
    return "\n".join(lines).encode()
