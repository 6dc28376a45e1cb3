# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers with pods in network namespaces: systemd-networkd and FRR with the files that are rendered. Needs root."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.masquerade import RULES, masquerade_files
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sdn_bgp import networkd_files, router_files
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.cables import cables
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.overlay import BRIDGE, host_address, pod_mtu
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.routing import not_running
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site

from .networkd_bench import Host
from .switch_bench import FRR_DAEMONS, PATH, Bench, Router, Space, eventually

NODES = ("cp1", "node1", "node2")
NFT = shutil.which("nft", path=os.environ.get("PATH", "") + ":" + PATH)


class Node(Router, Host):
    """A server: systemd-networkd and FRR, perhaps of another version than that of switches."""

    frr = os.environ.get("KIBAN_FRR", FRR_DAEMONS)


def pod(site: Site, name: str, version: int = 4) -> str:
    """The address of its pod: the fifth of its range."""
    server = site.server(name)
    return str(ipaddress.ip_network(server.pod_cidrs[0 if version == 4 else 1])[5])


def install(bench: Bench, site: Site, name: str) -> None:
    """What a server is after its installation; its ports are there already. One pod, with a link as C(ptp) makes it."""
    node, server = bench.spaces[name], site.server(name)
    assert isinstance(node, Node)
    for path, content in networkd_files(site, server).items():
        # This kernel may have no bonds: a port has the bond's name. Nor dummies, of which the speaker has one.
        if "10-bond0" not in path and "members" not in path and "kiban-lb" not in path:
            node.run("mkdir", "-p", str(Path(path).parent))
            node.run("sh", "-c", f"cat > {path} <<'EOF'\n{content}EOF")
    if site.cluster.sdn.ipv6:
        # networkd does it from version 256 on.
        node.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    node.run("systemctl", "restart", "systemd-networkd.service")
    inside = bench.add(Space, f"{name}-pod")
    bench.wire(name, "vpod", f"{name}-pod", "eth0")
    for where, what in ((node, "vpod"), (inside, "eth0")):
        where.run("ip", "link", "set", what, "mtu", pod_mtu(site))
    for pods in server.pod_cidrs:
        own = pod(site, name, ipaddress.ip_network(pods).version)
        gateway, length = host_address(pods), ipaddress.ip_network(pods).max_prefixlen
        quick = ("nodad",) if length == 128 else ()
        node.run("ip", "address", "add", f"{gateway}/{length}", "dev", "vpod", *quick)
        node.run("ip", "route", "add", f"{own}/{length}", "dev", "vpod")
        inside.run("ip", "address", "add", f"{own}/{length}", "dev", "eth0", *quick)
        inside.run("ip", "route", "add", f"{gateway}/{length}", "dev", "eth0")
        inside.run("ip", f"-{4 if length == 32 else 6}", "route", "add", "default", "via", gateway, "src", own)
    frr = router_files(site, server)
    if frr:
        node.configure(frr["/etc/frr/frr.conf"].split("\n", 2)[2])
    rules = masquerade_files(site, server).get(RULES)
    if NFT and rules:
        (node.directory / "pods.nft").write_text(rules)
        for _twice in range(2):
            node.run(NFT, "-f", node.directory / "pods.nft")


@contextmanager
def bench_of(names: Iterable[str], switches: Iterable[str] = ()) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        bench = Bench(Path(directory))
        try:
            for name in names:
                bench.add(Node, name)
            for name in switches:
                router = bench.add(Router, name)
                router.run("sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1", "net.ipv6.conf.all.forwarding=1")
            yield bench
        finally:
            bench.close()


@contextmanager
def segment_of(site: Site) -> Iterator[SimpleNamespace]:
    """Servers on one switch, which has the addresses of the gateway."""
    with bench_of(NODES) as bench:
        switch = bench.add(Space, "switch")
        switch.run("ip", "link", "add", "br0", "type", "bridge")
        switch.run("ip", "link", "set", "br0", "up")
        node = site.networks["node"]
        places = [(node.gateway, node.cidr)] + ([(node.ipv6.gateway, node.ipv6.cidr)] if node.ipv6 else [])
        for gateway, cidr in places:
            switch.run("ip", "address", "add", f"{gateway}/{cidr.partition('/')[2]}", "dev", "br0")
        for name in NODES:
            bench.wire(name, "bond0", "switch", f"w-{name}")
            switch.run("ip", "link", "set", f"w-{name}", "master", "br0")
            install(bench, site, name)
        yield SimpleNamespace(site=site, bench=bench, **bench.spaces)


