# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Accounts: created and deleted, or kept in fixed slots. Passwords cannot be read, so a login proves them."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from .change import Change
from .errors import BmcAuthError, BmcDenied, BmcOptionError, BmcUncertain, BmcUnsupported
from .options import Options
from .resource import Json, Resources, dig, link, text
from .session import Session
from .wait import wait_for
from .write import perform, reporting

__all__ = ("Account", "AccountPlan", "Accounts", "accepted")


@dataclasses.dataclass(frozen=True)
class Account:
    """An account as it is, or as it shall be; None leaves a property as it is."""

    name: str
    role: str | None = None
    enabled: bool | None = None
    password: str | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class AccountPlan:
    uri: str | None  # of the account, or of the slot that is free
    create: bool = False
    slot: bool = False
    write: Json = dataclasses.field(default_factory=dict, repr=False)
    delete: bool = False
    change: Change = dataclasses.field(default_factory=lambda: Change({}, {}))


def accepted(options: Options) -> bool | None:
    """Whether the BMC takes this user name and password. One login is tried. None: but the password has to change."""
    with Session(options) as session:
        try:
            session.get(link(session.root, "AccountService") or link(session.root, "Systems") or "/redfish/v1/")
        except BmcDenied:
            return None if session.change_first is not None else True  # known, but without rights
        except BmcAuthError:
            return False
        return None if session.change_first is not None else True


