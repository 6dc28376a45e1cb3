# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the drivers for EOS and NX-OS render, as Batfish reads it.

Batfish is no part of this collection, and in no package. KIBAN_BATFISH is its class path. From its repository: what
antlr4 makes of each *Lexer.g4 and *Parser.g4 (package as in the BUILD.bazel beside them), compiled by javac with all
in projects/*/src/main/java and the jars that MODULE.bazel names, and src/main/resources with it. Up to commit e3e36cf5e
Java 17 does, with hppc 0.10.0. The jar of its own build, //projects/allinone:allinone_main_deploy.jar, was not tried.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import netaddr
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.config import length, vlan_list
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.intent import (
    JUMBO_MTU,
    MLAG_VLAN,
    Filter,
    Intent,
    Lag,
    Port,
    Rule,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import sites, with_os

CLASS_PATH = os.environ.get("KIBAN_BATFISH", "")
pytestmark = pytest.mark.skipif(
    not CLASS_PATH or not shutil.which("javac"), reason="KIBAN_BATFISH names no class path, or no JDK is installed"
)
FORMATS = {"eos": "ARISTA", "nxos": "CISCO_NX"}

# Of what is rendered Batfish does not know these lines, each whole. It reads and forgets "vpc" of an interface.
UNKNOWN = {
    "eos": r"lldp run|ip routing ipv6 interfaces|ipv6 unicast-routing|router bfd"
    r"|interval \d+ min-rx \d+ multiplier \d+ default"
    r"|neighbor KIBAN-LINKS next-hop address-family ipv6 originate",
    # Neighbors by their port, so the lines under them; those of others are in its model, or missed there.
    "nxos": r"vpc domain \d+|role priority \d+|peer-keepalive destination [\d.]+|ipv6 address use-link-local-only"
    r"|neighbor Ethernet\d+/\d+|inherit peer KIBAN-LINKS|remote-as \d+",
}
OTHERS = ["0.0.0.0/0", "10.244.0.0/16", "192.0.2.0/24", "203.0.113.64/25", "198.51.100.11/32"]


class Batfish:
    """One process for all questions: it takes seconds to start."""

    def __init__(self) -> None:
        argv = ["java", "-Xmx1g", "-cp", CLASS_PATH, str(Path(__file__).parent / "SwitchConfigurations.java")]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self, os: str, text: str, probes: list[str]) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        asked = {"format": FORMATS[os], "text": text, "probes": probes}
        self.process.stdin.write(f"{json.dumps(asked)}\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def complaints(self, os: str, meant: Intent, text: str) -> list[str]:
        """What it does not understand, and where its model is not what is meant."""
        probes = sorted({*OTHERS, *(prefix for one in filters(meant) for rule in one.rules for prefix in around(rule))})
        said = self.read(os, f"hostname {meant.name}\n{text}", probes)
        known = re.compile(rf"\d+: ({UNKNOWN[os]}): This syntax is unrecognized|Guessing Ethernet interfaces .*")
        found = [one for one in said["problems"] if not known.fullmatch(one)]
        model, wanted = flat(said.get("model", {})), flat(expected(os, meant, probes))
        # On EOS the VLANs of a LAG are not said again for its members.
        silent = [port.name for port in meant.ports if port.lag and os == "eos"]
        members = {f"interfaces {name} {key}" for name in silent for key in VLAN_KEYS}
        return found + [
            f"{path}: {model.get(path)}, not {wanted.get(path)}"
            for path in sorted({*model, *wanted} - members)
            if model.get(path) != wanted.get(path)
        ]


@pytest.fixture(scope="module")
def batfish() -> Iterator[Batfish]:
    one = Batfish()
    yield one
    one.process.communicate(timeout=60)


def filters(meant: Intent) -> tuple[Filter, ...]:
    return meant.bgp.filters if meant.bgp else ()


def around(rule: Rule) -> Iterator[str]:
    """The prefix itself, its more specific ones up to what is accepted and just past that, and what holds it."""
    address, _slash, length = rule.prefix.partition("/")
    for one in {int(length), rule.longest, min(rule.longest + 1, 32), int(length) - 1}:
        yield str(netaddr.IPNetwork(f"{address}/{one}").cidr)


def accepts(one: Filter, probe: str) -> bool:
    network = netaddr.IPNetwork(probe)
    return any(network in netaddr.IPNetwork(rule.prefix) and network.prefixlen <= rule.longest for rule in one.rules)


def flat(data: Any, path: str = "") -> dict[str, str]:
    if not isinstance(data, dict):
        return {path: str(data)}
    return {key: text for name, one in data.items() for key, text in flat(one, f"{path} {name}".strip()).items()}


VLAN_KEYS = ("mode", "access", "native", "allowed")


def interface(
    description: str | None, mtu: int, addresses: tuple[str, ...] = (), lag: str | None = None, mlag: int | None = None
) -> dict[str, Any]:
    vlans = {"mode": "NONE", "access": None, "native": None, "allowed": ""}
    return {
        "description": description,
        "mtu": mtu,
        "up": True,
        "addresses": [*addresses],
        "lag": lag,
        "mlag": mlag,
        **vlans,
    }


def carried(one: Port | Lag) -> dict[str, Any]:
    if one.untagged and not one.tagged:
        return {"mode": "ACCESS", "access": one.untagged}
    allowed = {*one.tagged, *([one.untagged] if one.untagged else [])}
    return {"mode": "TRUNK", "native": one.untagged or 1, "allowed": vlan_list(allowed)}


def expected(os: str, meant: Intent, probes: list[str]) -> dict[str, Any]:
    """What Batfish's model is to be."""
    eos = os == "eos"
    if not eos and meant.mlag:
        # NX-OS has no VLAN for its pairs.
        lags = [replace(lag, tagged=tuple(vlan for vlan in lag.tagged if vlan != MLAG_VLAN)) for lag in meant.lags]
        vlans = tuple(vlan for vlan in meant.vlans if vlan.number != MLAG_VLAN)
        meant = replace(meant, lags=tuple(lags), vlans=vlans)
    channel, by_number = "Port-Channel" if eos else "port-channel", {lag.number: lag for lag in meant.lags}
    found: dict[str, dict[str, Any]] = {}
    for port in meant.ports:
        addresses = (port.address,) if port.address else ()
        lag = f"{channel}{port.lag}" if port.lag else None
        found[port.name] = interface(port.description, largest(os, port.mtu), addresses, lag)
        found[port.name] |= {} if port.routed else carried(by_number.get(port.lag or 0, port))
    for one in meant.lags:
        number = one.number if one.mlag and eos else None
        found[f"{channel}{one.number}"] = interface(one.description, largest(os, one.mtu), mlag=number) | carried(one)
    for svi in meant.svis:
        found[f"Vlan{svi.vlan}"] = interface(None, svi.mtu, (svi.address,))
    if meant.loopback:
        found["Loopback0" if eos else "loopback0"] = interface(None, 1500, (f"{meant.loopback}/32",))
    model: dict[str, Any] = {
        "interfaces": found,
        "vlans": {vlan.number: vlan.name if eos else None for vlan in meant.vlans},
        "filters": {
            one.name: [f"PERMIT {rule.prefix} [{length(rule.prefix)},{rule.longest}]" for rule in one.rules]
            for one in filters(meant)
        },
    }
    if meant.mlag and eos:
        found[f"Vlan{MLAG_VLAN}"] = interface(None, 1500, (f"{meant.mlag.local}/31",))
        link = next(f"Port-Channel{one.number}" for one in meant.lags if one.peer_link)
        model["mlag"] = {
            "domain": meant.mlag.domain,
            "peer": meant.mlag.peer,
            "heartbeat": meant.mlag.keepalive,
            "local": f"Vlan{MLAG_VLAN}",
            "link": link,
        }
    if meant.bgp:
        by_name = {one.name: one for one in meant.bgp.filters}
        model["bgp"] = {
            "router_id": meant.bgp.router_id,
            "multipath": True,
            "networks": sorted(meant.bgp.networks),
            "neighbors": {
                one.peer: {
                    "own": meant.bgp.asn,
                    "asn": one.asn,
                    "ipv4": True,
                    "accepted": [
                        probe for probe in probes if one.accept is None or accepts(by_name[one.accept], probe)
                    ],
                }
                for one in meant.bgp.neighbors
                if eos or not one.peer.startswith("Ethernet")
            },
        }
    return model


def largest(os: str, mtu: int) -> int:
    return 9214 if os == "eos" and mtu == JUMBO_MTU else mtu


@pytest.mark.parametrize("os", FORMATS)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_it_reads_generated_sites(os: str, data: st.DataObject, batfish: Batfish) -> None:
    site = load_site(data.draw(sites(systems=(os,))))
    for meant in intents(site).values():
        assert batfish.complaints(os, meant, render(os, meant).text) == []


@pytest.mark.parametrize("links", [None, "10.255.0.0/28"], ids=["unnumbered", "numbered"])
@pytest.mark.parametrize("mlag", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("os", FORMATS)
def test_it_reads_a_site(os: str, mlag: bool, links: str | None, batfish: Batfish) -> None:
    data = with_os(os, mlag)
    data["fabric"]["links"] = links
    for meant in intents(load_site(data)).values():
        assert batfish.complaints(os, meant, render(os, meant).text) == []


@pytest.mark.parametrize(
    ("os", "right", "wrong", "named"),
    [
        ("eos", "channel-group 2 mode active", "channel-group 2 mode eager", "channel-group 2 mode eager"),
        (
            "eos",
            "channel-group 2 mode active",
            "channel-group 3 mode active",
            "interfaces Ethernet2 lag: Port-Channel3",
        ),
        ("eos", "   mlag 2\n", "", "interfaces Port-Channel2 mlag: None, not 2"),
        ("eos", "switchport trunk native vlan 20", "switchport trunk native vlan 30", "Port-Channel2 native: 30"),
        ("eos", "switchport trunk allowed vlan 20,30", "switchport trunk allowed vlan 20", "allowed: 20, not 20,30"),
        ("eos", "   mtu 9214\n", "   mtu big\n", "mtu big"),
        ("eos", "peer-address 169.254.94.1", "peer-address 169.254.94.0", "mlag peer: 169.254.94.0"),
        ("eos", "peer-address heartbeat 192.0.2.4", "peer-address heartbeat 192.0.2.3", "mlag heartbeat: 192.0.2.3"),
        ("eos", "11 remote-as 4200000011", "11 remote-as 4200000021", "198.51.100.11 asn: 4200000021"),
        ("eos", "11 remote-as 4200000011", "11 remote-as 4294967296", "4294967296"),
        ("eos", "prefix-list KIBAN-cp1 in", "prefix-list KIBAN-node1 in", "198.51.100.11 accepted"),
        ("eos", "prefix-list KIBAN-cp1 in", "prefix-list KIBAN-nobody in", "undefined"),
        ("eos", "      neighbor 198.51.100.11 prefix-list KIBAN-cp1 in\n", "", "198.51.100.11 accepted"),
        ("eos", "203.0.113.64/26 le 32", "203.0.113.64/26", "filters KIBAN-cp1"),
        (
            "eos",
            "   neighbor KIBAN-SERVERS activate\n",
            "   no neighbor KIBAN-SERVERS activate\n",
            "198.51.100.11 ipv4: None",
        ),
        ("eos", "      network 203.0.113.1/32\n", "", "bgp networks"),
        ("eos", "router bgp 65101", "router bgp 65102", "own: 65102, not 65101"),
        ("nxos", "  switchport trunk native vlan 20\n", "  switchport trunk native vlan 4094\n", "4094"),
        ("nxos", "vlan 30\n  name KIBAN-storage", "vlan 4094\n  name KIBAN-storage", "4094"),
        ("nxos", "channel-group 2 mode active", "channel-group 5000 mode active", "5000"),
        ("nxos", "channel-group 2 mode active", "channel-group 3 mode active", "Ethernet1/2 lag: port-channel3"),
        ("nxos", "switchport trunk allowed vlan 20,30", "switchport trunk allowed vlan 20", "allowed: 20, not 20,30"),
        (
            "nxos",
            "  switchport trunk allowed vlan 20,30\n  channel-group 2",
            "  channel-group 2",
            "settings that do not conform",
        ),
        ("nxos", "mtu 9216", "mtu 9217", "9217"),
        ("nxos", "  no shutdown\n", "", "up: False"),
        ("nxos", "    remote-as 4200000011\n", "", "198.51.100.11"),
        ("nxos", "prefix-list KIBAN-cp1 in", "prefix-list KIBAN-cp1 inward", "inward"),
        ("nxos", "prefix-list KIBAN-cp1 in", "prefix-list KIBAN-node1 in", "198.51.100.11 accepted"),
        ("nxos", "inherit peer KIBAN-SERVERS", "inherit peer KIBAN-NOBODY", "KIBAN-NOBODY"),
        ("nxos", "seq 5 permit 10.244.11.0/24", "seq 5 permit 10.244.11.0/33", "10.244.11.0/33"),
        ("nxos", "    maximum-paths 64\n", "", "bgp multipath: False"),
        ("nxos", "router-id 203.0.113.1", "router-id 203.0.113.2", "router_id: 203.0.113.2"),
    ],
)
def test_it_refuses_or_shows_what_is_wrong(os: str, right: str, wrong: str, named: str, batfish: Batfish) -> None:
    meant = intents(load_site(with_os(os, mlag=True)))["tor1"]
    text = render(os, meant).text
    assert right in text
    assert named in str(batfish.complaints(os, meant, text.replace(right, wrong, 1)))
