# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role verify asks of objects as the API gives them. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from ._fabric.overlay import OVERLAY_HEADERS

__all__ = [
    "address_of",
    "contract_dials",
    "dial",
    "node_problems",
    "pod_dials",
    "probe_figures",
    "two_sets",
]

_FIGURES = ("requests", "ok", "lost", "retried", "longest_gap_ms", "slowest_ms", "seconds")


def node_problems(nodes: Sequence[Mapping[str, Any]], servers: Sequence[str], kubernetes: str) -> list[str]:
    """What keeps the cluster's nodes from being the servers of the model, Ready and of the declared version."""
    found = {node["metadata"]["name"]: node for node in nodes}
    problems = [f"server {name} is no node of the cluster" for name in sorted(set(servers) - set(found))]
    problems += [f"node {name} is no server of the model" for name in sorted(set(found) - set(servers))]
    for name in sorted(set(servers) & set(found)):
        status = found[name].get("status") or {}
        version = (status.get("nodeInfo") or {}).get("kubeletVersion")
        if version != kubernetes:
            problems.append(f"node {name} runs kubelet {version}, the model says {kubernetes}")
        conditions = status.get("conditions") or []
        if not any(item["type"] == "Ready" and item["status"] == "True" for item in conditions):
            problems.append(f"node {name} is not Ready")
    return problems


def pod_dials(pods: Sequence[Mapping[str, Any]], service: str, namespace: str, domain: str) -> list[dict[str, str]]:
    """Who shall ask whom: each of two pods on different nodes the other one, by its address and by its name in DNS."""
    by_node = {pod["spec"]["nodeName"]: pod for pod in pods}
    if len(by_node) < 2:
        raise ValueError(f"there are no pods on two nodes, only on {', '.join(sorted(by_node)) or 'none'}")
    first, second = (by_node[node] for node in sorted(by_node)[:2])
    dials = []
    for here, there in ((first, second), (second, first)):
        address = there["status"]["podIP"]
        # A headless Service gives each of its pods a name made of its address.
        name = f"{address.replace('.', '-').replace(':', '-')}.{service}.{namespace}.svc.{domain}"
        dials += [
            {
                "from": here["status"]["podIP"],
                "to": target,
                "answer": there["metadata"]["name"],
                "label": f"{here['spec']['nodeName']} to {there['spec']['nodeName']} by {how}",
            }
            for target, how in ((address, f"address {address}"), (name, f"name {name}"))
        ]
    return dials


# IP and UDP headers by family; agnhost reads no more than 2048 bytes of one datagram.
_UDP_HEADERS, _UDP_READ = {4: 28, 6: 48}, 2048


def contract_dials(
    pods: Sequence[Mapping[str, Any]],
    services: Sequence[Mapping[str, Any]],
    domain: str,
    mtu: int,
    outside: tuple[str, int] | None = None,
    overlay: bool = False,
    masquerade: bool = False,
    dual: bool = False,
    outside6: str | None = None,
) -> dict[str, list[dict[str, str]]]:
    """What to ask of running pods to prove a network driver, as URLs with the answers that are right, by part.

    The pods are those of two DaemonSets C(one) and C(two) of agnhost, the Services C(sdn) and C(sdn-local) theirs, and
    with `dual` C(sdn-ipv6).
    `mtu` is that of the nodes' network, in bytes. `outside` is where something answers with the address that it is
    asked from; the part C(outside) is empty without it. With an `overlay` packets of pods are smaller; with
    `masquerade` their node is seen outside. With `dual` all is asked by IPv6 too, from and to outside where that has
    the address `outside6`. ValueError where there are not two pods on each of two nodes, or not both families.
    """
    mtu -= OVERLAY_HEADERS if overlay else 0
    found: dict[str, list[dict[str, str]]] = {"pods": [], "services": [], "outside": [], "host_ports": []}
    for version in (4, 6) if dual else (4,):
        far = outside if version == 4 else (outside6, outside[1]) if outside and outside6 else None
        one = _contract_dials(version, pods, services, domain, mtu, far, masquerade)
        for part, dials in one.items():
            found[part] += dials
    return found