@contextmanager
def fabric_of(site: Site) -> Iterator[SimpleNamespace]:
    """Servers, and the switches of the model with its cables."""
    with bench_of(NODES, [switch.name for switch in site.switches]) as bench:
        for cable in cables(site):
            bench.wire(cable.near.device, cable.near.port, cable.far.device, cable.far.port)
        for name, intent in intents(site).items():
            bench.spaces[name].configure(render("linux", intent).text)  # type: ignore[arg-type]
        for name in NODES:
            install(bench, site, name)
        yield SimpleNamespace(site=site, bench=bench, **bench.spaces)


def routes(space: Space, prefix: str) -> list[dict[str, Any]]:
    told = json.loads(space.run("ip", "-6" if ":" in prefix else "-4", "-json", "route", "show", prefix) or "[]")
    return [route for route in told if route.get("protocol") == "bgp"]


def ways(space: Space, prefix: str) -> int:
    return sum(len(route.get("nexthops", [0])) for route in routes(space, prefix))


def knows(space: Space, prefix: str) -> bool:
    """The way leads into the overlay."""
    return [route.get("dev") for route in routes(space, prefix)] == [BRIDGE]


def settled(rack: SimpleNamespace) -> None:
    for name in NODES:
        for other in NODES:
            for pods in rack.site.server(other).pod_cidrs if name != other else ():
                space = rack.bench.spaces[name]
                eventually(lambda s=space, p=pods: knows(s, p), 60)  # type: ignore[misc]


def lost_lines(rack: SimpleNamespace, name: str) -> list[str]:
    """What FRR of a server does not run with of its file, but for the two lines at its head."""
    text = router_files(rack.site, rack.site.server(name))["/etc/frr/frr.conf"].split("\n", 2)[2]
    return not_running(text, rack.bench.spaces[name].vtysh("show running-config"))


def seen_as(rack: SimpleNamespace, gateway: str) -> str:
    """By which address the switch, which has that of the gateway, sees a pod of node1 that asks it and is answered."""
    family = "socket.AF_INET6" if ":" in gateway else "socket.AF_INET"
    code = (
        f"import socket; s = socket.socket({family}, socket.SOCK_DGRAM); s.bind(('{gateway}', 7007));"
        "s.settimeout(20); print('ready', flush=True); data, peer = s.recvfrom(64);"
        "s.sendto(data, peer); print(peer[0])"
    )
    answers = subprocess.Popen(rack.switch.argv(sys.executable, "-c", code), stdout=subprocess.PIPE, text=True)
    assert answers.stdout is not None
    answers.stdout.readline()
    asks = (
        f"import socket; s = socket.socket({family}, socket.SOCK_DGRAM); s.settimeout(5);"
        f"s.sendto(b'x', ('{gateway}', 7007)); print(s.recv(64))"
    )
    assert "b'x'" in rack.bench.spaces["node1-pod"].run(sys.executable, "-c", asks)
    seen = answers.stdout.read().strip()
    answers.wait()
    return seen


# Echo requests that must not be cut: target, bytes without headers, count. Answered by the kernel of whoever has it.
# The kernel fills in the checksum of ICMPv6 itself.
_PING = """\
import os, socket, struct, sys, time
target, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
six = ':' in target
family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
s = socket.socket(family, socket.SOCK_RAW, protocol)
s.setsockopt(*((socket.IPPROTO_IPV6, 23) if six else (socket.IPPROTO_IP, 10)), 2)
if six:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DONTFRAG, 1)
s.settimeout(3)
for number in range(count):
    data = struct.pack('!BBHHH', 128 if six else 8, 0, 0, os.getpid() & 65535, number) + b'x' * size
    words = struct.unpack(f'!{(len(data) + 1) // 2}H', data + b'\\0' * (len(data) % 2))
    total = sum(words)
    total = (total & 65535) + (total >> 16)
    total = (total & 65535) + (total >> 16)
    s.sendto(data[:2] + struct.pack('!H', ~total & 65535) + data[4:], (target, 0))
    while True:
        got = s.recv(65535)[0 if six else 20:]
        if got[0] == (129 if six else 0) and got[4:8] == data[4:8]:
            break
print('answered', len(got) - 8)
"""


def pings(rack: SimpleNamespace, place: str, target: str, size: int = 56, count: int = 2) -> bool:
    argv = [sys.executable, "-c", _PING, target, size, count]
    return f"answered {size}" in rack.bench.spaces[place].run(*argv, check=False)
