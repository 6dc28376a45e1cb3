# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods of servers that have an overlay, with the rendered files: systemd-networkd makes the devices, FRR the routes.

Once on a segment whose switch knows no pods, once on two switches and a spine with routed links.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.overlay import pod_mtu
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site
from ansible_collections.kiban.baremetal.tests.unit.plugins.networkd_bench import missing_networkd
from ansible_collections.kiban.baremetal.tests.unit.plugins.pod_bench import (
    NFT,
    NODES,
    fabric_of,
    knows,
    lost_lines,
    pings,
    pod,
    seen_as,
    segment_of,
    settled,
    ways,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import eventually, missing

WHY = missing("ethtool") or missing_networkd()
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]


def overlaid(checkout: Path, name: str) -> Site:
    data = yaml.safe_load((checkout / f"inventories/{name}/site.yml").read_text())
    site = load_site(data)
    # With routed links a site file can't ask for it yet.
    return replace(site, cluster=replace(site.cluster, sdn=replace(site.cluster.sdn, overlay="vxlan")))


def address(site: Site, name: str) -> str:
    return site.server(name).addresses["node"]


@pytest.fixture(scope="class")
def segment(checkout: Path) -> Iterator[SimpleNamespace]:
    with segment_of(overlaid(checkout, "lab-overlay")) as rack:
        yield rack


@pytest.fixture(scope="class")
def fabric(checkout: Path) -> Iterator[SimpleNamespace]:
    with fabric_of(overlaid(checkout, "lab-fabric")) as rack:
        yield rack


# The source of each IPv4 packet that comes by a port of the switch, except for BFD and BGP themselves.
_LISTEN = """\
import socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 0))
s.settimeout(0.2)
end, seen = time.monotonic() + float(sys.argv[2]), set()
print('listening', flush=True)
while time.monotonic() < end:
    try:
        frame = s.recv(2048)
    except TimeoutError:
        continue
    if frame[12:14] == b'\\x08\\x00':
        seen.add(socket.inet_ntoa(frame[26:30]))
print(' '.join(sorted(seen)))
"""


