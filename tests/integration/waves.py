# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rolling reinstall in one run of the playbook `site`, on simulated devices and a real API server.

What is real: the inventory, the plan of the whole site and that of each wave, the plays and their groups, the API
server and all that is asked of it. What is not: the steps that write a disk and run kubeadm. In their place the roles
`provision` and `node` of a copy of the collection call this program, which changes what the simulated server and its
node object say of themselves, as an installation would. Pods are objects that no kubelet runs: the API server deletes
them as soon as they are evicted. After each server the PodDisruptionBudget says again what its controller would say.

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


from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import DRAINED, NodeState
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


def read(work: Path, *words: str) -> dict[str, Any]:
    command = [str(work / "bundle/bin/kubectl"), f"--kubeconfig={work}/sites/scale/kubeconfig", "get", *words, "-ojson"]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def pods_of(work: Path, name: str) -> list[str]:
    items = read(work, "pods", "--all-namespaces", f"--field-selector=spec.nodeName={name}")["items"]
    return sorted(item["metadata"]["name"] for item in items)


def stand_in(step: str, work: Path, name: str) -> int:
    """What a server and its node say of themselves once this step was done on them. Notes who was when in work, and
    what was on the node then.
    """
    found = {"pods": pods_of(work, name), "cordoned": read(work, "node", name)["spec"].get("unschedulable", False)}
    with (work / "steps.jsonl").open("a") as log:
        log.write(json.dumps({"step": step, "server": name, "time": time.monotonic(), **found}) + "\n")
    if step == "join":
        ready(work, name, True)
        counted(work, AT_ONCE)
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


def wired(miswired: str = "") -> dict[str, Any]:
    """The site with a cable of each worker; the one of the server that is named is at another place of the switch."""
    data = site_data(WORKERS + 1)
    data["networks"]["node"] |= {"vlan": 20, "untagged": True}
    rack = data["racks"][0]
    rack["switches"] = [{"name": "tor1", "os": "eos", "unit": 42, "address": "127.16.0.3"}]
    workers = rack["servers"].pop()
    for number in range(1, WORKERS + 1):
        name = f"s{number:04}"
        port = 30 if name == miswired else number
        server = {"name": name, "unit": number, "cables": {"eth0": f"tor1:Ethernet{port}"}}
        server |= {"bmc": f"127.17.0.{number}", "addresses": {"node": f"127.33.0.{number}"}}
        rack["servers"].append({**workers, **server})
    return data


def model(word: str, miswired: str = "") -> dict[str, Any]:
    data = wired(miswired)
    data["limits"] = {"max_unavailable": {"workers": AT_ONCE}}
    del data["profiles"]["compute"]["disks"]["data"]
    for server in data["racks"][0]["servers"][1:]:
        server["reinstall"] = word
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


def counted(work: Path, allowed: int) -> None:
    counts = {"currentHealthy": WORKERS, "desiredHealthy": WORKERS - allowed, "expectedPods": WORKERS}
    status = {**counts, "disruptionsAllowed": allowed, "disruptedPods": None, "observedGeneration": 1}
    patch_status(work, "poddisruptionbudget", "web", status)


def pods(world: World) -> None:
    """On each worker that is Ready one pod of a budget, one of a DaemonSet, and a static one."""
    nodes = {item["metadata"]["name"]: NodeState.from_object(item) for item in read(world.work, "nodes")["items"]}
    container = {"name": "x", "image": "x:v1.36.3"}
    labels = {"app": "logs"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    items: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}},
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "logs", "namespace": "default"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"maxUnavailable": AT_ONCE, "selector": {"matchLabels": {"app": "web"}}},
        },
    ]
    for server in [one for one in world.site.servers[1:] if nodes[one.name].ready]:
        for app, kind in (("web", "ReplicaSet"), ("logs", "DaemonSet"), ("static", "Node")):
            owner = {"apiVersion": "v1" if kind == "Node" else "apps/v1", "kind": kind, "name": app, "uid": "1"}
            mirror = {"annotations": {"kubernetes.io/config.mirror": "x"}} if kind == "Node" else {}
            meta = {"name": f"{app}-{server.name}", "namespace": "default", "labels": {"app": app}, **mirror}
            scratch = [{"name": "scratch", "emptyDir": {}}] if app == "web" else []
            spec = {"nodeName": server.name, "containers": [container], "terminationGracePeriodSeconds": 0}
            spec |= {"volumes": scratch, "automountServiceAccountToken": False}
            meta["ownerReferences"] = [{**owner, "controller": True}]
            items.append({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    path = world.work / "pods.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    world.kubectl("apply", "-f", str(path))
    there = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    for item in items:
        if item["kind"] == "Pod":
            patch_status(world.work, "pod", item["metadata"]["name"], there)
    counted(world.work, AT_ONCE)


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

    def roll(
        self, word: str, broken: tuple[str, ...] = (), alone: str = "", miswired: str = ""
    ) -> tuple[int, str, list[list[str]]]:
        """One run of `site` with a new word; the servers that were worked on, as groups between which nobody was."""
        work = self.world.work
        (work / "inventory" / "site.yml").write_text(yaml.safe_dump(model(word, miswired), sort_keys=False))
        (work / "broken").write_text(" ".join(broken))
        (work / "steps.jsonl").write_text("")
        pods(self.world)
        if alone:
            pod = {"containers": [{"name": "x", "image": "x"}], "nodeName": alone, "terminationGracePeriodSeconds": 0}
            (work / "pod.json").write_text(
                json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "alone"}, "spec": pod})
            )
            self.world.kubectl("create", "-f", str(work / "pod.json"))
        code, text = self.playbook("site", "-e", "kiban_wave_timeout=0")
        waves: list[list[str]] = [[]]
        busy: set[str] = set()
        for line in (work / "steps.jsonl").read_text().splitlines():
            step = json.loads(line)
            if step["step"] == "join":
                busy.discard(step["server"])
                continue
            left = [f"logs-{step['server']}", f"static-{step['server']}"]
            self.expect(
                f"drained for {word}", (step["server"], step["pods"], step["cordoned"]), (step["server"], left, True)
            )
            if not busy and waves[-1]:
                waves.append([])
            busy.add(step["server"])
            waves[-1].append(step["server"])
        return code, text, [sorted(wave) for wave in waves]

    def expect(self, what: str, found: object, wanted: object, text: str = "") -> None:
        if found != wanted:
            self.wrong[what] = f"{found!r}, not {wanted!r} {text[-3000:]}"

    def cordoned(self) -> list[str]:
        """Names of cordoned nodes, and with a star where a run has done it."""
        nodes = [NodeState.from_object(item) for item in read(self.world.work, "nodes")["items"]]
        names = [server.name for server in self.world.site.servers]
        return [name + "*" * node.drained for name, node in zip(names, nodes, strict=True) if node.cordoned]

    def plan(self) -> dict[str, Any]:
        self.playbook("plan")
        found: dict[str, Any] = json.loads((self.world.site_dir / "plan.json").read_text())
        return found


