# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage driver C(lvm): a volume is a logical volume of a volume group on the node where its pod runs."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from typing import Any

from .._site.model import Site
from .sds import NODE_ROOT, PROVISIONER_RULES, WRITE, Capabilities, Parts, api_server, rule, storage_class

__all__ = ["CAPABILITIES", "holders", "manifests"]

_NAMESPACE = "kiban-lvm"
_NAME = "lvm-provisioner"
_PARTS = Parts("kiban-lvm", _NAMESPACE)

CAPABILITIES = Capabilities(
    driver="lvm",
    storage_class="kiban-lvm",
    provisioner="lvm.kiban.baremetal",
    access_modes=("ReadWriteOnce",),
    moves=False,
    size_enforced=True,
    capacity_told=True,
    expansion=True,
    snapshots=False,
    workload=("daemonset", _NAMESPACE, _NAME),
    room_told_by="node",
)


def _volume_group(site: Site) -> str:
    return str(CAPABILITIES.chosen_by(site).volume_group)


def holders(site: Site) -> list[str]:
    """The servers that volumes can be on: those whose profile makes the volume group."""
    group = _volume_group(site)
    return sorted(
        server.name
        for server in site.servers
        if any(pool.name == group for pool in site.profiles[server.profile].storage)
    )


def manifests(
    site: Site, image: str, pull_policy: str = "IfNotPresent", default_class: bool = True, api_port: int = 6443
) -> list[dict[str, Any]]:
    """Every object of the driver. C(image) is the reference by which nodes know the provisioner."""
    cluster = [*PROVISIONER_RULES, rule("", ["persistentvolumeclaims/status"], ["patch"])]
    own = [rule("storage.k8s.io", ["csistoragecapacities"], WRITE)]
    # No CSI driver is there. This object has the scheduler look at the room that the provisioners tell.
    looks = {"attachRequired": False, "podInfoOnMount": False, "storageCapacity": True}
    return [
        # It runs the node's own LVM, on the node's root.
        _PARTS.own_namespace("privileged"),
        *_PARTS.rights(_NAME, cluster, own),
        _PARTS.object("storage.k8s.io/v1", "CSIDriver", CAPABILITIES.provisioner, namespaced=False, spec=looks),
        _daemon_set(site, image, api_port, pull_policy),
        storage_class(
            _PARTS,
            CAPABILITIES,
            default_class,
            volumeBindingMode="WaitForFirstConsumer",
            parameters={"fsType": "ext4"},
        ),
    ]


def _daemon_set(site: Site, image: str, api_port: int, pull_policy: str) -> dict[str, Any]:
    its_container, its_pod = NODE_ROOT
    container = {
        **its_container,
        "image": image,
        "imagePullPolicy": pull_policy,
        "args": [
            "lvm",
            "--node=$(NODE)",
            f"--volume-group={_volume_group(site)}",
            f"--class={CAPABILITIES.storage_class}",
            f"--namespace={_NAMESPACE}",
            "--root=/node",
        ],
        "env": [
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            *api_server(site.cluster.endpoint, api_port),
        ],
    }
    expressions = [{"key": "kubernetes.io/hostname", "operator": "In", "values": holders(site)}]
    terms = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    pod = {
        **its_pod,
        "priorityClassName": "system-node-critical",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
    }
    return _PARTS.provisioner(_NAME, container, pod, kind="DaemonSet")
