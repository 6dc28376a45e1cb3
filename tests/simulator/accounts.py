# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts: made and deleted, or fixed slots that are filled and emptied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .messages import Json, Refusal, Reply
from .patching import changed, check, merge
from .tree import link

if TYPE_CHECKING:
    from .bmc import Bmc, Call

_CREATE = ("UserName", "Password", "RoleId", "Enabled", "Locked", "AccountTypes", "PasswordChangeRequired", "Oem",
           "PasswordExpiration")  # fmt: skip


def create(bmc: Bmc, call: Call, uri: str) -> Reply:
    if bmc.profile.accounts != "create":
        raise Refusal(405, "OperationNotAllowed")
    for name in ("UserName", "Password", "RoleId"):
        if name not in call.body:
            raise Refusal(400, "CreateFailedMissingReqProperties", name, related=f"#/{name}")
    for name in call.body:
        if name not in _CREATE:
            raise Refusal(400, "PropertyUnknown", name, related=f"#/{name}")
    _check_values(bmc, call.body, None)
    number = next(n for n in range(1, 1000) if bmc.tree.get(f"{uri}/{n}") is None)
    own = f"{uri}/{number}"
    body: Json = {
        "@odata.id": own,
        "@odata.type": "#ManagerAccount.v1_12_0.ManagerAccount",
        "Id": str(number),
        "Name": "User Account",
        "UserName": call.body["UserName"],
        "Password": None,
        "RoleId": call.body["RoleId"],
        "Enabled": call.body.get("Enabled", True),
        "Locked": False,
        "AccountTypes": call.body.get("AccountTypes", ["Redfish"]),
        "PasswordChangeRequired": call.body.get("PasswordChangeRequired", False),
        "Links": {"Role": {"@odata.id": f"/redfish/v1/AccountService/Roles/{call.body['RoleId']}"}},
    }
    bmc.tree.add_member(uri, own, body)
    bmc.access.passwords[bmc.tree.key(own)] = call.body["Password"]
    reply = changed(bmc, own, 201)
    reply.headers["Location"] = own
    return reply


def patch(bmc: Bmc, call: Call, uri: str) -> Reply:
    now = bmc.tree.need(uri)
    check(bmc, call.body, now, "ManagerAccount")
    empty = not now.get("UserName")
    if empty and call.body.get("UserName") and not ("Password" in call.body or uri in bmc.access.passwords):
        raise Refusal(400, "PropertyMissing", "Password", related="#/Password")
    if bmc.profile.accounts == "slots" and _reserved(bmc, uri) and "UserName" in call.body:
        raise Refusal(403, "InsufficientPrivilege")
    _check_values(bmc, call.body, uri)
    body = bmc.tree.edit(uri)
    merge(body, call.body)
    if "RoleId" in call.body and isinstance(body.get("Links"), dict) and call.body["RoleId"]:
        body["Links"]["Role"] = {"@odata.id": f"/redfish/v1/AccountService/Roles/{call.body['RoleId']}"}
    if "Password" in call.body:
        bmc.access.passwords[uri] = call.body["Password"]
        if "PasswordChangeRequired" in body:
            body["PasswordChangeRequired"] = False
    if call.body.get("UserName") == "":
        bmc.access.passwords.pop(uri, None)
        body["Enabled"] = False
    return changed(bmc, uri)


def delete(bmc: Bmc, call: Call, uri: str) -> Reply:
    if bmc.profile.accounts != "create":
        raise Refusal(405, "OperationNotAllowed")
    admins = [
        other
        for other in bmc.access.passwords
        if other != uri and (bmc.tree.get(other) or {}).get("RoleId") == "Administrator"
    ]
    if not admins and bmc.access.role(uri) == "Administrator":
        raise Refusal(403, "ResourceCannotBeDeleted")
    collection = bmc.tree.parent(uri)
    assert collection is not None
    bmc.tree.drop_member(collection, uri)
    bmc.access.passwords.pop(uri, None)
    return Reply(204)


def _reserved(bmc: Bmc, uri: str) -> bool:
    """The first slot of a fixed set is nobody's."""
    collection = bmc.tree.parent(uri)
    return collection is not None and [bmc.tree.key(m) for m in bmc.tree.members(collection)][:1] == [uri]


def _check_values(bmc: Bmc, sent: Json, uri: str | None) -> None:
    service: dict[str, Any] = bmc.tree.get(link(bmc.tree.need("/redfish/v1"), "AccountService") or "/") or {}
    name = sent.get("UserName")
    if name:
        for other in bmc.tree.of_schema("ManagerAccount"):
            if other != uri and bmc.tree.need(other).get("UserName") == name:
                raise Refusal(400, "ResourceAlreadyExists", "ManagerAccount", "UserName", name, related="#/UserName")
    if "Password" in sent:
        least, most = service.get("MinPasswordLength") or 1, service.get("MaxPasswordLength") or 127
        if not isinstance(sent["Password"], str) or not least <= len(sent["Password"]) <= most:
            raise Refusal(400, "PropertyValueFormatError", "******", "Password", related="#/Password")
    role = sent.get("RoleId")
    roles = [body.get("RoleId") or body.get("Id") for body in map(bmc.tree.need, bmc.tree.of_schema("Role"))]
    if role and roles and role not in roles:
        raise Refusal(400, "PropertyValueNotInList", role, "RoleId", related="#/RoleId")


CREATES = {"ManagerAccountCollection": create}
PATCHES = {"ManagerAccount": patch}
DELETES = {"ManagerAccount": delete}
