# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run costs at a size: `python tests/bench/scale/bench.py --servers 1000`. Needs root.

Everything runs in namespaces of its own, so that it ends with this program however that ends: BMCs of tests/simulator
and SSH targets at loopback addresses, and the bundle's etcd and kube-apiserver with a node object a server. Measured
in one run, first with 10 servers: a run with nothing to do; one server that differs (host files, a service, the
kubelet's configuration, a label), three times; and a play with the same checks in the usual style on a sample. The
last line is one JSON object; docs/testing.md says what its keys are.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / ".ansible" / "collections"))

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import file_mode, node_files
from ansible_collections.kiban.baremetal.tests.bench.scale.world import ALONE, CHECKOUT, HERE, IMAGE, World, site_data

ONE = ("one", "one again", "one a third time")
"""One server that differs, brought in order: its figures are the medians of these runs, as each takes a few seconds."""


def tree_mib(pid: int) -> float:
    """Memory of a process and its children; what several of them share counts once (PSS)."""
    total, todo = 0.0, [pid]
    while todo:
        one = todo.pop()
        try:
            todo += [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) / 1024
        except OSError:
            continue
    return total


def run(world: World, playbook: str, *options: str, inventory: str | None = None) -> dict[str, Any]:
    """One ansible-playbook: its time, memory and tasks."""
    timeline = world.work / f"timeline-{time.monotonic_ns()}.jsonl"
    command = ["ansible-playbook", playbook, "-i", inventory or str(world.inventory), *options]
    environment = {
        **world.environment,
        "KIBAN_TIMELINE": str(timeline),
        "ANSIBLE_CALLBACKS_ENABLED": "kiban.baremetal.timeline",
    }
    peak = 0.0
    others, requests = world.cpu_seconds(), world.api_requests()
    began, before = time.monotonic(), os.times()
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, env=environment, cwd=CHECKOUT, text=True, **both)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    while process.poll() is None:
        peak = max(peak, tree_mib(process.pid))
        time.sleep(0.5)
    reader.join()
    wall, after = time.monotonic() - began, os.times()
    done = [json.loads(line) for line in timeline.read_text().splitlines()] if timeline.exists() else []
    tasks = Counter((entry["play"], entry["task"]) for entry in done)
    return {
        "rc": process.returncode,
        "wall_s": round(wall, 2),
        "cpu_s": round(after.children_user + after.children_system - before.children_user - before.children_system, 2),
        # On other machines in a datacenter: BMCs, servers, the API server.
        "others_cpu_s": round(world.cpu_seconds() - others, 2),
        "api_requests": world.api_requests() - requests,
        "peak_mib": round(peak),
        "tasks": len(tasks),
        # A task of the whole run has one result. Each further one is a server that cost something.
        "per_host_tasks": sum(count - 1 for count in tasks.values()),
        "changed": sum(1 for entry in done if entry["status"] == "changed"),
        "text": "".join(lines),
        "timeline": done,
    }


def acting(result: dict[str, Any]) -> dict[str, float]:
    """What was done after the plan was shown: results of tasks, and time from the first to the last of them."""
    done = result["timeline"]
    planned = max((number for number, entry in enumerate(done) if entry["task"] == "Show the plan"), default=-1)
    after = done[planned + 1 :]
    wall = max(entry["end"] for entry in after) - min(entry["start"] for entry in after) if after else 0.0
    return {
        "results": len(after),
        "changed": sum(entry["status"] == "changed" for entry in after),
        "wall_s": wall,
        "cpu_s": done[-1]["cpu"] - done[planned]["cpu"] if after else 0.0,
    }


def slower(few: dict[str, Any], many: dict[str, Any]) -> list[str]:
    """What the acting part of a run takes longer for among many servers than among few, the most first."""
    spent: dict[str, list[float]] = {}
    for number, result in enumerate((few, many)):
        before = 0.0
        for entry in result["timeline"]:
            row = spent.setdefault(f"{entry['play']}: {entry['task']}", [0.0, 0.0, 0.0, 0.0])
            row[number] += entry["end"] - entry["start"]
            row[2 + number] += entry["cpu"] - before
            before = entry["cpu"]
    rows = sorted(spent.items(), key=lambda item: item[1][2] - item[1][3])
    return [
        f"  {a:6.2f} -> {b:6.2f} s, CPU {c:5.2f} -> {d:5.2f} s  {name}" for name, (a, b, c, d) in rows if d > c + 0.05
    ]


def differ(world: World) -> None:
    """The last server gets what a server may lack: a host file, a service, a field of the kubelet's, a label."""
    name = world.site.servers[-1].name
    root = world.whole(name)
    (root / "etc/hosts").write_text("nothing\n")
    (root / "etc/systemd/system/multi-user.target.wants/containerd.service").unlink(missing_ok=True)
    kubelet = root / "own/var/lib/kubelet/config.yaml"
    kubelet.write_text(kubelet.read_text().replace("maxPods: 200", "maxPods: 110"))
    world.kubectl("label", "node", name, "node-role.kubernetes.io/worker-")


