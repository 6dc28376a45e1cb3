# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What BMCs and switches hear decides which servers must not be installed, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.wiring import wiring
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import Wiring
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE, with_os

SITE = load_site(BASE)
N1, N2, N3 = "node1 (a01 unit 2)", "node2 (a01 unit 3)", "node3 (a01 unit 4)"
T1, T2 = "tor1 (a01 unit 41)", "tor2 (a01 unit 42)"
CHASSIS = "02:00:00:00:fe:00"


def ports(*heard: tuple[str | None, str] | None, names: tuple[str, ...] = (), count: int = 2, **more: Any) -> Any:
    """Network ports of a server as its BMC tells them: which switch and port each hears."""
    found = []
    for place in range(max(count, len(heard))):
        one = heard[place] if place < len(heard) else None
        lldp = {"chassis_id": CHASSIS, "port_id": one[1], "system_name": one[0]} if one else None
        name = names[place] if names else f"NIC.{place + 1}"
        found.append({"id": name, "name": None, "mac": f"02:00:00:00:00:{place:02x}", "link": "up", "lldp": lldp})
    return [{**port, **more} for port in found]


def cables(number: int) -> Any:
    """What the BMC of node1 and so on hears when all is well."""
    return ports(("TOR1", f"swp{number + 1}"), ("tor2.other.example.net", f"swp{number + 1}"))


@pytest.mark.parametrize(
    ("heard", "message"),
    [
        pytest.param(
            ports(("tor1", "swp3"), ("tor2", "swp2")),
            f"a cable joins {N1} eno1 and {T1} swp3; {N1} eno1 belongs to {T1} swp2; {T1} swp3 belongs to {N2} eno1",
            id="another server's port",
        ),
        pytest.param(
            ports(("tor1", "swp2"), ("tor1", "swp30")),
            f"a cable joins {N1} eno2 and {T1} swp30; {N1} eno2 belongs to {T2} swp2; {T1} swp30 should be empty",
            id="the other switch, in an empty port",
        ),
        pytest.param(
            ports(None, ("spine1", "swp9")),
            f"a cable joins {N1} NIC.2 and spine1 (a02 unit 30) swp9; spine1 (a02 unit 30) swp9 should be empty",
            id="which of its ports is not known",
        ),
        pytest.param(
            ports(("tor2", "swp2"), ("tor1", "swp2"), names=("eno1", "eno2")),
            f"two cables are swapped: {N1} eno1 belongs to {T1} swp2, and {N1} eno2 to {T2} swp2",
            id="its own two swapped, where the BMC calls ports as the model does",
        ),
        pytest.param(
            ports(("tor1", "swp2"), ("core9", "Ethernet7")),
            f"{N1} eno2 hears core9 Ethernet7 {CHASSIS}, which is not in the model; {T2} swp2 should be there",
            id="a switch of somebody else",
        ),
        pytest.param(
            ports((None, "swp2"), (None, "swp17")),
            f"{N1} NIC.2 hears swp17 {CHASSIS}, which is not in the model",
            id="a switch without a name, at a port that is none of the server's",
        ),
        pytest.param(
            ports(("node2", "eno1"), ("tor2", "swp2")),
            f"a cable joins {N1} eno1 and {N2} eno1; {N1} eno1 belongs to {T1} swp2; {N2} eno1 belongs to {T1} swp3",
            id="another server",
        ),
    ],
)
def test_a_wrong_cable_stops_the_server(heard: Any, message: str) -> None:
    assert wiring(SITE, {"node1": heard}, {}, {})["node1"].wrong == (message,)


def test_two_swapped_servers_are_named_as_that_and_a_third_goes_on() -> None:
    swapped = {"node1": ports(("tor1", "swp3"), ("tor2", "swp2")), "node2": ports(("tor1", "swp2"), ("tor2", "swp3"))}
    found = wiring(SITE, {**swapped, "node3": cables(3)}, {}, {})
    message = f"two cables are swapped: {N1} eno1 belongs to {T1} swp2, and {N2} eno1 to {T1} swp3"
    assert found == {"node1": Wiring(wrong=(message,)), "node2": Wiring(wrong=(message,))}


def test_whose_place_is_taken_is_stopped_too_unless_its_own_bmc_knows_better() -> None:
    wrong = ports(("tor1", "swp3"), ("tor2", "swp2"))
    silent = wiring(SITE, {"node1": wrong, "node2": ports()}, {}, {})
    assert silent["node2"].wrong == silent["node1"].wrong
    knowing = wiring(SITE, {"node1": wrong, "node2": cables(2)}, {}, {})
    assert knowing["node2"] == Wiring(told=silent["node1"].wrong) and knowing["node1"].wrong


