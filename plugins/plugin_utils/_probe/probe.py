# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""The text of the probe for one server."""

from __future__ import annotations

import functools
from pathlib import Path

__all__ = ["script"]

_PLACE = "PATHS: list[str] = []"
_HEALTH = "from ansible_collections.kiban.baremetal.plugins.module_utils._disk_health import health\n"


def script(paths: list[str]) -> str:
    """The program, with the paths of the files whose checksums it shall report."""
    return _program().replace(_PLACE, f"PATHS: list[str] = {[str(path) for path in paths]!r}", 1)


@functools.cache
def _program() -> str:
    text = Path(__file__).with_name("program.py").read_text(encoding="utf-8")
    if _PLACE not in text or _HEALTH not in text:
        raise RuntimeError("the probe has lost the place for its paths, or for how disks are asked")
    shared = Path(__file__).parents[2].joinpath("module_utils", "_disk_health.py").read_text(encoding="utf-8")
    # Its own comments and first import are left out.
    return text.replace(_HEALTH, shared.partition("from __future__ import annotations\n")[2], 1)
