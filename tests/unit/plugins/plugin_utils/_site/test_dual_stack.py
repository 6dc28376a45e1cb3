# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv6 beside IPv4: what follows from the model, and what is refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.cluster import manifests, unwanted
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.masquerade import RULES
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import announcements
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.host import frr_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.ipam import address6
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.kubeadm import init_config, join_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site, SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import node_files
from ansible_collections.kiban.baremetal.tests.integration.kube_api import BUNDLE
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import edited, with_ipv6, with_os
from ansible_collections.kiban.baremetal.tests.unit.plugins.renderings import renderings, site_data

POOL6 = "2001:db8:f::/120"


@pytest.fixture(scope="module")
def lab(checkout: Path) -> dict[str, Any]:
    return with_ipv6(site_data(checkout, "lab"))


@pytest.fixture(scope="module")
def fabric(checkout: Path) -> dict[str, Any]:
    return with_ipv6(site_data(checkout, "lab-fabric"))


def files(site: Site, name: str) -> dict[str, str]:
    return node_files(site, site.server(name), "ssh-ed25519 key")


def changed(data: dict[str, Any], edits: dict[str, Any]) -> dict[str, Any]:
    return edited(data, edits.items())


def test_every_address_is_the_one_in_the_same_place(lab: dict[str, Any]) -> None:
    site = load_site(lab)
    node, server = site.networks["node"], site.server("node1")
    assert address6(node, server.addresses["node"]) == "2001:db8:1::15"
    assert node.ipv6 is not None
    assert node.ipv6.gateway == "2001:db8:1::1"
    assert server.pod_cidrs == ("10.244.21.0/24", "fd00:10:244:15::/64")
    stated = load_site(changed(lab, {"networks.node.ipv6.gateway": "FE80::0001"})).networks["node"].ipv6
    assert stated is not None
    assert stated.gateway == "fe80::1"


def test_however_it_is_written_it_is_rendered_in_one_way(lab: dict[str, Any]) -> None:
    long = changed(
        lab, {"networks.node.ipv6.cidr": "2001:0DB8:1:0::/64", "cluster.sdn.ipv6.pods": "FD00:10:244:0:0::/48"}
    )
    assert load_site(long) == load_site(lab)


