# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""What smartctl of smartmontools adds to what a disk says of itself."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks

__all__ = ["with_smartctl"]

# The first two bits of the exit status: the command line was wrong, the disk could not be opened.
_NO_ANSWER = 0b11
# Counters of a SATA disk that are zero on a good one. Their numbers are the same with all vendors.
_COUNTERS = {5: "reallocated", 197: "pending", 198: "uncorrectable"}


def with_smartctl(disk: dict[str, Any]) -> dict[str, Any] | None:
    """The health of a disk, completed by smartctl; what the disk said before stays."""
    before: dict[str, Any] | None = disk["health"]
    if disk["protocol"] not in ("SATA", "SAS", "SCSI", "NVMe"):
        return before
    status, out, errors = _disks.run_tool("smartctl", "--json=c", "--health", "--attributes", disk["path"])
    try:
        said = json.loads(out)
    except ValueError as exc:
        raise _disks.DiskError(f"smartctl gave no JSON for {disk['path']}: {(errors or out).strip()[:200]}") from exc
    passed = said.get("smart_status", {}).get("passed")
    if status & _NO_ANSWER or passed is None:
        return before
    problems = list(before["problems"]) if before else []
    counters = _counters(said)
    problems += [f"{count} {name} sectors" for name, count in counters.items() if count]
    if not passed and not problems:
        problems.append("smartctl says that it fails")
    failing = not passed or (before is not None and before["status"] == "failing")
    found = {
        "temperature_celsius": said.get("temperature", {}).get("current"),
        "power_on_hours": said.get("power_on_time", {}).get("hours"),
        "wear_percent": said.get("endurance_used", {}).get("current_percent"),
        "media_errors": _media_errors(said, counters),
    }
    known = {name: before[name] for name in found if before[name] is not None} if before else {}
    return {"status": "failing" if failing else "warning" if problems else "ok", "problems": problems, **found, **known}


def _counters(said: dict[str, Any]) -> dict[str, int]:
    table = said.get("ata_smart_attributes", {}).get("table", ())
    # The value as a number holds more than the count with some vendors, its text begins with the count.
    words = {row["id"]: str(row["raw"]["string"]).split()[:1] for row in table if row.get("id") in _COUNTERS}
    found = {_COUNTERS[each]: int(word[0]) for each, word in words.items() if word and word[0].isdigit()}
    grown = said.get("scsi_grown_defect_list")
    return {**found, "grown defective": grown} if grown is not None else found


def _media_errors(said: dict[str, Any], counters: dict[str, int]) -> int | None:
    """Reads and writes that no repetition mended."""
    log = said.get("scsi_error_counter_log")
    if log:
        return sum(int(each.get("total_uncorrected_errors", 0)) for each in log.values())
    return counters.get("uncorrectable")
