# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run with nothing to do costs at a size: `python tests/bench/scale/bench.py --servers 1000`. Needs root.

Everything runs in a network namespace of its own: BMCs of tests/simulator and SSH targets at loopback addresses, and
the bundle's etcd and kube-apiserver with a node object a server. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / ".ansible" / "collections"))

from ansible_collections.kiban.baremetal.tests.bench.scale.world import CHECKOUT, World


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
        "peak_mib": round(peak),
        "tasks": len(tasks),
        # A task of the whole run has one result. Each further one is a server that cost something.
        "per_host_tasks": sum(count - 1 for count in tasks.values()),
        "changed": sum(1 for entry in done if entry["status"] == "changed"),
        "text": "".join(lines),
        "timeline": done,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--show", action="store_true", help="show what the runs write")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        return subprocess.run(["unshare", "--net", sys.executable, *sys.argv, "--inside"], check=False).returncode
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(prefix="kiban-scale-") as directory:
        world = World(Path(directory), arguments.servers)
        began = time.monotonic()
        with world.running():
            print(f"{arguments.servers} servers are there after {time.monotonic() - began:.0f} s", flush=True)
            return measure(world, arguments.show)


def measure(world: World, show: bool) -> int:
    nothing = world.work / "nothing.yml"
    nothing.write_text("- hosts: localhost\n  gather_facts: false\n  tasks:\n    - ansible.builtin.debug:\n")
    results = {
        "ansible": run(world, str(nothing), inventory="localhost,"),
        "inventory": run(world, str(nothing)),
        # It brings what is not per server in order, such as the cluster's DNS, once.
        "first": run(world, "kiban.baremetal.site"),
        "noop": run(world, "kiban.baremetal.site"),
        "plan": run(world, "kiban.baremetal.plan"),
        "check": run(world, "kiban.baremetal.site", "--check"),
    }
    for name, result in results.items():
        figures = {key: value for key, value in result.items() if key not in ("text", "timeline")}
        print(f"{name}: {json.dumps(figures)}", flush=True)
        if show or result["rc"]:
            print(result["text"][-6000:])
    noop = results["noop"]
    for entry in sorted(noop["timeline"], key=lambda entry: entry["start"] - entry["end"])[:8]:
        print(f"  {entry['end'] - entry['start']:6.2f} s  {entry['play']}: {entry['task']}")
    order = "everything is in order: nothing to do"
    line = {
        "bench": "scale",
        "servers": world.servers,
        "noop_wall_s": noop["wall_s"],
        "noop_cpu_s": noop["cpu_s"],
        "per_host_tasks": noop["per_host_tasks"],
        "tasks": noop["tasks"],
        "changed": noop["changed"],
        "peak_mib": noop["peak_mib"],
        "fixed_ansible_s": results["ansible"]["wall_s"],
        "fixed_inventory_s": round(results["inventory"]["wall_s"] - results["ansible"]["wall_s"], 2),
        "plan_wall_s": results["plan"]["wall_s"],
        "check_wall_s": results["check"]["wall_s"],
        "ok": all(results[name]["rc"] == 0 and order in results[name]["text"] for name in ("noop", "plan", "check")),
    }
    print(json.dumps(line))
    return 0 if line["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
