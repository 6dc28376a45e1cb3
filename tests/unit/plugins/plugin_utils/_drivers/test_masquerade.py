# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address of pods outside: which files follow from the model, and what the kernel makes of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.masquerade import RULES, masquerade_files
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site, SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import node_files
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import PATH, Bench, Space, missing_programs

NFT = shutil.which("nft", path=os.environ.get("PATH", "") + ":" + PATH)
WHY = missing_programs("ip", "ethtool") or ("" if NFT else "not installed: nft")


def site(checkout: Path, **sdn: Any) -> Site:
    data = yaml.safe_load((checkout / "inventories/lab/site.yml").read_text())
    data["cluster"]["sdn"] |= sdn
    return load_site(data)


def rules(checkout: Path, masquerade: bool) -> str:
    found = site(checkout, masquerade=masquerade)
    return masquerade_files(found, found.server("node1"))[RULES]


def test_nothing_is_written_unless_the_model_says_something(checkout: Path) -> None:
    before = site(checkout)
    assert not masquerade_files(before, before.server("node1"))
    after = site(checkout, masquerade=True)
    added = node_files(after, after.server("node1"), "key").keys() - node_files(before, before.server("node1"), "key")
    assert added == {RULES, "/etc/systemd/system/kubelet.service.d/20-kiban-pods.conf"}


def test_each_server_lends_its_own_address(checkout: Path) -> None:
    line = "ip saddr 10.244.0.0/16 ip daddr != { 10.244.0.0/16, 224.0.0.0/4 } snat to 198.51.100.21\n"
    assert line in rules(checkout, True)
    # What an earlier model asked for goes.
    assert rules(checkout, False) == "table ip kiban-pods\ndelete table ip kiban-pods\n"


def test_pods_of_an_overlay_have_no_address_outside(checkout: Path) -> None:
    both = site(checkout, overlay="vxlan"), site(checkout, overlay="vxlan", masquerade=True)
    first, second = (masquerade_files(one, one.server("node1")) for one in both)
    assert first == second and "masquerade" in first[RULES]
    with pytest.raises(SiteError, match=r"cluster\.sdn\.masquerade: with an overlay nobody outside knows a way back"):
        site(checkout, overlay="vxlan", masquerade=False)


# Says who asks, again and again, on a connection that stays.
_TELLS = """\
import socketserver
class Tell(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline():
            self.wfile.write(f'{self.client_address[0]}\\n'.encode())
socketserver.ThreadingTCPServer.allow_reuse_address = True
server = socketserver.ThreadingTCPServer(('0.0.0.0', 7007), Tell)
print('ready', flush=True)
server.serve_forever()
"""
# One line of input, one question.
_ASKS = """\
import socket, sys
s = socket.create_connection((sys.argv[1], 7007), timeout=5)
told = s.makefile('rw')
for line in sys.stdin:
    told.write('?\\n')
    told.flush()
    print(told.readline().strip(), flush=True)
"""


@pytest.fixture(scope="module")
def rack() -> Iterator[SimpleNamespace]:
    """A server with its address on its loopback, two links to outside, and a pod. Outside knows the way to pods."""
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        bench = Bench(Path(directory))
        try:
            node, pod, outside = (bench.add(Space, name) for name in ("node", "pod", "outside"))
            settings = ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"]
            for space in (node, outside):
                space.run("sysctl", "-qw", *settings)
            node.run("ip", "address", "add", "198.51.100.21/32", "dev", "lo")
            for address in ("203.0.113.18/32", "10.244.22.5/32"):
                outside.run("ip", "address", "add", address, "dev", "lo")
            for number in ("1", "2"):
                bench.wire("node", f"eth{number}", "outside", f"eth{number}")
                node.run("ip", "address", "add", f"169.254.{number}.1/24", "dev", f"eth{number}", "scope", "link")
                outside.run("ip", "address", "add", f"169.254.{number}.2/24", "dev", f"eth{number}", "scope", "link")
            bench.wire("node", "vpod", "pod", "eth0")
            node.run("ip", "route", "add", "10.244.21.5/32", "dev", "vpod")
            node.run("ip", "address", "add", "10.244.21.1/32", "dev", "vpod")
            pod.run("ip", "address", "add", "10.244.21.5/24", "dev", "eth0")
            pod.run("ip", "route", "add", "default", "via", "10.244.21.1")
            for target in ("198.51.100.21/32", "10.244.21.0/24"):
                outside.run("ip", "route", "add", target, "via", "169.254.1.1", "src", "203.0.113.18")
            for space in (pod, outside):
                tells = space.argv(sys.executable, "-c", _TELLS)
                space.processes.append(subprocess.Popen(tells, stdout=subprocess.PIPE))
                space.processes[-1].stdout.readline()
            yield SimpleNamespace(node=node, pod=pod, outside=outside, directory=bench.directory)
        finally:
            bench.close()


class Asks:
    """A connection that is held."""

    def __init__(self, space: Space, target: str) -> None:
        argv = space.argv(sys.executable, "-c", _ASKS, target)
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def __enter__(self) -> Asks:
        return self

    def __exit__(self, *_what: object) -> None:
        self.process.communicate(timeout=20)


def apply(rack: SimpleNamespace, text: str) -> None:
    path = rack.directory / "pods.nft"
    path.write_text(text)
    # As the kubelet's service does at each start.
    for _twice in range(2):
        rack.node.run(NFT, "-f", path)


def way(rack: SimpleNamespace, number: int) -> None:
    rack.node.run("ip", "route", "replace", "default", "via", f"169.254.{number}.2", "dev", f"eth{number}")


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(bool(WHY), reason=WHY)
def test_who_is_seen_where(rack: SimpleNamespace, checkout: Path) -> None:
    way(rack, 1)
    for masquerade, seen in ((True, "198.51.100.21"), (False, "10.244.21.5"), (True, "198.51.100.21")):
        apply(rack, rules(checkout, masquerade))
        with Asks(rack.pod, "203.0.113.18") as held:
            assert held.ask() == seen
        # Another server's pod sees the pod itself, and the pod sees who asks from outside.
        with Asks(rack.pod, "10.244.22.5") as held:
            assert held.ask() == "10.244.21.5"
        with Asks(rack.outside, "10.244.21.5") as held:
            assert held.ask() == "203.0.113.18"


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(bool(WHY), reason=WHY)
def test_a_connection_goes_on_by_the_other_link(rack: SimpleNamespace, checkout: Path) -> None:
    way(rack, 1)
    apply(rack, rules(checkout, True))
    with Asks(rack.pod, "203.0.113.18") as held:
        assert held.ask() == "198.51.100.21"
        way(rack, 2)
        assert held.ask() == "198.51.100.21"
