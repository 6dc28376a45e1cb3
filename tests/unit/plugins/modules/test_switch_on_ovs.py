# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules for switches on Open vSwitch and FRR: a top-of-rack switch, a spine and a server that speaks BGP."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.config import Config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import parse, render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE, with_ipv6
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import (
    Bench,
    Router,
    Switch,
    eventually,
    missing,
)

WHY = missing("ethtool")
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]

INTENTS = intents(load_site(BASE))


def options(name: str) -> dict[str, Any]:
    config = render("linux", INTENTS[name])
    return {"tables": dict(config.tables), "text": config.text}


def applied(switch: Switch, **changes: Any) -> dict[str, Any]:
    answer = switch.module("switch_config", **changes)
    assert not answer.get("failed"), answer["msg"]
    assert switch.module("switch_config", state="confirmed")["changed"] is answer["changed"]
    return answer


@pytest.fixture(scope="module")
def rack() -> Iterator[SimpleNamespace]:
    """tor1 and spine1 configured; node1 behind swp2 with FRR; the other ports of tor1 lead nowhere."""
    # Not pytest's: a path of a UNIX socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        bench = Bench(Path(directory))
        try:
            tor1, spine1 = bench.add(Switch, "tor1"), bench.add(Switch, "spine1")
            node1 = bench.add(Router, "node1")
            bench.wire("tor1", "swp49", "spine1", "swp1")
            bench.wire("tor1", "swp2", "node1", "eno1")
            for name, port in (("tor1", "swp1"), ("tor1", "swp3"), ("tor1", "swp4"), ("spine1", "swp2")):
                bench.spaces[name].run("ip", "link", "add", port, "type", "veth", "peer", "name", f"x-{port}")
            node1.run("ip", "address", "add", "198.51.100.21/24", "dev", "eno1")
            first = {switch.name: applied(switch, **options(switch.name)) for switch in (tor1, spine1)}
            yield SimpleNamespace(tor1=tor1, spine1=spine1, node1=node1, first=first)
        finally:
            bench.close()


def reaches(rack: SimpleNamespace) -> bool:
    """Whether the server gets through to the gateway: its BGP port answers."""
    code = "import socket; socket.create_connection(('198.51.100.1', 179), 1); print('yes')"
    return "yes" in rack.node1.run(sys.executable, "-c", code, check=False)


def test_a_second_run_changes_nothing(rack: SimpleNamespace) -> None:
    assert rack.first["tor1"]["changed"]
    # Nothing was there but a port of the machine.
    assert rack.first["tor1"]["remove"] == ["LINK / swp49 / mtu=1500"]
    again = rack.tor1.module("switch_config", **options("tor1"))
    assert (again["changed"], again["add"], again["remove"]) == (False, [], [])
    assert "router bgp 65101" in (rack.tor1.directory / "frr.conf").read_text()


def test_what_runs_says_the_intent(rack: SimpleNamespace) -> None:
    read = rack.tor1.module("switch_info")
    links = {"LINK": {"swp49": {"mtu": read["ports"]["swp49"]["mtu"]}}}
    assert parse("linux", "tor1", Config({**read["tables"], **links}, read["text"])) == INTENTS["tor1"]
    assert read["ports"]["swp2"]["mtu"] == 9216


def test_switches_exchange_routes_over_an_unnumbered_link(rack: SimpleNamespace) -> None:
    def there() -> bool:
        told = rack.tor1.module("switch_info")["bgp"].get("swp49", {})
        return told.get("state") == "Established" and told["prefixes"] > 0

    eventually(there, 90)
    # bgpd counts a prefix before zebra has put its route into the kernel.
    eventually(lambda: "203.0.113.3" in rack.tor1.run("ip", "route", "show", "203.0.113.3"), 30)
    eventually(lambda: "198.51.100.0/24" in rack.spine1.run("ip", "route"), 30)


def test_ipv6_comes_and_goes(rack: SimpleNamespace) -> None:
    """Beside what is there, on the same session; and a model without it takes all of it away."""
    site = load_site(with_ipv6(BASE))
    found, switches = intents(site), {"tor1": rack.tor1, "spine1": rack.spine1}
    for name, switch in switches.items():
        switch.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        config = render("linux", found[name])
        wanted = {"tables": dict(config.tables), "text": config.text}
        assert applied(switch, **wanted)["changed"]
        again = switch.module("switch_config", **wanted)
        assert (again["changed"], again["add"], again["remove"]) == (False, [], [])
    read = rack.tor1.module("switch_info")
    links = {"LINK": {"swp49": {"mtu": read["ports"]["swp49"]["mtu"]}}}
    assert parse("linux", "tor1", Config({**read["tables"], **links}, read["text"])) == found["tor1"]
    own = site.networks["node"].ipv6
    assert own is not None
    eventually(lambda: own.cidr in rack.spine1.run("ip", "-6", "route"), 90)
    # By Open vSwitch to the gateway.
    rack.node1.run("ip", "address", "add", "2001:db8:1::15/64", "dev", "eno1", "nodad")
    code = f"import socket; socket.create_connection(('{own.gateway}', 179), 2); print('yes')"
    eventually(lambda: "yes" in rack.node1.run(sys.executable, "-c", code, check=False), 60)
    for name, switch in switches.items():
        gone = applied(switch, **options(name))
        assert "ipv6" in str(gone["remove"])
        assert switch.module("switch_config", **options(name))["changed"] is False
    # What has no mark stays, as of IPv4; no route is there for it any more.
    running = rack.tor1.vtysh("show running-config").splitlines()
    assert [line.strip() for line in running if "2001:db8" in line or "fd00" in line] == [f"network {own.cidr}"]
    eventually(lambda: own.cidr not in rack.spine1.run("ip", "-6", "route"), 30)
    for name, switch in switches.items():
        applied(switch, **options(name), exclusive=True)
        assert "ipv6" not in switch.vtysh("show running-config")


