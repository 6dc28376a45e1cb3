# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bulk readers: one process, many connections. Each reads what is true now; none changes anything."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["each"]

_T = TypeVar("_T")


def each(names: Iterable[str], read: Callable[[str], _T], at_once: int) -> dict[str, _T]:
    """Call C(read) for every name, at most C(at_once) side by side. C(read) must turn failures into its result."""
    names = list(names)
    if not names:
        return {}
    with ThreadPoolExecutor(max_workers=max(1, min(at_once, len(names)))) as pool:
        return dict(zip(names, pool.map(read, names), strict=True))
