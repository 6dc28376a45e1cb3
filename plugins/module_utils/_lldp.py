# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: not an interface, may change in any release.

"""What lldpd heard, on switches and hosts alike."""

from __future__ import annotations

import json
import os
import typing as t
from collections.abc import Callable

__all__ = ["neighbors", "neighbors_of"]


def neighbors_of(socket: str, run: Callable[..., t.Any]) -> list[dict[str, t.Any]] | None:
    """Of a running lldpd; None where there is no such daemon. `run` is AnsibleModule.run_command."""
    if not os.path.exists(socket):
        return None
    code, out, _err = run(["lldpcli", "-u", socket, "-f", "json0", "show", "neighbors"])
    return neighbors(json.loads(out or "{}")) if code == 0 else None


def neighbors(told: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """From the output of C(lldpcli -f json0 show neighbors), where everything is a list."""
    found = []
    for lldp in told.get("lldp", []):
        for interface in lldp.get("interface", []):
            chassis, port = _first(interface, "chassis"), _first(interface, "port")
            ids = {item.get("type"): item.get("value") for item in (*chassis.get("id", []), *port.get("id", []))}
            found.append(
                {
                    "port": interface["name"],
                    "device": _first(chassis, "name").get("value"),
                    "device_port": ids.get("ifname") or _first(port, "descr").get("value"),
                    "mac": ids.get("mac"),
                }
            )
    return sorted(found, key=lambda item: str(item["port"]))


def _first(part: t.Mapping[str, t.Any], key: str) -> t.Mapping[str, t.Any]:
    items = part.get(key) or [{}]
    return t.cast("t.Mapping[str, t.Any]", items[0])
