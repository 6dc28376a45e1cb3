# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firmware: SimpleUpdate and push. The simulator fetches nothing.

The name of an image says what it is: `<id of the inventory>_<version>.<suffix>`, such as `BIOS_2.19.1.exe`.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import re
from typing import TYPE_CHECKING, Any

from .messages import Json, Refusal, Reply, message
from .power import parameter
from .tasks import Outcome
from .tree import ROOT, Tree, clean, link

if TYPE_CHECKING:
    from .bmc import Bmc, Call

_NAME = re.compile(r"(?P<id>[^/]+)_(?P<version>[^/_]+)\.(?:[A-Za-z]\w*)$")
_BMC = re.compile(r"bmc|idrac|ilo|xcc|manager|lifecycle", re.IGNORECASE)
_HOST = re.compile(r"bios|uefi|system rom|cpld", re.IGNORECASE)


def service(tree: Tree) -> Json:
    return tree.get(link(tree.get(ROOT) or {}, "UpdateService") or "/") or {}


def push_uris(tree: Tree) -> list[str]:
    body = service(tree)
    found = (body.get("MultipartHttpPushUri"), body.get("HttpPushUri"))
    return [tree.key(clean(uri)) for uri in found if isinstance(uri, str)]


def simple_update(bmc: Bmc, call: Call, uri: str) -> Reply:
    action = "UpdateService.SimpleUpdate"
    image = call.body.get("ImageURI")
    if image is None:
        raise Refusal(400, "ActionParameterMissing", action, "ImageURI")
    known = (
        "ImageURI",
        "TransferProtocol",
        "Targets",
        "Username",
        "Password",
        "ForceUpdate",
        "Stage",
        "ExcludeTargets",
    )
    for name in call.body:
        if name not in known and not name.startswith(("@Redfish.", "Oem")):
            raise Refusal(400, "ActionParameterUnknown", action, name)
    if "TransferProtocol" in call.body:
        parameter(bmc, call, uri, action, "TransferProtocol")
    elif "://" not in str(image):
        raise Refusal(400, "ActionParameterMissing", action, "TransferProtocol")
    return _start(bmc, call, str(image), call.body.get("Targets") or [], call.body)


def push(bmc: Bmc, call: Call, uri: str) -> Reply:
    """The file is in the body, as a form (MultipartHttpPushUri) or as it is (HttpPushUri)."""
    if "content-length" not in call.headers:
        raise Refusal(411, "HeaderMissing", "Content-Length")
    kind = call.headers.get("content-type", "")
    multipart = service(bmc.tree).get("MultipartHttpPushUri")
    if multipart is None or uri != bmc.tree.key(clean(multipart)):
        disposition = call.headers.get("content-disposition", "")
        found = re.search(r'filename="?([^";]+)', disposition)
        bmc.pushed.append(({}, call.data))
        targets = service(bmc.tree).get("HttpPushUriTargets") or []
        return _start(bmc, call, found.group(1) if found else _named_inside(call.data), targets, {})
    if not kind.startswith("multipart/form-data"):
        raise Refusal(415, "HeaderInvalid", "Content-Type")
    parts = _parts(kind, call.data)
    if "UpdateFile" not in parts:
        raise Refusal(400, "CreateFailedMissingReqProperties", "UpdateFile")
    try:
        wanted = json.loads(parts.get("UpdateParameters", ("", b"{}"))[1])
    except ValueError:
        raise Refusal(400, "MalformedJSON") from None
    name, data = parts["UpdateFile"]
    bmc.pushed.append((wanted, data))
    return _start(bmc, call, name or _named_inside(data), wanted.get("Targets") or [], wanted)


def start_update(bmc: Bmc, call: Call, uri: str) -> Reply:
    """What waits for it begins, as a reset would make it."""
    bmc.tasks.server_reset()
    return Reply(204)


# -- below


