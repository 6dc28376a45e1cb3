# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of miswiring, each named so that a person finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.module_utils._lldp import neighbors
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.cabling import Fault, Heard, check_cabling
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE

SITE = load_site(BASE)

Wires = dict[tuple[str, str], tuple[str, str]]


def model() -> Wires:
    found: Wires = {}
    for device in (*SITE.switches, *SITE.servers):
        for port, far in device.cables.items():
            name, _colon, far_port = far.partition(":")
            found[(device.name, port)] = (name, far_port)
    return found


def hear(wires: Wires) -> list[Heard]:
    """What all devices hear over such wires. A BMC hears nothing, but is heard."""
    heard = []
    for a, b in wires.items():
        heard += [Heard(*here, *there) for here, there in ((a, b), (b, a)) if here[1] != "bmc"]
    return heard


def swap(one: tuple[str, str], other: tuple[str, str]) -> Callable[[Wires], None]:
    def change(wires: Wires) -> None:
        wires[one], wires[other] = wires[other], wires[one]

    return change


def put(near: tuple[str, str], far: tuple[str, str] | None) -> Callable[[Wires], None]:
    def change(wires: Wires) -> None:
        del wires[near]
        if far:
            wires[near] = far

    return change


def rotate(wires: Wires) -> None:
    a, b, c = (("node1", "eno1"), ("node2", "eno1"), ("node3", "eno1"))
    wires[a], wires[b], wires[c] = wires[b], wires[c], wires[a]


N1, N2 = "node1 (a01 unit 2)", "node2 (a01 unit 3)"
T1, T2, SP = "tor1 (a01 unit 41)", "tor2 (a01 unit 42)", "spine1 (a02 unit 30)"

