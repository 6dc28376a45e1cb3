# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: sessions, basic authentication, accounts and their roles."""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .messages import Json, Refusal, Reply, message
from .tree import link

if TYPE_CHECKING:
    from .bmc import Bmc, Call

PRIVILEGES = {
    "Administrator": {"Login", "ConfigureManager", "ConfigureUsers", "ConfigureComponents", "ConfigureSelf"},
    "Operator": {"Login", "ConfigureComponents", "ConfigureSelf"},
    "ReadOnly": {"Login", "ConfigureSelf"},
}
# What a write to a kind of resource needs; ConfigureComponents where nothing is said.
NEEDED = {
    "ManagerAccount": "ConfigureUsers",
    "ManagerAccountCollection": "ConfigureUsers",
    "AccountService": "ConfigureUsers",
    "Role": "ConfigureManager",
    "SessionService": "ConfigureManager",
    "Manager": "ConfigureManager",
    "ManagerNetworkProtocol": "ConfigureManager",
    "CertificateService": "ConfigureManager",
    "CertificateCollection": "ConfigureManager",
    "Certificate": "ConfigureManager",
    "EventService": "ConfigureManager",
    "EventDestinationCollection": "ConfigureManager",
    "EventDestination": "ConfigureManager",
}


@dataclass
class Session:
    token: str
    account: str
    used: float


class Access:
    """`passwords`: by URI of the account. The account of the tests is the first administrator of the tree."""

    def __init__(self, bmc: Bmc, username: str, password: str) -> None:
        self.bmc = bmc
        self.sessions: dict[str, Session] = {}  # by URI
        self.passwords: dict[str, str] = {}
        self.opened = 0
        self.tries = 0
        self.limit = bmc.profile.session_limit
        tree = bmc.tree
        accounts = tree.of_schema("ManagerAccount")
        own = next((uri for uri in accounts if tree.need(uri).get("RoleId") == "Administrator"), None)
        for uri in accounts:
            body = tree.need(uri)
            if uri != own and body.get("UserName"):
                self.passwords[uri] = secrets.token_hex(8)
        if own is not None:
            tree.edit(own).update({"UserName": username, "Enabled": True, "Locked": False})
            self.passwords[own] = password
        self._alone = None if own else (username, password)

    # -- requests

    def identify(self, call: Call) -> str | None:
        """URI of the account that asks, "" for the only one of a BMC that lists none; None: nobody."""
        token = call.headers.get("x-auth-token")
        if token is not None:
            return self._by_token(token)
        given = call.headers.get("authorization", "")
        if not given.lower().startswith("basic ") or not self.bmc.profile.basic:
            return None
        try:
            user, _colon, password = base64.b64decode(given[6:], validate=True).decode().partition(":")
        except ValueError:
            return None
        return self.check(user, password)

    def check(self, user: object, password: object) -> str | None:
        self.tries += 1
        if self._alone is not None:
            return "" if (user, password) == self._alone else None
        for uri, known in self.passwords.items():
            body = self.bmc.tree.get(uri) or {}
            if body.get("UserName") == user and body.get("Enabled", True) and not body.get("Locked"):
                same = hmac.compare_digest(known.encode(), str(password).encode())
                return uri if same else None
        return None

    def role(self, account: str) -> str:
        return str((self.bmc.tree.get(account) or {}).get("RoleId") or "Administrator") if account else "Administrator"

    def allow(self, call: Call, kind: str, uri: str) -> None:
        """Raises where the account may not write to this resource."""
        if call.account is None:
            raise Refusal(401, "NoValidSession")
        privileges = PRIVILEGES.get(self.role(call.account), set())
        needed = NEEDED.get(kind, "ConfigureComponents")
        if needed in privileges:
            return
        own = kind == "ManagerAccount" and self.bmc.tree.key(uri) == call.account
        own = own and isinstance(call.body, dict) and set(call.body) == {"Password"}
        session = self.sessions.get(self.bmc.tree.key(uri))
        if own or (session is not None and session.account == call.account):
            return
        raise Refusal(403, "InsufficientPrivilege")

    def must_change(self, call: Call, uri: str) -> bool:
        """Whether this is not among the few things that are allowed before a password was changed."""
        account = self.bmc.tree.get(call.account or "") or {}
        if not account.get("PasswordChangeRequired"):
            return False
        changes = call.method == "PATCH" and uri == call.account
        return not (changes or (call.method == "GET" and uri == call.account) or uri in self.sessions)

    # -- sessions

    @property
    def collection(self) -> str | None:
        root = self.bmc.tree.get("/redfish/v1") or {}
        return link(root, "Links", "Sessions")

    def open(self, call: Call) -> Reply:
        body = call.body
        if not isinstance(body, dict):
            raise Refusal(400, "MalformedJSON")
        for name in ("UserName", "Password"):
            if name not in body:
                raise Refusal(400, "PropertyMissing", name)
        self._expire()
        account = self.check(body["UserName"], body["Password"])
        if account is None:
            raise Refusal(401, "ResourceAtUriUnauthorized", call.uri, "The user name or password is incorrect")
        if len(self.sessions) >= self.limit:
            status, message_id, text = self.bmc.profile.session_exhausted
            raise Refusal(status, message_id, text=text or None)
        collection = self.collection
        assert collection is not None
        self.opened += 1
        uri = f"{collection}/{self.opened}"
        token = secrets.token_hex(16)
        self.sessions[self.bmc.tree.key(uri)] = Session(token, account, self._time())
        resource: Json = {
            "@odata.id": uri,
            "@odata.type": "#Session.v1_7_0.Session",
            "Id": str(self.opened),
            "Name": "User Session",
            "UserName": body["UserName"],
            "CreatedTime": self.bmc.clock.stamp(),
        }
        self.bmc.tree.add_member(collection, uri, resource)
        resource = dict(self.bmc.tree.shown(uri))
        if (self.bmc.tree.get(account) or {}).get("PasswordChangeRequired"):
            resource["@Message.ExtendedInfo"] = [message("PasswordChangeRequired", account)]
        return Reply(201, resource, {"X-Auth-Token": token, "Location": uri})

    def close(self, uri: str) -> None:
        collection = self.collection
        if self.sessions.pop(self.bmc.tree.key(uri), None) is not None and collection:
            self.bmc.tree.drop_member(collection, uri)

    def close_all(self) -> None:
        for uri in list(self.sessions):
            self.close(uri)

    def _by_token(self, token: str) -> str | None:
        self._expire()
        for session in self.sessions.values():
            if session.token == token:
                session.used = self._time()
                return session.account
        return None

    def _time(self) -> float:
        """Sessions age in real time, or every test of a fast clock would lose its own; what a test adds counts."""
        return self.bmc.idle_time()

    def _expire(self) -> None:
        service = next(iter(self.bmc.tree.of_schema("SessionService")), None)
        timeout = (self.bmc.tree.get(service) or {}).get("SessionTimeout") if service else None
        limit = timeout if isinstance(timeout, (int, float)) and timeout > 0 else self.bmc.profile.session_timeout
        now = self._time()
        for uri in [uri for uri, session in self.sessions.items() if now - session.used > limit]:
            self.close(uri)
