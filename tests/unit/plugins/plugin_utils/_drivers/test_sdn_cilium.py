# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sites with the network driver cilium: what a site file needs for it, and what follows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.filter.site import node_label_manifests
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import sdn_cilium
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.cluster import (
    artifacts,
    images_of,
    manifests,
    unwanted,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds_drivers import PROVISIONER
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site import stages
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.changes import Intent, View
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.kubeadm import init_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site, SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import node_files
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import (
    ClusterState,
    HostState,
    NodeState,
    SiteState,
)


def read(checkout: Path, name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((checkout / f"inventories/{name}/site.yml").read_text())
    return data


@pytest.fixture
def site(checkout: Path) -> Site:
    return load_site(read(checkout, "lab-cilium"))


def rendered(site: Site) -> list[dict[str, Any]]:
    return manifests(site, {name: f"registry/{name}:x" for name in images_of(site)})


def workloads(site: Site) -> dict[str, dict[str, Any]]:
    return {obj["metadata"]["name"]: obj for obj in rendered(site) if obj["kind"] in ("DaemonSet", "Deployment")}


def test_the_lab_of_cilium_is_the_lab(checkout: Path) -> None:
    other, lab = read(checkout, "lab-cilium"), read(checkout, "lab")
    other["site"] = lab["site"]
    assert other["cluster"]["sdn"].pop("driver") == "cilium"
    assert lab["cluster"]["sdn"].pop("driver") == "bgp"
    assert other == lab


def test_a_server_has_the_plugin_and_no_way_to_the_pods_of_others(site: Site) -> None:
    files = node_files(site, site.server("node1"), "key")
    plugins = json.loads(files["/etc/cni/net.d/10-kiban.conflist"])["plugins"]
    assert [plugin["type"] for plugin in plugins] == [sdn_cilium.PLUGIN]
    bond = files["/etc/systemd/network/30-bond0.network"]
    assert "Destination=10.244.21.0/24\nType=unreachable\n" in bond
    assert "10.244.22.0" not in bond
    assert "net.ipv4.conf.all.rp_filter = 0\n" in files["/etc/sysctl.d/95-kiban-cilium.conf"]
    assert "/etc/frr/frr.conf" not in files


def test_kubeadm_starts_no_kube_proxy(checkout: Path, site: Site) -> None:
    def documents(of: Site) -> dict[str, Any]:
        return {one["kind"]: one for one in yaml.safe_load_all(init_config(of, of.server("cp1"), {}))}

    with_it, without = documents(load_site(read(checkout, "lab"))), documents(site)
    assert set(with_it) - set(without) == {"KubeProxyConfiguration"}
    assert with_it["InitConfiguration"]["skipPhases"] == ["addon/coredns"]
    assert without["InitConfiguration"]["skipPhases"] == ["addon/coredns", "addon/kube-proxy"]


def test_what_is_brought_is_there_with_its_images(checkout: Path, site: Site) -> None:
    assert artifacts(site) == [sdn_cilium.PLUGIN, *sdn_cilium.IMAGES, PROVISIONER]
    recipe = yaml.safe_load((checkout / "roles/bundle/files/bundle.yml").read_text())["artifacts"]
    assert set(artifacts(site)) <= {entry["name"] for entry in recipe if entry.get("optional")}
    found = workloads(site)
    assert list(found) == ["coredns", "cilium-operator", "cilium"]
    for name, image in (("cilium", "cilium-agent"), ("cilium-operator", "cilium-operator")):
        spec = found[name]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert container["image"] == f"registry/{image}:x"
        assert {"name": "KUBERNETES_SERVICE_HOST", "value": site.cluster.endpoint} in container["env"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
        assert container["securityContext"].get("privileged", False) is (name == "cilium")


def test_every_program_of_the_image_is_one_that_the_objects_start(checkout: Path, site: Site) -> None:
    recipe = yaml.safe_load((checkout / "roles/bundle/files/bundle.yml").read_text())["artifacts"]
    images = {entry["name"]: entry["modules"]["image"]["programs"] for entry in recipe if entry["kind"] == "image"}
    for name, image in (("cilium", "cilium-agent"), ("cilium-operator", "cilium-operator")):
        (container,) = workloads(site)[name]["spec"]["template"]["spec"]["containers"]
        assert f"/usr/bin/{container['command'][0]}" in images[image]


def test_rights_are_given_to_accounts_that_are_there_and_none_to_secrets(site: Site) -> None:
    objects = rendered(site)
    accounts = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "ServiceAccount"}
    bound = {obj["subjects"][0]["name"] for obj in objects if obj["kind"] == "ClusterRoleBinding"}
    assert {"cilium", "cilium-operator"} <= accounts == bound
    assert "secrets" not in json.dumps([obj for obj in objects if obj["kind"] == "ClusterRole"])
    assert all("*" not in json.dumps(obj) for obj in objects if obj["kind"] == "ClusterRole")


def test_other_settings_restart_what_reads_them(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def digests() -> set[str]:
        found = [obj["spec"]["template"]["metadata"].get("annotations", {}) for obj in workloads(site).values()]
        return {value for annotations in found for value in annotations.values()}

    (before,) = digests()
    settings = {**sdn_cilium.settings(site), "mtu": "1400"}
    monkeypatch.setattr(sdn_cilium, "settings", lambda _site: settings)
    (after,) = digests()
    assert before != after


def test_what_the_model_has_no_more_is_named_with_its_kinds(checkout: Path, site: Site) -> None:
    def names(of: Site) -> set[tuple[str, str]]:
        return {(obj["kind"], obj["metadata"]["name"]) for obj in unwanted(of)}

    gone = names(load_site(read(checkout, "lab")))
    assert {("DaemonSet", "cilium"), ("CustomResourceDefinition", "ciliumnodes.cilium.io")} <= gone
    assert not any("cilium" in name for _kind, name in names(site))


def test_nodes_get_their_range_with_their_labels() -> None:
    (one, two) = node_label_manifests({"a": {"x": "y"}, "b": {}}, ["a", "b"], {"a": "10.244.1.0/24"})
    assert one["spec"] == {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}
    assert one["metadata"]["labels"] == {"x": "y"} and "spec" not in two


@pytest.mark.parametrize(
    ("host", "node", "before"),
    [
        (HostState(where="node"), None, "not joined"),
        (
            HostState(where="node", kubelet_configured=True, initialised=True),
            NodeState(ready=True, version="v1.36.3"),
            "missing",
        ),
        (
            HostState(where="node", kubelet_configured=True, initialised=True),
            NodeState(ready=True, version="v1.36.3", pod_cidr="10.244.11.0/24"),
            "",
        ),
    ],
)
def test_the_plan_gives_a_node_its_range(
    checkout: Path, site: Site, host: HostState, node: NodeState | None, before: str
) -> None:
    def ranges(of: Site) -> list[tuple[str, str]]:
        state = SiteState(cluster=ClusterState(reachable=True, nodes={"cp1": node} if node else {}))
        view = View(of, of.server("cp1"), Intent(""), state, host)
        return [(change.before, change.after) for change in stages.labels(view) if change.what == "range of pods"]

    assert ranges(site) == ([(before, "10.244.11.0/24")] if before else [])
    assert ranges(load_site(read(checkout, "lab"))) == []


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("sdn", "overlay", "vxlan", "cluster.sdn.overlay: the network driver cilium is an overlay itself"),
        ("sdn", "masquerade", False, "cluster.sdn.masquerade: the network driver cilium gives packets to outside"),
        (
            "sdn",
            "policies",
            "kube-network-policies",
            "cluster.sdn.policies: the network driver cilium enforces NetworkPolicy objects itself",
        ),
        (
            "load_balancer",
            "driver",
            "metallb",
            "cluster.load_balancer.driver: not with the network driver cilium yet",
        ),
    ],
)
def test_what_it_brings_itself_is_refused_beside_it(
    checkout: Path, part: str, name: str, value: Any, said: str
) -> None:
    data = read(checkout, "lab-cilium")
    data["cluster"].setdefault(part, {})[name] = value
    with pytest.raises(SiteError) as caught:
        load_site(data)
    assert said in str(caught.value)


def test_servers_with_routed_links_are_refused(checkout: Path) -> None:
    data = read(checkout, "lab-fabric")
    data["cluster"]["sdn"] = {**data["cluster"]["sdn"], "driver": "cilium", "policies": None}
    data["cluster"]["load_balancer"] = {}
    with pytest.raises(SiteError, match=r"cluster.sdn.driver: cilium is not for servers with routed links yet"):
        load_site(data)


def test_the_fabric_is_told_nothing_of_pods(site: Site) -> None:
    assert site.cluster.sdn.hidden
    assert not replace(site.cluster.sdn, driver="bgp").hidden
