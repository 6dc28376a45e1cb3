# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab of inventories/lab-fabric, built by its role and configured by the playbook fabric, with all servers off.

In the place of a server stands a namespace on its cables: like the deploy ramdisk, or with the FRR of a server.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.filter.fabric import cabling_faults
from ansible_collections.kiban.baremetal.plugins.filter.lab import lab_layout
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.host import frr_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import (
    PREFIX,
    Bench,
    Router,
    eventually,
    missing,
)

WHY = missing("ethtool", "lldpd", "lldpcli", "virtlogd", "libvirtd", "qemu-img", "qemu-system-x86_64")
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]

CHECKOUT = Path(__file__).resolve().parents[4]
INVENTORY = CHECKOUT / "inventories/lab-fabric"
SITE = load_site(yaml.safe_load((INVENTORY / "site.yml").read_text()))
LAB = f"{PREFIX}lab"
SWITCHES = ("tor1", "tor2", "spine1")
PODS = {"cp1": "10.244.11.5", "node1": "10.244.21.5", "node2": "10.244.22.5"}

_ANSWER = """\
import socket
s = socket.create_server(('0.0.0.0', 7070))
while True:
    connection, peer = s.accept()
    connection.sendall(peer[0].encode())
    connection.close()
"""
_ASK = """\
import socket, sys
s = socket.create_connection((sys.argv[1], 7070), 3, (sys.argv[2], 0) if sys.argv[2] else None)
print(s.recv(99).decode())
"""


