# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.kiban.baremetal.plugins.filter.site import FilterModule
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.kubeadm import (
    init_config,
    join_config,
    join_patches,
    patches,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import digests, machine_id, node_files
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import site_vars

MANIFEST = {"artifacts": [{"kind": "image", "name": "coredns", "reference": "registry.k8s.io/coredns/coredns:v1.14.2"}]}
LAB = Path(__file__).parents[5] / "inventories/lab/site.yml"


@pytest.fixture(scope="module")
def site() -> Any:
    return load_site(yaml.safe_load(LAB.read_text()))


def by_kind(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in objects}


def documents(site: Any) -> dict[str, Any]:
    text = init_config(site, site.server("cp1"), {"etcd": "3.6.16-0"})
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_init_says_what_the_model_says(site: Any) -> None:
    cluster = documents(site)["ClusterConfiguration"]
    assert cluster["kubernetesVersion"] == site.cluster.kubernetes
    assert cluster["controlPlaneEndpoint"] == "198.51.100.11:6443"
    assert cluster["networking"] == {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/16"}
    assert cluster["etcd"]["local"]["imageTag"] == "3.6.16-0"
    assert {"name": "heartbeat-interval", "value": "500"} in cluster["etcd"]["local"]["extraArgs"]


def test_pod_ranges_are_never_allocated_by_the_cluster(site: Any) -> None:
    arguments = documents(site)["ClusterConfiguration"]["controllerManager"]["extraArgs"]
    assert {"name": "allocate-node-cidrs", "value": "false"} in arguments


def test_init_registers_the_server_with_its_node_address(site: Any) -> None:
    init = documents(site)["InitConfiguration"]
    assert init["nodeRegistration"]["name"] == "cp1"
    assert init["nodeRegistration"]["kubeletExtraArgs"] == [{"name": "node-ip", "value": "198.51.100.11"}]
    assert init["localAPIEndpoint"] == {"advertiseAddress": "198.51.100.11", "bindPort": 6443}


@pytest.mark.parametrize(("resolvers", "forwards"), [((), False), (("192.0.2.53",), True)])
def test_cluster_dns_forwards_only_where_the_site_has_resolvers(site: Any, resolvers: Any, forwards: bool) -> None:
    data = site_vars(replace(site, dns=resolvers))
    objects = by_kind(FilterModule().filters()["cluster_manifests"](data, MANIFEST))
    config = objects["ConfigMap"]
    assert (config["metadata"]["namespace"], config["metadata"]["name"]) == ("kube-system", "coredns")
    assert ("forward . /etc/resolv.conf" in config["data"]["Corefile"]) is forwards
    assert config["data"]["Corefile"].count("{") == config["data"]["Corefile"].count("}")


def test_cluster_dns_serves_at_the_address_that_kubelets_know(site: Any) -> None:
    objects = by_kind(FilterModule().filters()["cluster_manifests"](site_vars(site), MANIFEST))
    assert objects["Service"]["spec"]["clusterIP"] == "10.96.0.10"
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.k8s.io/coredns/coredns:v1.14.2"
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"] == labels
    assert documents(site)["InitConfiguration"]["skipPhases"] == ["addon/coredns"]


def test_one_server_has_one_dns_server(site: Any) -> None:
    data = site_vars(replace(site, servers=site.servers[:1]))
    objects = by_kind(FilterModule().filters()["cluster_manifests"](data, MANIFEST))
    assert objects["Deployment"]["spec"]["replicas"] == 1


def test_a_bundle_without_coredns_is_named(site: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="no image coredns"):
        FilterModule().filters()["cluster_manifests"](site_vars(site), {"artifacts": []})


def test_patches_are_for_the_probes_that_the_model_states(site: Any) -> None:
    init = documents(site)["InitConfiguration"]
    assert init["patches"] == {"directory": "/etc/kubernetes/kiban/patches"}
    files = FilterModule().filters()["kubeadm_patches"](site_vars(site), "cp1")
    assert sorted(files) == [
        "etcd+strategic.json",
        "kube-apiserver+strategic.json",
        "kube-controller-manager+strategic.json",
        "kube-scheduler+strategic.json",
    ]
    (container,) = json.loads(files["etcd+strategic.json"])["spec"]["containers"]
    live = {"failureThreshold": 60, "timeoutSeconds": 30}
    assert container == {"name": "etcd", "livenessProbe": live, "readinessProbe": {"periodSeconds": 10}}
    (container,) = json.loads(files["kube-controller-manager+strategic.json"])["spec"]["containers"]
    assert container == {"name": "kube-controller-manager", "livenessProbe": live}, "it has no readiness probe"


def test_nothing_is_patched_unasked(site: Any) -> None:
    parts = {key: value for key, value in site.cluster.extra_args.items() if key not in ("liveness", "readiness")}
    plain = replace(site, cluster=replace(site.cluster, extra_args=parts))
    assert patches(plain) == {}
    assert "patches" not in documents(plain)["InitConfiguration"]


def test_join_verifies_the_api_server_by_the_discovery_file(site: Any) -> None:
    join = yaml.safe_load(join_config(site, site.server("node1"), "abcdef.0123456789abcdef"))
    assert join["discovery"]["file"]["kubeConfigPath"] == "/etc/kubernetes/kiban/discovery.yaml"
    assert join["discovery"]["tlsBootstrapToken"] == "abcdef.0123456789abcdef"
    assert "unsafeSkipCAVerification" not in str(join)


def test_a_joining_kubelet_gets_what_the_model_says_now(site: Any) -> None:
    wanted = site.cluster.extra_args["kubelet_config"]
    join = yaml.safe_load(join_config(site, site.server("node1"), "abcdef.0123456789abcdef"))
    assert bool(join_patches(site)) == bool(wanted) == ("patches" in join)
    for name, text in join_patches(site).items():
        assert name == "kubeletconfiguration+merge.json" and json.loads(text) == wanted


def test_files_are_those_of_one_server(site: Any) -> None:
    one, other = (node_files(site, site.server(name), "ssh-ed25519 AAAA") for name in ("node1", "node2"))
    assert one["/etc/hostname"] == "node1\n"
    assert "198.51.100.21 node1.lab.kiban.test node1\n" in one["/etc/hosts"]
    assert one["/root/.ssh/authorized_keys"] == "ssh-ed25519 AAAA\n"
    assert "10.244.21.0/24" in one["/etc/cni/net.d/10-kiban.conflist"]
    assert one.keys() == other.keys()
    assert one["/etc/machine-id"] != other["/etc/machine-id"]


def test_machine_id_is_stable_and_well_formed(site: Any) -> None:
    found = machine_id(site, site.server("node1"))
    assert found == machine_id(site, site.server("node1"))
    assert len(found) == 32 and int(found, 16)


def test_digests_are_of_the_content(site: Any) -> None:
    files = node_files(site, site.server("node1"), "key")
    assert digests(files)["/etc/hostname"] == hashlib.sha256(b"node1\n").hexdigest() + " 0644"


def test_filters_take_the_model_as_variable(site: Any) -> None:
    filters = FilterModule().filters()
    files = filters["server_files"](site_vars(site), "node1", "key")
    modes = {entry["path"]: entry["mode"] for entry in files}
    assert modes["/root/.ssh/authorized_keys"] == "0600"
    assert modes["/etc/machine-id"] == "0444"
    assert "kind: JoinConfiguration" in filters["kubeadm_join_config"](site_vars(site), "node1", "t.s")
    with pytest.raises(Exception, match="no server 'nobody'"):
        filters["kubeadm_init_config"](site_vars(site), "nobody")
