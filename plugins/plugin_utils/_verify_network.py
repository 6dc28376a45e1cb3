# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role verify asks to prove network policies, load balancer, a lost node and throughput. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import netaddr  # type: ignore[import-untyped, unused-ignore]

from ._fabric.overlay import OVERLAY_HEADERS
from ._verify import address_of, dial, two_sets

__all__ = [
    "balancer_dials",
    "ingress_dials",
    "lost_node_figures",
    "lost_node_watch",
    "policy_steps",
    "silence_figures",
    "throughput_ends",
    "throughput_figures",
]

# agnhost gives up after five seconds; a refused connection would be another error.
_CUT_OFF = r'^\{"errors":\[".*([Tt]imeout|deadline exceeded)'


def policy_steps(
    pods: Sequence[Mapping[str, Any]], stranger: Mapping[str, Any], dual: bool = False
) -> list[dict[str, Any]]:
    """Policies to apply one after another, and what pods must and must not reach then.

    C(pods) are those of the DaemonSets C(one) and C(two); policies select C(one) for what comes in, and C(two) for what
    goes out. C(stranger) is a pod of another namespace. A step without policies is what must hold when all are gone.
    With C(dual) all is asked by IPv6 too.
    """
    steps = _policy_steps(pods, stranger, 4)
    for step, more in zip(steps, _policy_steps(pods, stranger, 6) if dual else [], strict=False):
        step["dials"] += more["dials"]
    return steps


def _policy_steps(pods: Sequence[Mapping[str, Any]], stranger: Mapping[str, Any], version: int) -> list[dict[str, Any]]:
    sets, (here, there) = two_sets(pods)
    server, far_server = sets["one"][here], sets["one"][there]
    client, far_client = sets["two"][here], sets["two"][there]
    namespace = server["metadata"]["namespace"]

    def policy(name: str, group: str, **rules: Any) -> dict[str, Any]:
        kinds = [kind.capitalize() for kind in ("ingress", "egress") if kind in rules]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": {"set": group}}, "policyTypes": kinds, **rules},
        }

    names = {id(stranger): "another namespace"}
    names |= {id(pod): f"{group} of {node}" for group, by_node in sets.items() for node, pod in by_node.items()}

    def ask(who: Mapping[str, Any], whom: Mapping[str, Any], through: bool, protocol: str = "http") -> dict[str, str]:
        label = f"{protocol.upper()} from {names[id(who)]} to {names[id(whom)]}{'' if version == 4 else ' by IPv6'}"
        port = 8080 if protocol == "http" else 8081
        found = dial(who, address_of(whom, version), port, protocol, "hostname", [whom["metadata"]["name"]], label)
        return {**found, "label": label} if through else {**found, "expect": _CUT_OFF, "label": f"{label} cut off"}

    one, two = ([{"podSelector": {"matchLabels": {"set": group}}}] for group in ("one", "two"))
    other = {"matchLabels": {"kubernetes.io/metadata.name": stranger["metadata"]["namespace"]}}
    http = [{"port": 8080, "protocol": "TCP"}]
    return [
        {
            "name": "deny",
            "policies": [policy("deny", "one", ingress=[])],
            "dials": [
                ask(client, server, False),
                ask(far_client, server, False),
                ask(client, server, False, "udp"),
                ask(stranger, far_server, False),
                # What no policy selects is not touched.
                ask(stranger, client, True),
            ],
        },
        {
            "name": "allow by label",
            "policies": [policy("allow-label", "one", ingress=[{"from": two, "ports": http}])],
            "dials": [
                ask(client, server, True),
                ask(far_client, server, True),
                ask(client, server, False, "udp"),
                ask(stranger, server, False),
            ],
        },
        {
            "name": "allow by namespace",
            "policies": [policy("allow-namespace", "one", ingress=[{"from": [{"namespaceSelector": other}]}])],
            "dials": [ask(stranger, server, True), ask(stranger, far_server, True), ask(client, server, False, "udp")],
        },
        {
            "name": "egress",
            "policies": [policy("egress", "two", egress=[{"to": one, "ports": http}])],
            "dials": [
                ask(client, server, True),
                ask(client, far_server, True),
                ask(client, far_client, False),
                ask(client, stranger, False),
                ask(stranger, client, True),
            ],
        },
        {
            "name": "none",
            "policies": [],
            "dials": [
                ask(client, server, True),
                ask(client, server, True, "udp"),
                ask(stranger, far_server, True),
                ask(client, far_client, True),
            ],
        },
    ]