def usual(world: World, count: int) -> dict[str, Any]:
    """The play in the usual style on the last servers of the site."""
    names = [server.name for server in world.site.servers[-count:]]
    key = (world.site_dir / "ssh" / "id_ed25519.pub").read_text().strip()
    for name in names:
        world.whole(name)
        for path, text in node_files(world.site, world.site.server(name), key).items():
            file = world.work / "usual" / name / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(int(file_mode(path), 8))
    known = {"usual_files": list(node_files(world.site, world.site.servers[-1], key)), "usual_image": IMAGE}
    options = ["--limit", ",".join(names), "--forks", "50", "-e", json.dumps({**known, "usual_system": world.system()})]
    return run(world, str(HERE / "usual.yml"), *options)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--few", type=int, default=10, help="size of the small site")
    parser.add_argument("--sample", type=int, default=20, help="servers of the play in the usual style; 0: without it")
    parser.add_argument("--show", action="store_true", help="show what the runs write")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        # Its own clean-up can't be waited for when a signal ends it, so the directory is that of the process outside.
        signal.signal(signal.SIGTERM, lambda *_unused: sys.exit(128 + signal.SIGTERM))
        with tempfile.TemporaryDirectory(prefix="kiban-scale-", ignore_cleanup_errors=True) as directory:
            command = [*ALONE, sys.executable, *sys.argv, "--inside", directory]
            return subprocess.run(command, check=False).returncode
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    few, many = (
        measure(Path(tempfile.mkdtemp(dir=arguments.inside)), servers, arguments.show, sample)
        for servers, sample in ((arguments.few, 0), (arguments.servers, min(arguments.sample, arguments.servers)))
    )
    print(
        f"one server, among {arguments.few} and among {arguments.servers}:", *slower(few["one"], many["one"]), sep="\n"
    )
    line = summary(few, many, arguments)
    print(json.dumps(line))
    return 0 if line["ok"] else 1


def measure(directory: Path, servers: int, show: bool, sample: int) -> dict[str, dict[str, Any]]:
    """All runs on a site of this size."""
    results: dict[str, dict[str, Any]] = {}
    world = World(directory, site_data(servers))
    began = time.monotonic()

    def show_result(name: str, result: dict[str, Any]) -> None:
        results[name] = result
        figures = {key: value for key, value in result.items() if key not in ("text", "timeline")}
        print(f"{servers} servers, {name}: {json.dumps(figures)}", flush=True)
        if show or result["rc"]:
            print(result["text"][-6000:], flush=True)

    with world.running():
        print(f"{servers} servers are there after {time.monotonic() - began:.0f} s", flush=True)
        nothing = world.work / "nothing.yml"
        nothing.write_text("- hosts: localhost\n  gather_facts: false\n  tasks:\n    - ansible.builtin.debug:\n")
        show_result("ansible", run(world, str(nothing), inventory="localhost,"))
        show_result("inventory", run(world, str(nothing)))
        # It brings what is not per server in order, such as the cluster's DNS, once.
        show_result("first", run(world, "kiban.baremetal.site"))
        show_result("noop", run(world, "kiban.baremetal.site"))
        for entry in sorted(results["noop"]["timeline"], key=lambda entry: entry["start"] - entry["end"])[:6]:
            print(f"  {entry['end'] - entry['start']:6.2f} s  {entry['play']}: {entry['task']}")
        show_result("plan", run(world, "kiban.baremetal.plan"))
        show_result("check", run(world, "kiban.baremetal.site", "--check"))
        for name in ONE:
            differ(world)
            show_result(name, run(world, "kiban.baremetal.site"))
        show_result("after", run(world, "kiban.baremetal.plan"))
        if sample:
            show_result("usual_half", usual(world, sample // 2))
            show_result("usual", usual(world, sample))
    return results


def summary(few: dict[str, Any], many: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    noop, order = many["noop"], "everything is in order: nothing to do"
    # What running it costs beyond running it with nothing to do.
    works = []
    for site in (few, many):
        quiet = acting(site["noop"]) | {"requests": site["noop"]["api_requests"]}
        runs = [acting(site[name]) | {"requests": site[name]["api_requests"]} for name in ONE]
        works.append({key: statistics.median(one[key] for one in runs) - quiet[key] for key in quiet})
    ratios = {key: round(works[1][key] / works[0][key], 2) for key in works[0] if works[0][key]}
    line = {
        "bench": "scale",
        "servers": arguments.servers,
        "noop_wall_s": noop["wall_s"],
        "noop_cpu_s": noop["cpu_s"],
        "noop_others_cpu_s": noop["others_cpu_s"],
        "noop_wall_s_few": few["noop"]["wall_s"],
        "noop_cpu_s_few": few["noop"]["cpu_s"],
        "cpu_ms_a_server": round(
            1000 * (noop["cpu_s"] - few["noop"]["cpu_s"]) / max(1, arguments.servers - arguments.few), 1
        ),
        "per_host_tasks": noop["per_host_tasks"],
        "tasks": noop["tasks"],
        "changed": noop["changed"],
        "peak_mib": noop["peak_mib"],
        "fixed_ansible_s": many["ansible"]["wall_s"],
        "fixed_inventory_s": round(many["inventory"]["wall_s"] - many["ansible"]["wall_s"], 2),
        "plan_wall_s": many["plan"]["wall_s"],
        "check_wall_s": many["check"]["wall_s"],
        "one_few": {key: round(value, 2) for key, value in works[0].items()},
        "one_many": {key: round(value, 2) for key, value in works[1].items()},
        "one_ratio": ratios,
        "ok": all(
            site[name]["rc"] == 0 and order in site[name]["text"]
            for site in (few, many)
            for name in ("noop", "plan", "check", "after")
        )
        and not any(site[name]["rc"] for site in (few, many) for name in ONE),
    }
    if "usual" in many:
        half, whole = many["usual_half"], many["usual"]
        first, second = arguments.sample // 2, min(arguments.sample, arguments.servers)
        for key in ("wall_s", "cpu_s"):
            # A straight line through both samples.
            slope = (whole[key] - half[key]) / (second - first)
            line[f"usual_{key}"] = round(half[key] + slope * (arguments.servers - first))
            line[f"usual_ratio_{key}"] = round(line[f"usual_{key}"] / noop[key], 1)
        line["ok"] = line["ok"] and half["rc"] == whole["rc"] == 0
    return line


if __name__ == "__main__":
    sys.exit(main())
