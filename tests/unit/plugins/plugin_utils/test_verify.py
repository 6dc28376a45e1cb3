# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._verify import (
    contract_dials,
    node_problems,
    pod_dials,
    probe_figures,
)


def node(name: str, version: str = "v1.36.3", ready: str = "True") -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    status = {"nodeInfo": {"kubeletVersion": version}, "conditions": conditions}
    return {"metadata": {"name": name}, "status": status}


def test_the_nodes_are_the_servers() -> None:
    assert node_problems([node("cp1"), node("node1")], ["node1", "cp1"], "v1.36.3") == []


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ([node("cp1")], "server node1 is no node of the cluster"),
        ([node("cp1"), node("node1"), node("stray")], "node stray is no server of the model"),
        ([node("cp1"), node("node1", "v1.36.2")], "node node1 runs kubelet v1.36.2, the model says v1.36.3"),
        ([node("cp1"), node("node1", ready="Unknown")], "node node1 is not Ready"),
        (
            [
                node("cp1"),
                {"metadata": {"name": "node1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            ],
            "node node1 runs kubelet None, the model says v1.36.3",
        ),
    ],
)
def test_what_is_wrong_with_the_nodes(nodes: list[dict[str, Any]], problem: str) -> None:
    assert node_problems(nodes, ["cp1", "node1"], "v1.36.3") == [problem]


def test_no_nodes_at_all() -> None:
    assert len(node_problems([], ["cp1", "node1"], "v1.36.3")) == 2


def pod(name: str, on: str, address: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"nodeName": on}, "status": {"podIP": address}}


def test_each_asks_the_other_by_address_and_by_name() -> None:
    pods = [pod("web-b", "node2", "10.244.22.5"), pod("web-a", "node1", "10.244.21.4")]
    assert pod_dials(pods, "web-pods", "shop", "cluster.local") == [
        {
            "from": "10.244.21.4",
            "to": "10.244.22.5",
            "answer": "web-b",
            "label": "node1 to node2 by address 10.244.22.5",
        },
        {
            "from": "10.244.21.4",
            "to": "10-244-22-5.web-pods.shop.svc.cluster.local",
            "answer": "web-b",
            "label": "node1 to node2 by name 10-244-22-5.web-pods.shop.svc.cluster.local",
        },
        {
            "from": "10.244.22.5",
            "to": "10.244.21.4",
            "answer": "web-a",
            "label": "node2 to node1 by address 10.244.21.4",
        },
        {
            "from": "10.244.22.5",
            "to": "10-244-21-4.web-pods.shop.svc.cluster.local",
            "answer": "web-a",
            "label": "node2 to node1 by name 10-244-21-4.web-pods.shop.svc.cluster.local",
        },
    ]


@pytest.mark.parametrize("pods", [[], [pod("a", "node1", "10.0.0.1"), pod("b", "node1", "10.0.0.2")]])
def test_two_nodes_are_needed(pods: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="there are no pods on two nodes"):
        pod_dials(pods, "web-pods", "shop", "cluster.local")


def test_figures() -> None:
    probe = {"requests": 3, "ok": 3, "lost": 0, "bodies": ["x"], "changed": False, "longest_gap_ms": 12}
    assert probe_figures(probe) == {"requests": 3, "ok": 3, "lost": 0, "longest_gap_ms": 12}


def sdn_pod(group: str, node: str, address: str) -> dict[str, Any]:
    ports = [{"containerPort": 8080, **({"hostPort": 18080} if group == "one" else {})}]
    return {
        "metadata": {"name": f"sdn-{group}-{node}", "labels": {"set": group}},
        "spec": {"nodeName": node, "containers": [{"ports": ports}]},
        "status": {"podIP": address, "hostIP": f"198.51.100.{21 if node == 'node1' else 22}"},
    }


SDN_PODS = [
    sdn_pod("one", "node1", "10.244.21.4"),
    sdn_pod("two", "node1", "10.244.21.5"),
    sdn_pod("one", "node2", "10.244.22.4"),
    sdn_pod("two", "node2", "10.244.22.5"),
]
SDN_SERVICES = [
    {"metadata": {"name": "sdn", "namespace": "shop"}, "spec": {"clusterIP": "10.96.1.2"}},
    {"metadata": {"name": "sdn-local", "namespace": "shop"}, "spec": {"ports": [{"nodePort": 30007}]}},
]


def asked(dial: dict[str, str]) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(dial["url"]).query).items()}


def test_the_contract_asks_pods_on_the_same_and_on_another_node() -> None:
    dials = contract_dials(SDN_PODS, SDN_SERVICES, "cluster.local", 1500)["pods"]
    ways = {(urlsplit(dial["url"]).hostname, asked(dial)["host"]) for dial in dials}
    assert ways == {("10.244.21.4", "10.244.21.5"), ("10.244.21.4", "10.244.22.4"), ("10.244.22.4", "10.244.21.4")}
    large = next(dial for dial in dials if asked(dial)["request"].startswith("echo u"))
    # With 20 bytes of IP and 8 of UDP.
    assert len(asked(large)["request"]) + 28 == 1500
    assert asked(large)["protocol"] == "udp"
    body = json.dumps({"responses": [asked(large)["request"].removeprefix("echo ")]})
    assert re.search(large["expect"], body.replace(" ", ""))
    assert not re.search(large["expect"], '{"errors":["reading from udp connection failed"]}')


