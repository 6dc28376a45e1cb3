# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two control-plane servers on two switches announce the API address as long as what answers there is ready."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sdn_bgp import router_files
from ansible_collections.kiban.baremetal.plugins.plugin_utils._endpoint import program
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.cables import cables
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import render
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import lab_with_two_control_planes
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import (
    Bench,
    Router,
    eventually,
    missing,
    missing_programs,
)

WHY = missing("ethtool") or missing_programs("openssl")
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]

ADDRESS = "198.51.100.5"
# Answers /readyz with what a file says, or not at all while it says 0. One thread a connection, kept open.
_API = """\
import http.server, ssl, sys, time
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        status = int(open(sys.argv[2]).read())
        while status == 0:
            time.sleep(0.2)
            status = int(open(sys.argv[2]).read())
        self.send_response(status if self.path == '/readyz' else 404)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *args):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server = http.server.ThreadingHTTPServer(('', 6443), Answer)
server.daemon_threads = True
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


class Leader(Router):
    """A control-plane server, with something that stands for its API server."""

    api: subprocess.Popen[bytes] | None = None
    watch: subprocess.Popen[bytes] | None = None
    own = ""

    def status(self, number: int) -> None:
        (self.directory / "status").write_text(str(number))

    def serve(self) -> None:
        argv = self.argv(sys.executable, "-c", _API, self.directory / "api.pem", self.directory / "status")
        self.api = subprocess.Popen(argv)
        self.processes.append(self.api)

    def crash(self) -> None:
        assert self.api
        self.api.kill()
        self.api.wait()

    def observe(self) -> None:
        with open(self.directory / "endpoint.log", "ab") as log:
            argv = self.argv(sys.executable, program.__file__, ADDRESS, self.own, 6443, self.directory / "ca.pem")
            self.watch = subprocess.Popen(argv, stdout=log, stderr=log)
        self.processes.append(self.watch)

    def certify(self) -> None:
        """A certificate for its own address, as kubeadm would make; its own CA."""
        made = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
        ]
        made += ["-subj", "/CN=api", "-addext", f"subjectAltName=IP:{self.own}"]
        self.run(*made, "-keyout", self.directory / "key", "-out", self.directory / "ca.pem")
        both = (self.directory / "key").read_text() + (self.directory / "ca.pem").read_text()
        (self.directory / "api.pem").write_text(both)


@pytest.fixture(scope="module")
def rack(checkout: Path) -> Iterator[SimpleNamespace]:
    site = lab_with_two_control_planes(checkout, "lab-fabric", endpoint=ADDRESS, endpoint_by="bgp")
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        bench = Bench(Path(directory))
        try:
            names = ["cp1", "cp2", "node1"]
            for name in (*names, *(switch.name for switch in site.switches)):
                router = bench.add(Leader, name)
                router.run("sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1")
            for cable in cables(site):
                if cable.near.device in bench.spaces and cable.far.device in bench.spaces:
                    bench.wire(cable.near.device, cable.near.port, cable.far.device, cable.far.port)
            for name, intent in intents(site).items():
                bench.spaces[name].configure(render("linux", intent).text)
            for name in names:
                server, space = site.server(name), bench.spaces[name]
                space.own = server.addresses["node"]
                space.run("ip", "address", "add", f"{space.own}/32", "dev", "lo")
                space.run("ip", "route", "add", "unreachable", server.pod_cidr, "metric", "4096")
                space.configure(router_files(site, server)["/etc/frr/frr.conf"].split("\n", 2)[2])
                space.certify()
                space.status(200)
            yield SimpleNamespace(bench=bench, **bench.spaces)
        finally:
            bench.close()


def ways(rack: SimpleNamespace, switch: str = "spine1", prefix: str = ADDRESS) -> int:
    told: list[dict[str, Any]] = json.loads(
        rack.bench.spaces[switch].run("ip", "-json", "route", "show", prefix) or "[]"
    )
    routes = [route for route in told if route.get("protocol") == "bgp"]
    return sum(len(route.get("nexthops", [0])) for route in routes)


def owners(rack: SimpleNamespace) -> int:
    """How many servers tor1 has a way to for the address."""
    return ways(rack, "tor1")


@pytest.fixture
def up(rack: SimpleNamespace) -> Iterator[None]:
    for name in ("cp1", "cp2"):
        leader = rack.bench.spaces[name]
        leader.status(200)
        if leader.api is None or leader.api.poll() is not None:
            leader.serve()
        if leader.watch is None or leader.watch.poll() is not None:
            leader.observe()
    eventually(lambda: owners(rack) == 2, 90)
    yield


def test_an_address_that_nobody_serves_is_not_announced_and_one_that_starts_is(rack: SimpleNamespace) -> None:
    """As while the first control-plane server is being initialised: at first there is no CA either."""
    eventually(lambda: ways(rack, prefix="198.51.100.11") == 2, 90)
    rack.cp1.observe()
    time.sleep(3)
    assert owners(rack) == 0
    rack.cp1.serve()
    took = eventually(lambda: owners(rack) == 1, 30)
    print(json.dumps({"announced after the start": round(took, 1)}))
    assert ways(rack) == 2, "by both of its switches"


def test_two_leaders_are_two_equal_ways(rack: SimpleNamespace, up: None) -> None:
    assert owners(rack) == 2
    # What the server sends keeps the server's own address.
    told = rack.cp1.run("ip", "route", "get", "203.0.113.3")
    assert "src 198.51.100.11" in told
    code = f"import socket; s = socket.create_connection(('{ADDRESS}', 6443), 5); print(s.getsockname()[0])"
    assert "198.51.100.21" in rack.node1.run(sys.executable, "-c", code)


def test_a_leader_that_dies_is_left_out(rack: SimpleNamespace, up: None) -> None:
    rack.cp2.crash()
    dead = eventually(lambda: owners(rack) == 1, 30)
    code = f"import socket; socket.create_connection(('{ADDRESS}', 6443), 5); print('yes')"
    for _number in range(5):
        assert "yes" in rack.node1.run(sys.executable, "-c", code)
        # On the server itself the way leads to the other one.
        assert "yes" in rack.cp2.run(sys.executable, "-c", code)
    rack.cp2.serve()
    back = eventually(lambda: owners(rack) == 2, 30)
    print(json.dumps({"dead": round(dead, 1), "back": round(back, 1)}))
    assert dead < 3


def test_a_leader_that_is_not_ready_or_does_not_answer(rack: SimpleNamespace, up: None) -> None:
    rack.cp2.status(500)
    unready = eventually(lambda: owners(rack) == 1, 30)
    rack.cp2.status(200)
    eventually(lambda: owners(rack) == 2, 30)
    rack.cp2.status(0)
    hanging = eventually(lambda: owners(rack) == 1, 60)
    print(json.dumps({"not ready": round(unready, 1), "no answer": round(hanging, 1)}))
    assert 1 < unready < 6 and 20 < hanging < 40


def test_a_watch_that_ends_takes_the_address_with_it(rack: SimpleNamespace, up: None) -> None:
    rack.cp2.watch.terminate()
    ended = eventually(lambda: owners(rack) == 1, 10)
    rack.cp2.watch.wait()
    assert ended < 3
    assert ADDRESS not in rack.cp2.run("ip", "address", "show", "dev", "lo")


def test_a_certificate_of_another_ca_is_no_answer(rack: SimpleNamespace, up: None) -> None:
    rack.cp2.crash()
    eventually(lambda: owners(rack) == 1, 30)
    rack.cp2.certify()
    (rack.cp2.directory / "ca.pem").write_text((rack.cp1.directory / "ca.pem").read_text())
    rack.cp2.serve()
    time.sleep(4)
    assert owners(rack) == 1
    assert "CERTIFICATE_VERIFY_FAILED" in (rack.cp2.directory / "endpoint.log").read_text()
    rack.cp2.crash()
    rack.cp2.certify()


def test_a_worker_cannot_announce_it(rack: SimpleNamespace, up: None) -> None:
    rack.node1.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    rack.node1.vtysh(
        *("configure terminal", "router bgp 4200000021", "address-family ipv4 unicast", f"network {ADDRESS}/32"),
        "no neighbor KIBAN-SWITCHES prefix-list KIBAN-OWN out",
    )
    time.sleep(3)
    assert owners(rack) == 2
    told = json.loads(rack.tor1.vtysh(f"show bgp ipv4 unicast {ADDRESS}/32 json"))
    assert {path["aspath"]["string"] for path in told["paths"]} >= {"4200000011", "4200000012"}
    assert "4200000021" not in {path["aspath"]["string"] for path in told["paths"]}
