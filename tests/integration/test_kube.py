# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kube_apply and kube_wait, and everything that is shipped for a cluster, against a real API server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.modules import kube_apply, kube_wait
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import sds_lvm, sds_nfs
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.cluster import comparable, images_of, unwanted
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.cluster import manifests as cluster_manifests
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds_local import (
    Images,
    manifests,
    with_unread_nodes,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._readers.cluster import read_objects
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.objects import differences
from ansible_collections.kiban.baremetal.plugins.plugin_utils._verify_storage import volume_of
from ansible_collections.kiban.baremetal.tests.integration.kube_api import CHECKOUT, Cluster
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import with_ipv6

RunModule = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.slow


def space(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def config(namespace: str, **data: str) -> dict[str, Any]:
    meta = {"name": "c", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def actions(result: dict[str, Any]) -> dict[str, str]:
    return {f"{entry['kind']}/{entry['name']}": entry["action"] for entry in result["objects"]}


def test_the_ladder(cluster: Cluster, run_module: RunModule) -> None:
    """check, present, check, present again, change, absent, absent again"""
    wanted = [config("ladder", x="1"), space("ladder")]
    steps = {"manifests": wanted, **cluster.options}
    created = {"Namespace/ladder": "created", "ConfigMap/c": "created"}

    predicted = run_module(kube_apply, check_mode=True, **steps)
    assert actions(predicted) == created
    assert "ladder" not in cluster.run("get", "namespaces", "--output=name")
    assert actions(run_module(kube_apply, **steps)) == created
    assert run_module(kube_apply, check_mode=True, **steps)["changed"] is False
    again = run_module(kube_apply, **steps)
    assert (again["changed"], again["diff"]["prepared"]) == (False, "")

    steps["manifests"] = [config("ladder", x="2"), space("ladder")]
    changed = run_module(kube_apply, **steps)
    assert actions(changed) == {"ConfigMap/c": "configured"}
    assert '-  x: "1"\n+  x: "2"\n' in changed["diff"]["prepared"]

    gone = run_module(kube_apply, state="absent", **steps)
    assert actions(gone) == {"ConfigMap/c": "deleted", "Namespace/ladder": "deleted"}
    assert run_module(kube_apply, state="absent", **steps)["changed"] is False


def test_a_field_that_left_the_manifest_is_removed_and_others_are_left_alone(
    cluster: Cluster, run_module: RunModule
) -> None:
    steps = {"manifests": [space("fields"), config("fields", mine="1", old="1")], **cluster.options}
    run_module(kube_apply, **steps)
    cluster.run("--namespace=fields", "patch", "configmap", "c", "--type=merge", '--patch={"data": {"theirs": "1"}}')
    assert run_module(kube_apply, **steps)["changed"] is False
    run_module(kube_apply, manifests=[config("fields", mine="1")], **cluster.options)
    data = json.loads(cluster.run("--namespace=fields", "get", "configmap", "c", "--output=json"))["data"]
    assert data == {"mine": "1", "theirs": "1"}


def test_a_field_that_somebody_else_changed(cluster: Cluster, run_module: RunModule) -> None:
    steps = {"manifests": [space("conflict"), config("conflict", x="1")], **cluster.options}
    run_module(kube_apply, **steps)
    cluster.run("--namespace=conflict", "patch", "configmap", "c", "--type=merge", '--patch={"data": {"x": "2"}}')
    refused = run_module(kube_apply, **steps)
    assert refused["failed"] is True
    assert "force_conflicts" in refused["msg"]
    assert actions(run_module(kube_apply, force_conflicts=True, **steps)) == {"ConfigMap/c": "configured"}
    assert run_module(kube_apply, **steps)["changed"] is False


def test_secrets_stay_secret(cluster: Cluster, run_module: RunModule) -> None:
    def secret(value: str) -> dict[str, Any]:
        meta = {"name": "s", "namespace": "secrets"}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"password": value}}

    results = [
        run_module(kube_apply, manifests=[space("secrets"), secret("canary-one")], **cluster.options),
        run_module(kube_apply, check_mode=True, manifests=[secret("canary-two")], **cluster.options),
        run_module(kube_apply, manifests=[secret("canary-two")], **cluster.options),
        run_module(kube_wait, kind="secret", names=["s"], namespace="secrets", **cluster.options),
    ]
    assert [result.get("changed") for result in results] == [True, True, True, False]
    text = json.dumps(results)
    assert "canary" not in text
    assert "Y2FuYXJ5" not in text


def test_a_kind_and_its_first_object_at_once(cluster: Cluster, run_module: RunModule) -> None:
    schema = {"type": "object", "properties": {"size": {"type": "integer"}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    text = f"""
    apiVersion: racks.example.com/v1
    kind: Rack
    metadata: {{name: a01}}
    size: 42
    ---
    apiVersion: apiextensions.k8s.io/v1
    kind: CustomResourceDefinition
    metadata: {{name: racks.racks.example.com}}
    spec:
      group: racks.example.com
      names: {{kind: Rack, plural: racks}}
      scope: Cluster
      versions: [{json.dumps(version)}]
    """
    steps = {"manifests": text.replace("\n    ", "\n"), **cluster.options}
    created = {"CustomResourceDefinition/racks.racks.example.com": "created", "Rack/a01": "created"}
    assert actions(run_module(kube_apply, check_mode=True, **steps)) == created
    assert actions(run_module(kube_apply, **steps)) == created
    assert run_module(kube_apply, **steps)["changed"] is False


def test_what_the_server_refuses_is_said(cluster: Cluster, run_module: RunModule) -> None:
    bad = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "dta": {}}
    result = run_module(kube_apply, manifests=[bad], **cluster.options)
    assert "field not declared in schema" in result["msg"]


def test_the_storage_driver(cluster: Cluster, run_module: RunModule) -> None:
    def driver(nodes: dict[str, list[str]]) -> list[dict[str, Any]]:
        return manifests(nodes, Images("provisioner:x", "helper:x"), "198.51.100.11")

    nodes = {"node1": ["/var/lib/kiban/local/A"], "cp1": []}
    first = run_module(kube_apply, manifests=driver(nodes), **cluster.options)
    assert set(actions(first).values()) == {"created"}, first
    assert run_module(kube_apply, manifests=driver(nodes), **cluster.options)["changed"] is False
    read = run_module(
        kube_wait, kind="configmap", names=["local-path-config"], namespace="kiban-storage", **cluster.options
    )
    assert with_unread_nodes({}, read["objects"], ["node1", "cp1"]) == nodes
    nodes["node2"] = ["/var/lib/kiban/local/B"]
    assert set(actions(run_module(kube_apply, manifests=driver(nodes), **cluster.options))) == {
        "ConfigMap/local-path-config",
        "Deployment/local-path-provisioner",
        "StorageClass/kiban-local",
    }


def test_services_of_both_families(cluster: Cluster, run_module: RunModule) -> None:
    """Cluster DNS has an address of each, and becomes so where it had one; a second run changes nothing."""
    data = yaml.safe_load((CHECKOUT / "inventories/lab/site.yml").read_text())
    single, dual = load_site(data), load_site(with_ipv6(data))
    told = []
    for site in (single, dual):
        applied = cluster_manifests(site, dict.fromkeys(images_of(site), "coredns:x"))
        assert not run_module(kube_apply, manifests=applied, force_conflicts=True, **cluster.options)["failed"]
        assert run_module(kube_apply, manifests=applied, force_conflicts=True, **cluster.options)["changed"] is False
        spec = json.loads(cluster.run("-n", "kube-system", "get", "service", "kube-dns", "-o", "json"))["spec"]
        told.append(spec["clusterIPs"])
    assert told == [["10.96.0.10"], ["10.96.0.10", "fd00:10:96::a"]]
    cluster.run("-n", "kube-system", "delete", "service", "kube-dns")


@pytest.mark.parametrize("name", ["lab-storage", "lab-fabric"])
def test_the_plan_compares_as_the_server_does(cluster: Cluster, run_module: RunModule, name: str) -> None:
    """What was applied does not differ, whatever the server adds; what somebody changes then does, and only that."""
    site = load_site(yaml.safe_load((CHECKOUT / f"inventories/{name}/site.yml").read_text()))
    names = ["local-path-provisioner", "agnhost", "volume-provisioner", *images_of(site)]
    images = {image: f"{image}:x" for image in names}
    chosen = Images(images["local-path-provisioner"], images["agnhost"])
    nodes = {"node1": ["/var/lib/kiban/local/A"]}
    applied = [*cluster_manifests(site, images), *manifests(nodes, chosen, site.cluster.endpoint)]
    with_pools = any(sds.driver == "lvm" for sds in site.cluster.sds)
    if with_pools:
        applied += [*sds_lvm.manifests(site, "volume-provisioner:x", default_class=False)]
        applied += sds_nfs.manifests(site, "volume-provisioner:x")
    # Kinds that are not served yet keep nothing from being read.
    wanted = comparable(site, images)
    assert read_objects(str(cluster.kubectl), str(cluster.kubeconfig), wanted, timeout=120) is not None
    first = run_module(kube_apply, manifests=applied, force_conflicts=True, **cluster.options)
    assert not first["failed"], first["msg"]
    assert run_module(kube_apply, manifests=applied, force_conflicts=True, **cluster.options)["changed"] is False

    def differing() -> list[str]:
        live = read_objects(str(cluster.kubectl), str(cluster.kubeconfig), wanted, timeout=120)
        assert live is not None
        return [f"{name}: {field}" for name, fields in differences(wanted, live) for field, _have, _want in fields]

    assert {obj["kind"] for obj in wanted} >= {"ConfigMap", "Deployment", "Service", "ClusterRole", "Namespace"}
    assert differing() == []
    cluster.run("-n", "kube-system", "set", "image", "deployment/coredns", "coredns=other:y")
    cluster.run("-n", "kiban-storage", "set", "image", "deployment/local-path-provisioner", "*=other:y")
    cluster.run("-n", "kube-system", "delete", "service", "kube-dns")
    if with_pools:
        cluster.run("delete", "csidriver", "lvm.kiban.baremetal")
    place = "spec.template.spec.containers"
    assert differing() == [
        f"Deployment kube-system/coredns: {place}[coredns].image",
        "Service kube-system/kube-dns: ",
        f"Deployment kiban-storage/local-path-provisioner: {place}[local-path-provisioner].image",
        *(["CSIDriver lvm.kiban.baremetal: "] if with_pools else []),
    ]
    run_module(kube_apply, manifests=applied, force_conflicts=True, **cluster.options)
    assert differing() == []


def test_parts_that_the_model_does_not_have_go_without_leftovers(cluster: Cluster, run_module: RunModule) -> None:
    site, lab = (
        load_site(yaml.safe_load((CHECKOUT / f"inventories/{name}/site.yml").read_text()))
        for name in ("lab-fabric", "lab")
    )
    kinds = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings"

    def there() -> set[str]:
        own = cluster.run("-n", "kube-system", "get", "daemonsets,serviceaccounts", "--output=name")
        found = [*cluster.run("get", kinds, "--output=name").split(), *own.split()]
        return {name for name in found if "metallb" in name or "policies" in name.partition("/")[2]}

    def named(manifests: list[dict[str, Any]]) -> set[tuple[str, ...]]:
        return {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in manifests}

    wanted = cluster_manifests(site, dict.fromkeys(images_of(site), "x:y"))
    run_module(kube_apply, manifests=wanted, **cluster.options)
    assert len(there()) > 12
    assert not named(wanted) & named(unwanted(site))
    steps = {"manifests": unwanted(lab), "state": "absent", **cluster.options}
    assert len(run_module(kube_apply, check_mode=True, **steps)["objects"]) > 12
    gone = run_module(kube_apply, **steps)
    assert not gone["failed"], gone["msg"]
    assert there() == set()
    assert run_module(kube_apply, **steps)["changed"] is False


@pytest.mark.parametrize(
    ("name", "dual"),
    [("web", False), ("sds", False), ("sdn", False), ("sdn", True), ("balanced", True)],
)
def test_the_applications_of_the_verification(cluster: Cluster, run_module: RunModule, name: str, dual: bool) -> None:
    template = Path(CHECKOUT / f"roles/verify/templates/{name}.yaml.j2").read_text()
    settings: dict[str, Any] = {
        "verify_namespace": "apps",
        "_verify_image": "agnhost:x",
    }
    site = load_site(yaml.safe_load((CHECKOUT / "inventories/lab-storage/site.yml").read_text()))
    volume = volume_of(site, "nfs", "node1", ["node1", "node2"])
    settings |= {"_verify_volume": volume, "_verify_pods": volume["first"]}
    settings |= {"_verify_check": {"name": "sds:nfs", "size": 64}}
    settings |= {"_verify_dual": dual, "_verify_balanced6": dual, "verify_host_port": 18080}
    settings["_verify_family_policy"] = "RequireDualStack" if dual else "SingleStack"
    text = jinja2.Template(template, undefined=jinja2.StrictUndefined).render(settings)
    run_module(kube_apply, manifests=[space("apps")], **cluster.options)
    assert run_module(kube_apply, manifests=text, **cluster.options)["changed"] is True
    assert run_module(kube_apply, manifests=text, **cluster.options)["changed"] is False


def test_waiting(cluster: Cluster, run_module: RunModule) -> None:
    """No kubelet here: the node's state is what this test says it is."""

    def report(status: str) -> None:
        condition = {"type": "Ready", "status": status, "reason": "Test", "message": "as the test says"}
        patch = json.dumps({"status": {"conditions": [condition]}})
        cluster.run("patch", "node", "n1", "--subresource=status", "--type=strategic", f"--patch={patch}")

    asked = {"kind": "node", "names": ["n1"], "timeout": 3, "interval": 0.5, **cluster.options}
    assert "n1 does not exist" in run_module(kube_wait, predicate="node_ready", **asked)["msg"]
    cluster.run(
        "create", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    )
    assert "n1 is not Ready" in run_module(kube_wait, predicate="node_ready", **asked)["msg"]
    report("True")
    assert not run_module(kube_wait, predicate="node_ready", **asked)["failed"]
    assert "n1 is still Ready" in run_module(kube_wait, predicate="node_not_ready", **asked)["msg"]
    report("Unknown")
    assert not run_module(kube_wait, predicate="node_not_ready", **asked)["failed"]
    cluster.run("delete", "node", "n1")
    assert not run_module(kube_wait, predicate="deleted", **asked)["failed"]


def test_a_pod_that_finds_no_node_is_explained(cluster: Cluster, run_module: RunModule) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "pods"},
        "spec": {"automountServiceAccountToken": False, "containers": [{"name": "c", "image": "x"}]},
    }
    run_module(
        kube_wait, kind="serviceaccount", names=["default"], namespace="default", predicate="exists", **cluster.options
    )
    run_module(kube_apply, manifests=[space("pods")], **cluster.options)
    run_module(
        kube_wait, kind="serviceaccount", names=["default"], namespace="pods", predicate="exists", **cluster.options
    )
    run_module(kube_apply, manifests=[pod], **cluster.options)
    result = run_module(
        kube_wait, kind="pod", names=["p"], namespace="pods", predicate="pods_ready", timeout=6, **cluster.options
    )
    assert "p has no node: no nodes available to schedule pods" in result["msg"]
    assert any("FailedScheduling" in event for event in result["events"])
