# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters about switches and cables. The work is done in plugin_utils/_fabric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._filters import check_libraries

try:
    from ..plugin_utils._fabric.cables import cables, of_switch
    from ..plugin_utils._fabric.cabling import Heard, check_cabling
    from ..plugin_utils._fabric.derive import intent
    from ..plugin_utils._fabric.drivers import render
    from ..plugin_utils._fabric.intent import FabricError
    from ..plugin_utils._play import site_of_input
    from ..plugin_utils._site.model import Site
except ImportError as error:
    IMPORT_ERROR: ImportError | None = error
else:
    IMPORT_ERROR = None


def _site(data: Mapping[str, Any] | str) -> Site:
    check_libraries(IMPORT_ERROR)
    return site_of_input(data)


def switch_config(data: Mapping[str, Any] | str, name: str) -> dict[str, Any]:
    site = _site(data)
    try:
        wanted = intent(site, name)
        os = next(switch.os for switch in site.switches if switch.name == name)
        config = render(os, wanted)
    except FabricError as exc:
        raise AnsibleFilterError(str(exc)) from exc
    return {"os": os, "tables": {key: dict(table) for key, table in config.tables.items()}, "text": config.text}


def switch_ports(data: Mapping[str, Any] | str, name: str) -> list[str]:
    return sorted(port for port, _other, kind in of_switch(cables(_site(data)), name) if kind != "bmc")


def cabling_faults(
    data: Mapping[str, Any] | str,
    heard: Mapping[str, Sequence[Mapping[str, Any]] | None],
    silent: Iterable[str] = (),
    macs: Mapping[str, Sequence[str]] | None = None,
) -> list[dict[str, Any]]:
    site = _site(data)
    ears = [
        Heard(device, one["port"], one.get("device"), one.get("device_port"), one.get("mac"))
        for device, neighbors in heard.items()
        for one in neighbors or ()
    ]
    devices = [*(switch.name for switch in site.switches), *(server.name for server in site.servers)]
    silent = {*silent, *(name for name in devices if heard.get(name) is None)}
    known = {mac: (end[0], end[1]) for mac, end in (macs or {}).items()}
    faults = check_cabling(site, ears, silent, known)
    return [{**asdict(fault), "servers": list(fault.servers), "switches": list(fault.switches)} for fault in faults]


def lost_sessions(after: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    established = "Established"
    return sorted(
        peer
        for peer, told in before.items()
        if told["state"] == established and peer in after and after[peer]["state"] != established
    )


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "cabling_faults": cabling_faults,
            "lost_sessions": lost_sessions,
            "switch_config": switch_config,
            "switch_ports": switch_ports,
        }
