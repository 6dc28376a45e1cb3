# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers with a routed link to each of two switches, a spine, and how long traffic is gone when a part goes silent.

Switches and servers run FRR with what is rendered for them. Links go through bridges, so that one can be cut with both
ends still up, as by a broken media converter: only BFD or BGP's own timers can notice.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.kiban.baremetal.plugins.filter.fabric import switch_ports
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.host import frr_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.routing import not_running
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site import balancer
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site, site_text
from ansible_collections.kiban.baremetal.plugins.plugin_utils._verify_network import silence_figures
from ansible_collections.kiban.baremetal.tests.unit.plugins import bgp_speaker
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import (
    BASE,
    with_balancer,
    with_routed_servers,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import (
    Bench,
    Router,
    Space,
    eventually,
    missing,
)

WHY = missing("ethtool")
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]

DATA = copy.deepcopy(BASE)
del DATA["racks"][0]["switches"][2]
for _server in DATA["racks"][0]["servers"]:
    _server["cables"].pop("bmc")
    _server["addresses"].pop("storage", None)
DATA["racks"][0]["servers"][1] |= {"name": "node1", "cables": {"eno1": "tor1:swp2", "eno2": "tor2:swp2"}}
SITE = with_balancer(with_routed_servers(load_site(DATA)))
PODS = {"cp1": "10.244.11.5", "node1": "10.244.21.5"}
LINKS = [
    ("tor1", "swp49", "spine1", "swp1"),
    ("tor2", "swp49", "spine1", "swp2"),
    *((server, "eno1", "tor1", port) for server, port in (("cp1", "swp1"), ("node1", "swp2"))),
    *((server, "eno2", "tor2", port) for server, port in (("cp1", "swp1"), ("node1", "swp2"))),
]

# Eight flows, so that both ways carry some. The last line is the longest silence of any of them, in seconds.
_ECHO = """\
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', 7007))
while True:
    data, peer = s.recvfrom(64)
    s.sendto(data, peer)
"""
_PROBE = """\
import select, socket, sys, time
source, target, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
flows = []
for number in range(8):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((source, 40000 + number))
    flows.append(s)
start = time.monotonic()
last = dict.fromkeys(flows, start)
longest, sent = 0.0, 0.0
print('running', flush=True)
while time.monotonic() - start < seconds:
    now = time.monotonic()
    if now - sent > 0.03:
        sent = now
        for s in flows:
            try:
                s.sendto(b'x', (target, 7007))
            except OSError:
                pass
    for s in select.select(flows, [], [], 0.02)[0]:
        try:
            s.recv(64)
        except OSError:
            continue
        now = time.monotonic()
        longest = max(longest, now - last[s])
        last[s] = now
print(max([longest, *(time.monotonic() - t for t in last.values())]))
"""


def joined(bench: Bench, wires: Space, number: int, near: str, port: str, far: str, far_port: str) -> tuple[str, str]:
    """A link through a bridge; the two ports of it."""
    a, b = f"w{number}a", f"w{number}b"
    bench.wire(near, port, "wires", a)
    bench.wire(far, far_port, "wires", b)
    wires.run("ip", "link", "add", f"br{number}", "type", "bridge")
    for name in (a, b):
        wires.run("ip", "link", "set", name, "master", f"br{number}")
    wires.run("ip", "link", "set", f"br{number}", "up")
    return a, b


@pytest.fixture(scope="module")
def rack() -> Iterator[SimpleNamespace]:
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        bench = Bench(Path(directory))
        try:
            names = ["tor1", "tor2", "spine1", *PODS]
            routers = {name: bench.add(Router, name) for name in names}
            wires = bench.add(Space, "wires")
            ports = {}
            for number, (near, port, far, far_port) in enumerate(LINKS):
                ports[near, far] = joined(bench, wires, number, near, port, far, far_port)
            found = intents(SITE)
            for name, router in routers.items():
                router.run("sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1")
                if name in PODS:
                    text = frr_config(SITE, SITE.server(name), found)
                    server = SITE.server(name)
                    # What networkd does on a server: its own address, and the range of its pods.
                    router.run("ip", "address", "add", f"{server.addresses['node']}/32", "dev", "lo")
                    router.run("ip", "address", "add", f"{PODS[name]}/32", "dev", "lo")
                    router.run("ip", "route", "add", "unreachable", server.pod_cidr, "metric", "4096")
                    # On a server a dummy device; not every kernel has those.
                    device = balancer.DEVICE
                    router.run("ip", "link", "add", device, "type", "veth", "peer", "name", "far")
                    router.run("ip", "address", "add", f"{balancer.FRR_ADDRESS}/30", "dev", device, "scope", "link")
                    for end in (device, "far"):
                        router.run("ip", "link", "set", end, "up")
                    echo = router.argv(sys.executable, "-c", _ECHO)
                    router.processes.append(subprocess.Popen(echo))
                else:
                    text = render("linux", found[name]).text
                path = router.directory / "frr.conf"
                path.write_text(text)
                router.run("vtysh", "--vty_socket", router.directory, "-f", path)
            yield SimpleNamespace(bench=bench, wires=wires, ports=ports, **routers)
        finally:
            bench.close()


