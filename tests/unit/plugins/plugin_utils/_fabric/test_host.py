# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FRR's configuration on servers: the other end of what switches expect of them."""

from __future__ import annotations

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.host import frr_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.intent import FabricError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import (
    BASE,
    with_balancer,
    with_routed_servers,
)


def test_a_server_with_one_session_for_each_switch() -> None:
    site = load_site(BASE)
    text = frr_config(site, site.server("node1"))
    assert "router bgp 4200000021\n" in text
    assert " neighbor 198.51.100.1 remote-as 65101\n neighbor 198.51.100.1 peer-group KIBAN-SWITCHES\n" in text
    assert "  network 10.244.21.0/24\n  neighbor KIBAN-SWITCHES prefix-list KIBAN-OWN out\n" in text
    assert "ip prefix-list KIBAN-OWN seq 10 permit 203.0.113.64/26 le 32\n" in text


def test_a_server_with_routed_links() -> None:
    site = with_routed_servers(load_site(BASE))
    text = frr_config(site, site.server("node1"))
    assert " neighbor eno1 interface peer-group KIBAN-SWITCHES\n neighbor eno1 remote-as 65101\n" in text
    assert " neighbor eno2 interface peer-group KIBAN-SWITCHES\n neighbor eno2 remote-as 65102\n" in text
    assert "  network 198.51.100.21/32\n  network 10.244.21.0/24\n  neighbor" in text
    tor1 = intents(site)["tor1"]
    assert [port.routed for port in tor1.ports if port.name in ("swp1", "swp2")] == [True, True]


def test_nothing_is_announced_before_it_is_said_that_no_route_is_needed() -> None:
    """bgpd of FRR 10.3 crashes when that is said while there are networks. Switches never say it."""
    site = with_routed_servers(load_site(BASE))
    lines = [line.strip() for line in frr_config(site, site.server("cp1")).splitlines()]
    first = next(place for place, line in enumerate(lines) if line.startswith("network "))
    assert lines.index("no bgp network import-check") < first
    assert "import-check" not in frr_config(site, site.server("node1"))
    assert all("import-check" not in str(render("linux", one).text) for one in intents(site).values())


def test_what_the_speaker_of_the_load_balancer_may() -> None:
    site = with_routed_servers(load_site(BASE))
    assert "SPEAKER" not in frr_config(site, site.server("node1"))
    text = frr_config(with_balancer(site), site.server("node1"))
    assert "ip prefix-list KIBAN-POOLS seq 5 permit 203.0.113.64/26 le 32\n" in text
    assert " match ip address prefix-list KIBAN-POOLS\n set ip next-hop 169.254.100.2\nexit\n" in text
    assert " bgp listen range 169.254.100.0/30 peer-group KIBAN-SPEAKER\n" in text
    assert "  neighbor KIBAN-SPEAKER route-map KIBAN-POOLS in\n" in text
    assert "  neighbor KIBAN-SPEAKER route-map KIBAN-NOTHING out\n" in text


def test_a_server_without_a_switch_that_routes_is_refused() -> None:
    site = load_site({**BASE, "fabric": {"server_asn": None}})
    with pytest.raises(FabricError, match="node1 has no switch to speak BGP with"):
        frr_config(site, site.server("node1"))
