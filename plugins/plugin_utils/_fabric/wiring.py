# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Cables as BMCs, servers and switches hear them, before a server is installed above all.

Only a contradiction is a fault: a neighbour that the model has elsewhere. What nobody hears may still be right.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from .._site.check_fabric import PORT_NAMES
from .._site.model import Site
from .._site.state import Wiring
from .cables import Cable, End, cables
from .cabling import Heard, check_cabling

__all__ = ["wiring"]

Record = Mapping[str, Any]

_CONTRADICTIONS = ("wrong", "swapped", "loop", "one-way", "unknown")
_MAC = re.compile(r"[0-9a-f]{2}([:.-]?[0-9a-f]{2}){5}", re.IGNORECASE)


def wiring(
    site: Site,
    bmcs: Mapping[str, Sequence[Record] | str],
    hosts: Mapping[str, Iterable[Record]],
    switches: Mapping[str, Iterable[Record]],
    force: Collection[str] = (),
) -> dict[str, Wiring]:
    """By server or switch, where there is anything to say.

    `bmcs` has the network ports of servers that are to be installed, as `bmc_info` gives them with the subset `lldp`,
    or why they can't be read; `hosts` and `switches` what each hears itself, as `switch_info` gives it. Servers of
    `force` are installed all the same.
    """
    model = _Model(site)
    servers = [_Listener(model, name, ports) for name, ports in bmcs.items()]
    servers += [_Listener(model, name, _ports(heard), host=True) for name, heard in hosts.items() if heard]
    # Firmware of network ports speaks without a name; and what hangs at other ports is nobody's of the model.
    by_switches = [
        Heard(name, one["port"], one["device"], one.get("device_port"))
        for name, neighbors in switches.items()
        for one in neighbors
        if one.get("device") and End(name, one["port"]) in model.places
    ]
    heard = [*(one for server in servers for one in server.heard), *by_switches]
    wrong: dict[str, list[str]] = defaultdict(list)
    told: dict[str, list[str]] = defaultdict(list)
    # Two ways to know: a server whose own BMC hears all its cables in place, and one that hears what can't be right.
    sure = {server.name for server in servers if server.in_place}
    strange = {server.name for server in servers if server.strange}
    for fault in check_cabling(site, heard, model.names) if heard else ():
        if fault.kind not in _CONTRADICTIONS:
            continue
        # By LLDP, the old system on a server may call itself anything.
        certain = fault.kind != "unknown" or {*fault.servers} & strange
        for name in fault.servers:
            (wrong if certain and name not in sure else told)[name].append(fault.message)
        if not fault.servers:
            told[fault.switches[0]].append(fault.message)
    for server in servers:
        told[server.name] += server.told
    for name in {*wrong} & {*force}:
        told[name].append(f"is installed by force, although {'; '.join(wrong.pop(name))}")
    names = [name for name in model.names if wrong.get(name) or told.get(name)]
    return {name: Wiring(tuple(wrong.get(name, ())), tuple(told.get(name, ()))) for name in names}


def _ports(neighbors: Iterable[Record]) -> list[Record]:
    """Ports of a server that answers for itself, as its BMC would tell them."""
    return [
        {"id": one["port"], "lldp": {"system_name": one.get("device"), "port_id": one.get("device_port")}}
        for one in neighbors
    ]


class _Model:
    def __init__(self, site: Site) -> None:
        self.systems = {switch.name: switch.os for switch in site.switches}
        self.names = {**self.systems, **{server.name: "" for server in site.servers}}
        self.places: set[End] = set()
        self.of_server: dict[str, list[Cable]] = defaultdict(list)
        for cable in cables(site):
            self.places |= {cable.near, cable.far}
            if cable.kind == "data":
                self.of_server[cable.near.device].append(cable)

    def device(self, lldp: Record) -> str:
        """The neighbour's name in the model, whatever its domain is; else the name that it gives itself, or none."""
        for told in (lldp.get("system_name"), lldp.get("chassis_id")):
            name = str(told or "").partition(".")[0].lower()
            if name in self.names:
                return name
        return str(lldp.get("system_name") or "")

    def is_port(self, text: str, switch: str | None) -> bool:
        """Whether this switch, or any, calls a port so by LLDP. SONiC gives an alias, which the model does not know."""
        systems = {os for name, os in self.systems.items() if switch in (None, name)} - {"sonic"}
        return not _MAC.fullmatch(text) and any(re.fullmatch(PORT_NAMES[os][0], text) for os in systems)


