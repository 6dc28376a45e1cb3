# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of miswiring made with real wires, and heard by lldpd on each device."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._lldp import neighbors
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.cabling import Fault, Heard, check_cabling
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import Bench, Space, eventually, missing

WHY = missing("lldpd", "lldpcli")
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]

Port = tuple[str, str]
Wires = dict[Port, Port]

DATA = copy.deepcopy(BASE)
DATA["racks"] = DATA["racks"][:1]
for _switch in DATA["racks"][0]["switches"]:
    _switch["cables"] = {}
DATA["racks"][0]["servers"][1] = {
    **DATA["racks"][0]["servers"][1],
    "name": "node1",
    "cables": {"eno1": "tor1:swp2", "eno2": "tor2:swp2", "bmc": "mgmt1:swp2"},
}
SITE = load_site(DATA)
MODEL: Wires = {
    (server.name, port): (far.split(":")[0], far.split(":")[1])
    for server in SITE.servers
    for port, far in server.cables.items()
}
DEVICES = [*(switch.name for switch in SITE.switches), *(server.name for server in SITE.servers)]
# Hardware addresses of the BMCs, as their records have them; in LLDP they have names of their own making.
BMCS = {"cp1": "02:00:00:00:01:0b", "node1": "02:00:00:00:01:15"}


def lldpd(space: Space, name: str, identity: str = "ifname") -> None:
    config = space.directory / "lldpd.conf"
    config.write_text(
        f"configure system hostname {name}\nconfigure lldp tx-interval 1\nconfigure lldp portidsubtype {identity}\n"
    )
    socket = space.directory / "l.sock"
    space.daemon("lldpd", "-d", "-u", socket, "-O", config, "-I", "eno*,swp*,bmc", ready=socket)


@pytest.fixture(scope="module")
def rack() -> Iterator[SimpleNamespace]:
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        # Debian's lldpcli runs as another user.
        Path(directory).chmod(0o711)
        bench = Bench(Path(directory))
        try:
            for device in (*DEVICES, "stranger"):
                lldpd(bench.add(Space, f"l-{device}"), device)
            for server in BMCS:
                lldpd(bench.add(Space, f"l-{server}-b"), f"bmc-of-rack-{server}", "macaddress")
            yield SimpleNamespace(bench=bench, joined=[])
        finally:
            bench.close()


def space_of(port: Port) -> str:
    return f"l-{port[0]}-b" if port[1] == "bmc" else f"l-{port[0]}"


def join(rack: SimpleNamespace, wires: Wires) -> None:
    """Pull all cables that differ and plug them anew."""
    wanted = list(wires.items())
    for near, far in [pair for pair in rack.joined if pair not in wanted]:
        rack.bench.spaces[space_of(near)].run("ip", "link", "delete", near[1])
        rack.joined.remove((near, far))
    for near, far in [pair for pair in wanted if pair not in rack.joined]:
        rack.bench.wire(space_of(near), near[1], space_of(far), far[1])
        if near[1] == "bmc":
            rack.bench.spaces[space_of(near)].run("ip", "link", "set", "bmc", "address", BMCS[near[0]])
        rack.joined.append((near, far))


def faults(rack: SimpleNamespace) -> list[Fault]:
    heard = []
    for device in DEVICES:
        space = rack.bench.spaces[f"l-{device}"]
        told = json.loads(space.run("lldpcli", "-u", space.directory / "l.sock", "-f", "json0", "show", "neighbors"))
        heard += [Heard(device, one["port"], one["device"], one["device_port"], one["mac"]) for one in neighbors(told)]
    return check_cabling(SITE, heard, macs={mac: (server, "bmc") for server, mac in BMCS.items()})


def swapped(one: Port, other: Port) -> Callable[[Wires], Wires]:
    return lambda wires: {**wires, one: wires[other], other: wires[one]}


def moved(near: Port, far: Port, to: Port | None = None) -> Callable[[Wires], Wires]:
    return lambda wires: {**{key: end for key, end in wires.items() if key != near}, to or near: far}


def without(*ports: Port) -> Callable[[Wires], Wires]:
    return lambda wires: {key: end for key, end in wires.items() if key not in ports}


def ring(wires: Wires) -> Wires:
    a, b, c = ("cp1", "eno1"), ("node1", "eno1"), ("node1", "eno2")
    return {**wires, a: wires[b], b: wires[c], c: wires[a]}


KINDS: dict[str, tuple[Callable[[Wires], Wires], list[str], str]] = {
    "missing": (without(("node1", "eno1")), ["missing"], "node1 (a01 unit 2) eno1 and tor1 (a01 unit 41) swp2"),
    "two servers swapped": (swapped(("cp1", "eno1"), ("node1", "eno1")), ["swapped"], "node1 (a01 unit 2) eno1"),
    "two ports swapped": (swapped(("node1", "eno1"), ("node1", "eno2")), ["swapped"], "tor2 (a01 unit 42) swp2"),
    "in an empty port": (moved(("node1", "eno1"), ("tor1", "swp9")), ["wrong"], "swp9 should be empty"),
    "in the other switch": (moved(("node1", "eno1"), ("tor2", "swp9")), ["wrong"], "tor2 (a01 unit 42) swp9"),
    "from a third port": (moved(("node1", "eno1"), ("tor1", "swp2"), ("node1", "eno3")), ["wrong"], "eno3"),
    "three in a ring": (ring, ["wrong"] * 3, "belongs to"),
    "server to server": (
        lambda wires: moved(("node1", "eno1"), ("cp1", "eno1"))(without(("cp1", "eno1"))(wires)),
        ["wrong"],
        "cp1 (a01 unit 1) eno1 belongs to tor1 (a01 unit 41) swp1",
    ),
    "switch to switch": (
        lambda wires: moved(("tor1", "swp2"), ("tor2", "swp2"))(without(("node1", "eno1"), ("node1", "eno2"))(wires)),
        ["wrong"],
        "tor1 (a01 unit 41) swp2 belongs to node1",
    ),
    "BMC and data swapped": (swapped(("node1", "eno1"), ("node1", "bmc")), ["swapped"], "node1 (a01 unit 2) bmc"),
    "somebody else's": (
        lambda wires: moved(("stranger", "eno1"), ("tor1", "swp2"))(without(("node1", "eno1"))(wires)),
        ["unknown"],
        "hears stranger eno1",
    ),
}


@pytest.mark.parametrize("kind", ["right", *KINDS])
def test_a_wrong_cable_is_named(kind: str, rack: SimpleNamespace) -> None:
    change, wanted, told = KINDS.get(kind, (lambda wires: wires, [], ""))
    join(rack, change(dict(MODEL)))
    seen: list[Fault] = []

    def as_wanted() -> bool:
        seen[:] = faults(rack)
        return [fault.kind for fault in seen] == wanted and (not told or told in str(seen))

    try:
        eventually(as_wanted, 60)
    except AssertionError:
        pytest.fail(f"heard: {seen}")


def test_a_port_that_sends_nothing(rack: SimpleNamespace) -> None:
    join(rack, MODEL)
    space = rack.bench.spaces["l-node1"]
    control = ("lldpcli", "-u", space.directory / "l.sock", "configure", "ports", "eno1", "lldp", "status")
    eventually(lambda: faults(rack) == [], 60)
    space.run(*control, "rx-only")
    eventually(lambda: [fault.kind for fault in faults(rack)] == ["one-way"], 60)
    space.run(*control, "rx-and-tx")
    eventually(lambda: faults(rack) == [], 60)