@pytest.mark.parametrize(
    ("heard", "told"),
    [
        pytest.param(cables(1), (), id="in place"),
        pytest.param(ports((None, "swp2"), (None, "swp2")), ("does not say which switches it hears",), id="no name"),
        pytest.param(ports(), ("its BMC hears no neighbour by LLDP",), id="hears nothing"),
        pytest.param(ports(("tor1", "swp3"), link="down"), ("its BMC hears no neighbour",), id="heard before"),
        pytest.param(ports(("tor1", "swp2")), ("hears nothing at eno2, which belongs to tor2 swp2",), id="one unheard"),
        pytest.param(
            ports(("tor1", "swp2"), ("tor2", "swp2"), ("core9", "Ethernet7")),
            ("hears core9 Ethernet7 at NIC.3: that can't be compared",),
            id="another port of the server",
        ),
        pytest.param(
            ports(("tor1", "02:00:00:00:fe:01"), ("tor2", "swp2")),
            ("hears tor1 02:00:00:00:fe:01 at NIC.1",),
            id="a port by its address",
        ),
        pytest.param("HTTP 500", ("its network ports can't be read", "HTTP 500"), id="not read"),
    ],
)
def test_what_is_no_contradiction_stops_nobody(heard: Any, told: tuple[str, ...]) -> None:
    found = wiring(SITE, {"node1": heard}, {}, {}).get("node1", Wiring())
    assert found.wrong == ()
    assert bool(found.told) == bool(told) and all(any(part in text for text in found.told) for part in told)


def test_ports_of_sonic_have_another_name_in_lldp() -> None:
    site = load_site(with_os("sonic"))
    alias = wiring(site, {"node1": ports(("tor1", "etp1"), ("tor2", "Ethernet4"))}, {}, {})["node1"]
    assert not alias.wrong and "hears tor1 etp1 at NIC.1: that can't" in alias.told[0]
    assert wiring(site, {"node1": ports(("spine1", "etp9"), ("tor2", "etp1"))}, {}, {})["node1"].wrong


def test_who_is_forced_is_told_and_not_stopped() -> None:
    found = wiring(SITE, {"node1": ports(("tor1", "swp3"))}, {}, {}, ["node1"])["node1"]
    assert not found.wrong and found.told[-1].startswith(f"is installed by force, although a cable joins {N1} eno1")


def heard(port: str, device: str | None, device_port: str | None = "eno1") -> dict[str, Any]:
    return {"port": port, "device": device, "device_port": device_port, "mac": None}


def test_what_switches_hear_counts_as_well() -> None:
    found = wiring(SITE, {"node1": ports()}, {}, {"tor1": [heard("swp2", "node2"), heard("swp4", "node3")]})
    message = f"a cable joins {N2} eno1 and {T1} swp2; {N2} eno1 belongs to {T1} swp3; {T1} swp2 belongs to {N1} eno1"
    assert {name: one.wrong for name, one in found.items()} == {"node1": (message,), "node2": (message,)}


def test_a_stranger_at_a_switch_stops_nobody() -> None:
    found = wiring(
        SITE, {}, {}, {"tor1": [heard("swp2", "old-system", "eth0"), heard("swp3", None), heard("swp30", "wan")]}
    )
    assert list(found) == ["node1"] and found["node1"].wrong == ()
    assert found["node1"].told[0].startswith(f"{T1} swp2 hears old-system eth0, which is not in the model")


def test_cables_between_switches_are_told_at_one_of_them() -> None:
    found = wiring(SITE, {}, {}, {"tor1": [heard("swp49", "spine1", "swp2")]})
    assert list(found) == ["spine1"] and found["spine1"].wrong == ()
    assert "tor1 (a01 unit 41) swp49 belongs to spine1 (a02 unit 30) swp1" in found["spine1"].told[0]


def test_what_a_server_hears_itself_counts_by_the_names_of_its_ports() -> None:
    right = [heard("eno1", "tor1", "swp2"), heard("eno2", "tor2", "swp2"), heard("eno3", "wan", "ge0")]
    assert wiring(SITE, {}, {"node1": right}, {}) == {}
    swapped = [heard("eno1", "tor2", "swp2"), heard("eno2", "tor1", "swp2")]
    message = f"two cables are swapped: {N1} eno1 belongs to {T1} swp2, and {N1} eno2 to {T2} swp2"
    assert wiring(SITE, {}, {"node1": swapped}, {}) == {"node1": Wiring(wrong=(message,))}
    third = wiring(SITE, {}, {"node1": [heard("eno3", "tor1", "swp2")]}, {})
    assert third["node1"].wrong == (
        f"a cable joins {N1} eno3 and {T1} swp2; {N1} eno3 should be empty; {T1} swp2 belongs to {N1} eno1",
    )
    unknown = [heard("eno1", "wan", "ge0"), heard("eno2", "tor2", "02:00:00:00:fe:01"), heard("eno3", None, None)]
    assert wiring(SITE, {}, {"node1": unknown}, {}) == {}
