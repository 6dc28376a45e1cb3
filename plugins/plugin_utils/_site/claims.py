# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of a server that were taken already, which no pool takes. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .disks import matching
from .model import Pool
from .state import HostState

__all__ = ["claimed", "claims_of", "not_counted"]


def claims_of(host: HostState) -> dict[Any, Mapping[str, Any]]:
    """What disks were taken for, by their names, whether they are mounted or not."""
    mounted = {disk["name"]: {"purpose": "data", "site": None} for disk in host.disks if disk.get("claimed")}
    return {**mounted, **((host.layouts or {}).get("claims") or {})}


def claimed(pool: Pool, host: HostState) -> list[Mapping[str, Any]]:
    """Disks that the pool would select, were they not taken already."""
    claims = claims_of(host)
    return matching([disk for disk in host.disks if disk["name"] in claims], pool.select)


def not_counted(pool: Pool, host: HostState) -> str:
    """Disks that a pool lacks and would have, each with what it is taken for: the end of a sentence, or nothing."""
    claims, words = claims_of(host), {"data": "volumes", "system": "a system"}
    taken = []
    for disk in claimed(pool, host):
        claim = claims[disk["name"]]
        site = f" of the site {claim['site']}" if claim["site"] else ""
        serial = disk.get("serial_number") or "unknown"
        taken.append(f"{disk['name']} (serial {serial}) for {words[claim['purpose']]}{site}")
    return f"; not counted, since claimed already: {', '.join(taken)}" if taken else ""
