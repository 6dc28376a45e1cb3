# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services of type LoadBalancer by MetalLB, whose speaker tells the FRR of its own node: only FRR speaks with switches.

https://metallb.io. Its webhooks and its own detection of dead nodes are off: the model is checked when it is loaded,
and BFD between FRR and the switches is quicker.
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._site import balancer
from .._site.model import Site
from .objects import api_server, from_field, named, on_every_node, rights

__all__ = ["IMAGES", "NAMESPACE", "manifests", "pool6"]

IMAGES = ("metallb-controller", "metallb-speaker")
NAMESPACE = "metallb-system"
_CONTROLLER, _SPEAKER = "controller", "speaker"
_NAME, IPV6_POOL = "kiban", "kiban-ipv6"
_METRICS = 7472

_ANYTHING: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
# Kind: plural, versions (the last one is stored), defaults that MetalLB counts on.
_KINDS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "BFDProfile": ("bfdprofiles", ("v1beta1",), {}),
    "BGPAdvertisement": ("bgpadvertisements", ("v1beta1",), {"aggregationLength": 32, "aggregationLengthV6": 128}),
    "BGPPeer": ("bgppeers", ("v1beta1", "v1beta2"), {"peerPort": 179}),
    "Community": ("communities", ("v1beta1",), {}),
    "IPAddressPool": ("ipaddresspools", ("v1beta1",), {"autoAssign": True, "avoidBuggyIPs": False}),
    "L2Advertisement": ("l2advertisements", ("v1beta1",), {}),
    "ServiceBGPStatus": ("servicebgpstatuses", ("v1beta1",), {}),
    "ServiceL2Status": ("servicel2statuses", ("v1beta1",), {}),
}
_READ = ("get", "list", "watch")
# For ARP, which nobody needs here: it would open a socket on each link, those of pods too.
_NO_DEVICE = 'announcedInterfacesToExclude: [".*"]\n'


def manifests(site: Site, images: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every object of it, with the pools of the model."""
    host = site.cluster.endpoint
    level = {"pod-security.kubernetes.io/enforce": "privileged"}
    return [
        # The speaker is in the node's own network, which only this level allows.
        named("v1", "Namespace", NAMESPACE, metadata={"labels": level}),
        *(_kind(kind) for kind in _KINDS),
        *_rights(),
        named("v1", "ConfigMap", "speaker", NAMESPACE, data={"excludel2.yaml": _NO_DEVICE}),
        _controller(images[IMAGES[0]], host),
        _speaker(images[IMAGES[1]], host),
        *_settings(site),
    ]


def _kind(kind: str) -> dict[str, Any]:
    plural, versions, defaults = _KINDS[kind]
    types = {bool: "boolean", int: "integer"}
    known = {name: {"type": types[type(value)], "default": value} for name, value in defaults.items()}
    spec = {**_ANYTHING, **({"properties": known} if known else {})}
    schema = {"type": "object", "properties": {"spec": spec, "status": _ANYTHING}}
    return named(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        f"{plural}.metallb.io",
        spec={
            "group": "metallb.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == versions[-1],
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
                for version in versions
            ],
        },
    )


def _rights() -> list[dict[str, Any]]:
    group, events = "metallb.io", ("", ["events"], ["create", "patch"])
    settings = [plural for kind, (plural, _versions, _defaults) in _KINDS.items() if not kind.startswith("Service")]
    told = [plural for kind, (plural, _versions, _defaults) in _KINDS.items() if kind.startswith("Service")]
    told += [f"{plural}/status" for plural in told]
    own = [(group, settings, _READ), ("", ["configmaps", "secrets"], _READ)]
    return [
        *(named("v1", "ServiceAccount", name, NAMESPACE) for name in (_CONTROLLER, _SPEAKER)),
        *rights(
            f"kiban:metallb-{_CONTROLLER}",
            _CONTROLLER,
            NAMESPACE,
            [("", ["services", "namespaces", "nodes"], _READ), ("", ["services/status"], ["update"]), events],
        ),
        *rights(_CONTROLLER, _CONTROLLER, NAMESPACE, [*own, (group, ["ipaddresspools/status"], ["update"])], NAMESPACE),
        *rights(
            f"kiban:metallb-{_SPEAKER}",
            _SPEAKER,
            NAMESPACE,
            [
                ("", ["services", "namespaces", "nodes"], _READ),
                ("discovery.k8s.io", ["endpointslices"], _READ),
                (group, told, ["*"]),
                events,
            ],
        ),
        *rights(_SPEAKER, _SPEAKER, NAMESPACE, [*own, ("", ["pods"], _READ)], NAMESPACE),
    ]


def _container(name: str, image: str, host: str, more: dict[str, Any]) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/metrics", "port": _METRICS}, "periodSeconds": 20, "timeoutSeconds": 10}
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "readinessProbe": probe,
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        **more,
        "env": [*more.get("env", []), {"name": "METALLB_BGP_TYPE", "value": "native"}, *api_server(host)],
    }


_NOBODY = {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}


def _controller(image: str, host: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": f"metallb-{_CONTROLLER}"}
    args = {"args": [f"--port={_METRICS}", "--webhook-mode=disabled"]}
    pod = {
        "serviceAccountName": _CONTROLLER,
        "priorityClassName": "system-cluster-critical",
        "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}],
        "securityContext": _NOBODY,
        "containers": [_container(_CONTROLLER, image, host, args)],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels}, "template": template}
    return named("apps/v1", "Deployment", _CONTROLLER, NAMESPACE, metadata={"labels": labels}, spec=spec)


def _speaker(image: str, host: str) -> dict[str, Any]:
    more = {
        "args": [f"--port={_METRICS}"],
        "env": [
            from_field("METALLB_NODE_NAME", "spec.nodeName"),
            from_field("METALLB_POD_NAME", "metadata.name"),
            from_field("METALLB_HOST", "status.hostIP"),
        ],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/metallb", "readOnly": True}],
    }
    pod = {
        "serviceAccountName": _SPEAKER,
        "securityContext": _NOBODY,
        "containers": [_container(_SPEAKER, image, host, more)],
        "volumes": [{"name": "config", "configMap": {"name": "speaker"}}],
    }
    return on_every_node(_SPEAKER, NAMESPACE, {"app.kubernetes.io/name": f"metallb-{_SPEAKER}"}, pod)


def pool6() -> dict[str, Any]:
    """What stands for the IPv6 pools, where the model has none any more."""
    return _pool(IPV6_POOL, [])


def _setting(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return named(f"metallb.io/{_KINDS[kind][1][-1]}", kind, name, NAMESPACE, spec=spec)


def _pool(name: str, addresses: list[str]) -> dict[str, Any]:
    return _setting("IPAddressPool", name, {"addresses": addresses, "autoAssign": True, "avoidBuggyIPs": False})


def _settings(site: Site) -> list[dict[str, Any]]:
    def setting(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        return _setting(kind, _NAME, spec)

    four, six = ([pool for pool in site.cluster.pools if (":" in pool) == other] for other in (False, True))
    peer = {
        "myASN": balancer.SPEAKER_ASN,
        "peerASN": balancer.FRR_ASN,
        "peerAddress": balancer.FRR_ADDRESS,
        "peerPort": 179,
    }
    return [
        _pool(_NAME, four),
        # Not advertised: at the first IPv6 address its speaker would stop telling of any (`cannot advertise non-v4
        # prefix`). FRR announces the whole pool.
        *([_pool(IPV6_POOL, six)] if six else []),
        setting("BGPAdvertisement", {"ipAddressPools": [_NAME]}),
        setting("BGPPeer", peer),
    ]
