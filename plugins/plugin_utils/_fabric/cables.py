# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""The cables of a site, each once, in the order of the model."""

from __future__ import annotations

from dataclasses import dataclass

from .._site.model import Site

__all__ = ["Cable", "End", "cables", "of_switch"]


@dataclass(frozen=True)
class End:
    device: str
    port: str

    def __str__(self) -> str:
        return f"{self.device}:{self.port}"


@dataclass(frozen=True)
class Cable:
    """From a server, or from the switch that it is written at, to a switch."""

    near: End
    far: End
    kind: str
    """`data` or `bmc` of a server, or `link` between switches."""


def cables(site: Site) -> tuple[Cable, ...]:
    found = []
    for switch in site.switches:
        found += [Cable(End(switch.name, port), _end(far), "link") for port, far in switch.cables.items()]
    for server in site.servers:
        for port, far in server.cables.items():
            kind = "bmc" if port == "bmc" else "data"
            found.append(Cable(End(server.name, port), _end(far), kind))
    return tuple(found)


def of_switch(all_cables: tuple[Cable, ...], switch: str) -> list[tuple[str, End, str]]:
    """Own port, the other end, and the kind of each cable of a switch."""
    found = []
    for cable in all_cables:
        for own, other in ((cable.near, cable.far), (cable.far, cable.near)):
            if own.device == switch:
                found.append((own.port, other, cable.kind))
    return found


def _end(text: str) -> End:
    device, _colon, port = text.partition(":")
    return End(device, port)