def balancer_dials(services: Sequence[Mapping[str, Any]], pools: Sequence[str], outside: str) -> list[dict[str, str]]:
    """What to ask of the Services C(sdn-balanced) and C(sdn-balanced-local) from outside, and the right answers.

    If there is C(sdn-balanced-ipv6), of that too.

    ValueError where a Service has no address, or one that is in no pool.
    """
    known = {service["metadata"]["name"]: service for service in services}
    address = {name: _address_of(service, pools) for name, service in known.items()}
    six = [address["sdn-balanced-ipv6"]] if "sdn-balanced-ipv6" in address else []
    return [
        {
            "url": f"http://{address['sdn-balanced']}/hostname",
            "expect": "^sdn-(one|two)-",
            "label": f"{address['sdn-balanced']}, by every node",
        },
        {
            "url": f"http://{address['sdn-balanced-local']}/clientip",
            "expect": f"^{re.escape(outside)}:[0-9]+$",
            "label": f"{address['sdn-balanced-local']}, by nodes with a pod of it, source address kept",
        },
        *(
            {"url": f"http://[{one}]/hostname", "expect": "^sdn-(one|two)-", "label": f"{one}, by the control plane"}
            for one in six
        ),
    ]


def ingress_dials(service: Mapping[str, Any], node: str, domain: str) -> list[dict[str, str]]:
    """What to ask of the ingress from outside for C(ingress) and C(route) of a domain, by HTTP and by HTTPS.

    At the address of its Service, or at a node where it is of type NodePort. ValueError where it has no address yet.
    """
    balanced = service["spec"]["type"] == "LoadBalancer"
    host = _given(service) if balanced else node
    if not host:
        raise ValueError(f"Service {service['metadata']['name']} has no address")
    ports = {port["name"]: port["port" if balanced else "nodePort"] for port in service["spec"]["ports"]}
    return [
        {
            "url": f"{scheme}://{host}:{ports[scheme]}/hostname",
            "name": f"{name}.{domain}",
            "label": f"{kind} by {scheme.upper()}",
        }
        for name, kind in (("ingress", "Ingress"), ("route", "HTTPRoute"))
        for scheme in ("http", "https")
    ]


def _address_of(service: Mapping[str, Any], pools: Sequence[str]) -> str:
    name = service["metadata"]["name"]
    given = _given(service)
    if not given:
        raise ValueError(f"Service {name} has no address")
    if not any(netaddr.IPAddress(given) in netaddr.IPNetwork(pool) for pool in pools):
        raise ValueError(f"Service {name} has the address {given}, which is in none of the pools {', '.join(pools)}")
    return given


def _given(service: Mapping[str, Any]) -> str:
    """The address of a balanced Service, or nothing."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [{}]
    return str(ingress[0].get("ip") or "")


def lost_node_watch(
    pods: Sequence[Mapping[str, Any]], node: str, balanced: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """Whom to ask while a node is lost: a pod on it, one on another node, and a balanced Service if there is one.

    ValueError where there are not two pods on each of two nodes.
    """
    sets, nodes = two_sets(pods)
    other = next(name for name in nodes if name != node)
    targets = [sets["two"][name]["status"]["podIP"] for name in (node, other)]
    local = [one for one in balanced if one["metadata"]["name"] == "sdn-balanced-local"]
    found = [f"{target}:8080" for target in targets]
    given = [_given(one) for one in local]
    return found + [f"{address}:80" for address in given if address]


def lost_node_figures(
    told: Mapping[str, Mapping[str, Any]], routes: Mapping[str, Sequence[tuple[float, bool]]]
) -> dict[str, Any]:
    """What C(watch.py), and C(routes.py) on the switches, saw of a lost node, as figures, lines and problems.

    Times are seconds since the last answer of the node. C(routes): by switch, when it had the route to the node's pods
    and when not, which FRR alone announces, without anything of the cluster.
    """
    gone = told["lost"].get("last_ok")
    if gone is None or told["lost"]["last_lost"] is None or told["lost"]["last_lost"] < gone:
        return {"figures": {}, "lines": [], "problems": ["the worker never stopped to answer, so nothing was measured"]}
    figures: dict[str, Any] = {
        "held_requests": told["held"]["requests"],
        "held_lost": told["held"]["lost"],
        "held_longest_gap_ms": told["held"]["longest_gap_ms"],
        "other_requests": told["other"]["requests"],
        "other_lost": told["other"]["lost"],
    }
    lines = [
        f"a connection to the other worker went on, {told['held']['requests']} requests, "
        f"longest gap {told['held']['longest_gap_ms']} ms; {told['other']['requests']} new ones were answered"
    ]
    knew = {switch: changes[-1] for switch, changes in routes.items() if changes}
    left = [at for at, there in knew.values() if not there]
    if left:
        figures["route_seconds"] = round(max(0.0, max(left) - gone), 1)
        figures["route_switches"] = len(left)
        lines.append(
            f"its pods' route left the last of {len(left)} switches after {figures['route_seconds']} s (FRR alone)"
        )
    if "balanced" in told:
        balanced = told["balanced"]
        last = balanced["last_lost"] or gone
        figures |= {
            "balanced_requests": balanced["requests"],
            "balanced_lost": balanced["lost"],
            "balanced_seconds": round(max(0.0, last - gone), 1),
        }
        lines.append(
            f"of {balanced['requests']} requests to a balanced Service {balanced['lost']} were lost, "
            f"the last one {figures['balanced_seconds']} s after the worker's last answer"
        )
    problems = [
        f"{told[what]['lost']} of {told[what]['requests']} requests to the other worker {how} were lost"
        for what, how in (("held", "on one connection"), ("other", "by new connections"))
        if told[what]["lost"]
    ]
    problems += [
        f"{switch} still had the route to its pods {told['lost']['last_lost'] - gone:.0f} s later"
        for switch, (_at, there) in knew.items()
        if there
    ]
    return {"figures": figures, "lines": lines, "problems": problems}


def silence_figures(told: Mapping[str, Mapping[str, Any]], most: float) -> dict[str, Any]:
    """What C(silence.py) saw while a switch was lost, as figures, lines and problems.

    The C(host) is a server's own address, which FRR alone announces; beside it in the same run a pod, perhaps a
    balanced Service. None may be silent for more than C(most) seconds.
    """
    names = {"host": "the server itself (FRR alone)", "pod": "a pod", "balanced": "a balanced Service"}
    lines = {
        which: f"{names[which]} was silent for {seen['silent_seconds']} s, {seen['lost']} of {seen['requests']} lost"
        for which, seen in told.items()
    }
    problems = [
        f"{lines[which]}: more than {most:g} s" for which, seen in told.items() if seen["silent_seconds"] > most
    ]
    problems += [f"{names[which]} did not answer at the end" for which, seen in told.items() if not seen["ended_well"]]
    figures = {
        f"{which}_{name}": seen[name] for which, seen in told.items() for name in ("silent_seconds", "requests", "lost")
    }
    return {"figures": figures, "lines": list(lines.values()), "problems": problems}


def throughput_ends(pods: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Two nodes, each with its own address C(host), that of a pod on it, and the C(to) addresses of the other one.

    ValueError where there are not two pods on each of two nodes.
    """
    sets, nodes = two_sets(pods)
    found = [
        {"node": name, "host": str(status["hostIP"]), "pod": str(status["podIP"])}
        for name in nodes
        for status in [sets["two"][name]["status"]]
    ]
    return [
        {**end, "to": [other["host"], other["pod"]], "label": f"{end['node']} to {other['node']}"}
        for end, other in zip(found, reversed(found), strict=True)
    ]


