# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sites with an overlay: what a site file needs for it, and what follows on servers, switches and in the lab."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sdn_bgp import cni_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents, owned
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.overlay import pod_mtu, router_mac
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site, load_text, site_text
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site, SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import node_files
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import sites, with_overlay, with_routed_servers

NETWORK = "/etc/systemd/network"


def read(checkout: Path, name: str, overlay: str | None = "vxlan") -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((checkout / f"inventories/{name}/site.yml").read_text())
    data["cluster"]["sdn"]["overlay"] = overlay
    return data


@pytest.fixture(scope="module")
def site(checkout: Path) -> Site:
    return load_site(read(checkout, "lab"))


def test_the_lab_of_an_overlay_is_the_lab(checkout: Path) -> None:
    other = read(checkout, "lab-overlay")
    other["site"] = yaml.safe_load((checkout / "inventories/lab/site.yml").read_text())["site"]
    assert other == read(checkout, "lab")


def test_devices(site: Site) -> None:
    files = node_files(site, site.server("node1"), "key")
    assert files[f"{NETWORK}/10-kiban-vxlan.netdev"] == (
        "[NetDev]\nName=kiban-vxlan\nKind=vxlan\nMTUBytes=1450\n\n"
        "[VXLAN]\nVNI=4097\nLocal=198.51.100.21\nDestinationPort=4789\nMacLearning=no\nIndependent=yes\n"
    )
    assert (
        files[f"{NETWORK}/10-kiban-pods.netdev"]
        == "[NetDev]\nName=kiban-pods\nKind=bridge\nMTUBytes=1450\nMACAddress=02:00:c6:33:64:15\n"
    )
    assert "Bridge=kiban-pods\n" in files[f"{NETWORK}/30-kiban-vxlan.network"]
    assert "Address=10.244.21.1/32\n" in files[f"{NETWORK}/30-kiban-pods.network"]
    bond = files[f"{NETWORK}/30-bond0.network"]
    assert "Destination=10.244.21.0/24\nType=unreachable\n" in bond
    assert "10.244.22.0" not in bond
    assert json.loads(cni_config(site, site.server("node1")))["plugins"][0]["mtu"] == 1450
    assert (
        "ip saddr 10.244.0.0/16 ip daddr != { 10.244.0.0/16, 224.0.0.0/4 } masquerade" in files["/etc/kiban/pods.nft"]
    )
    started = files["/etc/systemd/system/kubelet.service.d/20-kiban-pods.conf"]
    assert started == "[Service]\nExecStartPre=/usr/sbin/nft -f /etc/kiban/pods.nft\n"
    assert "/etc/sysctl.d/95-kiban-links.conf" not in files


def test_sessions(site: Site) -> None:
    worker, leader = (node_files(site, site.server(name), "key")["/etc/frr/frr.conf"] for name in ("node1", "cp1"))
    assert "router bgp 4200000021\n" in worker and "remote-as external\n" in worker
    assert " neighbor 198.51.100.11 peer-group KIBAN-NODES\n" in worker
    assert "198.51.100.22" not in worker and "multihop" not in worker
    assert "  network 10.244.21.0/24\n  no neighbor KIBAN-NODES activate\n" in worker
    for other in ("198.51.100.21", "198.51.100.22"):
        assert f" neighbor {other} peer-group KIBAN-NODES\n" in leader
    assert "SWITCHES" not in worker + leader


def test_a_new_server_changes_no_file_of_another_worker(checkout: Path, site: Site) -> None:
    data = read(checkout, "lab")
    data["racks"][0]["servers"][1]["name"] = "node[1:3]"
    more = load_site(data)
    assert node_files(more, more.server("node1"), "key") == node_files(site, site.server("node1"), "key")


def test_servers_with_routed_links_tell_switches_of_themselves_only(checkout: Path) -> None:
    site = load_site(read(checkout, "lab-fabric", None))
    site = replace(site, cluster=replace(site.cluster, sdn=replace(site.cluster.sdn, overlay="vxlan")))
    told = {name: [rule.prefix for rule in owned(site, site.server(name))] for name in ("cp1", "node1")}
    assert told["node1"] == ["198.51.100.21/32"]
    assert told["cp1"] == ["198.51.100.11/32", "10.244.0.0/16", "10.96.0.0/16"]
    text = node_files(site, site.server("node1"), "key")["/etc/frr/frr.conf"]
    assert "router bgp 4200000021\n" in text and "neighbor KIBAN-NODES remote-as external\n" in text
    assert " neighbor KIBAN-NODES ebgp-multihop 16\n" in text
    assert "ip prefix-list KIBAN-OWN seq 5 permit 198.51.100.21/32\n" in text
    assert "10.244" not in "".join(line for line in text.splitlines() if "KIBAN-OWN" in line)
    assert "  advertise ipv4 unicast route-map KIBAN-PODS\n" in text


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(sites(systems=("linux",)))
def test_of_any_site(data: dict[str, Any]) -> None:
    """Ranges are in one announcement each, switches let none of them through, and the model reads back."""
    site = load_site(with_overlay(data))
    assert load_text(site_text(site)) == site
    routed = with_routed_servers(replace(site, fabric=replace(site.fabric, server_asn=4200000000)))
    for one in (site, routed):
        ranges = []
        for server in one.servers:
            text = node_files(one, server, "key")["/etc/frr/frr.conf"]
            ranges += [line.split()[-1] for line in text.splitlines() if "prefix-list KIBAN-PODS seq" in line]
        assert ranges == [server.pod_cidr for server in one.servers]
        filters = [each for intent in intents(one).values() if intent.bgp for each in intent.bgp.filters]
        assert bool(filters) == (one is routed)
        assert not {rule.prefix for each in filters for rule in each.rules} & set(ranges)
        assert len({router_mac(server) for server in one.servers}) == len(one.servers)
        assert pod_mtu(one) == one.networks["node"].mtu - 50


def small(data: dict[str, Any]) -> None:
    data["networks"]["node"]["mtu"] = 1300


def numbered(data: dict[str, Any]) -> None:
    data["fabric"] = {"server_asn": 4200000000}


def routed(data: dict[str, Any]) -> None:
    data["profiles"]["compute"]["network"] = {"mode": "bgp"}


def unknown(data: dict[str, Any]) -> None:
    data["cluster"]["sdn"]["overlay"] = "geneve"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (small, "networks.node.mtu: 1300 leaves packets of pods less than 1280 bytes; 1330 or more"),
        (numbered, "fabric.server_asn: with an overlay servers speak BGP with no switch"),
        (routed, "cluster.sdn.overlay: not for servers with routed links yet, which cp1 has"),
        (unknown, "cluster.sdn.overlay: 'geneve'"),
    ],
)
def test_what_cannot_be_is_named(checkout: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    data = copy.deepcopy(read(checkout, "lab"))
    change(data)
    with pytest.raises(SiteError) as caught:
        load_site(data)
    assert message in str(caught.value)
