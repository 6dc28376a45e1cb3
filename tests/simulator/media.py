# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual media: by action or by PATCH, with what makers refuse and demand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .messages import Json, Refusal, Reply
from .patching import changed

if TYPE_CHECKING:
    from .bmc import Bmc, Call

_PARAMETERS = ("Image", "Inserted", "WriteProtected", "TransferMethod", "TransferProtocolType", "UserName", "Password")


def insert(bmc: Bmc, call: Call, uri: str) -> Reply:
    _check(bmc, call.body, uri, "VirtualMedia.InsertMedia")
    _insert(bmc, uri, call.body)
    return Reply(204)


def eject(bmc: Bmc, call: Call, uri: str) -> Reply:
    if not bmc.tree.need(uri).get("Inserted"):
        raise Refusal(400, "IDRAC.2.8.VRM0009", text="No Virtual Media devices are currently connected.")
    _eject(bmc, uri)
    return Reply(204)


def patch(bmc: Bmc, call: Call, uri: str) -> Reply:
    if bmc.profile.media != "patch":
        raise Refusal(405, "OperationNotAllowed")
    for name in call.body:
        if name not in (*_PARAMETERS, "Oem"):
            raise Refusal(400, "PropertyUnknown", name, related=f"#/{name}")
    if call.body.get("Image"):
        _check(bmc, call.body, uri, "")
        _insert(bmc, uri, call.body)
    elif "Image" in call.body or call.body.get("Inserted") is False:
        _eject(bmc, uri)
    return changed(bmc, uri)


def _check(bmc: Bmc, sent: Json, uri: str, action: str) -> None:
    profile, now = bmc.profile, bmc.tree.need(uri)
    missing = [name for name in ("Image", *profile.media_requires) if name not in sent]
    if missing and action:
        raise Refusal(400, "ActionParameterMissing", action, missing[0])
    if missing:
        raise Refusal(400, "PropertyMissing", missing[0])
    for name in sent:
        if name not in _PARAMETERS or name in profile.media_rejects:
            raise Refusal(400, "ActionParameterNotSupported", name, action or "PATCH")
    image = sent["Image"]
    if not isinstance(image, str) or not re.match(r"(https?|nfs|cifs|smb|ftp)://|//|\S+:/", image):
        raise Refusal(400, "PropertyValueFormatError", image, "Image")
    if not re.search(profile.media_slots, str(now.get("Id"))):
        raise Refusal(400, "ActionNotSupported", "InsertMedia of this slot")
    if now.get("Inserted"):
        raise Refusal(409 if action else 400, "ResourceInUse")


def _insert(bmc: Bmc, uri: str, sent: Json) -> None:
    shown = re.sub(r"//[^/@\s]*@", "//", sent["Image"])
    values: Json = {
        "Image": shown,
        "ImageName": shown.rsplit("/", 1)[-1],
        "Inserted": sent.get("Inserted", True),
        "WriteProtected": sent.get("WriteProtected", True),
        "ConnectedVia": "URI",
    }
    body = bmc.tree.edit(uri)
    body.update({name: value for name, value in values.items() if name in body or name in ("Image", "Inserted")})
    _offer_eject(bmc, uri)


def _eject(bmc: Bmc, uri: str) -> None:
    def done() -> None:
        body = bmc.tree.edit(uri)
        values: Json = {"Image": None, "ImageName": None, "Inserted": False, "ConnectedVia": "NotConnected"}
        body.update({name: value for name, value in values.items() if name in body})
        _offer_eject(bmc, uri)

    if bmc.profile.media_eject_seconds:
        bmc.clock.after(bmc.profile.media_eject_seconds, done)
    else:
        done()


def _offer_eject(bmc: Bmc, uri: str) -> None:
    """Some offer the action only while something is inserted."""
    if bmc.profile.media != "action" or bmc.profile.media_eject_action_when_empty:
        return
    body = bmc.tree.edit(uri)
    actions: dict[str, Any] = body.setdefault("Actions", {})
    if body.get("Inserted"):
        actions["#VirtualMedia.EjectMedia"] = {"target": f"{uri}/Actions/VirtualMedia.EjectMedia"}
    else:
        actions.pop("#VirtualMedia.EjectMedia", None)
    bmc.tree.put(uri, body)


ACTIONS = {"VirtualMedia.InsertMedia": insert, "VirtualMedia.EjectMedia": eject}
PATCHES = {"VirtualMedia": patch}
