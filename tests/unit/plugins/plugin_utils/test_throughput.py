# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throughput from pod to pod beside host to host: what is made of it, and the program that measures, in namespaces."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._verify_network import (
    throughput_ends,
    throughput_figures,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import Bench, Space, missing_programs

WHY = missing_programs("ip", "ethtool")
PODS = [
    {
        "metadata": {"name": f"sdn-{group}-{node}", "labels": {"set": group}},
        "spec": {"nodeName": node},
        "status": {"podIP": f"10.244.{place}.{4 if group == 'one' else 5}", "hostIP": f"198.51.100.{place}"},
    }
    for group in ("one", "two")
    for node, place in (("node1", 21), ("node2", 22))
]


def test_two_nodes_send_to_each_other() -> None:
    here, there = throughput_ends(PODS)
    assert (here["node"], here["host"], here["pod"]) == ("node1", "198.51.100.21", "10.244.21.5")
    assert here["to"] == [there["host"], there["pod"]] and there["to"] == [here["host"], here["pod"]]
    assert (here["label"], there["label"]) == ("node1 to node2", "node2 to node1")
    with pytest.raises(ValueError, match="two test pods on each of two nodes"):
        throughput_ends(PODS[:1])


def measured(pod_rate: float, pod_segment: int = 1448, lost: int = 0) -> dict[str, Any]:
    rounds = [
        {"which": which, "sent": int(2 * rate), "bytes": int(2 * rate) - lost, "seconds": 2.0, "segment": segment}
        for which, rate, segment in (("host", 80e6, 1448), ("pod", pod_rate, pod_segment), ("host", 120e6, 1448))
    ]
    return {"item": {"label": "node1 to node2"}, "rc": 0, "stdout": json.dumps(rounds), "stderr": ""}


def test_the_ratio_is_that_of_one_run() -> None:
    back = {**measured(50e6), "item": {"label": "node2 to node1"}}
    found = throughput_figures([measured(75e6), back], 0.2)
    assert found["problems"] == []
    assert found["figures"]["node1 to node2"] == {
        "host_mb_per_second": 100.0,
        "pod_mb_per_second": 75.0,
        "host_segment": 1448,
        "pod_segment": 1448,
        "ratio": 0.75,
    }
    assert found["figures"]["ratio"] == 0.62
    assert found["lines"][1].startswith("node2 to node1: 50.0 MB/s pod to pod, 100.0 MB/s host to host, ratio 0.5,")


@pytest.mark.parametrize(
    ("result", "overlay", "problem"),
    [
        (measured(15e6), False, "the ratio of 0.15 is less than 0.2"),
        (measured(0), False, "the ratio of 0.0 is less than 0.2"),
        (measured(80e6, 1398), False, "segments from host to host have 1448 bytes, so pods do not use the full MTU"),
        (measured(80e6, 1398), True, None),
        (measured(80e6, 1397), True, "do not use the full MTU"),
        (measured(80e6, lost=5), False, "160000000 bytes were sent pod to pod, and 159999995 arrived"),
        ({**measured(1), "rc": 1, "stderr": "from 10.244.21.5 to 10.244.22.5: timed out\n"}, False, "timed"),
        ({**measured(1), "rc": 124}, False, "node1 to node2: it took too long"),
    ],
)
def test_what_is_wrong(result: dict[str, Any], overlay: bool, problem: str | None) -> None:
    problems = throughput_figures([result], 0.2, overlay)["problems"]
    assert problems == [] if problem is None else problem in "; ".join(problems)


@pytest.fixture(scope="module")
def rack() -> Iterator[Bench]:
    """Two servers with a wire between them, and a pod behind each."""
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        bench = Bench(Path(directory))
        try:
            for name in ("node1", "node2", "pod1", "pod2"):
                bench.add(Space, name).run("sysctl", "-qw", "net.ipv4.ip_forward=1")
            bench.wire("node1", "eth0", "node2", "eth0")
            for here, there in (("1", "2"), ("2", "1")):
                node, pod = bench.spaces[f"node{here}"], bench.spaces[f"pod{here}"]
                bench.wire(f"node{here}", "vpod", f"pod{here}", "eth0")
                node.run("ip", "address", "add", f"198.51.100.2{here}/24", "dev", "eth0")
                node.run("ip", "address", "add", f"10.244.2{here}.1/24", "dev", "vpod")
                node.run("ip", "route", "add", f"10.244.2{there}.0/24", "via", f"198.51.100.2{there}")
                pod.run("ip", "address", "add", f"10.244.2{here}.5/24", "dev", "eth0")
                pod.run("ip", "route", "add", "default", "via", f"10.244.2{here}.1")
                spaces = bench.directory / f"spaces{here}"
                spaces.mkdir()
                for name in (f"node{here}", f"pod{here}"):
                    (spaces / name).symlink_to(f"/run/netns/{bench.spaces[name].netns}")
                # What a pod that has ended may leave.
                (spaces / "a-file").touch()
            yield bench
        finally:
            bench.close()


def ends() -> list[dict[str, Any]]:
    return throughput_ends(PODS)


def run(rack: Bench, checkout: Path, takes: bool = True) -> list[dict[str, Any]]:
    """As the role does it: both take what comes, then one after the other sends."""
    program = [sys.executable, checkout / "roles/verify/files/throughput.py"]

    def argv(end: dict[str, Any], role: str, seconds: float, *more: str) -> list[str]:
        spaces = rack.directory / f"spaces{end['node'][-1]}"
        return rack.spaces[end["node"]].argv(*program, role, spaces, 18082, seconds, end["host"], end["pod"], *more)

    sinks = [subprocess.Popen(argv(end, "sink", 60)) for end in ends() if takes]
    try:
        results = []
        for end in ends():
            done = subprocess.run(
                argv(end, "send", 0.2, *end["to"]), capture_output=True, text=True, check=False, timeout=120
            )
            results.append({"item": end, "rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr})
        # Who has taken everything ends.
        assert [sink.wait(30) for sink in sinks] == [0] * len(sinks)
        return results
    finally:
        for sink in sinks:
            sink.kill()
            sink.wait()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(bool(WHY), reason=WHY)
class TestProgram:
    def test_it_measures_pods_and_hosts(self, rack: Bench, checkout: Path) -> None:
        results = run(rack, checkout)
        found = throughput_figures(results, 0.01)
        assert found["problems"] == [], results
        assert found["figures"]["node1 to node2"]["pod_segment"] == 1448
        assert [one["which"] for one in json.loads(results[0]["stdout"])] == ["host", "pod", "pod", "host"]
        for result in results:
            print(found["figures"][result["item"]["label"]])

    def test_packets_of_pods_that_are_not_full_are_seen(self, rack: Bench, checkout: Path) -> None:
        link = ("ip", "link", "set", "eth0", "mtu")
        try:
            rack.spaces["pod2"].run(*link, 1400)
            problems = throughput_figures(run(rack, checkout), 0.01)["problems"]
            assert len(problems) == 2 and all("do not use the full MTU" in problem for problem in problems)
        finally:
            rack.spaces["pod2"].run(*link, 1500)

    def test_an_address_that_no_namespace_has(self, rack: Bench, checkout: Path) -> None:
        end = {**ends()[0], "pod": "10.244.21.9"}
        argv = [sys.executable, checkout / "roles/verify/files/throughput.py", "sink", rack.directory / "spaces1"]
        done = subprocess.run(
            rack.spaces["node1"].argv(*argv, 18082, 60, end["host"], end["pod"]),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("10.244.21.9 is in none of the network namespaces ")
