# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site brings into its cluster: only what its model asks for, with images that the bundle has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import policies
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.cluster import artifacts, images_of, manifests
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds_drivers import PROVISIONER
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.host import frr_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site

OPTIONAL = ["kube-network-policies", "metallb-controller", "metallb-speaker"]


def of(checkout: Path, name: str) -> Site:
    return load_site(yaml.safe_load((checkout / f"inventories/{name}/site.yml").read_text()))


@pytest.fixture
def site(checkout: Path) -> Site:
    return of(checkout, "lab-fabric")


def rendered(site: Site) -> list[dict[str, Any]]:
    return manifests(site, {name: f"registry/{name}:x" for name in images_of(site)})


def workloads(site: Site) -> dict[str, dict[str, Any]]:
    return {obj["metadata"]["name"]: obj for obj in rendered(site) if obj["kind"] in ("DaemonSet", "Deployment")}


def test_a_site_that_asks_for_nothing_gets_cluster_dns_only(checkout: Path) -> None:
    lab = of(checkout, "lab")
    assert artifacts(lab) == [PROVISIONER]
    assert list(workloads(lab)) == ["coredns"]


def test_what_is_asked_for_is_there_with_its_images(site: Site) -> None:
    found = workloads(site)
    assert artifacts(site) == OPTIONAL
    assert list(found) == ["coredns", "kube-network-policies", "controller", "speaker"]
    used = {container["image"] for obj in found.values() for container in obj["spec"]["template"]["spec"]["containers"]}
    assert used == {f"registry/{name}:x" for name in ["coredns", *OPTIONAL]}


def test_optional_artifacts_are_those_of_the_recipe(checkout: Path) -> None:
    recipe = yaml.safe_load((checkout / "roles/bundle/files/bundle.yml").read_text())
    assert sorted(entry["name"] for entry in recipe["artifacts"] if entry.get("optional")) == [
        "cilium-agent",
        "cilium-cni",
        "cilium-operator",
        "gateway-api",
        *OPTIONAL,
        "traefik",
        "volume-provisioner",
    ]


def test_every_object_is_there_once_and_its_namespace_and_kind_before_it(site: Site) -> None:
    seen, namespaces, kinds = set(), {"kube-system"}, set()
    for obj in rendered(site):
        key = (obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"])
        assert key not in seen
        seen.add(key)
        if obj["kind"] == "Namespace":
            namespaces.add(obj["metadata"]["name"])
        if obj["kind"] == "CustomResourceDefinition":
            names = [version["name"] for version in obj["spec"]["versions"]]
            kinds |= {(f"{obj['spec']['group']}/{name}", obj["spec"]["names"]["kind"]) for name in names}
            assert [version["storage"] for version in obj["spec"]["versions"]].count(True) == 1
        assert obj["metadata"].get("namespace") in (None, *namespaces)
        assert "metallb" not in obj["apiVersion"] or (obj["apiVersion"], obj["kind"]) in kinds


def test_the_speaker_and_frr_expect_each_other(site: Site) -> None:
    objects = {obj["kind"]: obj for obj in rendered(site) if obj["apiVersion"].startswith("metallb.io")}
    assert objects["IPAddressPool"]["spec"]["addresses"] == ["203.0.113.128/26"]
    assert objects["BGPAdvertisement"]["spec"]["ipAddressPools"] == [objects["IPAddressPool"]["metadata"]["name"]]
    peer, text = objects["BGPPeer"]["spec"], frr_config(site, site.server("node1"))
    assert f" neighbor KIBAN-SPEAKER remote-as {peer['myASN']}\n" in text
    assert f" neighbor KIBAN-SPEAKER local-as {peer['peerASN']} no-prepend replace-as\n" in text
    assert peer["peerAddress"] == "169.254.100.1"


def test_nothing_runs_with_more_rights_than_it_needs(site: Site) -> None:
    for name, obj in workloads(site).items():
        (container,) = obj["spec"]["template"]["spec"]["containers"]
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"]["drop"] == ["ALL"]
        added = {"coredns": ["NET_BIND_SERVICE"], policies.IMAGE: ["NET_ADMIN"]}.get(name, [])
        assert security["capabilities"].get("add", []) == added
    watched = [obj for obj in rendered(site) if obj["kind"] == "ClusterRole"]
    assert "secrets" not in json.dumps(watched)