class Accounts:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._session = resources.session
        self.address = resources.address

    def plan(self, state: str, wanted: Account, set_password: t.Callable[[Json], bool]) -> AccountPlan:
        """What has to be done; nothing is sent that changes something. `set_password` decides, given the account."""
        if wanted.password is not None:
            self._session.hide(wanted.password)
        members = self._members(wanted)
        found = next((body for body in members if text(body.get("UserName")) == wanted.name), None)
        before = {"account": _shown(found)}
        slots = [body for body in members if body.get("UserName") == ""]
        fixed = bool(slots or self._resources.behaviour.user_slots_reserved)
        if state == "absent":
            if found is not None and wanted.name == self._session.options.username:
                raise BmcOptionError(
                    self.address,
                    f"{wanted.name} is the account of this very login, so it is not deleted",
                    hint="Delete it as another user",
                )
            change = Change(before, {"account": None})
            return AccountPlan(_uri(found), slot=fixed, delete=found is not None, change=change)
        write: Json = {}
        if self._session.change_first is not None:
            wanted = dataclasses.replace(wanted, role=None, enabled=None)  # nothing else is taken until then
        if wanted.role is not None and wanted.role != dig(found, "RoleId"):
            write["RoleId"] = self._role(wanted.role)
        if wanted.enabled is not None and wanted.enabled != (found or {"Enabled": True}).get("Enabled", True):
            write["Enabled"] = wanted.enabled
        if wanted.password is not None and (found is None or set_password(found)):
            write["Password"] = self._usable(wanted.password)
        shown = {
            "name": wanted.name,
            "role": write.get("RoleId", dig(found, "RoleId")),
            "enabled": write.get("Enabled", (found or {}).get("Enabled", True)),
        }
        if "Password" in write:
            shown["password"] = "set"
        change = Change(before, {"account": shown})
        if found is not None:
            return AccountPlan(_uri(found), write=write, change=change)
        missing = [name for name in ("Password", "RoleId") if name not in write]
        if missing:
            options = {"Password": "account_password", "RoleId": "role"}
            needed = " and ".join(options[name] for name in missing)
            raise BmcOptionError(
                self.address, f"the account {wanted.name} is not there, and to create it {needed} must be given"
            )
        uri = self._free_slot(slots) if fixed else None
        return AccountPlan(uri, create=True, slot=fixed, write=write, change=change)

    def apply(self, plan: AccountPlan, wanted: Account, timeout: float) -> None:
        """Do it, and prove a password that was set by a login."""
        deadline = time.monotonic() + timeout
        with reporting([]) as done:
            if plan.delete:
                self._delete(plan, wanted, deadline)
                done.append(f"deleted the account {wanted.name}")
            elif plan.create and not plan.slot:
                self._create(plan, wanted, deadline, done)
            elif plan.write and plan.uri:
                body = dict(plan.write)
                if plan.create:
                    body = {"UserName": wanted.name, "Enabled": True, **body}
                self._patch(plan.uri, body, wanted, deadline)
                done.append(f"{'created' if plan.create else 'changed'} the account {wanted.name}")
                if self._session.change_first is not None:
                    self._session.close()
                    self._session.change_first = None
                    rest = self.plan("present", wanted, lambda _found: False)
                    self.apply(rest, wanted, max(1.0, deadline - time.monotonic()))
            enabled = plan.write.get("Enabled", True) if plan.create else plan.change.after["account"]
            enabled = enabled.get("enabled") if isinstance(enabled, dict) else enabled
            if "Password" in plan.write and enabled and not self._proved(wanted):
                raise BmcUnsupported(
                    self.address,
                    f"it took the new password of {wanted.name}, but does not let it in with it",
                    hint="The account may be locked, or the BMC cuts long passwords: try a shorter one",
                )

    # -- below

    def _members(self, wanted: Account) -> list[Json]:
        session = self._session
        try:
            service = link(session.root, "AccountService")
            if service is None:
                raise BmcUnsupported(self.address, "it has no account service", hint="Use its own page")
            collection = link(self._resources.get(service), "Accounts")
            if session.change_first is None:
                return self._resources.fresh_members(collection or service.rstrip("/") + "/Accounts")
        except BmcDenied:
            if session.change_first is None:
                raise
        # Until its password is changed, an account may read and write nothing but itself.
        if wanted.name != session.options.username:
            raise BmcUnsupported(
                self.address,
                f"the password of {session.options.username} has to be changed before anything else",
                hint=f"Change it first, with name: {session.options.username} and account_password",
            )
        own = session.change_first or f"/redfish/v1/AccountService/Accounts/{wanted.name}"
        return [{"UserName": wanted.name, **self._resources.get(own, fresh=True)}]

    def _free_slot(self, slots: list[Json]) -> str | None:
        reserved = self._resources.behaviour.user_slots_reserved
        free = [body for body in slots if str(body.get("Id")) not in reserved]
        if not free:
            raise BmcUnsupported(
                self.address, "all of its account slots are in use", hint="Delete an account with state: absent first"
            )
        return _uri(free[0])

    def _role(self, role: str) -> str:
        service = self._resources.get(str(link(self._session.root, "AccountService")))
        roles = [str(body.get("RoleId") or body.get("Id")) for body in self._resources.members(link(service, "Roles"))]
        if roles and role not in roles:
            raise BmcOptionError(
                self.address, f"it has no role {role}", hint=f"Use one of its roles: {', '.join(roles)}"
            )
        return role

    def _usable(self, password: str) -> str:
        if self._session.change_first is not None:
            return password  # its rules cannot be read yet
        service = self._resources.get(str(link(self._session.root, "AccountService")))
        least, most = service.get("MinPasswordLength"), service.get("MaxPasswordLength")
        if isinstance(least, int) and len(password) < least:
            raise BmcOptionError(self.address, f"it takes passwords of at least {least} characters")
        if isinstance(most, int) and len(password) > most > 0:
            raise BmcOptionError(self.address, f"it takes passwords of at most {most} characters")
        return password

    def _create(self, plan: AccountPlan, wanted: Account, deadline: float, done: list[str]) -> None:
        service = str(link(self._session.root, "AccountService"))
        collection = link(self._resources.get(service), "Accounts") or service.rstrip("/") + "/Accounts"
        body = {"UserName": wanted.name, **{k: v for k, v in plan.write.items() if k != "Enabled"}}
        what = f"created the account {wanted.name}"
        perform(
            self._resources,
            lambda: self._session.post(collection, body),
            collection,
            what,
            deadline,
            lambda: self._find(wanted.name) is not None,
        )
        done.append(what)
        found = self._find(wanted.name) or {}
        enabled = plan.write.get("Enabled", True)
        if found.get("Enabled", True) is not enabled:
            self._patch(str(_uri(found)), {"Enabled": enabled}, wanted, deadline)

    def _patch(self, uri: str, body: Json, wanted: Account, deadline: float) -> None:
        """A password cannot be read back, so after a lost answer only a login tells."""
        readable = {name: value for name, value in body.items() if name != "Password"}
        what = f"changed {', '.join(body)} of the account {wanted.name}"
        own = wanted.name == self._session.options.username and wanted.password is not None and "Password" in body

        def shows() -> bool:
            if readable:
                now = self._resources.get(uri, fresh=True)
                return all(now.get(name) == value for name, value in readable.items())
            return self._proved(wanted)

        def send() -> t.Any:
            answer = self._resources.patch(uri, body)
            if own:
                self._session.adopt(wanted.password or "")
            return answer

        try:
            perform(self._resources, send, uri, what, deadline, shows)
        except (BmcAuthError, BmcUncertain):
            # The BMC may have ended the session of the account whose password it has just changed.
            if not own or not self._proved(wanted):
                raise
            self._session.adopt(wanted.password or "")
            if not shows():
                raise

    def _delete(self, plan: AccountPlan, wanted: Account, deadline: float) -> None:
        uri = str(plan.uri)
        what = f"deleted the account {wanted.name}"

        def gone() -> bool:
            return self._find(wanted.name) is None

        if not plan.slot:
            perform(self._resources, lambda: self._resources.delete(uri), uri, what, deadline, gone)
            return
        with reporting([]) as done:
            for body in self._resources.behaviour.user_slot_emptied:

                def emptied(body: t.Mapping[str, t.Any] = body) -> bool:
                    now = self._resources.get(uri, fresh=True)
                    return all(now.get(name) == value for name, value in body.items())

                def send(body: t.Mapping[str, t.Any] = body) -> t.Any:
                    return self._resources.patch(uri, body)

                perform(self._resources, send, uri, what, deadline, emptied)
                done.append(f"emptied {', '.join(body)} of the account {wanted.name}")

    def _find(self, name: str) -> Json | None:
        service = str(link(self._session.root, "AccountService"))
        collection = link(self._resources.get(service), "Accounts") or service.rstrip("/") + "/Accounts"
        return next(
            (body for body in self._resources.fresh_members(collection) if text(body.get("UserName")) == name), None
        )

    def _proved(self, wanted: Account) -> bool:
        options = dataclasses.replace(self._session.options, username=wanted.name, password=wanted.password or "")
        # Some BMCs need a moment before they know a new password.
        return wait_for(lambda: accepted(options) is not False, bool, 3.0).ready


def _uri(body: Json | None) -> str | None:
    return str(body["@odata.id"]) if body else None


def _shown(body: Json | None) -> Json | None:
    if body is None:
        return None
    return {"name": body.get("UserName"), "role": body.get("RoleId"), "enabled": body.get("Enabled", True)}
