# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage driver C(local) in its first form: volumes are directories on claimed disks."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "MOUNT_ROOT",
    "NAMESPACE",
    "STORAGE_CLASS",
    "Images",
    "manifests",
    "mounted_paths",
    "with_unread_nodes",
]

NAMESPACE = "kiban-storage"
STORAGE_CLASS = "kiban-local"
MOUNT_ROOT = "/var/lib/kiban/local"
_NAME = "local-path-provisioner"
_CONFIG = "local-path-config"
_PROVISIONER = "kiban.baremetal/local"

# The pod sees the disk's mount point as a bind mount. Its fourth field is "/" only where a file system is really
# mounted on the node; a bare directory of the system disk shows its path there, and is refused.
_ON_A_DISK = """\
#!/bin/sh
set -eu
parent=${VOL_DIR%/*}
root=
while read -r _ _ _ from at _; do
  if [ "$at" = "$parent" ]; then root=$from; fi
done < /proc/self/mountinfo
if [ "$root" != / ]; then
  echo "no disk is mounted at $parent on this node: refusing to use the system disk" >&2
  exit 1
fi
"""
_SETUP = _ON_A_DISK + 'mkdir -m 0777 -p "$VOL_DIR"\n'
_TEARDOWN = _ON_A_DISK + 'rm -rf "$VOL_DIR"\n'


@dataclass(frozen=True)
class Images:
    provisioner: str
    helper: str
    """Any image with C(/bin/sh), C(mkdir) and C(rm)."""


def mounted_paths(disks: Sequence[Mapping[str, Any]]) -> list[str]:
    """The mount points of a server's claimed disks, from its disk records."""
    mounts = {path for disk in disks for path in disk.get("mounts") or ()}
    return sorted(path for path in mounts if posixpath.dirname(path) == MOUNT_ROOT)


def with_unread_nodes(
    read: Mapping[str, Sequence[str]], config_maps: Sequence[Mapping[str, Any]], servers: Sequence[str]
) -> dict[str, list[str]]:
    """What was read now, and for servers that could not be read what the running driver was told before.

    A server that is off for a while keeps its place; one that left the model loses it.
    """
    before: dict[str, list[str]] = {}
    for config_map in config_maps:
        told = json.loads((config_map.get("data") or {}).get("config.json") or "{}")
        before.update({entry["node"]: entry.get("paths") or [] for entry in told.get("nodePathMap") or []})
    known = {**before, **read}
    return {name: sorted(known[name]) for name in sorted(servers) if name in known}


def manifests(
    nodes: Mapping[str, Sequence[str]],
    images: Images,
    api_host: str,
    api_port: int = 6443,
    pull_policy: str = "IfNotPresent",
    default_class: bool = True,
) -> list[dict[str, Any]]:
    """Every object of the driver. `nodes` holds the mount points of each node's claimed disks."""
    config = _config(nodes, images, pull_policy)
    return [
        _namespace(),
        *_rights(),
        _object("v1", "ConfigMap", _CONFIG, data=config),
        _deployment(images, config, api_host, api_port, pull_policy),
        _storage_class(nodes, default_class),
    ]


def _object(api: str, kind: str, name: str, namespaced: bool = True, **rest: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": {"app.kubernetes.io/part-of": "kiban-local"}}
    if namespaced:
        metadata["namespace"] = NAMESPACE
    metadata["labels"].update(rest.pop("labels", {}))
    if "annotations" in rest:
        metadata["annotations"] = rest.pop("annotations")
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}


def _namespace() -> dict[str, Any]:
    # The helper pods work on host paths, which only this level allows.
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    return _object("v1", "Namespace", NAMESPACE, namespaced=False, labels=labels)