def test_a_server_has_both_families(lab: dict[str, Any]) -> None:
    found = files(load_site(lab), "node1")
    assert json.loads(found["/etc/cni/net.d/10-kiban.conflist"])["plugins"][0]["ipam"] == {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "ranges": [[{"subnet": "10.244.21.0/24"}], [{"subnet": "fd00:10:244:15::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }
    network = found["/etc/systemd/network/30-bond0.network"]
    for line in (
        "Address=198.51.100.21/24\nAddress=2001:db8:1::15/64\n",
        "Gateway=198.51.100.1\nGateway=2001:db8:1::1\n",
        # The kernel asks for link addresses by a link-local one when it forwards.
        "LinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n",
        "[Route]\nDestination=fd00:10:244:15::/64\nType=unreachable\n",
        "[Route]\nDestination=fd00:10:244:16::/64\nGateway=2001:db8:1::16\n",
    ):
        assert line in network
    assert "IPv6Forwarding=yes" in found["/etc/systemd/networkd.conf.d/10-kiban.conf"]


def test_kubeadm_is_told_of_both(lab: dict[str, Any]) -> None:
    site = load_site(lab)
    told = {one["kind"]: one for one in yaml.safe_load_all(init_config(site, site.server("cp1"), {}))}
    both = "10.244.0.0/16,fd00:10:244::/48"
    assert told["ClusterConfiguration"]["networking"] == {
        "podSubnet": both,
        "serviceSubnet": "10.96.0.0/16,fd00:10:96::/112",
    }
    assert told["KubeProxyConfiguration"]["clusterCIDR"] == both
    assert told["InitConfiguration"]["localAPIEndpoint"]["advertiseAddress"] == "198.51.100.11"
    join = yaml.safe_load(join_config(site, site.server("node1"), "t.s"))
    (argument,) = join["nodeRegistration"]["kubeletExtraArgs"]
    assert argument == {"name": "node-ip", "value": "198.51.100.21,2001:db8:1::15"}


@pytest.mark.skipif(not (BUNDLE / "bin/kubeadm").exists(), reason="there is no bundle: run `make bundle`")
@pytest.mark.parametrize("services", ["fd00:10:96::/108", "fd00:10:96::/112", "fd00:10:96::/124"])
def test_kubeadm_itself_takes_it(lab: dict[str, Any], tmp_path: Path, services: str) -> None:
    site = load_site(changed(lab, {"cluster.sdn.ipv6.services": services}))
    path = tmp_path / "init.yml"
    path.write_text(init_config(site, site.server("cp1"), {}))
    command = [BUNDLE / "bin/kubeadm", "config", "validate", "--config", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not (BUNDLE / "bin/kubeadm").exists(), reason="there is no bundle: run `make bundle`")
@pytest.mark.parametrize("length", [107, 125])
def test_kubeadm_refuses_what_is_refused_here(lab: dict[str, Any], tmp_path: Path, length: int) -> None:
    site, path = load_site(lab), tmp_path / "init.yml"
    path.write_text(init_config(site, site.server("cp1"), {}).replace("fd00:10:96::/112", f"fd00:10:96::/{length}"))
    command = [BUNDLE / "bin/kubeadm", "config", "validate", "--config", path]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    with pytest.raises(
        SiteError, match=f"cluster.sdn.ipv6.services: kubeadm takes no Service range of the size /{length}"
    ):
        load_site(changed(lab, {"cluster.sdn.ipv6.services": f"fd00:10:96::/{length}"}))


def test_cluster_dns_serves_by_both(lab: dict[str, Any]) -> None:
    found = {
        obj["metadata"]["name"]: obj for obj in manifests(load_site(lab), {"coredns": "x"}) if obj["kind"] == "Service"
    }
    spec = found["kube-dns"]["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"]) == ("10.96.0.10", ["10.96.0.10", "fd00:10:96::a"])
    assert spec["ipFamilyPolicy"] == "RequireDualStack"


def test_a_routed_server_announces_both_and_its_switch_takes_both(fabric: dict[str, Any]) -> None:
    site = load_site(fabric)
    told = [rule.prefix for rule in announcements(site, site.server("node1"))]
    own6 = ["2001:db8:1::15/128", "fd00:10:244:15::/64"]
    assert told == ["198.51.100.21/32", "10.244.21.0/24", "203.0.113.128/26", *own6]
    text = frr_config(site, site.server("node1"))
    assert "ipv6 prefix-list KIBAN-OWN seq 5 permit 2001:db8:1::15/128\n" in text
    assert "no bgp network import-check" not in text
    assert "no bgp network import-check" in frr_config(site, site.server("cp1"))


def test_pods_outside(lab: dict[str, Any]) -> None:
    lent = files(load_site(changed(lab, {"cluster.sdn.masquerade": True})), "node1")[RULES]
    assert "ip6 saddr fd00:10:244::/48 ip6 daddr != { fd00:10:244::/48, ff00::/8 } snat to 2001:db8:1::15\n" in lent
    hidden = files(load_site(changed(lab, {"cluster.sdn.overlay": "vxlan"})), "node1")[RULES]
    assert 'oifname "kiban-pods" ip6 saddr != fd00:10:244::/48 masquerade' in hidden


def test_ipv6_pools_are_announced_by_frr_and_not_by_the_speaker(fabric: dict[str, Any]) -> None:
    pools = ["203.0.113.128/26", POOL6]
    site = load_site(changed(fabric, {"cluster.load_balancer.pools": pools}))
    made = manifests(
        site, dict.fromkeys(("coredns", "kube-network-policies", "metallb-controller", "metallb-speaker"), "x")
    )
    found = {obj["metadata"]["name"]: obj["spec"] for obj in made if obj["kind"] == "IPAddressPool"}
    assert {name: spec["addresses"] for name, spec in found.items()} == {"kiban": pools[:1], "kiban-ipv6": pools[1:]}
    (told,) = (obj["spec"] for obj in made if obj["kind"] == "BGPAdvertisement")
    assert told == {"ipAddressPools": ["kiban"]}
    leads, works = (frr_config(site, site.server(name)) for name in ("cp1", "node1"))
    assert f"  network {POOL6}\n" in leads
    assert f"  network {POOL6}\n" not in works
    assert "prefix-list KIBAN-POOLS seq 10" not in leads
    assert f"[Route]\nDestination={POOL6}\n" in files(site, "cp1")["/etc/systemd/network/30-kiban-lb.network"]
    assert "kiban-ipv6" in [obj["metadata"]["name"] for obj in unwanted(load_site(fabric))]
    assert "kiban-ipv6" not in [obj["metadata"]["name"] for obj in unwanted(site)]


def test_the_lab_is_that_of_the_fabric_with_ipv6(checkout: Path) -> None:
    """Two files for people, one rack: what IPv4 has is the same in both."""
    dual, single = (site_data(checkout, name) for name in ("lab-dual", "lab-fabric"))
    load_site(dual)
    for data in (dual, single):
        del data["site"]
        for network in data["networks"].values():
            network.pop("ipv6", None)
        data["cluster"]["sdn"].pop("ipv6", None)
        data["cluster"]["load_balancer"]["pools"] = data["cluster"]["load_balancer"]["pools"][:1]
    assert dual == single


@pytest.mark.parametrize("inventory", ["lab", "lab-fabric", "lab-overlay"])
def test_ipv6_changes_nothing_of_ipv4(checkout: Path, inventory: str) -> None:
    """Every line of the site without it is there still, but for those that hold both."""
    data = site_data(checkout, inventory)
    single, dual = renderings(checkout, data), renderings(checkout, with_ipv6(data))
    assert single.keys() == dual.keys()
    both = ("LinkLocalAddressing=", "podSubnet: ", "serviceSubnet: ", "clusterCIDR: ", "value: 198.51.100.")
    for name in single.keys() - {"cluster", "lab"}:
        if not name.endswith(".conflist"):
            lost = set(single[name].splitlines()) - set(dual[name].splitlines())
            assert not [line for line in lost if not line.strip().startswith(both)], name


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "half": (
        {"cluster.sdn.ipv6": {"pods": "fd00:10:244::/48"}},
        "cluster.sdn.ipv6.services: missing; IPv6 addresses of Services, for example fd00:10:96::/112",
    ),
    "servers without": ({"networks.node.ipv6": ...}, "networks.node.ipv6: missing; servers of a cluster with IPv6"),
    "IPv4 in it": (
        {"cluster.sdn.ipv6.pods": "10.3.0.0/16"},
        "cluster.sdn.ipv6.pods: '10.3.0.0/16' is not an IPv6 network",
    ),
    "IPv6 outside of it": ({"cluster.sdn.pods": "fd00::/48"}, "cluster.sdn.pods: 'fd00::/48' is not an IPv4 network"),
    "cilium": ({"cluster.sdn.driver": "cilium"}, "ipv6: the network driver cilium is set up for IPv4 only so far"),
    "host bits": (
        {"networks.node.ipv6.cidr": "2001:db8::1/64"},
        "networks.node.ipv6.cidr: 2001:db8::1/64 is an address inside",
    ),
    "link-local": (
        {"cluster.sdn.ipv6.pods": "fe80::/48"},
        "cluster.sdn.ipv6.pods: fe80::/48 is none of global or unique",
    ),
    "mapped": (
        {"networks.node.ipv6.cidr": "::ffff:0:0/96"},
        "networks.node.ipv6.cidr: ::ffff:0:0/96 is none of global",
    ),
    "too few addresses": (
        {"networks.node.ipv6.cidr": "2001:db8:1::/121"},
        "networks.node.ipv6.cidr: 2001:db8:1::/121 has fewer addresses than networks.node (198.51.100.0/24)",
    ),
    "pods overlap services": (
        {"cluster.sdn.ipv6.services": "fd00:10:244:1::/112"},
        "cluster.sdn.ipv6.services: fd00:10:244:1::/112 overlaps cluster.sdn.ipv6.pods (fd00:10:244::/48)",
    ),
    "pods overlap servers": (
        {"cluster.sdn.ipv6.pods": "2001:db8::/32"},
        "cluster.sdn.ipv6.pods: 2001:db8::/32 overlaps networks.node.ipv6.cidr (2001:db8:1::/64)",
    ),
    "a range larger than all": (
        {"cluster.sdn.ipv6.pods": "fd00:1::/72"},
        "cluster.sdn.ipv6.pods: one server's range (/64) is larger than the whole pod network fd00:1::/72",
    ),
    "too few ranges": (
        {"cluster.sdn.ipv6.pods": "fd00:1::/60"},
        "cluster.sdn.ipv6.pods: fd00:1::/60 has 16 ranges of /64, and the server at 198.51.100.22 needs number 22 "
        "(its place in 198.51.100.0/24); a pod network of /59 or larger, or a node_prefix of 65 or more",
    ),
    "services too large": (
        {"cluster.sdn.ipv6.services": "fd00:9::/64"},
        "kubeadm takes no Service range of the size /64",
    ),
    "a server's gateway": (
        {"networks.node.ipv6.gateway": "2001:db8:1::15"},
        "2001:db8:1::15 is the IPv6 address of node1, who has the same place (198.51.100.21)",
    ),
    "a gateway elsewhere": (
        {"networks.node.ipv6.gateway": "2001:db8:9::1"},
        "networks.node.ipv6.gateway: 2001:db8:9::1 is no address of networks.node.ipv6 (2001:db8:1::/64)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(lab: dict[str, Any], case: str) -> None:
    edits, told = REFUSED[case]
    with pytest.raises(SiteError) as error:
        load_site(changed(lab, edits))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ({"fabric.links": "10.255.0.0/24"}, "fabric.links: with IPv6 BGP between switches is unnumbered"),
        (
            {"cluster.load_balancer.pools": ["203.0.113.128/26", "fd00:10:96::/120"]},
            "cluster.load_balancer.pools[1]: fd00:10:96::/120 overlaps cluster.sdn.ipv6.services (fd00:10:96::/112)",
        ),
        (
            {"cluster.load_balancer.pools": [POOL6]},
            "cluster.load_balancer.pools: none of them is of IPv4; metallb needs",
        ),
        (
            {"cluster.load_balancer.pools": ["203.0.113.128/26", POOL6], "cluster.sdn.ipv6": ...},
            f"cluster.load_balancer.pools[1]: {POOL6} is for Services with IPv6; state cluster.sdn.ipv6",
        ),
    ],
)
def test_refused_in_a_fabric(fabric: dict[str, Any], edits: dict[str, Any], told: str) -> None:
    with pytest.raises(SiteError) as error:
        load_site(changed(fabric, edits))
    assert told in str(error.value)


def test_switches_that_would_not_be_told_are_refused() -> None:
    with pytest.raises(
        SiteError, match=r"racks\[0\].switches\[0\].os: IPv6 routes are rendered for switches with os linux"
    ):
        load_site(with_ipv6(with_os("eos")))