def test_the_contract_asks_services_and_from_outside() -> None:
    dials = contract_dials(SDN_PODS, SDN_SERVICES, "cluster.local", 1500, ("203.0.113.22", 18081))
    hosts = {(asked(dial)["host"], asked(dial)["port"]) for dial in dials["services"]}
    name = "sdn.shop.svc.cluster.local"
    assert hosts == {("10.96.1.2", "80"), ("10.96.1.2", "81"), (name, "80"), (name, "81")}
    assert re.search(dials["services"][0]["expect"], '{"responses":["sdn-two-node2"]}')
    assert [dial["url"] for dial in dials["host_ports"]] == [
        "http://198.51.100.21:18080/hostname",
        "http://198.51.100.22:18080/hostname",
    ]
    masqueraded = '{"responses":["198.51.100.21"]}'
    assert re.search(dials["outside"][0]["expect"], '{"responses":["10.244.21.4"]}')
    assert not re.search(dials["outside"][0]["expect"], masqueraded)
    lent = contract_dials(SDN_PODS, SDN_SERVICES, "cluster.local", 1500, ("203.0.113.22", 18081), masquerade=True)
    assert re.search(lent["outside"][0]["expect"], masqueraded)
    assert re.search(dials["outside"][2]["expect"], "203.0.113.22:40001")
    assert not re.search(dials["outside"][2]["expect"], "198.51.100.22:40001")


def dual_pod(group: str, node: str, address: str) -> dict[str, Any]:
    """With fd00:10:244:15::4 for 10.244.21.4."""
    pod = sdn_pod(group, node, address)
    one, two = (int(part) for part in address.split(".")[2:])
    host = pod["status"]["hostIP"]
    pod["status"]["podIPs"] = [{"ip": address}, {"ip": f"fd00:10:244:{one:x}::{two:x}"}]
    pod["status"]["hostIPs"] = [{"ip": host}, {"ip": f"2001:db8:1::{one:x}"}]
    return pod


DUAL_PODS = [
    dual_pod(group, node, f"10.244.{number}.{place}")
    for node, number in (("node1", 21), ("node2", 22))
    for group, place in (("one", 4), ("two", 5))
]


def test_the_contract_asks_both_families() -> None:
    six = {"metadata": {"name": "sdn-ipv6", "namespace": "shop"}, "spec": {"clusterIP": "fd00:10:96::7"}}
    services = [copy.deepcopy(one) for one in SDN_SERVICES] + [six]
    services[0]["spec"]["clusterIPs"] = ["10.96.1.2", "fd00:10:96::2"]
    far = ("203.0.113.18", 18081)
    one = contract_dials(DUAL_PODS, services, "cluster.local", 1500, far)
    both = contract_dials(DUAL_PODS, services, "cluster.local", 1500, far, dual=True, outside6="2001:db8:2::2")
    for part, dials in one.items():
        assert both[part][: len(dials)] == dials
        assert len(both[part]) == 2 * len(dials)
    asks = {part: [dial for dial in dials if "by IPv6" in dial["label"]] for part, dials in both.items()}
    large = next(dial for dial in asks["pods"] if asked(dial)["request"].startswith("echo u"))
    assert asked(large)["host"] == "fd00:10:244:15::5"
    assert len(asked(large)["request"]) + 48 == 1500
    # The name that has IPv6 only.
    hosts = {asked(dial)["host"] for dial in asks["services"]}
    assert hosts == {"fd00:10:96::2", "sdn-ipv6.shop.svc.cluster.local"}
    assert [asked(dial)["host"] for dial in asks["host_ports"]] == ["2001:db8:1::15", "2001:db8:1::16"]
    assert asks["host_ports"][0]["url"].startswith("http://10.244.22.5:8080/dial?")
    assert re.search(asks["outside"][0]["expect"], '{"responses":["fd00:10:244:15::4"]}')
    assert asks["outside"][2]["url"] == "http://[2001:db8:1::15]:30007/clientip"
    assert re.search(asks["outside"][2]["expect"], "[2001:db8:2::2]:40001")


def test_a_pod_without_ipv6_is_named() -> None:
    with pytest.raises(ValueError, match=r"pod sdn-two-node1 has no IPv6 address, only 10\.244\.21\.5"):
        contract_dials(SDN_PODS, SDN_SERVICES, "cluster.local", 1500, dual=True)


def test_the_contract_needs_two_nodes() -> None:
    with pytest.raises(ValueError, match="two test pods on each of two nodes, only on node1"):
        contract_dials(SDN_PODS[:2], SDN_SERVICES, "cluster.local", 1500)


def test_what_answers_outside_tells_the_address_and_ends(checkout: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, checkout / "roles/verify/files/answer.py", str(port), "60"])
    try:
        # A second request at the end is one that waited while the first was answered.
        for path, code in (("/clientip", None), ("/end", None), ("/end", None), ("/clientip", 0)):
            for _try in range(100):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                        assert answer.read() == b"127.0.0.1"
                    break
                except urllib.error.URLError:
                    assert path == "/clientip" and code is None, "it ended before everyone was answered"
                    time.sleep(0.1)
            else:
                pytest.fail("nothing answers")
            assert code is None or process.wait(10) == code
    finally:
        process.kill()
        process.wait()
