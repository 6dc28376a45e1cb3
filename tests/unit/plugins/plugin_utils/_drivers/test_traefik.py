# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traefik's objects: how it is reached, where it runs, with what rights, and that it goes without what is others'."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import traefik
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.cluster import (
    artifacts,
    comparable,
    images_of,
    manifests,
    unwanted,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site

KIND = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gatewayclasses.gateway.networking.k8s.io"},
}
POLICY = {"apiVersion": "v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "safe-upgrades"}}


def site(checkout: Path, name: str, **more: Any) -> Site:
    data: dict[str, Any] = yaml.safe_load((checkout / f"inventories/{name}/site.yml").read_text())
    data["cluster"]["ingress"] = {"driver": "traefik", **more}
    return load_site(data)


def rendered(site: Site) -> dict[str, dict[str, Any]]:
    return {obj["kind"]: obj for obj in traefik.manifests(site, "traefik:x")}


@pytest.mark.parametrize(
    ("name", "more", "wanted", "annotations"),
    [
        ("lab-fabric", {}, {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}, None),
        (
            "lab-fabric",
            {"address": "203.0.113.130"},
            {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False},
            {"metallb.io/loadBalancerIPs": "203.0.113.130"},
        ),
        ("lab", {"http_node_port": 31080}, {"type": "NodePort", "externalTrafficPolicy": "Cluster"}, None),
    ],
)
def test_how_it_is_reached(
    checkout: Path, name: str, more: dict[str, Any], wanted: dict[str, Any], annotations: dict[str, str] | None
) -> None:
    service = rendered(site(checkout, name, **more))["Service"]
    assert service["spec"].items() >= wanted.items()
    assert service["metadata"].get("annotations") == annotations
    ports = {port["port"]: port.get("nodePort") for port in service["spec"]["ports"]}
    assert ports == ({80: 31080, 443: 30443} if name == "lab" else {80: None, 443: None})


@pytest.mark.parametrize(("workers", "replicas", "on_control_plane"), [(0, 1, True), (1, 1, False), (2, 2, False)])
def test_where_it_runs(checkout: Path, workers: int, replicas: int, on_control_plane: bool) -> None:
    whole = site(checkout, "lab-fabric")
    of_role = {
        role: [server for server in whole.servers if role in server.roles] for role in ("control_plane", "worker")
    }
    found = rendered(replace(whole, servers=(*of_role["control_plane"], *of_role["worker"][:workers])))
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert found["Deployment"]["spec"]["replicas"] == replicas
    assert ("node-role.kubernetes.io/control-plane" in {one["key"] for one in pod["tolerations"]}) is on_control_plane
    # A node can be drained, with one replica too.
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_it_runs_as_nobody_and_can_be_stopped_without_losing_a_request(checkout: Path) -> None:
    found = rendered(site(checkout, "lab"))
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert found["Namespace"]["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    options = dict(one.removeprefix("--").split("=") for one in container["args"])
    grace = [int(value.rstrip("s")) for key, value in options.items() if ".lifecycle." in key]
    assert len(grace) == 4
    assert pod["terminationGracePeriodSeconds"] > sum(grace) / 2
    # Neither a dashboard, nor words with its makers, nor routes from elsewhere.
    assert not any(key.startswith(("api", "experimental", "certificatesresolvers")) for key in options)
    assert {options["global.checknewversion"], options["global.sendanonymoususage"]} == {"false"}
    assert {key.split(".")[1] for key in options if key.startswith("providers.")} == {
        "kubernetesingress",
        "kubernetesgateway",
    }


def test_what_it_may(checkout: Path) -> None:
    """It reads, and writes nothing but the status of what it serves."""
    rules = rendered(site(checkout, "lab"))["ClusterRole"]["rules"]
    for rule in rules:
        if set(rule["verbs"]) - {"get", "list", "watch"}:
            assert rule["verbs"] == ["update"]
            assert all(name.endswith("/status") for name in rule["resources"])
    assert not any("*" in rule["resources"] or "pods" in rule["resources"] for rule in rules)


def test_the_plan_knows_its_objects_and_the_kinds_come_before_their_objects(checkout: Path) -> None:
    chosen = site(checkout, "lab-fabric")
    assert artifacts(chosen)[-2:] == ["traefik", "gateway-api"]
    kinds = traefik.definitions(yaml.safe_dump_all([KIND, None, POLICY]))
    assert kinds == [KIND]
    images = {name: f"{name}:x" for name in images_of(chosen)}
    wanted = [(obj["kind"], obj["metadata"]["name"]) for obj in comparable(chosen, images, kinds)]
    order = [wanted.index((KIND["kind"], KIND["metadata"]["name"])), wanted.index(("GatewayClass", "traefik"))]  # type: ignore[index]
    assert order == sorted(order)
    assert ("Deployment", "traefik") in wanted


def test_what_goes_when_the_model_does_not_have_it_any_more(checkout: Path) -> None:
    chosen = site(checkout, "lab-fabric")
    without = load_site(yaml.safe_load((checkout / "inventories/lab-fabric/site.yml").read_text()))
    images = dict.fromkeys(images_of(chosen), "x:y")
    own = names(manifests(chosen, images)) - names(manifests(without, images))
    assert names(unwanted(without)) - names(unwanted(chosen)) == own
    # With the kinds of the Gateway API the Gateways and routes of others would go.
    assert own and not any(kind == "CustomResourceDefinition" for kind, _name in own)


def names(found: Iterable[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(obj["kind"], obj["metadata"]["name"]) for obj in found}