def ways(rack: SimpleNamespace, name: str, prefix: str) -> int:
    """How many next hops the kernel has for a prefix."""
    told = json.loads(rack.bench.spaces[name].run("ip", "-json", "route", "show", prefix) or "[]")
    routes = [route for route in told if route and route.get("protocol") == "bgp"]
    return sum(len(route.get("nexthops", [0])) for route in routes)


def settled(rack: SimpleNamespace) -> None:
    """All sessions are there, with BFD where it is asked for, and both servers have both ways to each other."""
    eventually(lambda: ways(rack, "cp1", "10.244.21.0/24") == 2 and ways(rack, "node1", "10.244.11.0/24") == 2, 90)
    eventually(lambda: ways(rack, "spine1", "10.244.21.0/24") == 2, 90)


def silence(rack: SimpleNamespace, links: list[tuple[str, str]], seconds: float) -> float:
    """How long the flows from cp1's pods to node1's are interrupted when these links carry nothing any more."""
    argv = rack.cp1.argv(sys.executable, "-c", _PROBE, PODS["cp1"], PODS["node1"], seconds)
    probe = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert probe.stdout is not None
    probe.stdout.readline()
    time.sleep(1)
    for link in links:
        rack.wires.run("ip", "link", "set", rack.ports[link][0], "nomaster")
    told = probe.stdout.read()
    probe.wait()
    for link in links:
        number = LINKS.index(next(one for one in LINKS if (one[0], one[2]) == link))
        rack.wires.run("ip", "link", "set", rack.ports[link][0], "master", f"br{number}")
    return float(told.split()[-1])


SWITCH = [("cp1", "tor1"), ("node1", "tor1"), ("tor1", "spine1")]


def test_frr_runs_with_all_that_its_file_says(rack: SimpleNamespace) -> None:
    settled(rack)
    for name in PODS:
        text = frr_config(SITE, SITE.server(name), intents(SITE))
        running = rack.bench.spaces[name].vtysh("show running-config")
        assert not not_running(text, running), running


def test_servers_have_two_ways_and_announce_only_their_own(rack: SimpleNamespace) -> None:
    settled(rack)
    assert ways(rack, "spine1", "198.51.100.21") == 2
    rack.node1.vtysh(
        *("configure terminal", "router bgp 4200000021", "no bgp network import-check"),
        *("address-family ipv4 unicast", "network 10.244.11.0/24", "network 203.0.113.70/32"),
    )
    eventually(lambda: ways(rack, "spine1", "203.0.113.70") == 2, 30)
    # Another server's pods: the server's own list stops it, and without that the switch's.
    assert ways(rack, "tor1", "10.244.11.0/24") == 1
    rack.node1.vtysh(
        *("configure terminal", "router bgp 4200000021", "address-family ipv4 unicast"),
        "no neighbor KIBAN-SWITCHES prefix-list KIBAN-OWN out",
    )
    time.sleep(3)
    assert ways(rack, "tor1", "10.244.11.0/24") == 1
    told = json.loads(rack.tor1.vtysh("show bgp ipv4 unicast 10.244.11.0/24 json"))
    assert {path["aspath"]["string"] for path in told["paths"]} >= {"4200000011"}
    assert "4200000021" not in {path["aspath"]["string"] for path in told["paths"]}
    rack.node1.vtysh(
        *("configure terminal", "router bgp 4200000021", "address-family ipv4 unicast"),
        *("no network 10.244.11.0/24", "neighbor KIBAN-SWITCHES prefix-list KIBAN-OWN out"),
    )


def test_services_of_both_servers_reach_the_fabric_and_nothing_else_does(rack: SimpleNamespace) -> None:
    settled(rack)
    speakers = {}
    for name in PODS:
        # The last one is in no pool.
        addresses = ["203.0.113.71", *(["203.0.113.72"] if name == "node1" else []), "192.0.2.200"]
        speaker = [bgp_speaker.__file__, balancer.FRR_ADDRESS, balancer.SPEAKER_ASN, balancer.FRR_ASN, *addresses]
        argv = rack.bench.spaces[name].argv(sys.executable, *speaker)
        speakers[name] = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for speaker in speakers.values():
            assert speaker.stdout is not None
            assert speaker.stdout.readline() == "up\n"
        eventually(lambda: ways(rack, "spine1", "203.0.113.71") == 2 and ways(rack, "tor1", "203.0.113.71") == 2, 60)
        eventually(lambda: ways(rack, "tor2", "203.0.113.72") == 1 and ways(rack, "spine1", "203.0.113.72") == 2, 60)
        for name in ("cp1", "tor1", "spine1"):
            assert ways(rack, name, "192.0.2.200") == 0
        # One node's speaker ends: its routes go at once, the other's stay.
        speakers["node1"].terminate()
        eventually(lambda: ways(rack, "spine1", "203.0.113.72") == 0 and ways(rack, "tor1", "203.0.113.71") == 1, 20)
        assert speakers["cp1"].poll() is None
    finally:
        for speaker in speakers.values():
            speaker.kill()
    # FRR has told the speaker nothing.
    assert all("heard" not in speaker.communicate()[0] for speaker in speakers.values())


