# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network policies that the verification tries, held against what NetworkPolicy means; and its balanced Services."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._verify_network import balancer_dials, policy_steps

CUT = json.dumps(
    {
        "errors": [
            'Get "http://10.244.22.4:8080/hostname": context deadline exceeded '
            "(Client.Timeout exceeded while awaiting headers)"
        ]
    },
    separators=(",", ":"),
)
REFUSED = '{"errors":["Get \\"http://10.244.22.4:8080/hostname\\": dial tcp: connect: connection refused"]}'


def pod(group: str, node: str, address: str, namespace: str = "shop") -> dict[str, Any]:
    return {
        "metadata": {"name": f"sdn-{group}-{node}", "namespace": namespace, "labels": {"app": "sdn", "set": group}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"podIP": address, "hostIP": "198.51.100.21"},
    }


PODS = [
    pod("one", "node1", "10.244.21.4"),
    pod("two", "node1", "10.244.21.5"),
    pod("one", "node2", "10.244.22.4"),
    pod("two", "node2", "10.244.22.5"),
]
STRANGER = pod("none", "node2", "10.244.22.9", "shop-other")
BY_ADDRESS = {one["status"]["podIP"]: one for one in (*PODS, STRANGER)}


def selected(peer: dict[str, Any], one: dict[str, Any]) -> bool:
    """Whether a peer of a policy of the namespace shop is this pod."""
    if "namespaceSelector" in peer:
        wanted = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        return bool(one["metadata"]["namespace"] == wanted)
    labels = peer["podSelector"]["matchLabels"]
    return one["metadata"]["namespace"] == "shop" and labels.items() <= one["metadata"]["labels"].items()


def lets(policies: list[dict[str, Any]], kind: str, one: dict[str, Any], other: dict[str, Any], udp: bool) -> bool:
    """What the policies say of a connection of a pod in one direction, by the rules of the API."""
    mine = [
        policy["spec"]
        for policy in policies
        if kind.capitalize() in policy["spec"]["policyTypes"]
        and policy["metadata"]["namespace"] == one["metadata"]["namespace"]
        and policy["spec"]["podSelector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    port = {"port": 8081, "protocol": "UDP"} if udp else {"port": 8080, "protocol": "TCP"}
    return not mine or any(
        any(selected(peer, other) for peer in rule["from" if kind == "ingress" else "to"])
        and port in rule.get("ports", [port])
        for spec in mine
        for rule in spec.get(kind) or []
    )


def test_every_answer_follows_from_the_policies() -> None:
    applied: list[dict[str, Any]] = []
    told: set[tuple[str, bool]] = set()
    steps = policy_steps(PODS, STRANGER)
    for step in steps:
        applied = applied + step["policies"] if step["policies"] else []
        for dial in step["dials"]:
            parts = urlsplit(dial["url"])
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            who, whom = BY_ADDRESS[str(parts.hostname)], BY_ADDRESS[query["host"]]
            udp = query["protocol"] == "udp"
            through = lets(applied, "egress", who, whom, udp) and lets(applied, "ingress", whom, who, udp)
            answer = json.dumps({"responses": [whom["metadata"]["name"]]}, separators=(",", ":"))
            assert bool(re.search(dial["expect"], answer)) is through, dial["label"]
            assert bool(re.search(dial["expect"], CUT)) is not through, dial["label"]
            assert not re.search(dial["expect"], REFUSED)
            told.add((step["name"], through))
    assert {(name, True) for name in ("allow by label", "allow by namespace", "egress", "none")} <= told
    assert {(name, False) for name in ("deny", "allow by label", "allow by namespace", "egress")} <= told
    assert steps[-1]["policies"] == []


def service(name: str, *addresses: str) -> dict[str, Any]:
    ingress = [{"ip": address} for address in addresses]
    return {"metadata": {"name": name}, "status": {"loadBalancer": {"ingress": ingress} if ingress else {}}}


def test_the_services_are_asked_at_addresses_of_the_pools() -> None:
    services = [service("sdn-balanced", "203.0.113.128"), service("sdn-balanced-local", "203.0.113.129")]
    every, local = balancer_dials(services, ["203.0.113.0/25", "203.0.113.128/26"], "203.0.113.22")
    assert every["url"] == "http://203.0.113.128/hostname"
    assert re.search(every["expect"], "sdn-two-x7k2p")
    assert re.search(local["expect"], "203.0.113.22:40001")
    assert not re.search(local["expect"], "198.51.100.21:40001")


@pytest.mark.parametrize(
    ("address", "message"),
    [((), "has no address"), (("203.0.113.200",), "which is in none of the pools 203.0.113.128/26")],
)
def test_an_address_of_no_pool_is_refused(address: tuple[str, ...], message: str) -> None:
    services = [service("sdn-balanced", *address), service("sdn-balanced-local", "203.0.113.129")]
    with pytest.raises(ValueError, match=message):
        balancer_dials(services, ["203.0.113.128/26"], "203.0.113.22")
