# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network policies that the verification tries, held against what NetworkPolicy means; and its balanced Services."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._verify_network import (
    balancer_dials,
    ingress_dials,
    lost_node_figures,
    lost_node_watch,
    policy_steps,
    silence_figures,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import Bench, Space, missing_programs

WHY = missing_programs("ip", "ethtool")
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
        "status": {
            "podIP": address,
            "podIPs": [{"ip": address}, {"ip": f"fd00::{address.replace('.', ':')}"}],
            "hostIP": "198.51.100.21",
        },
    }


PODS = [
    pod("one", "node1", "10.244.21.4"),
    pod("two", "node1", "10.244.21.5"),
    pod("one", "node2", "10.244.22.4"),
    pod("two", "node2", "10.244.22.5"),
]
STRANGER = pod("none", "node2", "10.244.22.9", "shop-other")
BY_ADDRESS = {two["ip"]: one for one in (*PODS, STRANGER) for two in one["status"]["podIPs"]}


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


@pytest.mark.parametrize("dual", [False, True])
def test_every_answer_follows_from_the_policies(dual: bool) -> None:
    applied: list[dict[str, Any]] = []
    told: set[tuple[str, bool]] = set()
    steps = policy_steps(PODS, STRANGER, dual)
    every = [dial for step in steps for dial in step["dials"]]
    assert sum("by IPv6" in dial["label"] for dial in every) == (len(every) // 2 if dual else 0)
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


def test_a_service_with_ipv6_is_asked_too() -> None:
    services = [service("sdn-balanced", "203.0.113.128"), service("sdn-balanced-local", "203.0.113.129")]
    services.append(service("sdn-balanced-ipv6", "2001:db8:f::1"))
    *_two, six = balancer_dials(services, ["203.0.113.128/26", "2001:db8:f::/120"], "203.0.113.22")
    assert six["url"] == "http://[2001:db8:f::1]/hostname"
    with pytest.raises(ValueError, match="which is in none of the pools"):
        balancer_dials(services, ["203.0.113.128/26"], "203.0.113.22")


@pytest.mark.parametrize(
    ("address", "message"),
    [((), "has no address"), (("203.0.113.200",), "which is in none of the pools 203.0.113.128/26")],
)
def test_an_address_of_no_pool_is_refused(address: tuple[str, ...], message: str) -> None:
    services = [service("sdn-balanced", *address), service("sdn-balanced-local", "203.0.113.129")]
    with pytest.raises(ValueError, match=message):
        balancer_dials(services, ["203.0.113.128/26"], "203.0.113.22")


def test_whom_to_ask_while_a_node_is_lost() -> None:
    assert lost_node_watch(PODS, "node2") == ["10.244.22.5:8080", "10.244.21.5:8080"]
    balanced = [service("sdn-balanced", "203.0.113.128"), service("sdn-balanced-local", "203.0.113.129")]
    assert lost_node_watch(PODS, "node1", balanced)[2:] == ["203.0.113.129:80"]


def seen(lost: int, last_lost: float | None, last_ok: float | None) -> dict[str, Any]:
    return {"requests": 100, "lost": lost, "longest_gap_ms": 240, "last_lost": last_lost, "last_ok": last_ok}


TOLD = {
    "lost": seen(50, 1795860090.0, 1795860000.0),
    "held": seen(0, None, 1795860090.0),
    "other": seen(0, None, 1795860090.0),
    "balanced": seen(12, 1795860005.25, 1795860090.0),
}
AT = 1795860000.0
# The second one heard for a moment that the spine knows a way.
TOR1, TOR2 = (
    [(AT - 70, True), (AT + 5.5, False)],
    [(AT - 70, True), (AT + 4.9, False), (AT + 5, True), (AT + 5.93, False)],
)


def test_how_long_the_routes_of_a_lost_node_stay() -> None:
    found = lost_node_figures(TOLD, {"tor1": TOR1, "tor2": TOR2, "spine1": []})
    assert found["problems"] == []
    assert (found["figures"]["route_seconds"], found["figures"]["route_switches"]) == (5.9, 2)
    assert (found["figures"]["balanced_lost"], found["figures"]["balanced_seconds"]) == (12, 5.2)
    stays = lost_node_figures(TOLD, {"tor1": TOR1, "tor2": TOR1[:1]})
    assert stays["problems"] == ["tor2 still had the route to its pods 90 s later"]


def test_a_connection_that_did_not_go_on_is_a_problem() -> None:
    found = lost_node_figures({**TOLD, "held": seen(3, 1.0, 2.0)}, {})
    assert found["problems"] == ["3 of 100 requests to the other worker on one connection were lost"]
    assert "route_seconds" not in found["figures"]


def test_a_node_that_was_not_lost_proves_nothing() -> None:
    found = lost_node_figures({**TOLD, "lost": seen(0, None, 1795860090.0)}, {})
    assert found["problems"] == ["the worker never stopped to answer, so nothing was measured"]


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(bool(WHY), reason=WHY)
def test_the_program_sees_a_route_leave(checkout: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        bench = Bench(Path(directory))
        try:
            switch = bench.add(Space, "switch")
            bench.wire("switch", "swp1", "switch", "swp2")
            switch.run("ip", "address", "add", "192.0.2.1/24", "dev", "swp1")
            for prefix in ("10.244.21.0/24", "10.244.21.0/25"):
                switch.run("ip", "route", "add", prefix, "via", "192.0.2.2")
            program = switch.argv(sys.executable, checkout / "roles/verify/files/routes.py")

            def watch(seconds: int, limit: int, prefix: str) -> subprocess.Popen[str]:
                argv = [*program, str(seconds), str(limit), prefix]
                return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

            switch.run("ip", "address", "add", "198.51.100.1/24", "dev", "swp2")
            seen, never = watch(2, 60, "10.244.21.0/24"), watch(9, 60, "10.244.0.0/16")
            stays = watch(9, 4, "198.51.100.0/24")
            time.sleep(3)
            # With its port, of which the kernel tells nobody.
            switch.run("ip", "link", "set", "swp1", "down")
            gone = time.time()
            out = json.loads(seen.communicate(timeout=60)[0])
            assert [there for _at, there in out] == [True, False]
            assert gone - 1 < out[1][0] < gone + 1
            assert json.loads(never.communicate(timeout=60)[0]) == []
            assert [there for _at, there in json.loads(stays.communicate(timeout=60)[0])] == [True]
        finally:
            bench.close()


def test_how_long_all_was_silent_without_a_switch() -> None:
    told = {
        "host": {"requests": 900, "lost": 30, "silent_seconds": 5.1, "ended_well": True},
        "pod": {"requests": 900, "lost": 31, "silent_seconds": 5.4, "ended_well": True},
    }
    found = silence_figures(told, 20)
    assert found["problems"] == [] and found["figures"]["host_silent_seconds"] == 5.1
    assert found["lines"][1] == "a pod was silent for 5.4 s, 31 of 900 lost"
    told["pod"] |= {"silent_seconds": 30.2, "ended_well": False}
    assert silence_figures(told, 20)["problems"] == [
        "a pod was silent for 30.2 s, 31 of 900 lost: more than 20 s",
        "a pod did not answer at the end",
    ]


ASKED = threading.Event()


class Pod(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        ASKED.set()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_who_is_asked_while_a_node_is_lost(checkout: Path) -> None:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Pod), ThreadingHTTPServer(("127.0.0.1", 0), Pod)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = [str(server.server_address[1]) for server in servers]
    program = [sys.executable, str(checkout / "roles/verify/files/watch.py"), "4", "120"]
    process = subprocess.Popen([*program, *(f"127.0.0.1:{port}" for port in ports)], stdout=subprocess.PIPE, text=True)
    assert ASKED.wait(60)
    time.sleep(1)
    servers[0].shutdown()
    servers[0].server_close()
    out, _err = process.communicate(timeout=60)
    servers[1].shutdown()
    servers[1].server_close()
    told = json.loads(out)
    assert told["held"]["requests"] > 3 and told["held"]["lost"] == told["other"]["lost"] == 0
    assert told["lost"]["lost"] > 0 and told["lost"]["first_lost"] > told["lost"]["last_ok"] - 1
    assert "balanced" not in told
    # It ends by itself, some seconds after the last answer.
    assert 3 < told["lost"]["last_lost"] - told["lost"]["last_ok"] < 20
    assert lost_node_figures(told, {})["problems"] == []


def ingress_service(kind: str, address: str = "") -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "https", "port": 443, "nodePort": 30443}]
    status = {"loadBalancer": {"ingress": [{"ip": address}]} if address else {}}
    return {"metadata": {"name": "traefik"}, "spec": {"type": kind, "ports": ports}, "status": status}


@pytest.mark.parametrize(
    ("service", "ends"),
    [
        (ingress_service("LoadBalancer", "203.0.113.130"), ("203.0.113.130:80", "203.0.113.130:443")),
        (ingress_service("NodePort"), ("198.51.100.21:30080", "198.51.100.21:30443")),
    ],
)
def test_where_the_ingress_is_asked(service: dict[str, Any], ends: tuple[str, str]) -> None:
    dials = ingress_dials(service, "198.51.100.21", "v.test")
    http, https = (f"http://{ends[0]}/hostname", f"https://{ends[1]}/hostname")
    assert [(dial["url"], dial["name"], dial["label"]) for dial in dials] == [
        (http, "ingress.v.test", "Ingress by HTTP"),
        (https, "ingress.v.test", "Ingress by HTTPS"),
        (http, "route.v.test", "HTTPRoute by HTTP"),
        (https, "route.v.test", "HTTPRoute by HTTPS"),
    ]


def test_an_ingress_without_an_address_is_said() -> None:
    with pytest.raises(ValueError, match="Service traefik has no address"):
        ingress_dials(ingress_service("LoadBalancer"), "198.51.100.21", "v.test")
