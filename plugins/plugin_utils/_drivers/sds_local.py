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

from .._site.model import Site
from .sds import READ, WRITE, Capabilities, Parts, api_server, rule, storage_class

__all__ = [
    "CAPABILITIES",
    "MOUNT_ROOT",
    "NAMESPACE",
    "STORAGE_CLASS",
    "Images",
    "holders",
    "manifests",
    "mounted_paths",
    "of_model",
    "with_unread_nodes",
]

NAMESPACE = "kiban-storage"
STORAGE_CLASS = "kiban-local"
MOUNT_ROOT = "/var/lib/kiban/local"
_NAME = "local-path-provisioner"
_CONFIG = "local-path-config"
_PARTS = Parts("kiban-local", NAMESPACE)

CAPABILITIES = Capabilities(
    driver="local",
    storage_class=STORAGE_CLASS,
    provisioner="kiban.baremetal/local",
    access_modes=("ReadWriteOnce",),
    moves=False,
    size_enforced=False,
    capacity_told=False,
    expansion=False,
    snapshots=False,
    workload=("deployment", NAMESPACE, _NAME),
    room_told_by="node",
)

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


def holders(site: Site) -> list[str]:
    """The servers that volumes can be on, as far as the model tells: those whose profile has data disks."""
    return [server.name for server in site.servers if "data" in site.profiles[server.profile].disks]


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
        # The helper pods work on host paths, which only this level allows.
        _PARTS.own_namespace("privileged"),
        *_rights(),
        _PARTS.object("v1", "ConfigMap", _CONFIG, data=config),
        _deployment(images, config, api_host, api_port, pull_policy),
        _storage_class(nodes, default_class),
    ]


def of_model(images: Mapping[str, str], api_host: str) -> list[dict[str, Any]]:
    """What does not follow from the disks of the servers; nothing where the bundle has not both C(images)."""
    if not {_NAME, "agnhost"} <= images.keys():
        return []
    found = manifests({}, Images(images[_NAME], images["agnhost"]), api_host)
    return [obj for obj in found if obj["kind"] not in ("ConfigMap", "StorageClass")]


def _rights() -> list[dict[str, Any]]:
    cluster = [
        rule("", ["nodes", "persistentvolumeclaims", "configmaps", "pods"], READ),
        rule("", ["persistentvolumes"], WRITE),
        rule("", ["events"], ["create", "patch"]),
        rule("storage.k8s.io", ["storageclasses"], READ),
    ]
    own = [
        rule("", ["pods"], WRITE),
        rule("", ["pods/log"], ["get"]),
    ]
    return _PARTS.rights(_NAME, cluster, own)


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
        f"--provisioner-name={CAPABILITIES.provisioner}",
    ]
    command += [f"--service-account-name={_NAME}", f"--configmap-name={_CONFIG}", f"--helper-image={images.helper}"]
    env: list[dict[str, Any]] = [
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "CONFIG_MOUNT_PATH", "value": "/etc/config/"},
        *api_server(api_host, api_port),
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
    return _PARTS.object("apps/v1", "Deployment", _NAME, labels=labels, spec=spec)


def _storage_class(nodes: Mapping[str, Sequence[str]], default_class: bool) -> dict[str, Any]:
    # Not hostPath: a volume whose disk did not come back must fail to mount, not start empty on the system disk.
    rest: dict[str, Any] = {"annotations": {"defaultVolumeType": "local"}, "volumeBindingMode": "WaitForFirstConsumer"}
    usable = sorted(node for node in nodes if nodes[node])
    if usable:
        # So that the scheduler puts no pod with a claim on a node that has no disk for it.
        expressions = [{"key": "kubernetes.io/hostname", "values": usable}]
        rest["allowedTopologies"] = [{"matchLabelExpressions": expressions}]
    return storage_class(_PARTS, CAPABILITIES, default_class, **rest)
