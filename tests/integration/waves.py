# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rolling reinstall in one run of the playbook `site`, on simulated devices and a real API server.

What is real: the inventory, the plan of the whole site and that of each wave, the plays and their groups, the API
server and all that is asked of it. What is not: the steps that write a disk and run kubeadm. In their place the roles
`provision` and `node` of a copy of the collection call this program, which changes what the simulated server and its
node object say of themselves, as an installation would.

`unshare --net python tests/integration/waves.py`: the last line is JSON; `wrong` is empty when all is well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".ansible" / "collections"))


from ansible_collections.kiban.baremetal.tests.bench.scale.world import CHECKOUT, IMAGE, World, site_data

WORKERS, AT_ONCE = 7, 2
REPLACED = {"provision": "install", "node": "join"}


def collection(into: Path) -> Path:
    """The collection, with two roles that call this program instead. Returns the path for Ansible."""
    root = into / "ansible_collections" / "kiban" / "baremetal"
    (root / "roles").mkdir(parents=True)
    for part in ("playbooks", "plugins", "meta", "galaxy.yml", "tests"):
        (root / part).symlink_to(CHECKOUT / part)
    for role in (CHECKOUT / "roles").iterdir():
        place = root / "roles" / role.name
        if role.name not in REPLACED:
            place.symlink_to(role)
            continue
        (place / "tasks").mkdir(parents=True)
        command = [sys.executable, __file__, REPLACED[role.name], str(into), "{{ inventory_hostname }}"]
        task = {"name": "Stand in", "ansible.builtin.command": {"argv": command}, "delegate_to": "localhost"}
        (place / "tasks" / "main.yml").write_text(yaml.safe_dump([task]))
    return into


def patch_status(work: Path, kind: str, name: str, status: dict[str, Any], *more: str) -> None:
    words = ["patch", kind, name, "--type=merge", "--subresource=status", f"--patch={json.dumps({'status': status})}"]
    command = [str(work / "bundle/bin/kubectl"), f"--kubeconfig={work}/sites/scale/kubeconfig", *words, *more]
    subprocess.run(command, check=True, capture_output=True)


def ready(work: Path, name: str, state: bool) -> None:
    patch_status(work, "node", name, {"conditions": [{"type": "Ready", "status": str(state), "message": "in work"}]})


def stand_in(step: str, work: Path, name: str) -> int:
    """What a server and its node say of themselves once this step was done on them. Notes who was when in work."""
    with (work / "steps.jsonl").open("a") as log:
        log.write(json.dumps({"step": step, "server": name, "time": time.monotonic()}) + "\n")
    if step == "join":
        ready(work, name, True)
        return 0
    ready(work, name, False)
    time.sleep(0.2)
    if name in (work / "broken").read_text().split():
        print("the image does not boot", file=sys.stderr)
        return 1
    word = yaml.safe_load((work / "inventory" / "site.yml").read_text())["racks"][0]["servers"][1]["reinstall"]
    installed = work / "roots" / name / "etc/kiban/installed.json"
    installed.write_text(json.dumps({"site": "scale", "reinstall": word}))
    return 0


def model(word: str) -> dict[str, Any]:
    data = site_data(WORKERS + 1)
    data["limits"] = {"max_unavailable": {"workers": AT_ONCE}}
    del data["profiles"]["compute"]["disks"]["data"]
    data["racks"][0]["servers"][1]["reinstall"] = word
    return data