def test_a_server_may_announce_what_the_model_says_and_no_more(rack: SimpleNamespace) -> None:
    eventually(lambda: reaches(rack), 30)
    rack.node1.vtysh(
        *("configure terminal", "router bgp 4200000021", "no bgp ebgp-requires-policy", "no bgp network import-check"),
        *("neighbor 198.51.100.1 remote-as 65101", "neighbor 198.51.100.1 bfd", "address-family ipv4 unicast"),
        *("network 10.244.21.0/24", "network 203.0.113.70/32", "network 10.244.22.0/24", "network 0.0.0.0/0"),
    )
    eventually(lambda: "10.244.21.0/24" in rack.spine1.run("ip", "route"), 120)
    eventually(lambda: "203.0.113.70" in rack.spine1.run("ip", "route"), 20)
    routes = rack.tor1.run("ip", "route")
    assert "10.244.22.0/24" not in routes
    assert "default" not in routes
    assert rack.tor1.module("switch_info")["bgp"]["198.51.100.21"]["prefixes"] == 2
    peers = rack.tor1.vtysh("show bfd peers json")
    assert '"status":"up"' in peers.replace(" ", "")


def test_a_bad_change_heals_by_itself(rack: SimpleNamespace) -> None:
    """The server's port is put in another VLAN and the address of the gateway goes; nobody confirms."""
    eventually(lambda: reaches(rack), 30)
    before = rack.tor1.module("switch_info")
    bad = options("tor1")
    bad["tables"]["PORT"] = {
        **bad["tables"]["PORT"],
        "swp2": {**bad["tables"]["PORT"]["swp2"], "tag": 30, "trunks": [20]},
    }
    bad["text"] = bad["text"].replace("ip address 198.51.100.1/24", "ip address 198.51.100.9/24")
    bad["text"] = (
        bad["text"]
        .replace(" neighbor swp49 remote-as 65001\n", "")
        .replace(" neighbor swp49 interface peer-group KIBAN-LINKS\n", "")
    )
    # Long enough for a busy machine to make the change.
    answer = rack.tor1.module("switch_config", **bad, confirm_seconds=15)
    assert not answer.get("failed"), answer["msg"]
    assert answer["changed"] and answer["pending"]
    assert any("neighbor swp49" in line for line in answer["remove"])
    applied_at = time.monotonic()
    assert not reaches(rack)
    eventually(lambda: reaches(rack), 60)
    print(f"healed {time.monotonic() - applied_at:.1f} s after the change")
    late = rack.tor1.module("switch_config", state="confirmed")
    assert "taken back before it was confirmed" in late["msg"]
    after = rack.tor1.module("switch_info")
    assert after["tables"] == before["tables"]
    assert not rack.tor1.module("switch_config", check=True, **options("tor1"))["changed"]
    eventually(lambda: rack.tor1.module("switch_info")["bgp"]["swp49"]["state"] == "Established", 90)


def test_foreign_configuration_is_kept_unless_exclusive(rack: SimpleNamespace) -> None:
    vsctl = ["ovs-vsctl", f"--db=unix:{rack.spine1.directory}/db.sock"]
    rack.spine1.run(*vsctl, "add-port", "br0", "other", "--", "set", "interface", "other", "type=internal")
    rack.spine1.vtysh("configure terminal", "ip prefix-list OTHER seq 5 permit 10.9.0.0/16")
    answer = rack.spine1.module("switch_config", **options("spine1"))
    assert not answer["changed"]
    assert answer["foreign"] == [
        "PORT / other",
        'PORT / other / type="internal"',
        "ip prefix-list OTHER seq 5 permit 10.9.0.0/16",
    ]
    would = rack.spine1.module("switch_config", check=True, exclusive=True, **options("spine1"))
    assert would["remove"] == answer["foreign"]
    assert "other" in rack.spine1.run(*vsctl, "list-ports", "br0")
    applied(rack.spine1, exclusive=True, **options("spine1"))
    assert "other" not in rack.spine1.run(*vsctl, "list-ports", "br0")
    assert "OTHER" not in rack.spine1.vtysh("show running-config")


def test_a_server_that_leaves_takes_its_session_with_it(rack: SimpleNamespace) -> None:
    data = load_site({**BASE, "fabric": {"server_asn": None}})
    config = render("linux", intents(data)["tor1"])
    answer = rack.tor1.module("switch_config", tables=dict(config.tables), text=config.text, confirm_seconds=60)
    assert not answer.get("failed"), answer["msg"]
    assert "waits for its confirmation" in rack.tor1.module("switch_config", **options("tor1"))["msg"]
    running = rack.tor1.vtysh("show running-config")
    assert "4200000021" not in running
    assert "KIBAN-node1" not in running
    assert rack.tor1.module("switch_config", state="reverted")["changed"]
    assert not rack.tor1.module("switch_config", check=True, **options("tor1"))["changed"]


def test_frr_reads_the_commands_before_anything_is_changed(rack: SimpleNamespace) -> None:
    bad = options("tor1")
    bad["text"] = bad["text"].replace("maximum-paths 64", "maximum-paths many")
    answer = rack.tor1.module("switch_config", **bad)
    assert answer["failed"]
    assert "vtysh" in answer["msg"]
    assert not rack.tor1.module("switch_config", check=True, **options("tor1"))["changed"]