class _Listener:
    """What one BMC says, in the names of the model as far as these are known; a server itself knows them."""

    def __init__(self, model: _Model, name: str, ports: Sequence[Record] | str, host: bool = False) -> None:
        self.model, self.name, self.host = model, name, host
        self.own = {cable.far: cable.near.port for cable in model.of_server[name]}
        self.unheard = dict(self.own)
        self.heard: list[Heard] = []
        self.told: list[str] = []
        self.unsure: list[str] = []
        self.strange = False
        """It hears somebody who is not in the model, where only its cables of the model can be."""
        self.in_place = False
        if isinstance(ports, str):
            self.told.append(f"its network ports can't be read, so its cables are not compared: {ports}")
            return
        # No other port of the server can be meant.
        self.every = sum(bool(port.get("mac")) for port in ports) == len(self.own)
        # A port without a link tells what it heard before.
        talking = [port for port in ports if port.get("lldp") and port.get("link") != "down"]
        if talking:
            self._compare(talking)
        else:
            self.told.append(
                "its BMC hears no neighbour by LLDP, so its cables are not compared before it is installed"
            )

    def _compare(self, talking: Sequence[Record]) -> None:
        misplaced = [(port, far) for port in talking if (far := self._misplaced(port)) is not None]
        self.in_place = not misplaced and not self.unheard
        for port, far in misplaced:
            near = self._named(port) or self._missed(far)
            chassis = port["lldp"].get("chassis_id")
            at = (near or _called(port), far.device, far.port, chassis)
            self.heard.append(Heard(self.name, *at, modelled=near is not None))
        if self.host:
            return  # It serves: what it does not hear, or calls otherwise, is no news.
        if self.unsure:
            self.told.append(f"its BMC hears {', '.join(self.unsure)}: that can't be compared with the model")
        if not misplaced and not self.told:
            for far, near in self.unheard.items():
                self.told.append(f"its BMC hears nothing at {near}, which belongs to {far.device} {far.port}")

    def _misplaced(self, port: Record) -> End | None:
        """The neighbour, where it contradicts the model. What is right, or can't be told, is noted."""
        lldp, near = port["lldp"], self._named(port)
        device, at = self.model.device(lldp), str(lldp.get("port_id") or "")
        far = End(device, at)
        if far in self.own and near in (None, self.own[far]):
            self.unheard.pop(far, None)
            self.heard.append(Heard(self.name, self.own[far], device, at))
        elif device in self.model.names:
            mine = {end.device for end, port in self.own.items() if near in (None, port)}
            alias = self.model.names[device] == "sonic"
            if device not in mine or (far in self.model.places and not alias) or self.model.is_port(at, device):
                return far
            self._note(port, device, at)
        elif self.host:
            pass  # The switch of a server that serves may call itself anything.
        elif not device and at in {end.port for end in self.own}:
            self.told = ["its BMC does not say which switches it hears, so only the names of their ports are compared"]
        elif (near or self.every) and (device or self.model.is_port(at, None)):
            self.strange = True
            return far
        else:
            self._note(port, device or str(lldp.get("chassis_id") or ""), at)
        return None

    def _note(self, port: Record, *neighbour: str) -> None:
        self.unsure.append(f"{' '.join(filter(None, neighbour))} at {_called(port)}")

    def _named(self, port: Record) -> str | None:
        """The port as the model calls it, where the BMC does too."""
        if self.host:
            return str(port["id"])
        return next((str(name) for name in (port.get("id"), port.get("name")) if name in self.own.values()), None)

    def _missed(self, far: End) -> str | None:
        """Which of the server's cables it is: the only one that is missed, of those to that switch or of all."""
        missed = [end for end in self.unheard if end.device == far.device] or [*self.unheard]
        return self.unheard.pop(missed[0]) if len(missed) == 1 else None


def _called(port: Record) -> str:
    return str(port.get("name") or port.get("id") or port.get("mac"))