def _contract_dials(
    version: int,
    pods: Sequence[Mapping[str, Any]],
    services: Sequence[Mapping[str, Any]],
    domain: str,
    mtu: int,
    outside: tuple[str, int] | None,
    masquerade: bool,
) -> dict[str, list[dict[str, str]]]:
    """By one family. C(sdn-ipv6) has IPv6 only, so that its name has nothing but an AAAA record."""
    sets, (here, there) = two_sets(pods)
    by = "" if version == 4 else " by IPv6"
    nodes = sorted(set(sets["one"]) & set(sets["two"]))
    a, b = sets["one"][here], sets["one"][there]
    neighbour = sets["two"][here]
    found: dict[str, list[dict[str, str]]] = {"pods": [], "services": [], "outside": [], "host_ports": []}
    for who, whom, how in ((a, neighbour, "the same node"), (a, b, "another node"), (b, a, "another node")):
        for protocol, port, request, answer, what in _requests(whom, mtu, version):
            label = f"{what} to a pod on {how}{by}"
            found["pods"].append(dial(who, address_of(whom, version), port, protocol, request, [answer], label))
    known = {service["metadata"]["name"]: service for service in services}
    service = known["sdn"]
    every = [pod["metadata"]["name"] for group in sets.values() for pod in group.values()]
    named = service if version == 4 else known["sdn-ipv6"]
    name = f"{named['metadata']['name']}.{named['metadata']['namespace']}.svc.{domain}"
    for target, how in ((_cluster_ip(service, version), "address"), (name, "name")):
        for protocol, port in (("http", 80), ("udp", 81)):
            label = f"{protocol.upper()} to a Service by {how}{by}"
            found["services"].append(dial(a, target, port, protocol, "hostname", every, label))
    for node in nodes:
        pod = sets["one"][node]
        address, port = _host(pod, version), _host_port(pod)
        if version == 6:
            # From another node: who verifies may have no IPv6.
            asks = sets["two"][next(name for name in nodes if name != node)]
            label = f"port {port} of {node}{by}"
            found["host_ports"].append(dial(asks, address, port, "http", "hostname", [pod["metadata"]["name"]], label))
            continue
        found["host_ports"].append(
            {
                "url": f"http://{address}:{port}/hostname",
                "expect": f"^{re.escape(pod['metadata']['name'])}$",
                "label": f"port {port} of {node}",
            }
        )
    if outside is None:
        return found
    for pod in (a, b):
        own, whose = (_host(pod, version), "its node's") if masquerade else (address_of(pod, version), "its own")
        label = f"a pod of {pod['spec']['nodeName']} to outside{by}, with {whose} address"
        found["outside"].append(dial(pod, outside[0], outside[1], "http", "clientip", [own], label))
    local = known["sdn-local"]["spec"]["ports"][0]["nodePort"]
    for node in nodes:
        host = _bracketed(_host(sets["one"][node], version))
        expect = f"^{re.escape(_bracketed(outside[0]))}:[0-9]+$"
        label = f"outside to port {local} of {node}{by}, source address kept"
        found["outside"].append({"url": f"http://{host}:{local}/clientip", "expect": expect, "label": label})
    return found


def two_sets(pods: Sequence[Mapping[str, Any]]) -> tuple[dict[str, dict[str, Mapping[str, Any]]], tuple[str, str]]:
    """The pods of the DaemonSets C(one) and C(two) by node, and two nodes that have both. ValueError without these."""
    sets: dict[str, dict[str, Mapping[str, Any]]] = {"one": {}, "two": {}}
    for pod in pods:
        sets[pod["metadata"]["labels"]["set"]][pod["spec"]["nodeName"]] = pod
    nodes = sorted(set(sets["one"]) & set(sets["two"]))
    if len(nodes) < 2:
        raise ValueError(f"there are not two test pods on each of two nodes, only on {', '.join(nodes) or 'none'}")
    return sets, (nodes[0], nodes[1])


def _requests(whom: Mapping[str, Any], mtu: int, version: int) -> list[tuple[str, int, str, str, str]]:
    """Protocol, port, request, right answer, and what it is."""
    name = whom["metadata"]["name"]
    # The request is a datagram of exactly the MTU; the answer lacks the word.
    headers = _UDP_HEADERS[version]
    size = min(mtu - headers, _UDP_READ) - len("echo ")
    return [
        ("http", 8080, "hostname", name, "TCP"),
        ("udp", 8081, "hostname", name, "UDP"),
        ("udp", 8081, f"echo {'u' * size}", "u" * size, f"UDP of {size + len('echo ') + headers} bytes"),
        ("http", 8080, f"echo?msg={'t' * 3 * mtu}", "t" * 3 * mtu, f"TCP with {3 * mtu} bytes"),
    ]


def dial(
    who: Mapping[str, Any],
    target: str,
    port: int,
    protocol: str,
    request: str,
    answers: Sequence[str],
    label: str,
) -> dict[str, str]:
    """What to ask of a pod so that it asks somebody; any of the answers is right."""
    query = urlencode({"host": target, "port": port, "protocol": protocol, "request": request, "tries": 1})
    told = "|".join(re.escape(answer) for answer in answers)
    return {
        "url": f"http://{address_of(who)}:8080/dial?{query}",
        "expect": rf'^\{{"responses":\["({told})"\]\}}',
        "label": f"{who['spec']['nodeName']}: {label}",
    }


def address_of(pod: Mapping[str, Any], version: int = 4) -> str:
    """Of the pod, in a family; ValueError where it has none."""
    status = pod["status"]
    return _of_family(f"pod {pod['metadata']['name']}", version, status["podIP"], status.get("podIPs"))


def _host(pod: Mapping[str, Any], version: int) -> str:
    """Of its node."""
    status = pod["status"]
    return _of_family(f"node {pod['spec']['nodeName']}", version, status["hostIP"], status.get("hostIPs"))


def _cluster_ip(service: Mapping[str, Any], version: int) -> str:
    spec = service["spec"]
    every = [{"ip": address} for address in spec.get("clusterIPs") or []]
    return _of_family(f"Service {service['metadata']['name']}", version, spec["clusterIP"], every)


def _of_family(what: str, version: int, first: str, every: Sequence[Mapping[str, str]] | None) -> str:
    addresses = [first, *(str(one["ip"]) for one in every or ())]
    for address in addresses:
        if (":" in address) == (version == 6):
            return address
    raise ValueError(f"{what} has no IPv{version} address, only {', '.join(dict.fromkeys(addresses))}")


def _bracketed(address: str) -> str:
    """As a URL has it."""
    return f"[{address}]" if ":" in address else address


def _host_port(pod: Mapping[str, Any]) -> int:
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or []]
    return int(next(port["hostPort"] for port in ports if "hostPort" in port))


def probe_figures(probe: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a measurement by http_probe."""
    return {key: probe[key] for key in _FIGURES if key in probe}
