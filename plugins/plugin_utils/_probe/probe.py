# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""The text of the probe for one server."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from .._drivers.sds_ceph import CONFIG

__all__ = ["COMMAND", "part", "script"]

COMMAND = "python3 -IS -"
"""What runs it on a server: nothing of the user's environment, and no search for packages."""

_PLACE = "PATHS: list[str] = []"
_FLAG = "LAYOUTS = False\n"
_HERE = Path(__file__).parent
_UTILS = _HERE.parents[1] / "module_utils"
_PARTS = {
    "module_utils._disk_health": _UTILS / "_disk_health.py",
    "module_utils._disk_paths": _UTILS / "_disk_paths.py",
    "plugin_utils._probe.routing": _HERE / "routing.py",
    "plugin_utils._probe.neighbors": _HERE / "neighbors.py",
    "plugin_utils._probe.layouts": _HERE / "layouts.py",
    "plugin_utils._probe.ceph": _HERE / "ceph.py",
    "plugin_utils._probe.until": _HERE / "until.py",
}
"""Modules that the program imports, which are put into its text."""
_FOR_LAYOUTS = _UTILS / "_luks_header.py"
"""What only the part for pools imports."""


def script(paths: list[str], layouts: bool = False) -> str:
    """The program, with the paths of the files whose checksums it shall report; layouts: it looks at pools too."""
    return _program(layouts, CONFIG in paths).replace(
        _PLACE, f"PATHS: list[str] = {[str(path) for path in paths]!r}", 1
    )


def part(path: Path) -> str:
    """What a module brings to the text: without its comments, its first import, and other parts that it needs."""
    text = path.read_text(encoding="utf-8").partition("from __future__ import annotations\n")[2]
    return re.sub(r"^from ansible_collections\.\S+ import .*\n", "", text, flags=re.MULTILINE)


@functools.cache
def _program(layouts: bool, ceph: bool) -> str:
    text = (_HERE / "program.py").read_text(encoding="utf-8")
    if _PLACE not in text or _FLAG not in text:
        raise RuntimeError("the probe has lost the place for its paths, or for what it looks at")
    if layouts:
        text = text.replace(_FLAG, part(_FOR_LAYOUTS) + "LAYOUTS = True\n", 1)
    for name, path in _PARTS.items():
        place = re.search(rf"^from \S+\.{re.escape(name)} import (\([^)]*\)|.*)\n", text, re.MULTILINE)
        if place is None:
            raise RuntimeError(f"the probe has lost the place for {path.name}")
        wanted = {"layouts": layouts, "ceph": ceph}.get(path.stem, True)
        text = text[: place.start()] + (part(path) if wanted else "") + text[place.end() :]
    # Annotations are not evaluated there.
    return text.replace("from typing import Any\n", "")