def _rights() -> list[dict[str, Any]]:
    rbac = "rbac.authorization.k8s.io"
    read, write = ["get", "list", "watch"], ["get", "list", "watch", "create", "patch", "update", "delete"]

    def rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
        return {"apiGroups": [group], "resources": resources, "verbs": verbs}

    def binding(kind: str, namespaced: bool) -> dict[str, Any]:
        return _object(
            f"{rbac}/v1",
            f"{kind}Binding",
            _NAME if namespaced else f"kiban:{_NAME}",
            namespaced=namespaced,
            roleRef={"apiGroup": rbac, "kind": kind, "name": _NAME if namespaced else f"kiban:{_NAME}"},
            subjects=[{"kind": "ServiceAccount", "name": _NAME, "namespace": NAMESPACE}],
        )

    cluster = [
        rule("", ["nodes", "persistentvolumeclaims", "configmaps", "pods"], read),
        rule("", ["persistentvolumes"], write),
        rule("", ["events"], ["create", "patch"]),
        rule("storage.k8s.io", ["storageclasses"], read),
    ]
    own = [
        rule("", ["pods"], write),
        rule("", ["pods/log"], ["get"]),
    ]
    return [
        _object("v1", "ServiceAccount", _NAME),
        _object(f"{rbac}/v1", "ClusterRole", f"kiban:{_NAME}", namespaced=False, rules=cluster),
        binding("ClusterRole", namespaced=False),
        _object(f"{rbac}/v1", "Role", _NAME, rules=own),
        binding("Role", namespaced=True),
    ]


def _config(nodes: Mapping[str, Sequence[str]], images: Images, pull_policy: str) -> dict[str, str]:
    # No DEFAULT_PATH_FOR_NON_LISTED_NODES: a node without claimed disks gives no volumes.
    paths = [{"node": node, "paths": sorted(nodes[node])} for node in sorted(nodes)]
    helper = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "volume"},
        "spec": {
            "priorityClassName": "system-node-critical",
            "automountServiceAccountToken": False,
            # By this very name the provisioner looks for its log.
            "containers": [{"name": "helper-pod", "image": images.helper, "imagePullPolicy": pull_policy}],
        },
    }
    return {
        "config.json": json.dumps({"nodePathMap": paths}, indent=2) + "\n",
        "helperPod.yaml": json.dumps(helper, indent=2) + "\n",
        "setup": _SETUP,
        "teardown": _TEARDOWN,
    }


def _deployment(
    images: Images, config: Mapping[str, str], api_host: str, api_port: int, pull_policy: str
) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": _NAME}
    command = [
        f"/usr/bin/{_NAME}",
        "start",
        "--config",
        "/etc/config/config.json",
        f"--provisioner-name={_PROVISIONER}",
    ]
    command += [f"--service-account-name={_NAME}", f"--configmap-name={_CONFIG}", f"--helper-image={images.helper}"]
    env: list[dict[str, Any]] = [
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "CONFIG_MOUNT_PATH", "value": "/etc/config/"},
        # The API server's real address: its Service address works only once kube-proxy does.
        {"name": "KUBERNETES_SERVICE_HOST", "value": api_host},
        {"name": "KUBERNETES_SERVICE_PORT", "value": str(api_port)},
    ]
    container = {
        "name": _NAME,
        "image": images.provisioner,
        "imagePullPolicy": pull_policy,
        "command": command,
        "env": env,
        "volumeMounts": [{"name": "config", "mountPath": "/etc/config/"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "serviceAccountName": _NAME,
        "priorityClassName": "system-cluster-critical",
        "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": _CONFIG}}],
    }
    # A new configuration starts a new pod: a mounted ConfigMap would follow only minutes later.
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
    template = {"metadata": {"labels": labels, "annotations": {"kiban.baremetal/config": digest}}, "spec": pod}
    spec = {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels}, "template": template}
    return _object("apps/v1", "Deployment", _NAME, labels=labels, spec=spec)


def _storage_class(nodes: Mapping[str, Sequence[str]], default_class: bool) -> dict[str, Any]:
    annotations = {
        "storageclass.kubernetes.io/is-default-class": str(default_class).lower(),
        # Not hostPath: a volume whose disk did not come back must fail to mount, not start empty on the system disk.
        "defaultVolumeType": "local",
    }
    rest: dict[str, Any] = {}
    usable = sorted(node for node in nodes if nodes[node])
    if usable:
        # So that the scheduler puts no pod with a claim on a node that has no disk for it.
        expressions = [{"key": "kubernetes.io/hostname", "values": usable}]
        rest["allowedTopologies"] = [{"matchLabelExpressions": expressions}]
    return _object(
        "storage.k8s.io/v1",
        "StorageClass",
        STORAGE_CLASS,
        namespaced=False,
        annotations=annotations,
        provisioner=_PROVISIONER,
        reclaimPolicy="Delete",
        volumeBindingMode="WaitForFirstConsumer",
        **rest,
    )