def permits(runs: Runs) -> None:
    """What other playbooks are told that ask about one server."""
    world, workers = runs.world, [server.name for server in runs.world.site.servers[1:]]

    def ask(name: str, level: str) -> str:
        where = f"site_dir={world.site_dir} kubectl={world.work}/bundle/bin/kubectl"
        command = ["ansible", name, "-i", str(world.inventory), "-m", "kiban.baremetal.disruption_permit", "-a"]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        words = [*command, f"level={level} {where}"]
        return subprocess.run(words, env=runs.environment, cwd=CHECKOUT, check=False, **both).stdout

    counted(world.work, 0)
    for level, refused in (("reboot", "PodDisruptionBudget default/web allows 0 more"), ("disk", "")):
        said = ask(workers[2], level)
        runs.expect(f"pods and {level}", ("FAILED" in said, refused in said), (bool(refused), True), said)
    counted(world.work, AT_ONCE)
    runs.expect("may go", "SUCCESS" in ask(workers[2], "reboot"), True)
    world.kubectl("cordon", *workers[:AT_ONCE])
    said = ask(workers[2], "reboot")
    runs.expect("others are out", f"at most {AT_ONCE} of {WORKERS} servers of workers" in said, True, said)
    world.kubectl("uncordon", *workers[:AT_ONCE])


def main() -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    workers = [f"s{number:04}" for number in range(1, WORKERS + 1)]
    pairs = [workers[first : first + AT_ONCE] for first in range(0, WORKERS, AT_ONCE)]
    with tempfile.TemporaryDirectory(prefix="kiban-waves-") as directory:
        world = World(Path(directory), wired())
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
            runs.expect("all take pods", runs.cordoned(), [], text)
            runs.expect("nothing is left", runs.plan()["summary"], "everything is in order: nothing to do")

            # The second wave has a server that fails: its other server is finished, and no wave follows.
            code, text, waves = runs.roll("two", broken=(pairs[1][0],))
            runs.expect("stops at a failure", (code != 0, waves), (True, pairs[:2]), text)
            runs.expect("only the failed one is cordoned", runs.cordoned(), [f"{pairs[1][0]}*"], text)
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
            runs.expect("all take pods again", runs.cordoned(), [], text)
            runs.expect("nothing is left again", runs.plan()["changes"], [])

            # As a run leaves it that was killed while it drained; and the node of a person.
            world.kubectl("cordon", *workers[:2])
            world.kubectl("annotate", "node", workers[0], f"{DRAINED}=true")
            code, text = runs.playbook("site")
            runs.expect("only the person's stays", (code, runs.cordoned()), (0, [workers[1]]), text)

            pods(world)
            permits(runs)

            # Nothing would make this pod again, so it is no matter of waiting; and the node takes pods again.
            world.kubectl("uncordon", workers[1])
            code, text, waves = runs.roll("three", alone=workers[1])
            runs.expect("stops before the server that is not drained", (code != 0, waves), (True, [[workers[0]]]), text)
            runs.expect("is given back", runs.cordoned(), [], text)
            for line in (f"{workers[1]}: was not drained", "default/alone", f"-e kiban_force={workers[1]}"):
                if line not in text:
                    runs.wrong[line] = f"not said: {text[-3000:]}"

            # The others go on without the one whose BMC hears another port than the model says.
            world.kubectl("delete", "pod", "alone", "--grace-period=0", "--force")
            code, text, waves = runs.roll("four", miswired=workers[2])
            worked = sorted(name for wave in waves for name in wave)
            runs.expect("all but the miswired", (code != 0, worked), (True, [*workers[:2], *workers[3:]]), text)
            runs.expect("the miswired one is not touched", runs.cordoned(), [], text)
            said = f"{workers[2]} (r00 unit 3) eth0 belongs to tor1 (r00 unit 42) Ethernet30"
            if f"problem: {workers[2]}: is not installed: a cable joins " not in text or said not in text:
                runs.wrong["the wrong cable"] = f"not said: {text[-3000:]}"
    print(json.dumps({"servers": WORKERS, "at_once": AT_ONCE, "wrong": runs.wrong}))
    return 1 if runs.wrong else 0


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] != "--show":
        sys.exit(stand_in(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
    sys.exit(main())
