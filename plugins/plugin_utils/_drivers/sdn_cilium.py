# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network driver C(cilium): pods travel between servers in VXLAN, Services are Cilium's too, without kube-proxy.

Objects: https://github.com/cilium/cilium/tree/v1.19.1/install/kubernetes/cilium/templates
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .._site.model import Server, Site
from . import sdn_bgp
from .objects import Rule, api_server, from_field, named, on_every_node, rights

__all__ = [
    "IMAGES",
    "KINDS",
    "PLUGIN",
    "cni_config",
    "definitions",
    "manifests",
    "networkd_files",
    "router_files",
    "settings",
]

PLUGIN = "cilium-cni"
IMAGES = ("cilium-agent", "cilium-operator")
KINDS = (
    "ciliumcidrgroups",
    "ciliumclusterwidenetworkpolicies",
    "ciliumendpoints",
    "ciliumidentities",
    "ciliuml2announcementpolicies",
    "ciliumloadbalancerippools",
    "ciliumnetworkpolicies",
    "ciliumnodeconfigs",
    "ciliumnodes",
    "ciliumpodippools",
)
"""Of C(cilium.io): what the operator defines with these settings."""

_NAMESPACE = "kube-system"
_AGENT, _OPERATOR, _SETTINGS = "cilium", "cilium-operator", "cilium-config"
_CONFIG = "/tmp/cilium/config-map"  # where the publisher's chart has it
_AGENT_HEALTH, _OPERATOR_HEALTH = 9879, 9234
_CGROUPS = "/sys/fs/cgroup"

_READ, _WATCH = ("get", "list", "watch"), ("list", "watch")
_AGENT_RULES: tuple[Rule, ...] = (
    ("networking.k8s.io", ("networkpolicies",), _READ),
    ("discovery.k8s.io", ("endpointslices",), _READ),
    ("", ("namespaces", "services", "pods", "endpoints", "nodes"), _READ),
    ("apiextensions.k8s.io", ("customresourcedefinitions",), _READ),
    ("cilium.io", KINDS, _WATCH),
    ("cilium.io", ("ciliumidentities", "ciliumendpoints", "ciliumnodes"), ("create",)),
    ("cilium.io", ("ciliumidentities",), ("update",)),
    ("cilium.io", ("ciliumendpoints",), ("delete", "get")),
    ("cilium.io", ("ciliumnodes", "ciliumnodes/status"), ("get", "update")),
    ("cilium.io", ("ciliumendpoints/status", "ciliumendpoints"), ("patch",)),
)
_OPERATOR_RULES: tuple[Rule, ...] = (
    ("", ("pods", "nodes", "services", "endpoints", "namespaces"), _READ),
    ("discovery.k8s.io", ("endpointslices",), _READ),
    ("cilium.io", KINDS, _READ),
    (
        "cilium.io",
        ("ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies"),
        ("create", "update", "patch", "deletecollection"),
    ),
    (
        "cilium.io",
        ("ciliumnetworkpolicies/status", "ciliumclusterwidenetworkpolicies/status"),
        ("patch", "update"),
    ),
    ("cilium.io", ("ciliumendpoints", "ciliumidentities"), ("delete", "update")),
    ("cilium.io", ("ciliumnodes",), ("create", "update", "delete")),
    ("cilium.io", ("ciliumnodes/status",), ("update",)),
    ("apiextensions.k8s.io", ("customresourcedefinitions",), ("create", *_READ, "update")),
    ("coordination.k8s.io", ("leases",), ("create", "get", "update")),
)


def cni_config(_site: Site, _server: Server) -> str:
    """The container network: the agent on the same node gives pods their addresses and opens their ports."""
    plugin = {"type": "cilium-cni", "enable-debug": False, "log-file": "/run/cilium/cilium-cni.log"}
    return json.dumps({"cniVersion": "1.0.0", "name": "kiban", "plugins": [plugin]}, indent=2) + "\n"


networkd_files = sdn_bgp.networkd_files


def router_files(_site: Site, _server: Server) -> dict[str, str]:
    """Answers come by other devices than the kernel expects: https://github.com/cilium/cilium/issues/10645."""
    return {
        "/etc/sysctl.d/95-kiban-cilium.conf": (
            "-net.ipv4.conf.lxc*.rp_filter = 0\n-net.ipv4.conf.cilium_*.rp_filter = 0\n"
            "net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.default.rp_filter = 0\n"
        )
    }


def settings(site: Site) -> dict[str, str]:
    """Options of agent and operator, each of which leaves those of the other alone."""
    return {
        "agent-health-port": str(_AGENT_HEALTH),
        "bpf-lb-sock": "true",
        "cgroup-root": _CGROUPS,
        # The plugin's file is the server's: it names no device and no address.
        "cni-exclusive": "false",
        "enable-bpf-masquerade": "true",
        "enable-dynamic-config": "false",
        "enable-endpoint-health-checking": "false",
        "enable-envoy-config": "false",
        "enable-health-checking": "false",
        "enable-hubble": "false",
        "enable-ipv4": "true",
        "enable-ipv4-masquerade": "true",
        "enable-ipv6": "false",
        # Policies of requests would need Envoy, which is not there.
        "enable-l7-proxy": "false",
        "identity-allocation-mode": "crd",
        # Everything is done by programs in the kernel, so the image has no iptables.
        "install-iptables-rules": "false",
        # Each node's range is the model's: the site chain writes it into the Node object.
        "ipam": "kubernetes",
        "kube-proxy-replacement": "true",
        "operator-api-serve-addr": f"127.0.0.1:{_OPERATOR_HEALTH}",
        # Conditions and taints of nodes are nobody's but the kubelet's and the model's.
        "remove-cilium-node-taints": "false",
        "routing-mode": "tunnel",
        "set-cilium-is-up-condition": "false",
        "tunnel-protocol": "vxlan",
        # It restarts pods of cluster DNS that ran before Cilium. There are none.
        "unmanaged-pod-watcher-interval": "0",
    }


