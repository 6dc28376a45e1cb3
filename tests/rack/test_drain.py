# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a finished rack: pods leave a server before it is restarted for a BIOS attribute, and it takes pods again.

Meanwhile a Deployment serves of whose two replicas one may be absent. A second one has a pod that takes an hour to end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rack
import yaml

pytestmark = pytest.mark.rack

NAMESPACE = "kiban-drain"
DRAINED = "kiban.baremetal/drained"


def deployment(name: str, replicas: int, ends_in: int, **spec: Any) -> dict[str, Any]:
    artifacts = json.loads((rack.WORK / "bundle/manifest.json").read_text())["artifacts"]
    image = next(one["reference"] for one in artifacts if one["name"] == "agnhost")
    ready = {"httpGet": {"path": "/hostname", "port": 8080}, "periodSeconds": 3, "timeoutSeconds": 5}
    container = {"name": "web", "image": image, "args": ["netexec", "--http-port=8080"], "readinessProbe": ready}
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": ends_in}}}
    pod = {"containers": [container], "terminationGracePeriodSeconds": ends_in + 5, **spec}
    template = {"metadata": {"labels": {"app": name}}, "spec": {**pod, "automountServiceAccountToken": False}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def objects() -> list[dict[str, Any]]:
    labels = {"matchLabels": {"app": "web"}}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    spread |= {"nodeTaintsPolicy": "Honor", "matchLabelKeys": ["pod-template-hash"], "labelSelector": labels}
    budget = {"maxUnavailable": 1, "selector": labels}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        deployment("web", 2, 1, topologySpreadConstraints=[spread]),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": budget,
        },
        deployment("held", 1, 3600, nodeSelector={"kubernetes.io/hostname": "node1"}),
    ]


def read(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rack.kubectl("get", "-o", "json", *words))
    return found


def pods(app: str) -> dict[str, str]:
    """Pods that are not on their way out, each with its node."""
    items = read("pods", f"--namespace={NAMESPACE}", f"--selector=app={app}")["items"]
    return {
        item["metadata"]["name"]: item["spec"].get("nodeName", "")
        for item in items
        if "deletionTimestamp" not in item["metadata"]
    }


def available(name: str) -> int:
    return int(read("deployment", name, f"--namespace={NAMESPACE}")["status"].get("availableReplicas", 0))


def scheduling(name: str) -> tuple[bool, bool]:
    """Whether the node is cordoned, and whether a run says that it has done it."""
    node = read("node", name)
    return node["spec"].get("unschedulable", False), DRAINED in node["metadata"].get("annotations", {})


def until(what: str, holds: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}\n{rack.kubectl('get', 'pods', '-A')}"
        time.sleep(2)


def release() -> None:
    """End the pods that take an hour."""
    rack.kubectl("delete", "deployment", "held", f"--namespace={NAMESPACE}", "--ignore-not-found")
    words = ("--selector=app=held", "--force", "--grace-period=0")
    until(
        "no pod of held is left",
        lambda: "deleted" not in rack.kubectl("delete", "pods", f"--namespace={NAMESPACE}", *words),
    )


@pytest.fixture
def workload(tmp_path: Path) -> Iterator[None]:
    path = tmp_path / "objects.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects()}))
    try:
        rack.kubectl("apply", "-f", str(path))
        until("web and held run", lambda: available("web") == 2 and available("held") == 1)
        yield
    finally:
        release()
        rack.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def bios(tmp_path: Path) -> Callable[[int], str]:
    """Makes a copy of the inventory in which node1 has another value of a BIOS attribute, and some time to drain."""

    def make(drain_timeout: int) -> str:
        target = tmp_path / f"bios-{drain_timeout}"
        shutil.copytree(rack.ROOT / "inventories/lab", target)
        site = yaml.safe_load((target / "site.yml").read_text())
        site["limits"]["drain_timeout"] = drain_timeout
        site["profiles"]["other"] = {**site["profiles"]["compute"], "bios": {"ProcTurboMode": "Disabled"}}
        servers = site["racks"][0]["servers"]
        both = next(server for server in servers if server["name"] == "node[1:2]")
        servers.remove(both)
        for number, profile in ((1, "other"), (2, "compute")):
            address = {"bmc": f"192.0.2.2{number}", "addresses": {"node": f"198.51.100.2{number}"}}
            servers.append({**both, "name": f"node{number}", "profile": profile, **address})
        (target / "site.yml").write_text(yaml.safe_dump(site, sort_keys=False))
        return str(target)

    return make


def test_pods_leave_before_a_server_is_restarted(workload: None, bios: Callable[[int], str], tmp_path: Path) -> None:
    boot = rack.ssh("node1", "cat /proc/sys/kernel/random/boot_id")
    assert boot

    # A pod that does not end: nothing is done to the server, and it is given back.
    done = rack.playbook("site", inventory=bios(20))
    assert done.returncode != 0, done.stdout[-4000:]
    assert "node1: was not drained within 20 s (limits.drain_timeout)" in done.stdout, done.stdout[-4000:]
    assert f"still on it: {NAMESPACE}/held-" in done.stdout, done.stdout[-4000:]
    assert scheduling("node1") == (False, False)
    assert rack.ssh("node1", "cat /proc/sys/kernel/random/boot_id") == boot

    # A run that is killed while it drains: the next one of any model lets the node take pods again.
    killed = subprocess.Popen(
        rack.command("site", inventory=bios(600)),
        cwd=rack.ROOT,
        env=rack.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        until("node1 is cordoned", lambda: scheduling("node1") == (True, True))
    finally:
        kill_all(killed)
    done = rack.playbook("plan")
    assert "cordoned by a run that did not end -> takes pods" in done.stdout, done.stdout[-4000:]
    done = rack.playbook("site")
    assert done.returncode == 0, done.stdout[-4000:]
    assert scheduling("node1") == (False, False)

    # All can leave, and each worker has a replica again.
    release()
    rack.kubectl("rollout", "restart", "deployment/web", f"--namespace={NAMESPACE}")
    until(
        "web is on both workers", lambda: sorted(pods("web").values()) == ["node1", "node2"] and available("web") == 2
    )
    inventory = bios(300)
    before, fewest = rack.ssh("node2", "cat /proc/sys/kernel/random/boot_id"), 2
    log = tmp_path / "run.log"
    with log.open("w") as output:
        run = subprocess.Popen(
            rack.command("site", inventory=inventory),
            cwd=rack.ROOT,
            env=rack.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while run.poll() is None:
            fewest = min(fewest, available("web"))
            time.sleep(2)
    assert run.returncode == 0, log.read_text()[-4000:]
    assert fewest == 1, "one replica moved, the other served on"
    assert rack.ssh("node1", "cat /proc/sys/kernel/random/boot_id") != boot
    assert rack.ssh("node2", "cat /proc/sys/kernel/random/boot_id") == before
    assert scheduling("node1") == (False, False)
    until("web is whole", lambda: available("web") == 2)
    assert {*pods("web").values()} == {"node2"}, "both moved away while the server was down"

    done = rack.playbook("site", inventory=inventory)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "everything is in order: nothing to do" in done.stdout


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a run and what it has started: its workers are in sessions of their own."""
    pids = [process.pid]
    for pid in pids:
        listed = Path(f"/proc/{pid}/task/{pid}/children")
        pids += [int(child) for child in listed.read_text().split()] if listed.exists() else []
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
