#!/usr/bin/env python3
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""First light against its floor, on the same virtual rack in the same run.

For one server and for all: blank the rack, run floor.py; blank it again, run the playbook kiban.baremetal.site with
its timeline; run it once more with nothing to do. Needs `make demo` to have built bundle, images and lab, and root.
The last line printed is one JSON object.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
WORK = Path(os.environ.get("KIBAN_WORK") or Path.home() / ".cache/kiban")
SITE_DIR = WORK / "sites/lab"
INVENTORY = "inventories/lab"
CONTROL = ["ip", "netns", "exec", os.environ.get("KIBAN_CONTROL_NETNS", "kiban-control")]
BIN = Path(sys.executable).parent
# A stage of the timeline, and the task that ends it.
STAGES = {
    "ramdisk": "Boot the deploy media",
    "written": "Write the node image",
    "booted": "Boot the system disk",
    "initialised": "Initialise the control plane",
    "joined": "Join the cluster",
    "ready": "Wait until the servers that were worked on are ready nodes",
}


def playbook(name: str, *words: str, control: bool = True, **environment: str) -> tuple[float, str]:
    command = [str(BIN / "ansible-playbook"), f"kiban.baremetal.{name}", "-i", INVENTORY, *words]
    began = time.monotonic()
    done = subprocess.run(
        (CONTROL if control else []) + command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        print(done.stdout[-6000:], file=sys.stderr)
        raise SystemExit(f"{name} ended with {done.returncode}")
    return round(seconds, 1), done.stdout


def blank() -> None:
    playbook("lab", "-e", "lab_state=blank", control=False)
    (SITE_DIR / "kubeconfig").unlink(missing_ok=True)


def floor(servers: list[str]) -> dict:
    """The floor finds its media ready; making them is part of our own time."""
    served = SITE_DIR / "deploy/root/floor"
    served.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *CONTROL,
            str(BIN / "ansible-playbook"),
            str(HERE / "media.yml"),
            "-i",
            INVENTORY,
            "--limit",
            ",".join(servers),
        ]
        + ["-e", f"floor_media_dir={served}"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        done = subprocess.run(
            [*CONTROL, sys.executable, str(HERE / "floor.py"), f"{INVENTORY}/site.yml", str(WORK), *servers],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        subprocess.run(
            [*CONTROL, str(BIN / "ansible-playbook"), str(HERE / "media.yml"), "-i", INVENTORY]
            + ["--limit", ",".join(servers), "-e", f"floor_media_dir={served}", "-e", "floor_state=absent"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        # The media hold a host key.
        shutil.rmtree(served)
    return json.loads(done.stdout.strip().splitlines()[-1])


def timeline(path: Path, began: float) -> dict[str, dict[str, float]]:
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    found: dict[str, dict[str, float]] = {}
    for stage, task in STAGES.items():
        for entry in entries:
            if task in entry["task"] and entry["status"] in ("ok", "changed"):
                found.setdefault(entry["host"], {})[stage] = round(entry["end"] - began, 1)
    return found


def measure(servers: list[str]) -> dict:
    limit = ["--limit", ",".join(servers)]
    blank()
    bare = floor(servers)
    blank()
    events = WORK / "bench-timeline.jsonl"
    events.unlink(missing_ok=True)
    began = time.time()
    seconds, _out = playbook(
        "site", *limit, KIBAN_TIMELINE=str(events), ANSIBLE_CALLBACKS_ENABLED="kiban.baremetal.timeline"
    )
    stages = timeline(events, began)
    noop, out = playbook("site", *limit)
    recap = [line for line in out.splitlines() if "changed=" in line]
    if any("changed=0" not in line for line in recap):
        raise SystemExit("the second run changed something:\n" + "\n".join(recap))
    ready = max(times["ready"] for times in stages.values() if "ready" in times)
    return {
        # The same job: both end when the cluster serves.
        "floor_s": bare["serving_seconds"],
        "site_s": seconds,
        "ratio": round(seconds / bare["serving_seconds"], 3),
        # And both until all nodes are Ready.
        "floor_ready_s": bare["seconds"],
        "site_ready_s": ready,
        "ratio_ready": round(ready / bare["seconds"], 3),
        # A whole run against a script that has no more than nodes that are Ready.
        "ratio_total_to_ready": round(seconds / bare["seconds"], 3),
        "noop_s": noop,
        "floor_timeline": bare["timeline"],
        "site_timeline": stages,
    }


def main() -> None:
    groups = {"one": ["cp1"], "three": ["cp1", "node1", "node2"]}
    wanted = [name for name in os.environ.get("RACKS", "one three").split() if name in groups]
    print(json.dumps({name: measure(groups[name]) for name in wanted}))


if __name__ == "__main__":
    main()
