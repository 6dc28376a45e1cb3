# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds_local import (
    Images,
    manifests,
    mounted_paths,
    with_unread_nodes,
)

IMAGES = Images("docker.io/rancher/local-path-provisioner:v0.0.30", "registry.k8s.io/e2e-test-images/agnhost:2.63.0")
NODES = {
    "node2": ["/var/lib/kiban/local/D", "/var/lib/kiban/local/C"],
    "cp1": [],
    "node1": ["/var/lib/kiban/local/A"],
}


def objects(nodes: dict[str, list[str]] | None = None, **settings: Any) -> dict[str, dict[str, Any]]:
    rendered = manifests(NODES if nodes is None else nodes, IMAGES, "198.51.100.11", **settings)
    return {obj["kind"]: obj for obj in rendered}


def test_the_default_class_waits_for_the_pod_and_deletes_with_the_claim() -> None:
    assert objects()["StorageClass"] == {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "kiban-local",
            "labels": {"app.kubernetes.io/part-of": "kiban-local"},
            "annotations": {
                "storageclass.kubernetes.io/is-default-class": "true",
                "defaultVolumeType": "local",
            },
        },
        "provisioner": "kiban.baremetal/local",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowedTopologies": [
            {"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": ["node1", "node2"]}]}
        ],
    }


def test_not_the_default_class() -> None:
    annotations = objects(default_class=False)["StorageClass"]["metadata"]["annotations"]
    assert annotations["storageclass.kubernetes.io/is-default-class"] == "false"


def test_only_claimed_disks_are_named_and_there_is_no_path_for_other_nodes() -> None:
    config = json.loads(objects()["ConfigMap"]["data"]["config.json"])
    assert config == {
        "nodePathMap": [
            {"node": "cp1", "paths": []},
            {"node": "node1", "paths": ["/var/lib/kiban/local/A"]},
            {"node": "node2", "paths": ["/var/lib/kiban/local/C", "/var/lib/kiban/local/D"]},
        ]
    }


def test_without_any_disk_no_node_is_offered() -> None:
    rendered = objects({"cp1": []})
    assert "allowedTopologies" not in rendered["StorageClass"]
    assert json.loads(rendered["ConfigMap"]["data"]["config.json"]) == {"nodePathMap": [{"node": "cp1", "paths": []}]}


def test_the_helper_pod_is_named_as_the_provisioner_looks_for_it() -> None:
    helper = json.loads(objects(pull_policy="Never")["ConfigMap"]["data"]["helperPod.yaml"])
    assert helper["spec"]["containers"] == [
        {"name": "helper-pod", "image": IMAGES.helper, "imagePullPolicy": "Never"},
    ]


def test_the_provisioner_runs_before_services_work_and_on_control_planes() -> None:
    pod = objects(api_port=7443)["Deployment"]["spec"]["template"]["spec"]
    env = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert env["KUBERNETES_SERVICE_HOST"] == "198.51.100.11"
    assert env["KUBERNETES_SERVICE_PORT"] == "7443"
    assert pod["containers"][0]["image"] == IMAGES.provisioner
    assert pod["tolerations"] == [
        {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}
    ]


def test_a_new_disk_starts_a_new_provisioner_and_the_order_of_nodes_does_not() -> None:
    def mark(nodes: dict[str, list[str]]) -> str:
        return str(objects(nodes)["Deployment"]["spec"]["template"]["metadata"]["annotations"])

    turned = {name: list(reversed(NODES[name])) for name in sorted(NODES)}
    assert mark(turned) == mark(NODES)
    assert mark({**NODES, "node1": ["/var/lib/kiban/local/A", "/var/lib/kiban/local/B"]}) != mark(NODES)


def test_every_namespaced_object_is_in_the_drivers_namespace() -> None:
    for obj in manifests(NODES, IMAGES, "198.51.100.11"):
        if obj["kind"] in ("Namespace", "ClusterRole", "ClusterRoleBinding", "StorageClass"):
            assert "namespace" not in obj["metadata"], obj["kind"]
        else:
            assert obj["metadata"]["namespace"] == "kiban-storage", obj["kind"]


def test_paths_are_the_mount_points_of_claimed_disks_only() -> None:
    disks = [
        {"mounts": ["/"]},
        {"mounts": ["/var/lib/kubelet/pods/1/volumes/x", "/var/lib/kiban/local/B"]},
        {"mounts": ["/var/lib/kiban/local/A", "/var/lib/kiban/local/A/pvc-1"]},
        {"mounts": []},
        {},
    ]
    assert mounted_paths(disks) == ["/var/lib/kiban/local/A", "/var/lib/kiban/local/B"]


def test_a_server_that_is_off_keeps_its_paths_and_one_that_left_loses_them() -> None:
    running = [objects({**NODES, "old": ["/var/lib/kiban/local/X"]})["ConfigMap"]]
    read = {"cp1": [], "node1": ["/var/lib/kiban/local/A2"]}
    assert with_unread_nodes(read, running, ["node1", "node2", "cp1", "new"]) == {
        "cp1": [],
        "node1": ["/var/lib/kiban/local/A2"],
        "node2": ["/var/lib/kiban/local/C", "/var/lib/kiban/local/D"],
    }


def test_there_is_no_driver_yet() -> None:
    assert with_unread_nodes({"node1": ["/a"]}, [], ["node1", "node2"]) == {"node1": ["/a"]}


MOUNTED = "63 61 8:17 / {at} rw,relatime - ext4 /dev/sdb1 rw"
BARE = "63 61 253:2 /var/lib/kiban/local/A {at} rw,relatime - ext4 /dev/vda2 rw"


@pytest.mark.parametrize("script", ["setup", "teardown"])
@pytest.mark.parametrize(("line", "allowed"), [(MOUNTED, True), (BARE, False), ("", False)])
def test_the_scripts_refuse_the_system_disk(tmp_path: Path, script: str, line: str, allowed: bool) -> None:
    disk = tmp_path / "disk"
    volume = disk / "pvc-1"
    disk.mkdir()
    if script == "teardown":
        volume.mkdir()
        (volume / "data").write_text("x")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 253:2 / / rw - ext4 /dev/vda2 rw\n{line.format(at=disk)}\n")
    text = objects()["ConfigMap"]["data"][script].replace("/proc/self/mountinfo", str(mounts))
    env = {"VOL_DIR": str(volume), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", text], env=env, capture_output=True, check=False)
    there = volume.exists()
    assert (done.returncode == 0) is allowed, done.stderr
    assert there is (allowed if script == "setup" else not allowed)
    if not allowed:
        assert f"no disk is mounted at {disk} on this node" in done.stderr.decode()
    elif script == "setup":
        assert volume.stat().st_mode & 0o7777 == 0o777
