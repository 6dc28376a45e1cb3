# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._verify import node_problems, pod_dials, probe_figures


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
