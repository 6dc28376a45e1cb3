# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""The text of the probe for one server."""

from __future__ import annotations

import functools
from pathlib import Path

from .._drivers.sds_ceph import CONFIG

__all__ = ["script"]

_FLAG = "LAYOUTS = False\n"
_PLACE = "PATHS: list[str] = []"
_LAYOUTS = "from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.layouts import layouts\n"
_CEPH = "from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.ceph import ceph, ceph_units\n"
_ROUTING = "from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.routing import routing\n"
_HEALTH = "from ansible_collections.kiban.baremetal.plugins.module_utils._disk_health import health\n"


def script(paths: list[str], layouts: bool = False) -> str:
    """The program, with the paths of the files whose checksums it shall report; layouts: it looks at pools too."""
    return _program(layouts, CONFIG in paths).replace(
        _PLACE, f"PATHS: list[str] = {[str(path) for path in paths]!r}", 1
    )


@functools.cache
def _program(layouts: bool, ceph: bool) -> str:
    here = Path(__file__)
    text = here.with_name("program.py").read_text(encoding="utf-8")
    places = {
        _HEALTH: here.parents[2].joinpath("module_utils", "_disk_health.py"),
        _ROUTING: here.with_name("routing.py"),
        _LAYOUTS: None,
        _CEPH: here.with_name("ceph.py") if ceph else None,
        _FLAG: None,
    }
    if not all(place in text for place in (_PLACE, *places)):
        raise RuntimeError("the probe has lost the place for its paths, or for a part of it")
    if layouts:
        places[_LAYOUTS] = here.with_name("layouts.py")
        text = text.replace(_FLAG, "LAYOUTS = True\n", 1)
    for place in (_HEALTH, _ROUTING, _LAYOUTS, _CEPH):
        # The comments of the part and its first import are left out.
        path = places[place]
        part = path.read_text(encoding="utf-8").partition("from __future__ import annotations\n")[2] if path else ""
        text = text.replace(place, part, 1)
    return text