def manifests(site: Site, images: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every object of it but the definitions of its kinds, which its operator keeps."""
    chosen = settings(site)
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]
    found = []
    for account, rules in ((_AGENT, _AGENT_RULES), (_OPERATOR, _OPERATOR_RULES)):
        found += [
            named("v1", "ServiceAccount", account, _NAMESPACE),
            *rights(f"kiban:{account}", account, _NAMESPACE, rules),
        ]
    # The operator looks for a DaemonSet of an encryption that nobody turned on, to take it away.
    looks: list[Rule] = [("apps", ("daemonsets",), ("get",))]
    return [
        *found,
        *rights(f"kiban:{_OPERATOR}", _OPERATOR, _NAMESPACE, looks, _NAMESPACE),
        named("v1", "ConfigMap", _SETTINGS, _NAMESPACE, data=chosen),
        _operator(images[IMAGES[1]], site.cluster.endpoint, digest),
        _agent(images[IMAGES[0]], site.cluster.endpoint, digest),
    ]


def definitions() -> list[dict[str, Any]]:
    """By name: what the operator defines, and with which all objects of these kinds go."""
    group = "apiextensions.k8s.io/v1"
    return [named(group, "CustomResourceDefinition", f"{kind}.cilium.io") for kind in KINDS]


def _container(name: str, image: str, program: str, host: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [program],
        "args": [f"--config-dir={_CONFIG}"],
        "env": [
            from_field("K8S_NODE_NAME", "spec.nodeName"),
            from_field("CILIUM_K8S_NAMESPACE", "metadata.namespace"),
            *api_server(host),
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _asked(port: int, period: int, failures: int) -> dict[str, Any]:
    ask = {"host": "127.0.0.1", "path": "/healthz", "port": port, "httpHeaders": [{"name": "brief", "value": "true"}]}
    return {"httpGet": ask, "periodSeconds": period, "timeoutSeconds": 10, "failureThreshold": failures}


def _agent(image: str, host: str, digest: str) -> dict[str, Any]:
    # Name, path on the node, path in the container, how mounts of the one are seen in the other.
    places = [
        ("bpf", "/sys/fs/bpf", "/sys/fs/bpf", "Bidirectional"),
        ("cgroups", _CGROUPS, _CGROUPS, None),
        ("modules", "/lib/modules", "/lib/modules", None),
        ("netns", "/run/netns", "/var/run/cilium/netns", "HostToContainer"),
        ("run", "/run/cilium", "/var/run/cilium", None),
    ]
    container = {
        **_container("cilium-agent", image, "cilium-agent", host),
        # A server that is emulated in software compiles for minutes.
        "startupProbe": _asked(_AGENT_HEALTH, 5, 240),
        "livenessProbe": _asked(_AGENT_HEALTH, 30, 10),
        "readinessProbe": _asked(_AGENT_HEALTH, 10, 3),
        "resources": {"requests": {"cpu": "100m", "memory": "200Mi"}},
        # It loads programs into the kernel, makes devices and enters the network namespaces of pods.
        "securityContext": {"privileged": True},
        "volumeMounts": [
            {"name": "config", "mountPath": _CONFIG, "readOnly": True},
            *(
                {
                    "name": name,
                    "mountPath": inside,
                    **({"mountPropagation": seen} if seen else {}),
                    **({"readOnly": True} if name == "modules" else {}),
                }
                for name, _outside, inside, seen in sorted(places, key=lambda place: place[2])
            ),
        ],
    }
    pod = {
        "serviceAccountName": _AGENT,
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": _SETTINGS}},
            *(
                {"name": name, "hostPath": {"path": outside, "type": "DirectoryOrCreate"}}
                for name, outside, _inside, _seen in places
            ),
        ],
    }
    return _with_digest(on_every_node(_AGENT, _NAMESPACE, {"k8s-app": "cilium"}, pod), digest)


def _operator(image: str, host: str, digest: str) -> dict[str, Any]:
    """It defines Cilium's kinds, and takes away what nodes and pods leave behind."""
    labels = {"io.cilium/app": "operator", "name": _OPERATOR}
    container = {
        **_container(_OPERATOR, image, "cilium-operator-generic", host),
        "livenessProbe": {**_asked(_OPERATOR_HEALTH, 30, 10), "initialDelaySeconds": 60},
        "readinessProbe": _asked(_OPERATOR_HEALTH, 10, 3),
        "resources": {"requests": {"cpu": "20m", "memory": "100Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "config", "mountPath": _CONFIG, "readOnly": True}],
    }
    pod = {
        "hostNetwork": True,
        "serviceAccountName": _OPERATOR,
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": _SETTINGS}}],
    }
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    operator = named("apps/v1", "Deployment", _OPERATOR, _NAMESPACE, metadata={"labels": labels}, spec=spec)
    return _with_digest(operator, digest)


def _with_digest(workload: dict[str, Any], digest: str) -> dict[str, Any]:
    """Options are read at the start only."""
    workload["spec"]["template"]["metadata"]["annotations"] = {"kiban.baremetal/settings": digest}
    return workload