def serving(world: World) -> None:
    """What no controller of this API server says of kube-proxy and CoreDNS."""
    pods = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x", "image": "x:v1.36.3"}]}}
    spec = {"selector": {"matchLabels": {"app": "x"}}, "template": pods}
    meta = {"name": "kube-proxy", "namespace": "kube-system"}
    path = world.work / "kube-proxy.json"
    path.write_text(json.dumps({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta, "spec": spec}))
    world.kubectl("create", "-f", str(path))
    counts = (
        "currentNumberScheduled",
        "desiredNumberScheduled",
        "numberReady",
        "numberAvailable",
        "updatedNumberScheduled",
    )
    status = {**dict.fromkeys(counts, 1), "numberMisscheduled": 0, "observedGeneration": 1}
    patch_status(world.work, "daemonset", "kube-proxy", status, "--namespace=kube-system")
    there = [{"type": "Available", "status": "True"}]
    status = {"conditions": there, "observedGeneration": 99, "replicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    patch_status(world.work, "deployment", "coredns", {**status, "updatedReplicas": 2}, "--namespace=kube-system")


class Runs:
    def __init__(self, world: World) -> None:
        self.world = world
        self.wrong: dict[str, str] = {}
        self.environment = {**world.environment, "ANSIBLE_COLLECTIONS_PATH": str(collection(world.work))}

    def playbook(self, name: str, *options: str) -> tuple[int, str]:
        command = ["ansible-playbook", f"kiban.baremetal.{name}", "-i", str(self.world.inventory), *options]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        began = time.monotonic()
        done = subprocess.run(command, env=self.environment, cwd=CHECKOUT, check=False, **both)
        seconds = time.monotonic() - began
        print(f"{name}: ended with {done.returncode} after {seconds:.0f} s", file=sys.stderr, flush=True)
        if "--show" in sys.argv:
            print(done.stdout, file=sys.stderr, flush=True)
        return done.returncode, done.stdout

    def roll(self, word: str, broken: tuple[str, ...] = ()) -> tuple[int, str, list[list[str]]]:
        """One run of `site` with a new word; the servers that were worked on, as groups between which nobody was."""
        work = self.world.work
        (work / "inventory" / "site.yml").write_text(yaml.safe_dump(model(word), sort_keys=False))
        (work / "broken").write_text(" ".join(broken))
        (work / "steps.jsonl").write_text("")
        code, text = self.playbook("site", "-e", "kiban_wave_timeout=0")
        waves: list[list[str]] = [[]]
        busy: set[str] = set()
        for line in (work / "steps.jsonl").read_text().splitlines():
            step = json.loads(line)
            if step["step"] == "join":
                busy.discard(step["server"])
                continue
            if not busy and waves[-1]:
                waves.append([])
            busy.add(step["server"])
            waves[-1].append(step["server"])
        return code, text, [sorted(wave) for wave in waves]

    def expect(self, what: str, found: object, wanted: object, text: str = "") -> None:
        if found != wanted:
            self.wrong[what] = f"{found!r}, not {wanted!r} {text[-3000:]}"

    def plan(self) -> dict[str, Any]:
        self.playbook("plan")
        found: dict[str, Any] = json.loads((self.world.site_dir / "plan.json").read_text())
        return found


def main() -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    workers = [f"s{number:04}" for number in range(1, WORKERS + 1)]
    pairs = [workers[first : first + AT_ONCE] for first in range(0, WORKERS, AT_ONCE)]
    with tempfile.TemporaryDirectory(prefix="kiban-waves-") as directory:
        world = World(Path(directory), site_data(WORKERS + 1))
        with world.running():
            for server in world.site.servers:
                world.whole(server.name)
            image = {"node": {"id": IMAGE, "file": "node.img", "sha256": "0" * 64}}
            (world.work / "image" / "manifest.json").write_text(json.dumps(image))
            (world.work / "image" / "node.img").touch()
            runs = Runs(world)
            runs.playbook("site")  # what the site brings into the cluster
            serving(world)

            code, text, waves = runs.roll("one")
            runs.expect("all in one run", (code, waves), (0, pairs), text)
            runs.expect("nothing is left", runs.plan()["summary"], "everything is in order: nothing to do")

            # The second wave has a server that fails: its other server is finished, and no wave follows.
            code, text, waves = runs.roll("two", broken=(pairs[1][0],))
            runs.expect("stops at a failure", (code != 0, waves), (True, pairs[:2]), text)
            left = runs.plan()
            done = {*pairs[0], pairs[1][1]}
            runs.expect("finished", {c["server"] for c in left["changes"]} & done, set())
            for line in (f"fatal: [{pairs[2][0]}]", "the wave before it is not in order", "Say what was done"):
                if line not in text:
                    runs.wrong[line] = f"not said: {text[-3000:]}"
            runs.expect("images are served no longer", (world.site_dir / "deploy" / "nginx.pid").exists(), False)

            # Mended, and run again: only those that are left.
            code, text, waves = runs.roll("two")
            worked = sorted(name for wave in waves for name in wave)
            runs.expect("goes on", (code, worked), (0, sorted({*workers} - done)), text)
            runs.expect("nothing is left again", runs.plan()["changes"], [])
    print(json.dumps({"servers": WORKERS, "at_once": AT_ONCE, "wrong": runs.wrong}))
    return 1 if runs.wrong else 0


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] != "--show":
        sys.exit(stand_in(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
    sys.exit(main())