def test_sessions_have_bfd(rack: SimpleNamespace) -> None:
    settled(rack)
    eventually(lambda: [peer["status"] for peer in bfd(rack)].count("up") == 2, 30)


def bfd(rack: SimpleNamespace) -> list[dict[str, str]]:
    return list(json.loads(rack.cp1.vtysh("show bfd peers json")))


# Takes connections, at the server's own address and at its pod's.
_TAKES = """\
import socket
s = socket.create_server(('0.0.0.0', 7008))
print('ready', flush=True)
while True:
    s.accept()[0].close()
"""


def test_a_switch_without_its_ports_for_a_while(rack: SimpleNamespace, checkout: Path) -> None:
    """As the contract of network drivers does it: a server's own address beside a pod's, in one run."""
    settled(rack)
    eventually(lambda: [peer["status"] for peer in bfd(rack)].count("up") == 2, 30)
    takes = subprocess.Popen(rack.node1.argv(sys.executable, "-c", _TAKES), stdout=subprocess.PIPE)
    rack.node1.processes.append(takes)
    assert takes.stdout is not None
    takes.stdout.readline()
    files = checkout / "roles/verify/files"
    targets = ["host=198.51.100.21:7008", f"pod={PODS['node1']}:7008"]
    asks = rack.cp1.argv(sys.executable, files / "silence.py", 8, 120, *targets)
    asking = subprocess.Popen(asks, stdout=subprocess.PIPE, text=True)
    time.sleep(2)
    rack.tor1.run("sh", files / "cut.sh", 5, *switch_ports(site_text(SITE), "tor1"))
    told = json.loads(asking.communicate(timeout=150)[0])
    print(json.dumps(told))
    settled(rack)
    found = silence_figures(told, 5)
    assert found["problems"] == []
    # Something was lost, or no switch was.
    assert found["figures"]["host_lost"] and found["figures"]["pod_lost"]


def test_ports_come_up_again_whatever_ends_the_cut(rack: SimpleNamespace, checkout: Path) -> None:
    settled(rack)
    cut = subprocess.Popen(rack.tor2.argv("sh", checkout / "roles/verify/files/cut.sh", 300, "swp1", "swp2"))
    eventually(lambda: "state DOWN" in rack.tor2.run("ip", "link", "show", "swp2"), 20)
    cut.terminate()
    # The shell notices when what it waits for has ended, and so does that.
    eventually(lambda: "state UP" in rack.tor2.run("ip", "link", "show", "swp2"), 20)
    cut.wait(20)
    settled(rack)


def test_a_silent_link_and_a_silent_switch(rack: SimpleNamespace) -> None:
    """With BFD (300 ms, three lost), and without it, by the hold time of FRR's datacenter profile (9 s)."""
    settled(rack)
    eventually(lambda: [peer["status"] for peer in bfd(rack)].count("up") == 2, 30)
    quiet = silence(rack, [], 5)
    link = silence(rack, [("node1", "tor1")], 8)
    settled(rack)
    switch = silence(rack, SWITCH, 8)
    settled(rack)
    for name in ("tor1", "tor2", "spine1", *PODS):
        groups = ("KIBAN-SWITCHES",) if name in PODS else ("KIBAN-LINKS", "KIBAN-SERVERS")
        asn = json.loads(rack.bench.spaces[name].vtysh("show bgp ipv4 unicast summary json"))["as"]
        bare = [f"no neighbor {group} bfd" for group in groups]
        rack.bench.spaces[name].vtysh("configure terminal", f"router bgp {asn}", "timers bgp 3 9", *bare)
        rack.bench.spaces[name].vtysh("clear bgp *")
    time.sleep(2)
    settled(rack)
    bare_link = silence(rack, [("node1", "tor1")], 20)
    settled(rack)
    bare_switch = silence(rack, SWITCH, 20)
    figures = {"quiet": quiet, "link": link, "switch": switch, "bare_link": bare_link, "bare_switch": bare_switch}
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))
    assert link < bare_link
    assert switch < bare_switch
    assert max(link, switch) < 3
