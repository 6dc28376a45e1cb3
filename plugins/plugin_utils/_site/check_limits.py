# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Checks of meaning: limits that name groups, and power budgets that a single server would break."""

from __future__ import annotations

from .check_servers import group_name
from .draft import Draft
from .shape import nearest

__all__ = ["check_limits"]

_GROUPS = ("servers", "workers", "control_plane", "rack", "profile")


def check_limits(draft: Draft) -> None:
    racks = [rack for rack in draft.part("racks") if rack]
    groups = {*_GROUPS, *(group_name("profile", name) for name in draft.declared_profiles)}
    groups |= {group_name("rack", rack["name"]) for rack in racks if "name" in rack}
    for group in draft.part("limits").get("max_unavailable") or {}:
        if group not in groups:
            path = f"limits.max_unavailable.{group}"
            draft.problem(path, f"there is no group '{group}'", nearest(group, groups))
    for number, rack in enumerate(draft.part("racks")):
        if rack and rack.get("power_on_watts"):
            _watts(draft, f"racks[{number}].power_on_watts", rack)


def _watts(draft: Draft, path: str, rack: dict[str, object]) -> None:
    entries = [entry for entry in draft.entries if entry.rack == rack.get("name")]
    for name in sorted({str(entry.raw.get("profile")) for entry in entries}):
        needed = (draft.part("profiles").get(name) or {}).get("power_on_watts")
        if needed and needed > rack["power_on_watts"]:
            message = f"{rack['power_on_watts']} W do not start even one server of profile '{name}' ({needed} W)"
            draft.problem(path, message, f"at least {needed}")