def _parts(kind: str, data: bytes) -> dict[str, tuple[str, bytes]]:
    """Name -> file name and content of each part of a form."""
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + data)
    found = {}
    for part in form.iter_parts() if form.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        found[str(name)] = (part.get_filename() or "", content if isinstance(content, bytes) else b"")
    return found


def _named_inside(data: bytes) -> str:
    """An image without a file name may begin with its name in a line of its own."""
    return data.split(b"\n", 1)[0].decode("utf-8", "replace").strip()


def _start(bmc: Bmc, call: Call, image: str, targets: list[Any], wanted: Json) -> Reply:
    when = wanted.get("@Redfish.OperationApplyTime")
    offered = service(bmc.tree).get("@Redfish.OperationApplyTimeSupport") or {}
    if when is not None and offered and when not in (offered.get("SupportedValues") or []):
        raise Refusal(400, "PropertyValueNotInList", when, "@Redfish.OperationApplyTime")
    found = _NAME.search(image.split("?", 1)[0].rsplit("/", 1)[-1])
    item = _item(bmc, found.group("id") if found else "", targets)
    version = found.group("version") if found else None

    def apply() -> None:
        if item is not None and version is not None:
            body = bmc.tree.edit(item)
            body["Version"] = version
            if _HOST.search(f"{body.get('Id')} {body.get('Name')}") and "BiosVersion" in bmc.tree.need(
                bmc.power.system
            ):
                bmc.tree.edit(bmc.power.system)["BiosVersion"] = version
            _manager_version(bmc, item, version)

    if item is None or version is None:
        # Nobody knows what is in it until it was looked at: the task fails, not the request.
        reply = bmc.tasks.start(call, f"Update {image}", apply)
        work = list(bmc.tasks.works.values())[-1]
        if work.outcome is None:
            work.outcome = unusable(image)
        return reply
    body = bmc.tree.need(item)
    words = f"{body.get('Id')} {body.get('Name')}"
    host, own = bool(_HOST.search(words)), bool(_BMC.search(words))
    on_reset = when == "OnReset" or (when is None and host)
    if on_reset and bmc.profile.firmware_staged:
        bmc.power.next_start.append(apply)
        return bmc.tasks.start(call, f"Stage {image}", lambda: None)
    return bmc.tasks.start(call, f"Update {image}", apply, on_reset=on_reset, restarts_bmc=own and not host)


def unusable(image: str) -> Outcome:
    said = message(
        "Update.1.2.TransferFailed", image, text="Transfer of image '%1' failed: it is not an update package."
    )
    return Outcome("", "Exception", said)


def _item(bmc: Bmc, ident: str, targets: list[Any]) -> str | None:
    """URI of the inventory entry that an image is for."""
    named = [bmc.tree.key(clean(str(target))) for target in targets]
    items = [uri for uri in bmc.tree.of_schema("SoftwareInventory") if "FirmwareInventory" in uri or "firmware" in uri]
    for target in named:
        if target not in items:
            if bmc.tree.get(target) is None:
                raise Refusal(400, "ActionParameterValueNotInList", target, "Targets", "UpdateService.SimpleUpdate")
            continue
        return target
    wanted = ident.lower()
    for uri in items:
        body = bmc.tree.need(uri)
        if wanted and wanted in (str(body.get("Id")).lower(), str(body.get("Name")).lower().replace(" ", "-")):
            return uri
    return None


def _manager_version(bmc: Bmc, item: str, version: str) -> None:
    body = bmc.tree.need(item)
    words = f"{body.get('Id')} {body.get('Name')}"
    if _BMC.search(words) and not _HOST.search(words):
        for uri in bmc.tree.of_schema("Manager"):
            if "FirmwareVersion" in bmc.tree.need(uri):
                bmc.tree.edit(uri)["FirmwareVersion"] = version


ACTIONS = {"UpdateService.SimpleUpdate": simple_update, "UpdateService.StartUpdate": start_update}