def throughput_figures(results: Sequence[Mapping[str, Any]], lowest: float, overlay: bool = False) -> dict[str, Any]:
    """What C(throughput.py) measured from node to node, as figures, lines and problems.

    C(results) are those of a loop over C(throughput_ends). Rates are in MB (10^6 bytes) a second. The ratio of pods to
    hosts has to be C(lowest) at least each way. TCP of pods has to fill packets as that of hosts does: their segments
    are as large, but for the headers of an C(overlay).
    """
    figures: dict[str, Any] = {}
    problems, lines, ratios = [], [], []
    for result in results:
        way = result["item"]["label"]
        if result["rc"]:
            why = (result.get("stderr") or "").strip().splitlines() or [f"ended with {result['rc']}"]
            problems.append(f"{way}: {'it took too long' if result['rc'] == 124 else why[-1]}")
            continue
        figures[way], wrong = _way(json.loads(result["stdout"]), OVERLAY_HEADERS if overlay else 0)
        ratios.append(figures[way]["ratio"])
        lines.append(
            "{0}: {pod_mb_per_second} MB/s pod to pod, {host_mb_per_second} MB/s host to host, ratio {ratio}, "
            "segments of {pod_segment} bytes".format(way, **figures[way])
        )
        if ratios[-1] < lowest:
            wrong.append(f"the ratio of {ratios[-1]} is less than {lowest:g}")
        problems += [f"{lines[-1]}: {what}" for what in wrong]
    if ratios:
        figures["ratio"] = round(sum(ratios) / len(ratios), 2)
    return {"figures": figures, "lines": lines, "problems": problems}


def _way(rounds: Sequence[Mapping[str, Any]], headers: int) -> tuple[dict[str, Any], list[str]]:
    """Figures of one way, and what is wrong with it but for its ratio."""
    rates, segments = {}, {}
    for which in ("host", "pod"):
        mine = [one for one in rounds if one["which"] == which]
        rates[which] = sum(one["bytes"] for one in mine) / sum(one["seconds"] for one in mine) / 1e6
        segments[which] = min(one["segment"] for one in mine)
    wrong = [
        f"{one['sent']} bytes were sent {one['which']} to {one['which']}, and {one['bytes']} arrived"
        for one in rounds
        if one["sent"] != one["bytes"]
    ]
    if segments["pod"] < segments["host"] - headers:
        wrong.append(f"segments from host to host have {segments['host']} bytes, so pods do not use the full MTU")
    figures: dict[str, Any] = {f"{which}_mb_per_second": round(rate, 1) for which, rate in rates.items()}
    figures |= {f"{which}_segment": segment for which, segment in segments.items()}
    return {**figures, "ratio": round(rates["pod"] / rates["host"], 2) if rates["host"] else 0.0}, wrong
