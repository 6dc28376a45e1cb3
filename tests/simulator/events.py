# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subscriptions to events. They are kept, but nothing is ever delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .messages import Json, Refusal, Reply
from .patching import changed

if TYPE_CHECKING:
    from .bmc import Bmc, Call

_KNOWN = ("Context", "EventFormatType", "EventTypes", "RegistryPrefixes", "ResourceTypes", "HttpHeaders", "MessageIds",
          "DeliveryRetryPolicy", "SubscriptionType", "VerifyCertificate", "OriginResources")  # fmt: skip


def create(bmc: Bmc, call: Call, uri: str) -> Reply:
    for name in ("Destination", "Protocol"):
        if not call.body.get(name):
            raise Refusal(400, "CreateFailedMissingReqProperties", name, related=f"#/{name}")
    if call.body["Protocol"] != "Redfish":
        raise Refusal(400, "PropertyValueNotInList", call.body["Protocol"], "Protocol", related="#/Protocol")
    if not str(call.body["Destination"]).startswith(("http://", "https://")):
        raise Refusal(400, "PropertyValueFormatError", call.body["Destination"], "Destination")
    number = next(n for n in range(1, 1000) if bmc.tree.get(f"{uri}/{n}") is None)
    own = f"{uri}/{number}"
    body: Json = {
        "@odata.id": own,
        "@odata.type": "#EventDestination.v1_15_0.EventDestination",
        "Id": str(number),
        "Name": f"Subscription {number}",
        "Destination": call.body["Destination"],
        "Protocol": "Redfish",
        "SubscriptionType": "RedfishEvent",
        "EventFormatType": "Event",
        "Context": call.body.get("Context", ""),
    }
    body |= {name: call.body[name] for name in _KNOWN if name in call.body and name != "HttpHeaders"}
    bmc.tree.add_member(uri, own, body)
    reply = changed(bmc, own, 201)
    reply.headers["Location"] = own
    return reply


def delete(bmc: Bmc, call: Call, uri: str) -> Reply:
    collection = bmc.tree.parent(uri)
    assert collection is not None
    bmc.tree.drop_member(collection, uri)
    return Reply(204)


CREATES = {"EventDestinationCollection": create}
DELETES = {"EventDestination": delete}
