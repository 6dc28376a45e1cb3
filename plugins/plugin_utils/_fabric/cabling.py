# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Cables as they are against cables as the model has them, for a person who stands before the rack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .._site.model import Site
from .cables import End, cables
from .intent import natural

__all__ = ["Fault", "Heard", "check_cabling"]


@dataclass(frozen=True)
class Heard:
    """What one device hears on one of its ports, by LLDP. A BMC's own port is `bmc`."""

    device: str
    port: str
    other: str | None
    """Name that the neighbour gives itself; none where it gives none, as many BMCs do."""
    other_port: str | None
    mac: str | None = None
    """Hardware address of the neighbour's port, which says who it is where it has no name."""
    modelled: bool = True
    """Whether `port` is called as in the model. A BMC has names of its own for the ports of its server."""


@dataclass(frozen=True)
class Fault:
    kind: str
    """`missing`, `wrong`, `swapped`, `loop`, `one-way`, `unknown`; or `unheard`, of a server that may well be off."""
    servers: tuple[str, ...]
    """Servers that must not be installed before it is mended."""
    message: str
    switches: tuple[str, ...] = ()
    """Switches that it is at."""


def check_cabling(
    site: Site,
    heard: Iterable[Heard],
    silent: Iterable[str] = (),
    macs: Mapping[str, tuple[str, str]] | None = None,
) -> list[Fault]:
    """Every cable that is not where the model has it, both ends named by rack unit and port.

    `silent` are devices that could not be asked: what only they can hear is not missed. `macs` gives the device and
    port that a hardware address belongs to. One side that hears the other is enough, so that a server that is off is
    seen by its BMC's port alone, and a switch that lists nobody's name is no fault.
    """
    return _Check(site, list(heard), set(silent), dict(macs or {})).faults()


