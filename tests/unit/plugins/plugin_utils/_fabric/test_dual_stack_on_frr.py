# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods with IPv4 and IPv6 on servers with the rendered files: in one segment, behind routed links, in an overlay."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.masquerade import RULES, masquerade_files
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sdn_bgp import cni_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.config import Config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import drift, render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.overlay import pod_mtu
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.ipam import address6
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site
from ansible_collections.kiban.baremetal.tests.integration.kube_api import BUNDLE
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import with_ipv6
from ansible_collections.kiban.baremetal.tests.unit.plugins.networkd_bench import missing_networkd
from ansible_collections.kiban.baremetal.tests.unit.plugins.pod_bench import (
    NFT,
    NODES,
    fabric_of,
    lost_lines,
    pings,
    pod,
    seen_as,
    segment_of,
    settled,
    ways,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import Space, eventually, missing

WHY = missing("ethtool") or missing_networkd()
PORTMAP_LACKS = missing("iptables")
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]

HEADERS = {4: 28, 6: 48}


POOL = "2001:db8:f::/120"


def dual(checkout: Path, name: str) -> Site:
    data = with_ipv6(yaml.safe_load((checkout / f"inventories/{name}/site.yml").read_text("utf-8")))
    if name == "lab-fabric":
        data["cluster"]["load_balancer"]["pools"].append(POOL)
    return load_site(data)


def node6(site: Site, name: str) -> str:
    return str(address6(site.networks["node"], site.server(name).addresses["node"]))


@pytest.fixture(scope="class")
def segment(checkout: Path) -> Iterator[SimpleNamespace]:
    with segment_of(dual(checkout, "lab")) as rack:
        yield rack


@pytest.fixture(scope="class")
def overlay(checkout: Path) -> Iterator[SimpleNamespace]:
    with segment_of(dual(checkout, "lab-overlay")) as rack:
        yield rack


@pytest.fixture(scope="class")
def fabric(checkout: Path) -> Iterator[SimpleNamespace]:
    with fabric_of(dual(checkout, "lab-fabric")) as rack:
        yield rack


def reach_each_other(rack: SimpleNamespace) -> None:
    """Pods of all servers by both families, in the largest packets and no larger ones; and servers reach pods."""
    for version, headers in HEADERS.items():
        full = pod_mtu(rack.site) - headers
        for place, other in (("node1", "node2"), ("node2", "node1"), ("cp1", "node2"), ("node1", "cp1")):
            target = pod(rack.site, other, version)
            eventually(lambda p=place, t=target: pings(rack, f"{p}-pod", t, count=1), 30)  # type: ignore[misc]
            assert pings(rack, f"{place}-pod", target, full)
            assert pings(rack, place, target)
        assert not pings(rack, "node1-pod", pod(rack.site, "node2", version), full + 1)


class TestSegment:
    def test_pods_reach_each_other(self, segment: SimpleNamespace) -> None:
        reach_each_other(segment)

    def test_outside_and_back(self, segment: SimpleNamespace) -> None:
        gateway = segment.site.networks["node"].ipv6.gateway
        assert pings(segment, "node1", gateway)
        if NFT:
            # Outside nobody knows the way to a pod: it is answered only with its server's address.
            assert not pings(segment, "node1-pod", gateway, count=1)
            for masquerade in (True, False):
                sdn = replace(segment.site.cluster.sdn, masquerade=masquerade)
                site = replace(segment.site, cluster=replace(segment.site.cluster, sdn=sdn))
                rules = segment.node1.directory / "lent.nft"
                rules.write_text(masquerade_files(site, site.server("node1"))[RULES])
                segment.node1.run(NFT, "-f", rules)
                assert pings(segment, "node1-pod", gateway, count=1) is masquerade
        way = (segment.site.server("node1").pod_cidr6, "via", node6(segment.site, "node1"))
        segment.switch.run("ip", "-6", "route", "add", *way)
        assert pings(segment, "node1-pod", gateway)
        assert pings(segment, "switch", pod(segment.site, "node1", 6))

    @pytest.mark.skipif(not (BUNDLE / "cni/ptp").exists(), reason="there is no bundle: run `make bundle`")
    @pytest.mark.skipif(bool(PORTMAP_LACKS), reason=PORTMAP_LACKS)
    def test_the_cni_plugins_themselves(self, segment: SimpleNamespace) -> None:
        """With the rendered configuration a pod has both addresses, and its host port is reached by both."""
        site, name = segment.site, "node1"
        inside = segment.bench.add(Space, "cni-pod")
        inside.daemon("sleep", "600")
        takes = "import socket; s = socket.create_server(('::', 8080), family=socket.AF_INET6, dualstack_ipv6=True)\n"
        inside.daemon(sys.executable, "-c", f"{takes}while True: s.accept()[0].close()")
        where = {
            "CNI_CONTAINERID": "cni-pod",
            "CNI_NETNS": f"/proc/{inside.processes[0].pid}/ns/net",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(BUNDLE / "cni"),
        }
        config = json.loads(cni_config(site, site.server(name)))
        common = {key: config[key] for key in ("cniVersion", "name")}
        mapping = {"hostPort": 18080, "containerPort": 8080, "protocol": "tcp"}

        def call(command: str, plugin: dict[str, Any], **more: Any) -> Any:
            text = json.dumps({**common, **plugin, **more})
            argv = segment.node1.argv("env", *(f"{key}={value}" for key, value in where.items()))
            argv += [f"CNI_COMMAND={command}", str(BUNDLE / "cni" / plugin["type"])]
            done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return json.loads(done.stdout or "{}")

        ptp, portmap = config["plugins"]
        result = call("ADD", ptp)
        addresses = [one["address"].partition("/")[0] for one in result["ips"]]
        for address, cidr in zip(addresses, site.server(name).pod_cidrs, strict=True):
            assert ipaddress.ip_address(address) in ipaddress.ip_network(cidr)
        told = json.loads(inside.run("ip", "-json", "address", "show", "dev", "eth0"))[0]
        assert told["mtu"] == 1500
        for address in addresses:
            eventually(lambda a=address: pings(segment, "node2-pod", a, 1500 - (48 if ":" in a else 28)), 30)  # type: ignore[misc]
        call("ADD", portmap, prevResult=result, runtimeConfig={"portMappings": [mapping]})
        for host in (site.server(name).addresses["node"], node6(site, name)):
            asks = f"import socket; socket.create_connection(('{host}', 18080), 10); print('reached')"
            assert "reached" in segment.switch.run(sys.executable, "-c", asks, check=False), host


