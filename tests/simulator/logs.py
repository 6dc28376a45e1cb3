# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs: ClearLog, and entries that tests or events add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .messages import Json, Reply
from .tree import link

if TYPE_CHECKING:
    from .bmc import Bmc, Call


def clear(bmc: Bmc, call: Call, uri: str) -> Reply:
    entries = link(bmc.tree.need(uri), "Entries")
    if entries is not None and bmc.tree.get(entries) is not None:
        for member in bmc.tree.members(entries):
            bmc.tree.remove(member)
        body = bmc.tree.edit(entries)
        body["Members"], body["Members@odata.count"] = [], 0
    return Reply(204)


def add(bmc: Bmc, text: str, severity: str = "OK", log: str | None = None) -> str:
    """A new entry at the end of a log, the first one of the BMC where none is named. Returns its URI."""
    service = log or next(iter(bmc.tree.of_schema("LogService")))
    entries = link(bmc.tree.need(service), "Entries")
    assert entries is not None
    numbers = [int(last) for uri in bmc.tree.members(entries) if (last := uri.rsplit("/", 1)[-1]).isdigit()]
    number = max(numbers, default=0) + 1
    uri = f"{entries}/{number}"
    body: Json = {
        "@odata.id": uri,
        "@odata.type": "#LogEntry.v1_16_0.LogEntry",
        "Id": str(number),
        "Name": f"Log entry {number}",
        "EntryType": "Event",
        "Severity": severity,
        "Message": text,
        "Created": bmc.clock.stamp(),
    }
    bmc.tree.add_member(entries, uri, body)
    return uri


ACTIONS = {"LogService.ClearLog": clear}