class Lab:
    def __init__(self, work: Path, bench: Bench) -> None:
        self.work, self.bench = work, bench
        self.plugs: dict[str, str] = {}

    def play(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "ANSIBLE_CONFIG": f"{CHECKOUT}/ansible.cfg", "KIBAN_WORK": str(self.work)}
        options = {"lab_prefix": LAB, "lab_accelerator": "tcg", "lab_install_packages": False}
        argv = [Path(sys.executable).with_name("ansible-playbook"), f"kiban.baremetal.{name}", "-i", INVENTORY]
        inside = ["ip", "netns", "exec", f"{LAB}-control"] if name == "plan" else []
        return subprocess.run(
            [*inside, *map(str, argv), "-e", json.dumps(options), *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=CHECKOUT,
        )

    def run(self, space: str, *argv: Any, check: bool = True) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", f"{LAB}-{space}", *map(str, argv)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, f"{argv}: {done.stderr}{done.stdout}"
        return done.stdout

    def show(self, switch: str, what: str) -> Any:
        place = self.work / "lab/switches" / switch / "frr/run/frr"
        return json.loads(self.run(switch, "vtysh", "--vty_socket", place, "-c", f"show {what} json"))

    def ways(self, switch: str, prefix: str) -> int:
        """How many next hops the kernel of a switch has for a prefix that BGP told it."""
        routes = [one for one in json.loads(self.run(switch, "ip", "-json", "route", "show", prefix) or "[]") if one]
        return sum(len(one.get("nexthops", [0])) for one in routes if one.get("protocol") == "bgp")

    def plug(self, port: str, cable: str | None) -> None:
        """Put an end of a cable, by its name in the rack, into another cable's bridge, or leave it in the air."""
        self.run("tor", "ip", "link", "set", port, *(["master", cable] if cable else ["nomaster"]))

    def stand_in(self, name: str, kind: type[Any]) -> Any:
        """A namespace on the cables of a server, in the place of its taps."""
        space = self.bench.add(kind, name)
        for number, port in enumerate(SITE.server(name).cables, 1):
            tap, plug = f"{name}-p{number}", f"{name}-v{number}"
            self.plug(tap, None)
            argv = ["ip", "link", "add", port, "netns", space.netns, "type", "veth"]
            subprocess.run([*argv, "peer", "name", plug, "netns", f"{LAB}-tor"], check=True)
            self.run("tor", "ip", "link", "set", plug, "master", self.plugs[tap], "up")
            self.plugs[plug] = self.plugs[tap]
            space.run("ip", "link", "set", port, "up")
            space.run("ethtool", "-K", port, "tx", "off")
        return space


def changed(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: int(count) for name, count in re.findall(r"^(\w+) .*changed=(\d+)", done.stdout, re.MULTILINE)}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        # lldpcli gives its rights up.
        Path(directory).chmod(0o755)
        Path(directory, "s").mkdir()
        bench = Bench(Path(directory, "s"))
        made = Lab(Path(directory), bench)
        try:
            first = made.play("lab")
            if "Could not find a version" in first.stdout or "No matching distribution" in first.stdout:
                pytest.skip("no package index for what the virtual BMCs run on")
            assert first.returncode == 0, first.stdout + first.stderr
            defaults = yaml.safe_load((CHECKOUT / "roles/lab/defaults/main.yml").read_text())
            settings = {
                "directory": directory,
                "prefix": LAB,
                **{
                    key: defaults[f"lab_{key}"] for key in ("vlans", "uplink", "hardware", "router_daemons", "firmware")
                },
                "firmware_variables": "",
            }
            layout = lab_layout(yaml.safe_load((INVENTORY / "site.yml").read_text()), settings)
            made.plugs = {port: one["name"] for one in layout["network"]["bridges"] for port in one["members"]}
            yield made
        finally:
            bench.close()
            gone = made.play("lab", "-e", "lab_state=absent")
            assert gone.returncode == 0, gone.stdout
            left = [name for name in os.listdir("/run/netns") if name.startswith(LAB)]
            assert not left, left


def test_second_runs_change_nothing_and_servers_that_are_off_are_no_fault(lab: Lab) -> None:
    first = lab.play("fabric")
    assert changed(first) == dict.fromkeys(SWITCHES, 3), first.stdout
    assert set(changed(lab.play("lab")).values()) == {0}
    again = lab.play("fabric")
    assert set(changed(again).values()) == {0}, again.stdout
    # The spine's own, that of the outside, and of each switch; sessions came up over unnumbered links.
    eventually(lambda: lab.ways("tor1", "203.0.113.16/29") == 1 and lab.ways("tor2", "203.0.113.1") == 1, 60)


def test_the_plan_tells_what_differs_on_a_switch(lab: Lab) -> None:
    """Of servers that are off, without a node image; the switches are what this is about."""
    (lab.work / "image").mkdir()
    (lab.work / "image/manifest.json").write_text(json.dumps({"node": {"id": "0" * 64}}))

    def told() -> list[str]:
        done = lab.play("plan")
        assert done.returncode == 0, done.stdout + done.stderr
        assert set(changed(done).values()) <= {0, 1}, "keys of the site, once"
        plan = json.loads((lab.work / "sites/lab-fabric/plan.json").read_text())
        # The spine has ports to the control host and to the outside, which belong to the lab.
        notices = [
            one for one in plan["notices"] if one["server"] in SWITCHES and "PORT / p-control" not in one["message"]
        ]
        return [f"{one['server']}: {one['message']}" for one in notices]

    def address(*lines: str) -> None:
        words = ("configure terminal", "interface lo", *lines)
        place = lab.work / "lab/switches/tor1/frr/run/frr"
        lab.run("tor1", "vtysh", "--vty_socket", place, *(part for word in words for part in ("-c", word)))

    assert told() == []
    address("no ip address 203.0.113.1/32", "ip address 203.0.113.99/32")
    assert told() == [
        "tor1: the switch is not as the model says. The playbook kiban.baremetal.fabric changes it. "
        "It lacks: interface lo / ip address 203.0.113.1/32; has: interface lo / ip address 203.0.113.99/32"
    ]
    assert changed(lab.play("fabric"))["tor1"] > 0
    assert told() == []


def test_a_server_in_the_ramdisk_is_reached_by_its_first_cable(lab: Lab) -> None:
    """No BGP on it: the address of the network node, and the gateway that answers on one port only."""
    space = lab.stand_in("node2", Router)
    eventually(lambda: lab.ways("spine1", "198.51.100.22") == 1, 60)
    space.run("ip", "address", "add", "198.51.100.22/24", "dev", "enp1s0")
    space.run("ip", "route", "add", "default", "via", "198.51.100.1", "dev", "enp1s0", "onlink")
    space.processes.append(subprocess.Popen(space.argv(sys.executable, "-c", _ANSWER)))
    time.sleep(1)
    eventually(lambda: asked(lab, "control", "198.51.100.22") == "203.0.113.18", 20)
    addresses = json.loads(lab.run("tor2", "ip", "-json", "-4", "address", "show", "swp3"))
    assert not [one for one in addresses if one], "the second switch has no gateway there"
    # Not the link-local address, which BGP needs.
    space.run("ip", "-4", "address", "flush", "dev", "enp1s0")


def asked(lab: Lab, space: str, target: str, source: str = "") -> str:
    return lab.run(space, sys.executable, "-c", _ASK, target, source, check=False).strip()


@pytest.fixture(scope="module")
def servers(lab: Lab) -> SimpleNamespace:
    """All three with the FRR of servers, and a pod's address on each."""
    spaces = {}
    for name, pod in PODS.items():
        server = SITE.server(name)
        space = lab.bench.spaces.get(name) or lab.stand_in(name, Router)
        space.run("sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1")
        space.run("ip", "address", "add", f"{server.addresses['node']}/32", "dev", "lo")
        space.run("ip", "address", "add", f"{pod}/32", "dev", "lo")
        space.run("ip", "route", "add", "unreachable", server.pod_cidr, "metric", "4096")
        path = space.directory / "frr.conf"
        path.write_text(frr_config(SITE, server))
        space.run("vtysh", "--vty_socket", space.directory, "-f", path)
        spaces[name] = space
    spaces["cp1"].processes.append(subprocess.Popen(spaces["cp1"].argv(sys.executable, "-c", _ANSWER)))
    return SimpleNamespace(**spaces)


def settled(lab: Lab) -> bool:
    prefixes = [f"198.51.100.{number}" for number in (11, 21, 22)] + ["10.244.11.0/24", "10.244.22.0/24"]
    return all(lab.ways("spine1", prefix) == 2 for prefix in prefixes)


def test_servers_are_reached_by_both_switches(lab: Lab, servers: SimpleNamespace) -> None:
    eventually(lambda: settled(lab), 180)
    assert lab.ways("spine1", "10.96.0.0/16") == 2
    # What a switch has of its own for the ramdisk gives way to what the server says.
    paths = lab.show("tor1", "bgp ipv4 unicast 198.51.100.11/32")["paths"]
    assert [one["aspath"]["string"] for one in paths if one.get("bestpath")] == ["4200000011"]
    assert asked(lab, "control", "198.51.100.11") == "203.0.113.18"
    assert asked(lab, "uplink", PODS["cp1"]) == "203.0.113.22"


def silence(lab: Lab, ports: list[str]) -> float:
    """Pull the ends of cables with all ports up, and count until each of 12 connections in a row is answered."""
    for port in ports:
        lab.plug(port, None)
    start = time.monotonic()
    good, last = 0, start
    while good < 12:
        assert time.monotonic() - start < 60, f"no way back after 60 s without {ports}"
        if asked(lab, "uplink", PODS["cp1"]):
            good += 1
        else:
            good, last = 0, time.monotonic()
    return last - start


def test_a_silent_link_and_a_silent_switch_are_left(lab: Lab, servers: SimpleNamespace) -> None:
    """BFD of this site: 1 s, five lost. A server stays reachable by its other switch, and both ways come back."""
    figures = {}
    for what, ports in (
        ("link", ["cp1-v1"]),
        ("switch", ["cp1-v1", "node1-v1", "node2-v1", "spine1-swp1"]),
    ):
        eventually(lambda: settled(lab), 180)
        figures[what] = round(silence(lab, ports), 1)
        assert lab.ways("spine1", "10.244.11.0/24") == 1
        if what == "link":
            # The first switch goes round by the spine, not by its own route to where a ramdisk would be.
            paths = lab.show("tor1", "bgp ipv4 unicast 198.51.100.11/32")["paths"]
            assert [one["aspath"]["string"] for one in paths if one.get("bestpath")] == ["65001 65102 4200000011"]
        for port in ports:
            lab.plug(port, lab.plugs[port])
    eventually(lambda: settled(lab), 180)
    print(json.dumps(figures))


def lldp(lab: Lab, servers: SimpleNamespace) -> None:
    for name in PODS:
        space = getattr(servers, name)
        config, socket = space.directory / "lldpd.conf", space.directory / "l.sock"
        if socket.exists():
            return
        config.write_text(
            f"configure system hostname {name}\nconfigure lldp tx-interval 1\nconfigure lldp portidsubtype ifname\n"
        )
        space.daemon("lldpd", "-d", "-u", socket, "-O", config, "-I", "enp*", ready=socket)
    for name in SWITCHES:
        # What is heard is forgotten after four times this.
        lab.run(name, "lldpcli", "-u", f"/run/{LAB}-{name}.lldp", "configure", "lldp", "tx-interval", "1")


def heard(lab: Lab) -> list[str]:
    told = {}
    for name in SWITCHES:
        text = lab.run(name, "lldpcli", "-u", f"/run/{LAB}-{name}.lldp", "-f", "json0", "show", "neighbors")
        told[name] = [
            {
                "port": port["name"],
                "device": port["chassis"][0]["name"][0]["value"],
                "device_port": port["port"][0]["id"][0]["value"],
                "mac": None,
            }
            for part in json.loads(text)["lldp"]
            for port in part.get("interface", [])
        ]
    site = yaml.safe_load((INVENTORY / "site.yml").read_text())
    return sorted(fault["message"] for fault in cabling_faults(site, told))


Cables = dict[str, str | None]


def swap(one: str, other: str) -> Callable[[Cables], Cables]:
    return lambda plugs: {one: plugs[other], other: plugs[one]}


def wrong(*pairs: tuple[str, str | None]) -> Callable[[Cables], Cables]:
    """Each first end into the cable of the second one."""
    return lambda plugs: {one: plugs[other] if other else None for one, other in pairs}


# What is done to the ends in the lab, and how many faults of what words it makes.
MISWIRED: dict[str, tuple[Callable[[Cables], Cables], int, str]] = {
    "a cable is out": (wrong(("node1-v1", None)), 1, "no cable between node1 (a01 unit 2) enp1s0 and tor1"),
    "two cables are out": (wrong(("node1-v1", None), ("cp1-v2", None)), 2, "no cable between cp1 (a01 unit 1) enp2s0"),
    "a server has no cable": (wrong(("cp1-v1", None), ("cp1-v2", None)), 1, "nothing is heard of cp1 (a01 unit 1)"),
    "both uplinks of one server": (swap("cp1-v1", "cp1-v2"), 1, "swapped: cp1 (a01 unit 1) enp1s0 belongs to tor1"),
    "two servers at one switch": (swap("cp1-v1", "node1-v1"), 1, "swapped: cp1 (a01 unit 1) enp1s0"),
    "two servers at both switches": (
        lambda plugs: {**swap("node1-v1", "node2-v1")(plugs), **swap("node1-v2", "node2-v2")(plugs)},
        2,
        "swapped: node1 (a01 unit 2) enp2s0 belongs to tor2 (a01 unit 42) swp2",
    ),
    "crosswise to the other switch": (swap("cp1-v1", "node1-v2"), 1, "swapped: cp1 (a01 unit 1) enp1s0"),
    "the spine's two ports": (swap("spine1-swp1", "spine1-swp2"), 1, "swapped: spine1 (a02 unit 30) swp1"),
    "the link to the spine": (wrong(("spine1-swp2", None)), 1, "no cable between spine1 (a02 unit 30) swp2 and tor2"),
    "three in a ring": (
        wrong(("cp1-v1", "node1-v1"), ("node1-v1", "node2-v1"), ("node2-v1", "cp1-v1")),
        3,
        "joins cp1 (a01 unit 1) enp1s0 and tor1 (a01 unit 41) swp2",
    ),
    "two servers back to back": (
        wrong(("node1-v1", "cp1-v1"), ("tor1-swp1", None), ("tor1-swp2", None)),
        2,
        "no cable between cp1 (a01 unit 1) enp1s0 and tor1 (a01 unit 41) swp1",
    ),
}


@pytest.mark.parametrize("kind", MISWIRED)
def test_miswiring_is_named(lab: Lab, servers: SimpleNamespace, kind: str) -> None:
    lldp(lab, servers)
    eventually(lambda: heard(lab) == [], 40)
    change, count, words = MISWIRED[kind]
    moved = change(dict(lab.plugs))
    try:
        for port in moved:
            lab.plug(port, None)
        for port, cable in moved.items():
            lab.plug(port, cable)
        eventually(lambda: len(heard(lab)) == count and words in "\n".join(heard(lab)), 30)
    finally:
        for port in moved:
            lab.plug(port, lab.plugs[port])