class _Check:
    def __init__(self, site: Site, heard: list[Heard], silent: set[str], macs: dict[str, tuple[str, str]]) -> None:
        self.site, self.silent, self.macs = site, silent, {mac.lower(): End(*end) for mac, end in macs.items()}
        self.domain = f".{site.domain}"
        self.switches = {switch.name for switch in site.switches}
        self.servers = {server.name for server in site.servers}
        self.partner: dict[End, End] = {}
        for cable in cables(site):
            self.partner[cable.near], self.partner[cable.far] = cable.far, cable.near
        self.units = {switch.name: (switch.rack, switch.unit) for switch in site.switches}
        self.units |= {server.name: (server.rack, server.unit) for server in site.servers}
        self.found: dict[End, set[End]] = {}
        self.strangers: list[tuple[End, str]] = []
        self.unplaced = {End(one.device, one.port) for one in heard if not one.modelled}
        for one in heard:
            self._hear(one)

    def _hear(self, one: Heard) -> None:
        here = End(one.device, one.port)
        there = self._who(one)
        if there is None:
            name = " ".join(part for part in (one.other, one.other_port, one.mac) if part)
            self.strangers.append((here, name or "a device without a name"))
            return
        self.found.setdefault(here, set()).add(there)

    def _who(self, one: Heard) -> End | None:
        by_mac = self.macs.get((one.mac or "").lower())
        name = (one.other or "").removesuffix(self.domain)
        if name in self.units and one.other_port:
            # A port is called as the other end calls it; where that is a hardware address, the model's name is known.
            return by_mac if by_mac and by_mac.device == name else End(name, one.other_port)
        return by_mac

    def faults(self) -> list[Fault]:
        pairs = {frozenset((here, there)) for here, others in self.found.items() for there in others if here != there}
        right = {frozenset((a, b)) for a, b in self.partner.items()}
        wrong = sorted((pair for pair in pairs - right), key=_order)
        found = [*self._loops(), *self._strangers()]
        swapped, rest = self._swapped(wrong)
        found += swapped
        told = {end for pair in wrong for end in pair}
        found += [self._wrong(pair) for pair in rest]
        told |= {here for here, _name in self.strangers} | {
            here for here, others in self.found.items() if here in others
        }
        unheard = self._unheard({end.device for pair in pairs for end in pair if end.port != "bmc"})
        found += [self._nothing_of(server) for server in unheard]
        for pair in sorted(right - pairs, key=_order):
            quiet = any(end.device in unheard and end.port != "bmc" for end in pair)
            if not pair & told and not self._unknowable(pair) and not quiet:
                a, b = self._ends(pair)
                found.append(self._fault("missing", pair, f"no cable between {a} and {b}"))
        found += self._one_way(pairs & right)
        return found

    def _unknowable(self, pair: frozenset[End]) -> bool:
        """Nobody could have heard it."""
        return all(end.device in self.silent for end in pair)

    def _unheard(self, heard: set[str]) -> list[str]:
        """Servers that were not asked, with several cables of which none brings anything."""
        cabled: dict[str, list[End]] = {}
        for end, far in self.partner.items():
            if end.device in self.servers and end.port != "bmc" and far.device not in self.silent:
                cabled.setdefault(end.device, []).append(end)
        return [
            name
            for name, ends in sorted(cabled.items(), key=lambda item: natural(item[0]))
            if name in self.silent and name not in heard and len(ends) > 1
        ]

    def _nothing_of(self, server: str) -> Fault:
        rack, unit = self.units[server]
        place = f"{rack} unit {unit}" if unit is not None else rack
        message = f"nothing is heard of {server} ({place}) on any of its cables: it is off, or none is in place"
        return Fault("unheard", (server,), message)

    def _loops(self) -> list[Fault]:
        found = []
        for here, others in sorted(self.found.items(), key=lambda item: _key(item[0])):
            if here in others:
                found.append(
                    self._fault("loop", [here], f"{self._name(here)} hears itself: the cable ends in its own port")
                )
        return found

    def _strangers(self) -> list[Fault]:
        found = []
        for here, name in sorted(self.strangers, key=lambda item: (_key(item[0]), item[1])):
            wanted = self.partner.get(here)
            should = f"; {self._name(wanted)} should be there" if wanted else ""
            known = [here, wanted] if wanted else [here]
            found.append(
                self._fault("unknown", known, f"{self._name(here)} hears {name}, which is not in the model{should}")
            )
        return found

    def _swapped(self, wrong: list[frozenset[End]]) -> tuple[list[Fault], list[frozenset[End]]]:
        """Two cables of which each is in the other's place."""
        found, rest = [], list(wrong)
        for pair in wrong:
            if pair not in rest:
                continue
            for a, b in (self._sorted(pair), self._sorted(pair)[::-1]):
                wanted_a, wanted_b = self.partner.get(a), self.partner.get(b)
                if not wanted_a or not wanted_b:
                    continue
                other = frozenset((wanted_a, wanted_b))
                if other in rest and other != pair:
                    rest = [item for item in rest if item not in (pair, other)]
                    one, two = sorted((a, wanted_b), key=_key)
                    far = {one: self.partner[one], two: self.partner[two]}
                    message = (
                        f"two cables are swapped: {self._name(one)} belongs to {self._name(far[one])}, and "
                        f"{self._name(two)} to {self._name(far[two])}"
                    )
                    found.append(self._fault("swapped", [a, b, wanted_a, wanted_b], message))
                    break
        return found, rest

    def _wrong(self, pair: frozenset[End]) -> Fault:
        a, b = self._sorted(pair)
        should = [
            f"{self._name(end)} belongs to {self._name(wanted)}" if wanted else f"{self._name(end)} should be empty"
            for end in (a, b)
            for wanted in [self.partner.get(end)]
            if end not in self.unplaced
        ]
        touched = [end for one in (a, b) for end in (one, self.partner.get(one)) if end]
        return self._fault("wrong", touched, f"a cable joins {self._name(a)} and {self._name(b)}; {'; '.join(should)}")

    def _one_way(self, pairs: set[frozenset[End]]) -> list[Fault]:
        """Both were asked, both hear on other ports, but only one hears the other: one strand of a fibre is broken."""
        talking = {end.device for end in self.found}
        found = []
        for pair in sorted(pairs, key=_order):
            a, b = self._sorted(pair)
            for here, there in ((a, b), (b, a)):
                deaf = there in self.found.get(here, ()) and here not in self.found.get(there, ())
                if deaf and there.device in talking and there.device not in self.silent and there.port != "bmc":
                    message = (
                        f"{self._name(here)} hears {self._name(there)}, but not the other way: a broken fibre or port"
                    )
                    found.append(self._fault("one-way", pair, message))
        return found

    def _fault(self, kind: str, ends: Iterable[End], message: str) -> Fault:
        devices = sorted({end.device for end in ends}, key=natural)
        servers, switches = (
            tuple(name for name in devices if name in group) for group in (self.servers, self.switches)
        )
        return Fault(kind, servers, message, switches)

    def _name(self, end: End) -> str:
        """C(node1 (a01 unit 2) eno1)."""
        rack, unit = self.units.get(end.device, (None, None))
        place = f"{rack} unit {unit}" if unit is not None else rack
        return f"{end.device} ({place}) {end.port}" if place else f"{end.device} {end.port}"

    def _ends(self, pair: frozenset[End]) -> list[str]:
        return [self._name(end) for end in self._sorted(pair)]

    def _sorted(self, pair: frozenset[End]) -> list[End]:
        """Servers before switches, as one looks for them."""
        return sorted(pair, key=lambda end: (end.device in self.switches, _key(end)))


def _key(end: End) -> list[tuple[int, str]]:
    return natural(f"{end.device} {end.port}")


def _order(pair: frozenset[End]) -> list[tuple[int, str]]:
    return min(_key(end) for end in pair)
