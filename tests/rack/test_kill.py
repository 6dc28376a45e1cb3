# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is killed anywhere is simply run again.

From a blank rack, site runs are killed with SIGKILL at random moments until one comes through; between them, dry runs
look at the half-built rack. Takes 15 to 25 minutes on two cores without KVM.
KIBAN_SEED repeats a run, KIBAN_KILLS sets how many kills there must be.
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import rack

pytestmark = [pytest.mark.rack, pytest.mark.slow]

KILLS = int(os.environ.get("KIBAN_KILLS", "10"))
SEED = int(os.environ.get("KIBAN_SEED", str(random.SystemRandom().randrange(1_000_000))))
MARK = "kiban-test-mark"


class DataDisks:
    """A file with a random content on every data disk that is mounted; it must never go away again."""

    def __init__(self) -> None:
        self.marks: dict[tuple[str, str], str] = {}

    def look(self) -> None:
        for server in rack.SERVERS:
            listed = rack.ssh(server, "test -e /etc/kiban/ramdisk || findmnt -rno TARGET | grep ^/var/lib/kiban/local/")
            for path in (listed or "").split():
                self._check(server, path)

    def _check(self, server: str, path: str) -> None:
        wanted = self.marks.get((server, path))
        if wanted is None:
            mark = secrets.token_hex(16)
            if rack.ssh(server, f"echo {mark} > {path}/{MARK} && sync {path}/{MARK}") is not None:
                self.marks[server, path] = mark
        else:
            found = rack.ssh(server, f"cat {path}/{MARK}")
            assert found is not None and found.strip() == wanted, f"{server}:{path} has lost its data"


def run_for(seconds: float, events: Path) -> int | None:
    """A site run that is killed after some time; its exit status if it came through before."""
    process = subprocess.Popen(
        rack.command("site"),
        cwd=rack.ROOT,
        env=rack.environment(KIBAN_TIMELINE=str(events), ANSIBLE_CALLBACKS_ENABLED="kiban.baremetal.timeline"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def dry_run() -> None:
    """On a half-built rack: the plan is made, and that is all."""
    pid = rack.SITE_DIR / "deploy/nginx.pid"
    before = pid.read_text() if pid.exists() else None
    done = rack.playbook("site", "--check", "--diff")
    assert done.returncode == 0, f"seed {SEED}:\n{done.stdout[-4000:]}"
    assert (pid.read_text() if pid.exists() else None) == before
    assert not re.search(r"^TASK \[kiban\.baremetal\.(provision|host|control_plane|node) ", done.stdout, re.MULTILINE)


def test_killed_runs_end_in_a_whole_rack(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    events = tmp_path / "timeline.jsonl"
    events.touch()
    disks = DataDisks()
    rack.blank()
    kills: list[str] = []
    while len(kills) < KILLS:
        status = run_for(chance.uniform(10, 120), events)
        last = (events.read_text().splitlines() or ["{}"])[-1]
        task = json.loads(last).get("task", "the start")
        disks.look()
        if status is None:
            kills.append(task)
            print(f"seed {SEED}: kill {len(kills)} of {KILLS} after: {task}", flush=True)
            if len(kills) % 3 == 0:
                dry_run()
            continue
        # Through already: what is left of the kills hits runs that have nothing to do.
        assert status == 0, f"seed {SEED}: a run after {len(kills)} kills ended with {status}"
        time.sleep(chance.uniform(0, 2))

    done = rack.playbook("site", KIBAN_TIMELINE=str(events), ANSIBLE_CALLBACKS_ENABLED="kiban.baremetal.timeline")
    assert done.returncode == 0, f"seed {SEED}, killed after {kills}:\n{done.stdout[-4000:]}"
    assert sorted(rack.ready_nodes()) == sorted(rack.SERVERS)
    disks.look()

    entries = [json.loads(line) for line in events.read_text().splitlines()]
    writes = Counter(e["host"] for e in entries if "Write the node image" in e["task"] and e["status"] == "changed")
    assert all(count == 1 for count in writes.values()), f"seed {SEED}: a server was written twice: {writes}"
    again = rack.playbook("site")
    assert again.returncode == 0
    assert all(host["changed"] == 0 for host in rack.recap(again.stdout).values()), again.stdout[-3000:]
