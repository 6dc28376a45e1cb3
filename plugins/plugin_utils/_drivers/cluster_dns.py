# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cluster DNS: CoreDNS under the names that kubeadm gives it, with a configuration that fits the site.

kubeadm's own asks the server's resolvers for names outside. CoreDNS ends at once where there are none, and the kubelet
starts it again later each time, so kubeadm leaves it to us.
Objects: https://github.com/kubernetes/kubernetes/blob/v1.36.3/cmd/kubeadm/app/phases/addons/dns/manifests.go
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import ipaddress
from typing import Any

from .._site.model import Site

__all__ = ["manifests"]

_NAMESPACE = "kube-system"
_NAME = "coredns"
_SELECTOR = {"k8s-app": "kube-dns"}
_ROLE = "system:coredns"
_DNS, _METRICS, _HEALTH, _READY = 53, 9153, 8080, 8181


def manifests(site: Site, image: str) -> list[dict[str, Any]]:
    """Every object of cluster DNS. C(image) is the reference by which nodes know CoreDNS."""
    return [
        _object("v1", "ServiceAccount", _NAME),
        *_rights(),
        _object("v1", "ConfigMap", _NAME, data={"Corefile": _corefile(forward=bool(site.dns))}),
        _deployment(image, replicas=min(2, len(site.servers))),
        _service([str(ipaddress.ip_network(services)[10]) for services in site.cluster.sdn.service_networks]),
    ]


def _object(api: str, kind: str, name: str, namespaced: bool = True, **rest: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, **rest.pop("metadata", {})}
    if namespaced:
        metadata["namespace"] = _NAMESPACE
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}


def _rights() -> list[dict[str, Any]]:
    group = "rbac.authorization.k8s.io"
    verbs = ["list", "watch"]
    return [
        _object(
            f"{group}/v1",
            "ClusterRole",
            _ROLE,
            namespaced=False,
            rules=[
                {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": verbs},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
            ],
        ),
        _object(
            f"{group}/v1",
            "ClusterRoleBinding",
            _ROLE,
            namespaced=False,
            roleRef={"apiGroup": group, "kind": "ClusterRole", "name": _ROLE},
            subjects=[{"kind": "ServiceAccount", "name": _NAME, "namespace": _NAMESPACE}],
        ),
    ]


def _corefile(forward: bool) -> str:
    lines = [
        f".:{_DNS} {{",
        "    errors",
        "    health {",
        "       lameduck 5s",
        "    }",
        "    ready",
        "    kubernetes cluster.local in-addr.arpa ip6.arpa {",
        "       pods insecure",
        "       fallthrough in-addr.arpa ip6.arpa",
        "       ttl 30",
        "    }",
        f"    prometheus :{_METRICS}",
        *(["    forward . /etc/resolv.conf {", "       max_concurrent 1000", "    }"] if forward else []),
        "    cache 30 {",
        "       disable success cluster.local",
        "       disable denial cluster.local",
        "    }",
        "    loop",
        "    reload",
        "    loadbalance",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _deployment(image: str, replicas: int) -> dict[str, Any]:
    container = {
        "name": _NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "ports": [
            {"name": "dns", "containerPort": _DNS, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": _DNS, "protocol": "TCP"},
            {"name": "metrics", "containerPort": _METRICS, "protocol": "TCP"},
        ],
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": _HEALTH, "scheme": "HTTP"},
            "initialDelaySeconds": 60,
            "timeoutSeconds": 5,
            "failureThreshold": 5,
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": _READY, "scheme": "HTTP"}, "timeoutSeconds": 5},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    apart = {"labelSelector": {"matchLabels": _SELECTOR}, "topologyKey": "kubernetes.io/hostname"}
    pod = {
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": _NAME,
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": apart}]
            }
        },
        "tolerations": [
            {"key": "CriticalAddonsOnly", "operator": "Exists"},
            {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
        ],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "dnsPolicy": "Default",
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": _NAME, "items": [{"key": "Corefile", "path": "Corefile"}]}}
        ],
    }
    return _object(
        "apps/v1",
        "Deployment",
        _NAME,
        metadata={"labels": _SELECTOR},
        spec={
            "replicas": replicas,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "selector": {"matchLabels": _SELECTOR},
            "template": {"metadata": {"labels": _SELECTOR}, "spec": pod},
        },
    )


def _service(addresses: list[str]) -> dict[str, Any]:
    both = {"clusterIPs": addresses, "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
    return _object(
        "v1",
        "Service",
        "kube-dns",
        metadata={
            "labels": {**_SELECTOR, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
            "annotations": {"prometheus.io/port": str(_METRICS), "prometheus.io/scrape": "true"},
        },
        spec={
            # kubeadm tells every kubelet this address: the tenth of the range.
            "clusterIP": addresses[0],
            **(both if len(addresses) > 1 else {}),
            "selector": _SELECTOR,
            "ports": [
                {"name": "dns", "port": _DNS, "protocol": "UDP", "targetPort": _DNS},
                {"name": "dns-tcp", "port": _DNS, "protocol": "TCP", "targetPort": _DNS},
                {"name": "metrics", "port": _METRICS, "protocol": "TCP", "targetPort": _METRICS},
            ],
        },
    )