CASES: dict[str, tuple[Callable[[Wires], None], list[tuple[str, tuple[str, ...], list[str]]]]] = {
    "missing": (
        put(("node1", "eno1"), None),
        [("missing", ("node1",), [f"no cable between {N1} eno1 and {T1} swp2"])],
    ),
    "two servers swapped": (
        swap(("node1", "eno1"), ("node2", "eno1")),
        [("swapped", ("node1", "node2"), [f"{N1} eno1 belongs to {T1} swp2", f"{N2} eno1 to {T1} swp3"])],
    ),
    "two ports of a server swapped": (
        swap(("node1", "eno1"), ("node1", "eno2")),
        [("swapped", ("node1",), [f"{N1} eno1 belongs to {T1} swp2", f"{N1} eno2 to {T2} swp2"])],
    ),
    "in an empty port": (
        put(("node1", "eno1"), ("tor1", "swp30")),
        [
            (
                "wrong",
                ("node1",),
                [f"joins {N1} eno1 and {T1} swp30", f"{N1} eno1 belongs to {T1} swp2", "swp30 should be empty"],
            )
        ],
    ),
    "in the other switch": (
        put(("node1", "eno1"), ("tor2", "swp30")),
        [("wrong", ("node1",), [f"joins {N1} eno1 and {T2} swp30", f"belongs to {T1} swp2"])],
    ),
    "from a third port of the server": (
        lambda wires: wires.update({("node1", "eno3"): wires.pop(("node1", "eno1"))}),
        [("wrong", ("node1",), [f"joins {N1} eno3 and {T1} swp2", f"{T1} swp2 belongs to {N1} eno1"])],
    ),
    "BMC and data swapped": (
        swap(("node1", "eno1"), ("node1", "bmc")),
        [("swapped", ("node1",), [f"{N1} bmc belongs to mgmt1 (a01 unit 40) swp2", f"{N1} eno1 to {T1} swp2"])],
    ),
    "three in a ring": (
        rotate,
        [
            ("wrong", ("node1", "node2"), [f"{N1} eno1 and {T1} swp3"]),
            ("wrong", ("node2", "node3"), ["swp4"]),
            ("wrong", ("node1", "node3"), ["swp2"]),
        ],
    ),
    "uplinks swapped at the spine": (
        swap(("tor1", "swp49"), ("tor2", "swp49")),
        [("swapped", (), [f"{T1} swp49", f"{SP} swp1", f"{SP} swp2"])],
    ),
    "server to server": (
        lambda wires: (wires.pop(("node2", "eno1")), wires.update({("node1", "eno1"): ("node2", "eno1")})),  # type: ignore[dict-item]
        [("wrong", ("node1", "node2"), [f"joins {N1} eno1 and {N2} eno1", f"{N1} eno1 belongs to {T1} swp2"])],
    ),
    "back to itself": (
        put(("node1", "eno1"), ("node1", "eno1")),
        [("loop", ("node1",), [f"{N1} eno1 hears itself"])],
    ),
    "to somebody else's": (
        put(("node1", "eno1"), ("printer", "1")),
        [("unknown", ("node1",), [f"{N1} eno1 hears printer 1, which is not in the model; {T1} swp2 should be there"])],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_miswiring(name: str) -> None:
    change, wanted = CASES[name]
    wires = model()
    change(wires)
    heard = [one for one in hear(wires) if one.device != "printer"]
    faults = check_cabling(SITE, heard)
    assert len(faults) == len(wanted), faults
    for kind, servers, parts in wanted:
        assert any(
            (fault.kind, fault.servers) == (kind, servers) and all(part in fault.message for part in parts)
            for fault in faults
        ), faults


def test_right_cables_are_no_news() -> None:
    assert check_cabling(SITE, hear(model())) == []


def test_a_broken_fibre_is_heard_one_way() -> None:
    heard = [one for one in hear(model()) if (one.device, one.port) != ("node1", "eno1")]
    faults = check_cabling(SITE, heard)
    assert [(fault.kind, fault.servers) for fault in faults] == [("one-way", ("node1",))]
    assert f"{T1} swp2 hears {N1} eno1, but not the other way" in faults[0].message


def test_servers_that_are_off_are_not_missed_by_those_that_cannot_know() -> None:
    servers = {server.name for server in SITE.servers}
    heard = [one for one in hear(model()) if one.device not in servers and one.other not in servers]
    everybody = servers | {switch.name for switch in SITE.switches}
    assert check_cabling(SITE, heard, silent=everybody) == []
    missing = check_cabling(SITE, heard, silent=servers)
    # Nothing comes from the two ports of each server: it may be off. Its BMC should be heard then too.
    assert [fault.kind for fault in missing] == ["unheard"] * 4 + ["missing"] * 4
    assert "nothing is heard of cp1 (a01 unit 1) on any of its cables" in missing[0].message


def test_a_bmc_is_known_by_its_hardware_address() -> None:
    heard = []
    for one in hear(model()):
        if one.other_port == "bmc":
            one = Heard(one.device, one.port, None, None, mac=f"02:00:00:00:00:{one.other}")
        heard.append(one)
    macs = {f"02:00:00:00:00:{server.name}": (server.name, "bmc") for server in SITE.servers}
    assert check_cabling(SITE, heard, macs=macs) == []
    assert {fault.kind for fault in check_cabling(SITE, heard)} == {"unknown"}


def test_full_names_are_names() -> None:
    heard = [Heard(h.device, h.port, f"{h.other}.lab.example.net", h.other_port) for h in hear(model())]
    assert check_cabling(SITE, heard) == []


@settings(max_examples=200)
@given(st.permutations(sorted(model().values())))
def test_any_mixture_of_cables_names_every_server_that_is_wrong(far: list[tuple[str, str]]) -> None:
    right = model()
    wires = dict(zip(right, sorted(right.values()), strict=True))
    wires = dict(zip(sorted(wires, key=lambda near: right[near]), far, strict=True))
    faults: list[Fault] = check_cabling(SITE, hear(wires))
    wrong = {near[0] for near, end in wires.items() if right[near] != end}
    named: set[Any] = {server for fault in faults for server in fault.servers}
    assert named >= {name for name in wrong if name.startswith(("cp", "node"))}
    assert bool(faults) == bool(wrong)


def test_what_lldpcli_says() -> None:
    told = {
        "lldp": [
            {
                "interface": [
                    {
                        "name": "swp2",
                        "chassis": [
                            {"id": [{"type": "mac", "value": "02:00:00:00:00:01"}], "name": [{"value": "node1"}]}
                        ],
                        "port": [{"id": [{"type": "mac", "value": "02:00:00:00:00:02"}], "descr": [{"value": "eno1"}]}],
                    },
                    {
                        "name": "swp1",
                        "chassis": [{"id": [{"type": "mac", "value": "02:00:00:00:00:09"}]}],
                        "port": [{}],
                    },
                ]
            }
        ]
    }
    assert neighbors(told) == [
        {"port": "swp1", "device": None, "device_port": None, "mac": "02:00:00:00:00:09"},
        {"port": "swp2", "device": "node1", "device_port": "eno1", "mac": "02:00:00:00:00:02"},
    ]
