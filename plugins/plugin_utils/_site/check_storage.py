# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Checks of meaning: what profiles put on disks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .draft import Draft
from .expressions import ExpressionError, check_selector

__all__ = ["check_storage"]


def check_storage(draft: Draft) -> None:
    groups = {(sds or {}).get("volume_group") for sds in draft.part("cluster").get("sds") or []}
    for name, profile in draft.part("profiles").items():
        mounts: dict[str, str] = {}
        for key, raw in (profile.get("storage") or {}).items():
            path = f"profiles.{name}.storage.{key}"
            if key not in groups and not (raw or {}).get("volumes") and not (raw or {}).get("filesystem"):
                draft.problem(path, "needs either volumes or a filesystem", "or cluster.sds with this volume_group")
            _pool(draft, path, key, raw or {}, mounts)


def _pool(draft: Draft, path: str, name: str, raw: Mapping[str, Any], mounts: dict[str, str]) -> None:
    # Most sites have no pools: they need not pay for this.
    from ...module_utils._layout import pool_problems
    from .storage import intended

    pool, count = intended(name, raw), raw.get("count")
    for where, part in ((path, raw), (f"{path}.cache", raw.get("cache") or {})):
        select = part.get("select")
        try:
            check_selector(select or "`true`")
        except ExpressionError as error:
            draft.problem(f"{where}.select", f'"{str(select).strip()}" {error.message}', error.hint)
    # A count that is missing or of the wrong type is told already.
    for volume, text in pool_problems(pool, count) if isinstance(count, int) else ():
        draft.problem(f"{path}.volumes.{volume}" if volume else path, text)
    for where, mount in ((path, pool.mount), *((f"{path}.volumes.{each.name}", each.mount) for each in pool.volumes)):
        if mount and mounts.setdefault(mount, where) != where:
            draft.problem(f"{where}.mount", f"{mount} is a mount point already", f"see {mounts[mount]}")
