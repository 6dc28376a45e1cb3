# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP and TLS from outside to Services, as Ingress objects and the Gateway API say, by Traefik.

https://doc.traefik.io/traefik/. Two replicas on two nodes outlive one node; one on every node would watch every Secret
and every endpoint of the cluster as often as there are nodes. Only its providers for Ingress objects and the Gateway
API are on: no dashboard, no plugins, no certificates from elsewhere, no question to its makers for news.
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from .._site.model import Site
from .objects import api_server, named, rights

__all__ = ["CLASS", "DEFINITIONS", "IMAGE", "NAMESPACE", "arguments", "definitions", "manifests"]

IMAGE = "traefik"
DEFINITIONS = "gateway-api"
"""Artifact of the bundle with the kinds of the Gateway API."""
NAMESPACE = "traefik"
CLASS = "traefik"
"""Name of the IngressClass and of the GatewayClass."""

_NAME = "traefik"
_LABELS = {"app.kubernetes.io/name": _NAME}
# A listener of a Gateway is served by the entry point of the same port, so inside the pod these are what is outside.
_HTTP, _HTTPS, _OWN = 80, 443, 9000
# Seconds: other nodes stop sending to a pod that ends within these, and what began goes on for those.
_STILL_ACCEPTS, _FINISHES = 20, 20
_READ = ("get", "list", "watch")
_GATEWAY = "gateway.networking.k8s.io"
_ROUTES = (
    "gatewayclasses",
    "gateways",
    "httproutes",
    "grpcroutes",
    "tlsroutes",
    "referencegrants",
    "backendtlspolicies",
)


def definitions(text: str) -> list[dict[str, Any]]:
    """The kinds of the Gateway API, from the file of the bundle."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = [obj for obj in yaml.load_all(text, Loader=loader) if obj]
    return [obj for obj in found if obj["kind"] == "CustomResourceDefinition"]


def manifests(site: Site, image: str, kinds: Iterable[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Every object of it; C(kinds) are those of C(definitions)."""
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    default = {"ingressclass.kubernetes.io/is-default-class": "true"}
    return [
        named("v1", "Namespace", NAMESPACE, metadata={"labels": level}),
        *kinds,
        named("v1", "ServiceAccount", _NAME, NAMESPACE),
        *_rights(),
        _deployment(site, image),
        _budget(),
        _service(site),
        named(
            "networking.k8s.io/v1",
            "IngressClass",
            CLASS,
            metadata={"annotations": default},
            spec={"controller": "traefik.io/ingress-controller"},
        ),
        named(f"{_GATEWAY}/v1", "GatewayClass", CLASS, spec={"controllerName": "traefik.io/gateway-controller"}),
    ]


def arguments() -> list[str]:
    """The command line of Traefik."""
    grace = [
        f"transport.lifecycle.requestacceptgracetimeout={_STILL_ACCEPTS}s",
        f"transport.lifecycle.gracetimeout={_FINISHES}s",
    ]
    published = f"{NAMESPACE}/{_NAME}"
    return [
        f"--entrypoints.http.address=:{_HTTP}",
        *(f"--entrypoints.http.{one}" for one in grace),
        f"--entrypoints.https.address=:{_HTTPS}",
        "--entrypoints.https.http.tls=true",
        *(f"--entrypoints.https.{one}" for one in grace),
        # Of this name, it takes no routes of others.
        f"--entrypoints.traefik.address=:{_OWN}",
        "--ping=true",
        "--metrics.prometheus=true",
        "--providers.kubernetesingress=true",
        f"--providers.kubernetesingress.ingressendpoint.publishedservice={published}",
        "--providers.kubernetesgateway=true",
        f"--providers.kubernetesgateway.statusaddress.service.namespace={NAMESPACE}",
        f"--providers.kubernetesgateway.statusaddress.service.name={_NAME}",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
    ]


def _rights() -> list[dict[str, Any]]:
    # Certificates are in Secrets of any namespace.
    return rights(
        f"kiban:{_NAME}",
        _NAME,
        NAMESPACE,
        [
            ("", ["services", "secrets", "configmaps", "namespaces", "nodes"], _READ),
            ("discovery.k8s.io", ["endpointslices"], _READ),
            ("networking.k8s.io", ["ingresses", "ingressclasses"], _READ),
            ("networking.k8s.io", ["ingresses/status"], ["update"]),
            (_GATEWAY, _ROUTES, _READ),
            (_GATEWAY, [f"{kind}/status" for kind in _ROUTES], ["update"]),
        ],
    )


def _workers(site: Site) -> int:
    return sum("worker" in server.roles for server in site.servers)


def _deployment(site: Site, image: str) -> dict[str, Any]:
    probe = {"path": "/ping", "port": _OWN}
    ports = [("http", _HTTP), ("https", _HTTPS), ("traefik", _OWN)]
    container = {
        "name": _NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments(),
        "env": api_server(site.cluster.endpoint),
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports],
        "readinessProbe": {"httpGet": probe, "periodSeconds": 5, "timeoutSeconds": 5},
        "livenessProbe": {"httpGet": probe, "periodSeconds": 20, "timeoutSeconds": 10, "failureThreshold": 6},
        "resources": {"requests": {"cpu": "50m", "memory": "160Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    # One each, but on what is left where a node is gone: its taint takes it out of the count.
    apart = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": _LABELS},
        "matchLabelKeys": ["pod-template-hash"],
    }
    lost = [
        {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 15}
        for why in ("not-ready", "unreachable")
    ]
    own = [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}]
    workers = _workers(site)
    pod = {
        "serviceAccountName": _NAME,
        "enableServiceLinks": False,
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": lost if workers else [*lost, *own],
        "topologySpreadConstraints": [apart],
        "terminationGracePeriodSeconds": _STILL_ACCEPTS + _FINISHES + 10,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
            # Nobody may open ports 80 and 443 then, in the pod alone.
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        },
        "containers": [container],
    }
    return named(
        "apps/v1",
        "Deployment",
        _NAME,
        NAMESPACE,
        metadata={"labels": _LABELS},
        spec={
            "replicas": min(2, workers or len(site.servers)),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": _LABELS},
            "template": {"metadata": {"labels": _LABELS}, "spec": pod},
        },
    )


def _budget() -> dict[str, Any]:
    # Not a number that stays: with one replica alone no node could be drained.
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _LABELS}}
    return named("policy/v1", "PodDisruptionBudget", _NAME, NAMESPACE, metadata={"labels": _LABELS}, spec=spec)


def _service(site: Site) -> dict[str, Any]:
    """With a load balancer an address of its pools, with the address of who asks kept; else a port on every node."""
    ingress = site.cluster.ingress
    ports: list[dict[str, Any]] = [
        {"name": "http", "port": _HTTP, "targetPort": "http", "protocol": "TCP"},
        {"name": "https", "port": _HTTPS, "targetPort": "https", "protocol": "TCP"},
    ]
    metadata: dict[str, Any] = {"labels": _LABELS}
    if site.cluster.load_balancer:
        kind = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": False}
        if ingress.address:
            metadata["annotations"] = {"metallb.io/loadBalancerIPs": ingress.address}
    else:
        kind = {"type": "NodePort", "externalTrafficPolicy": "Cluster"}
        ports[0]["nodePort"], ports[1]["nodePort"] = ingress.http_node_port, ingress.https_node_port
    spec = {**kind, "selector": _LABELS, "ports": ports}
    return named("v1", "Service", _NAME, NAMESPACE, metadata=metadata, spec=spec)
