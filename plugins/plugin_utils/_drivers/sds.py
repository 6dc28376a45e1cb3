# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What storage drivers have in common: how they say what they can do, and the shape of their objects."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._site.model import Sds, Site

__all__ = [
    "MAKES_DIRECTORIES",
    "NODE_ROOT",
    "PROVISIONER_RULES",
    "READ",
    "WRITE",
    "Capabilities",
    "Parts",
    "api_server",
    "rule",
    "storage_class",
]

RBAC = "rbac.authorization.k8s.io"
READ = ["get", "list", "watch"]
WRITE = [*READ, "create", "patch", "update", "delete"]


@dataclass(frozen=True)
class Capabilities:
    """What a driver offers. The checks of the contract and docs/which-storage-driver.md are made from it."""

    driver: str
    storage_class: str
    provisioner: str
    access_modes: tuple[str, ...]
    """As Kubernetes names them: C(ReadWriteOnce), C(ReadWriteMany)."""
    moves: bool
    """A volume goes with its pod to another node; otherwise the pod stays with its volume."""
    size_enforced: bool
    """A volume ends at its size."""
    capacity_told: bool
    """The scheduler knows how much room each node has, and puts no pod where its volume does not fit."""
    expansion: bool
    """A volume grows while it is mounted, with its claim."""
    snapshots: bool
    """VolumeSnapshots can be taken."""
    workload: tuple[str, str, str]
    """Kind, namespace and name of what serves the claims."""
    room_told_by: str = ""
    """Who tells how much room is left under a volume: its C(node), or the C(server) of all of them; empty: nobody."""

    def used_by(self, site: Site) -> bool:
        return any(sds.driver == self.driver for sds in site.cluster.sds)

    def chosen_by(self, site: Site) -> Sds:
        """The site's words about the driver; KeyError if it does not use it."""
        for sds in site.cluster.sds:
            if sds.driver == self.driver:
                return sds
        raise KeyError(self.driver)

    @property
    def not_offered(self) -> list[str]:
        """In words, for results and pages."""
        offers = {
            "volumes for many writers": "ReadWriteMany" in self.access_modes,
            "volumes that move to another node": self.moves,
            "a limit of size": self.size_enforced,
            "nodes chosen by their room": self.capacity_told,
            "expansion": self.expansion,
            "snapshots": self.snapshots,
        }
        return [what for what, offered in offers.items() if not offered]


@dataclass(frozen=True)
class Parts:
    """Makes the objects of one driver: all in one namespace, with one label."""

    part_of: str
    namespace: str

    def object(self, api: str, kind: str, name: str, namespaced: bool = True, **rest: Any) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": name, "labels": {"app.kubernetes.io/part-of": self.part_of}}
        if namespaced:
            metadata["namespace"] = self.namespace
        metadata["labels"].update(rest.pop("labels", {}))
        if "annotations" in rest:
            metadata["annotations"] = rest.pop("annotations")
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}

    def own_namespace(self, level: str) -> dict[str, Any]:
        """The namespace. C(level) is the Pod Security Standard that its pods need."""
        labels = {"pod-security.kubernetes.io/enforce": level}
        return self.object("v1", "Namespace", self.namespace, namespaced=False, labels=labels)

    def rights(
        self, name: str, cluster: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """A service account, with rules that hold in the cluster and rules that hold in the driver's namespace."""
        found = [
            self.object("v1", "ServiceAccount", name),
            self.object(f"{RBAC}/v1", "ClusterRole", f"kiban:{name}", namespaced=False, rules=list(cluster)),
            self._binding("ClusterRole", name),
        ]
        if own:
            found += [self.object(f"{RBAC}/v1", "Role", name, rules=list(own)), self._binding("Role", name)]
        return found

    def provisioner(
        self, name: str, container: Mapping[str, Any], pod: Mapping[str, Any], kind: str = "Deployment"
    ) -> dict[str, Any]:
        """What makes the volumes, by the account of its name. C(container) and C(pod) have what is the driver's own."""
        labels = {"app.kubernetes.io/name": name}
        limits = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}
        spec = {
            "serviceAccountName": name,
            "priorityClassName": "system-cluster-critical",
            **pod,
            "containers": [{"name": name, "resources": limits, **container}],
        }
        template = {"metadata": {"labels": labels}, "spec": spec}
        one = {"replicas": 1, "strategy": {"type": "Recreate"}} if kind == "Deployment" else {}
        spec = {**one, "selector": {"matchLabels": labels}, "template": template}
        return self.object("apps/v1", kind, name, labels=labels, spec=spec)

    def _binding(self, kind: str, account: str) -> dict[str, Any]:
        name = account if kind == "Role" else f"kiban:{account}"
        return self.object(
            f"{RBAC}/v1",
            f"{kind}Binding",
            name,
            namespaced=kind == "Role",
            roleRef={"apiGroup": RBAC, "kind": kind, "name": name},
            subjects=[{"kind": "ServiceAccount", "name": account, "namespace": self.namespace}],
        )


def rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def storage_class(parts: Parts, can: Capabilities, default_class: bool, **rest: Any) -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": str(default_class).lower()}
    annotations.update(rest.pop("annotations", {}))
    if can.expansion:
        rest["allowVolumeExpansion"] = True
    return parts.object(
        "storage.k8s.io/v1",
        "StorageClass",
        can.storage_class,
        namespaced=False,
        annotations=annotations,
        provisioner=can.provisioner,
        reclaimPolicy="Delete",
        **rest,
    )


# The API server's real address: its Service address works only once kube-proxy does.
def api_server(host: str, port: int) -> list[dict[str, str]]:
    return [
        {"name": "KUBERNETES_SERVICE_HOST", "value": host},
        {"name": "KUBERNETES_SERVICE_PORT", "value": str(port)},
    ]


# What of a provisioner's container and pod goes with how it makes volumes: on the root of a node with the node's own
# programs, or as directories, where it may run on any server.
NODE_ROOT: tuple[dict[str, Any], dict[str, Any]] = (
    {
        "volumeMounts": [{"name": "node", "mountPath": "/node", "mountPropagation": "HostToContainer"}],
        "securityContext": {"privileged": True},
    },
    {
        # LVM and udev agree by semaphores when a device is ready.
        "hostIPC": True,
        "tolerations": [{"operator": "Exists"}],
        "volumes": [{"name": "node", "hostPath": {"path": "/", "type": "Directory"}}],
    },
)
MAKES_DIRECTORIES: tuple[dict[str, Any], dict[str, Any]] = (
    {
        "securityContext": {
            "allowPrivilegeEscalation": False,
            # Directories of volumes belong to the users of pods.
            "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "FOWNER"]},
            "readOnlyRootFilesystem": True,
        },
    },
    {"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}]},
)

# What watches claims and makes volumes needs this of the API server, whatever the volumes are.
PROVISIONER_RULES = (
    rule("", ["persistentvolumes"], WRITE),
    rule("", ["persistentvolumeclaims"], [*READ, "update", "patch"]),
    rule("", ["nodes"], READ),
    rule("", ["events"], ["create", "patch", "update"]),
    rule("storage.k8s.io", ["storageclasses"], READ),
)
