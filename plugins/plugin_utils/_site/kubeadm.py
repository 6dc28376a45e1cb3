# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubeadm's configuration of a site, rendered from the site model. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from .ipam import address6
from .kubelet import kubelet_config
from .model import Server, Site

__all__ = ["init_config", "join_config", "join_patches", "patches"]

_API = "kubeadm.k8s.io/v1beta4"
API_PORT = 6443
_PATCHES = "/etc/kubernetes/kiban/patches"
# The probes that kubeadm's static pods have.
_PROBES = {
    "etcd": ("liveness", "readiness"),
    "kube-apiserver": ("liveness", "readiness"),
    "kube-controller-manager": ("liveness",),
    "kube-scheduler": ("liveness", "readiness"),
}

# kubeadm's defaults are for servers that start a container in a second. These are three times what a server
# needs that is emulated in software on a busy two-core host.
_TIMEOUTS = {
    "controlPlaneComponentHealthCheck": "10m0s",
    "kubeletHealthCheck": "5m0s",
    "kubernetesAPICall": "3m0s",
    "etcdAPICall": "5m0s",
    "tlsBootstrap": "5m0s",
    "discovery": "5m0s",
}


def init_config(site: Site, server: Server, images: Mapping[str, str]) -> str:
    """InitConfiguration and its companions for the first control-plane server.

    C(images): image tags that differ from what kubeadm would choose, by component (C(etcd), C(coredns)).
    """
    cluster = site.cluster
    extra, proxied = cluster.extra_args, cluster.sdn.kube_proxy
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": _API,
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": server.addresses["node"], "bindPort": API_PORT},
            "nodeRegistration": _registration(site, server),
            "timeouts": _TIMEOUTS,
            # The control host applies cluster DNS: see _drivers/cluster_dns.py.
            "skipPhases": ["addon/coredns", *([] if proxied else ["addon/kube-proxy"])],
            **({"patches": {"directory": _PATCHES}} if patches(site) else {}),
        },
        {
            "apiVersion": _API,
            "kind": "ClusterConfiguration",
            "clusterName": site.name,
            "kubernetesVersion": cluster.kubernetes,
            # Elliptic curve keys: 1 s instead of 11 to 22 s on a slow server, and safe.
            "encryptionAlgorithm": "ECDSA-P256",
            "controlPlaneEndpoint": f"{cluster.endpoint}:{API_PORT}",
            "networking": {"podSubnet": _pods(site), "serviceSubnet": ",".join(cluster.sdn.service_networks)},
            "dns": {"imageTag": images["coredns"]} if "coredns" in images else {},
            "etcd": {
                "local": {
                    **({"imageTag": images["etcd"]} if "etcd" in images else {}),
                    "extraArgs": _arguments(extra.get("etcd", {})),
                }
            },
            "apiServer": {"extraArgs": _arguments(extra.get("api_server", {}))},
            # Every node has its pod range from the site model, so nothing is allocated.
            "controllerManager": {
                "extraArgs": _arguments({"allocate-node-cidrs": "false", **extra.get("controller_manager", {})})
            },
            "scheduler": {"extraArgs": _arguments(extra.get("scheduler", {}))},
        },
        *([_proxy_config(site)] if proxied else []),
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            **kubelet_config(site),
        },
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _proxy_config(site: Site) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": _pods(site),
    }


def _pods(site: Site) -> str:
    return ",".join(site.cluster.sdn.pod_networks)


def patches(site: Site) -> dict[str, str]:
    """Patches for kubeadm's static pods, by file name: none unless the model asks for it."""
    found = {}
    for pod, probes in _PROBES.items():
        wanted = {f"{probe}Probe": dict(site.cluster.extra_args.get(probe, {})) for probe in probes}
        wanted = {probe: fields for probe, fields in wanted.items() if fields}
        if wanted:
            found[f"{pod}+strategic.json"] = json.dumps({"spec": {"containers": [{"name": pod, **wanted}]}})
    return found


def join_patches(site: Site) -> dict[str, str]:
    """The same for a server that joins: the cluster's stored kubelet configuration may be older than the model."""
    wanted = site.cluster.extra_args.get("kubelet_config", {})
    return {"kubeletconfiguration+merge.json": json.dumps(wanted)} if wanted else {}


def join_config(site: Site, server: Server, token: str) -> str:
    """JoinConfiguration of a worker. The API server is verified by the discovery file, not by the token."""
    document = {
        "apiVersion": _API,
        "kind": "JoinConfiguration",
        "discovery": {
            "file": {"kubeConfigPath": "/etc/kubernetes/kiban/discovery.yaml"},
            "tlsBootstrapToken": token,
        },
        "nodeRegistration": _registration(site, server),
        "timeouts": _TIMEOUTS,
        **({"patches": {"directory": _PATCHES}} if join_patches(site) else {}),
    }
    return yaml.safe_dump(document, sort_keys=False)


def _registration(site: Site, server: Server) -> dict[str, Any]:
    own = server.addresses["node"]
    # The first one is that of the API server and etcd; with both, the node has both addresses.
    six = address6(site.networks["node"], own) if site.cluster.sdn.ipv6 else None
    registration: dict[str, Any] = {
        "name": server.name,
        "criSocket": "unix:///run/containerd/containerd.sock",
        "imagePullPolicy": "IfNotPresent",
        "kubeletExtraArgs": _arguments({"node-ip": f"{own},{six}" if six else own}),
    }
    if server.taints:
        registration["taints"] = [dict(taint) for taint in server.taints]
    return registration


def _arguments(values: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"name": name, "value": str(value)} for name, value in values.items()]
