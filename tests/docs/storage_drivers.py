# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the table of docs/which-storage-driver.md anew: python -m tests.docs.storage_drivers"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "which-storage-driver.md"
BEGIN = "<!-- made by tests/docs/storage_drivers.py from the tables of the drivers -->\n"
END = "<!-- end -->\n"


def table() -> str:
    from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds import Capabilities
    from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds_drivers import DRIVERS

    def yes(offered: bool) -> str:
        return "yes" if offered else "no"

    rows: list[tuple[str, Callable[[Capabilities], str]]] = [
        ("storage class", lambda can: f"`{can.storage_class}`"),
        ("access modes", lambda can: ", ".join(can.access_modes)),
        ("a volume moves with its pod to another node", lambda can: yes(can.moves)),
        ("a volume ends at its size", lambda can: yes(can.size_enforced)),
        ("nodes are chosen by their room", lambda can: yes(can.capacity_told)),
        ("volumes grow while mounted", lambda can: yes(can.expansion)),
        ("snapshots", lambda can: yes(can.snapshots)),
    ]
    drivers = [DRIVERS[name] for name in sorted(DRIVERS)]
    lines = ["| | " + " | ".join(f"`{can.driver}`" for can in drivers) + " |", "|---" * (len(drivers) + 1) + "|"]
    lines += [f"| {what} | " + " | ".join(map(tell, drivers)) + " |" for what, tell in rows]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with the table as it must be."""
    return re.sub(f"(?s){re.escape(BEGIN)}.*?{re.escape(END)}", lambda _match: BEGIN + table() + END, text)


if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT / ".ansible" / "collections"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