class TestSegment:
    def test_frr_runs_with_all_that_its_file_says(self, segment: SimpleNamespace) -> None:
        settled(segment)
        for name in NODES:
            assert not lost_lines(segment, name)
        segment.node1.vtysh("configure terminal", "no vni 4097")
        assert lost_lines(segment, "node1")[0] == "FRR runs without: vni 4097"
        segment.node1.vtysh("configure terminal", "vni 4097")

    def test_pods_of_a_segment_reach_each_other(self, segment: SimpleNamespace) -> None:
        settled(segment)
        full = pod_mtu(segment.site) - 28
        assert full == 1422
        for place, other in (("node1", "node2"), ("node2", "node1"), ("cp1", "node2"), ("node1", "cp1")):
            assert pings(segment, f"{place}-pod", pod(segment.site, other), full)
            # A server itself, as the API server to a webhook.
            assert pings(segment, place, pod(segment.site, other))
        assert not pings(segment, "node1-pod", pod(segment.site, "node2"), full + 1)

    def test_the_switch_sees_servers_only(self, segment: SimpleNamespace) -> None:
        settled(segment)
        argv = segment.switch.argv(sys.executable, "-c", _LISTEN, "w-node1", 3)
        listener = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert listener.stdout is not None
        listener.stdout.readline()
        assert pings(segment, "node1-pod", pod(segment.site, "node2"))
        assert pings(segment, "node1", pod(segment.site, "node2"))
        assert pings(segment, "node2", pod(segment.site, "node1"))
        seen = listener.stdout.read().split()
        listener.wait()
        assert {address(segment.site, "node1"), address(segment.site, "node2")} <= set(seen)
        assert not [one for one in seen if one.startswith("10.")]

    @pytest.mark.skipif(not NFT, reason="not installed: nft")
    def test_outside_sees_the_server_and_not_the_pod(self, segment: SimpleNamespace) -> None:
        assert seen_as(segment, "198.51.100.1") == address(segment.site, "node1")

    def test_a_server_tells_of_its_own_pods_only(self, segment: SimpleNamespace) -> None:
        settled(segment)
        asn, family = "router bgp 4200000021", "address-family ipv4 unicast"
        foreign = ("0.0.0.0/0", "10.244.22.0/25", "198.51.100.200/32")
        change = ("configure terminal", asn, family)
        for prefix in foreign[1:]:
            segment.node1.run("ip", "route", "add", "blackhole", prefix)
        segment.node1.vtysh(*change, *(f"network {prefix}" for prefix in foreign))
        time.sleep(3)
        for prefix in foreign:
            assert not ways(segment.node2, prefix)
        told = json.loads(segment.node1.vtysh("show bgp ipv4 unicast json"))["routes"]
        assert set(foreign) <= set(told)
        segment.node1.vtysh(*change, *(f"no network {prefix}" for prefix in foreign))
        for prefix in foreign[1:]:
            segment.node1.run("ip", "route", "delete", "blackhole", prefix)

    def test_a_worker_that_goes_takes_its_range_with_it(self, segment: SimpleNamespace) -> None:
        settled(segment)
        pods = segment.site.server("node2").pod_cidr
        segment.switch.run("ip", "link", "set", "w-node2", "nomaster")
        gone = eventually(lambda: not ways(segment.node1, pods), 20)
        segment.switch.run("ip", "link", "set", "w-node2", "master", "br0")
        back = eventually(lambda: knows(segment.node1, pods), 60)
        answered = eventually(lambda: pings(segment, "node1-pod", pod(segment.site, "node2"), count=1), 20)
        print(json.dumps({"gone": round(gone, 1), "back": round(back, 1), "answered": round(answered, 1)}))
        assert gone < 6

    def test_a_control_plane_server_that_was_away(self, segment: SimpleNamespace) -> None:
        """Without it workers forget each other's pods; with it they know them again, and packets arrive."""
        settled(segment)
        segment.switch.run("ip", "link", "set", "w-cp1", "nomaster")
        eventually(lambda: not ways(segment.node1, segment.site.server("node2").pod_cidr), 20)
        segment.switch.run("ip", "link", "set", "w-cp1", "master", "br0")
        settled(segment)
        for place, other in (("node1", "node2"), ("cp1", "node2"), ("node2", "cp1")):
            eventually(lambda p=place, o=other: pings(segment, f"{p}-pod", pod(segment.site, o), count=1), 20)  # type: ignore[misc]


class TestRoutedLinks:
    def test_pods_behind_routed_links(self, fabric: SimpleNamespace) -> None:
        """Switches know servers, and the way in to all pods by control-plane servers."""
        settled(fabric)
        full = pod_mtu(fabric.site) - 28
        for place, other in (("node1", "node2"), ("cp1", "node1"), ("node2", "cp1")):
            assert pings(fabric, f"{place}-pod", pod(fabric.site, other), full)
        for prefix in ("10.244.0.0/16", "10.96.0.0/16"):
            eventually(lambda p=prefix: ways(fabric.spine1, p) == 2, 30)  # type: ignore[misc]
        eventually(lambda: ways(fabric.spine1, address(fabric.site, "node1")) == 2, 30)
        for switch in (fabric.tor1, fabric.tor2, fabric.spine1):
            assert not ways(switch, fabric.site.server("node1").pod_cidr)
        # From outside to a pod, and back.
        assert pings(fabric, "spine1", pod(fabric.site, "node1"))

    def test_a_switch_may_go(self, fabric: SimpleNamespace) -> None:
        settled(fabric)
        fabric.tor1.run("ip", "link", "set", "swp2", "down")
        fabric.tor1.run("ip", "link", "set", "swp1", "down")
        eventually(lambda: ways(fabric.node1, address(fabric.site, "node2")) == 1, 10)
        eventually(lambda: pings(fabric, "node1-pod", pod(fabric.site, "node2")), 20)
        fabric.tor1.run("ip", "link", "set", "swp2", "up")
        fabric.tor1.run("ip", "link", "set", "swp1", "up")
        settled(fabric)