class TestOverlay:
    def test_pods_reach_each_other(self, overlay: SimpleNamespace) -> None:
        settled(overlay)
        for name in NODES:
            assert not lost_lines(overlay, name)
        reach_each_other(overlay)

    @pytest.mark.skipif(not NFT, reason="not installed: nft")
    def test_outside_sees_the_server_and_not_the_pod(self, overlay: SimpleNamespace) -> None:
        gateway = overlay.site.networks["node"].ipv6.gateway
        assert seen_as(overlay, gateway) == node6(overlay.site, "node1")


class TestRoutedLinks:
    def test_pods_reach_each_other(self, fabric: SimpleNamespace) -> None:
        for name in NODES:
            for other in NODES:
                for pods in fabric.site.server(other).pod_cidrs if name != other else ():
                    space = fabric.bench.spaces[name]
                    eventually(lambda s=space, p=pods: ways(s, p) == 2, 60)  # type: ignore[misc]
        for name in NODES:
            assert not lost_lines(fabric, name)
        reach_each_other(fabric)

    def test_nothing_of_a_switch_differs_from_its_model(self, fabric: SimpleNamespace) -> None:
        for name, intent in intents(fabric.site).items():
            wanted, running = render("linux", intent), fabric.bench.spaces[name].vtysh("show running-config")
            found = drift("linux", Config(text=wanted.text), Config(text=running))
            assert (found.add, found.remove) == ((), ())

    def test_switches_know_servers_services_and_pools(self, fabric: SimpleNamespace) -> None:
        site = fabric.site
        for prefix in (POOL, site.cluster.sdn.ipv6.services, node6(site, "cp1"), site.server("node2").pod_cidr6):
            eventually(lambda p=prefix: ways(fabric.spine1, p) == 2, 30)  # type: ignore[misc]
        # What the fabric has outside of servers, and from there to a pod and back.
        outside = site.networks["outside"].ipv6
        far = address6(site.networks["outside"], "203.0.113.17")
        fabric.spine1.run("ip", "address", "add", f"{far}/64", "dev", "lo")
        eventually(lambda: ways(fabric.node1, outside.cidr) == 2, 30)
        assert pings(fabric, "spine1", pod(site, "node1", 6))
        assert pings(fabric, "node1-pod", str(far))

    def test_a_server_announces_only_its_own(self, fabric: SimpleNamespace) -> None:
        """Its own list stops another server's range, and without that its switch's."""
        theirs, family = fabric.site.server("node2").pod_cidr6, "address-family ipv6 unicast"
        change = ("configure terminal", "router bgp 4200000021", family)
        fabric.node1.run("ip", "route", "add", "blackhole", theirs, "metric", "5000")
        fabric.node1.vtysh(*change, f"network {theirs}")
        for filtered in (True, False):
            if not filtered:
                fabric.node1.vtysh(*change, "no neighbor KIBAN-SWITCHES prefix-list KIBAN-OWN out")
            time.sleep(3)
            mine = json.loads(fabric.node1.vtysh(f"show bgp ipv6 unicast {theirs} json"))
            assert {"", "Local"} & {path["aspath"]["string"] for path in mine["paths"]}
            told = json.loads(fabric.tor1.vtysh(f"show bgp ipv6 unicast {theirs} json"))
            assert {path["aspath"]["string"].split()[-1] for path in told["paths"]} == {"4200000022"}
        fabric.node1.vtysh(*change, f"no network {theirs}", "neighbor KIBAN-SWITCHES prefix-list KIBAN-OWN out")
        fabric.node1.run("ip", "route", "delete", "blackhole", theirs, "metric", "5000")

    def test_a_switch_may_go(self, fabric: SimpleNamespace) -> None:
        fabric.tor1.run("ip", "link", "set", "swp2", "down")
        fabric.tor1.run("ip", "link", "set", "swp1", "down")
        eventually(lambda: ways(fabric.node1, fabric.site.server("node2").pod_cidr6) == 1, 10)
        eventually(lambda: pings(fabric, "node1-pod", pod(fabric.site, "node2", 6)), 20)
