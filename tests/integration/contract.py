# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook `verify` with the contract of three storage drivers in one run, one of which loses what it acknowledged.

What is real: the playbook, the inventory, the drivers' objects, the API server, controller manager and scheduler, and
the simulated BMCs through which the power is cut. What is not: kubelets, provisioners and what runs in pods. Of these
this program plays as much as the role asks for; a volume is what it remembers. So it shows which checks are made in
which order, that drivers share waits and the cut, and whose failure is told as whose; not that a driver is any good.

`unshare --net python tests/integration/contract.py`: the last line is JSON; `wrong` is empty when all is well.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".ansible" / "collections"))

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import sds_drivers, sds_local
from ansible_collections.kiban.baremetal.tests.bench.scale.world import CHECKOUT, PASSWORD, World, process, site_data
from ansible_collections.kiban.baremetal.tests.integration.kube_api import BUNDLE, take_program

NAMESPACE = "kiban-verify"
CONTROL, CUT, FILER = "s0000", "s0001", "s0002"
LOSES = "local"
"""The driver whose volumes lose half of what they acknowledged when the power of their node is cut."""
MIB = 1 << 20


def model() -> dict[str, Any]:
    data = site_data(3)
    disks = data["profiles"]["compute"]["disks"]
    group = {"select": "serial_number == 'FAST'", "count": 1}
    export = {"select": "serial_number == 'FAST'", "count": 1, "filesystem": "ext4", "mount": "/srv/volumes"}
    data["profiles"] = {
        "compute": {"disks": disks, "storage": {"fast": group}},
        "filer": {"disks": disks, "storage": {"export": export}},
    }
    data["racks"][0]["servers"] = [
        {
            "name": name,
            "roles": ["control_plane" if name == CONTROL else "worker"],
            "profile": "filer" if name == FILER else "compute",
            "bmc": f"127.17.0.{number}",
            "addresses": {"node": f"127.33.0.{number}"},
        }
        for number, name in enumerate((CONTROL, CUT, FILER))
    ]
    data["cluster"]["sds"] = [
        {"driver": "nfs", "server": FILER, "export": "/srv/volumes"},
        {"driver": "lvm", "volume_group": "fast"},
        {"driver": "local"},
    ]
    return data


class Https:
    """One connection, asked by one thread."""

    def __init__(self, host: str, port: int, authorization: str) -> None:
        self.open = lambda: http.client.HTTPSConnection(host, port, context=ssl._create_unverified_context())
        self.connection, self.authorization = self.open(), authorization

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        headers = {"Authorization": self.authorization, "Content-Type": kind}
        try:
            self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = self.connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = self.open()
            return {}
        text = answer.read()
        return json.loads(text) if answer.status < 300 and text else {}

    def items(self, path: str) -> list[dict[str, Any]]:
        return list(self.ask("GET", path).get("items") or [])

    def patch(self, path: str, body: Any, kind: str = "merge-patch") -> None:
        self.ask("PATCH", path, body, f"application/{kind}+json")


@dataclass
class Volume:
    driver: str
    size: int
    sum: str = ""
    other: str = ""
    counts: dict[str, int] = field(default_factory=dict)


@dataclass
class Run:
    """A pod that runs, since a boot of its node."""

    name: str
    node: str
    boot: int
    address: str
    labels: dict[str, str]
    volume: Volume | None
    file: str = ""


class Rack(threading.Thread):
    """Kubelets, provisioners, pods."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self.world, self.ended, self.numbers = world, threading.Event(), count(1)
        self.api = Https("127.0.0.1", world.port, "Bearer admin")
        self.basic = "Basic " + base64.b64encode(f"kiban:{PASSWORD}".encode()).decode()
        self.bmcs = {one.name: Https(one.bmc.address, 443, self.basic) for one in world.site.servers}
        self.system = f"/redfish/v1/Systems/{world.system()}"
        self.boots = dict.fromkeys(self.bmcs, 0)
        self.on = dict.fromkeys(self.bmcs, False)
        self.cuts: list[str] = []
        self.runs: dict[str, Run] = {}
        self.volumes: dict[str, Volume] = {}
        self.services: dict[str, dict[str, Any]] = {}
        self.ports: set[int] = set()
        self.freed = 0
        self.removed: list[set[str]] = []
        """Drivers that are missing, as that changes."""

    def run(self) -> None:
        while not self.ended.wait(0.3):
            self.power()
            self.claims()
            self.pods()
            found = self.api.items(f"/api/v1/namespaces/{NAMESPACE}/services")
            self.services = {one["metadata"]["name"]: one for one in found}
            for service in found:
                for port in service["spec"]["ports"]:
                    self.listen(port.get("nodePort"))

    def listen(self, port: int | None) -> None:
        if port and port not in self.ports:
            self.ports.add(port)
            server = ThreadingHTTPServer(("0.0.0.0", port), Agnhost)
            server.rack = self  # type: ignore[attr-defined]
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def power(self) -> None:
        for name, bmc in self.bmcs.items():
            state = bmc.ask("GET", self.system).get("PowerState")
            if state == "On" and not self.on[name]:
                self.boots[name] += 1
            if state == "Off" and self.on[name]:
                self.cut(name)
            self.on[name] = state == "On" if state else self.on[name]
            if self.on[name]:
                now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "played"}
                status = {
                    "conditions": [{**ready, "lastHeartbeatTime": now, "lastTransitionTime": now}],
                    "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "200"},
                    "nodeInfo": {"bootID": f"{name}-{self.boots[name]}"},
                }
                self.api.patch(f"/api/v1/nodes/{name}/status", {"status": status}, "strategic-merge-patch")

    def cut(self, name: str) -> None:
        self.cuts.append(name)
        for uid, run in list(self.runs.items()):
            if run.node == name:
                if run.volume and run.volume.driver == LOSES:
                    run.volume.counts = {file: number // 2 for file, number in run.volume.counts.items()}
                del self.runs[uid]

    def pods(self) -> None:
        there = set()
        for pod in self.api.items("/api/v1/pods"):
            meta, uid, node = pod["metadata"], pod["metadata"]["uid"], pod["spec"].get("nodeName")
            there.add(uid)
            if not node or not self.on[node]:
                continue
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
            if meta.get("deletionTimestamp"):
                self.runs.pop(uid, None)
                self.api.ask("DELETE", path, {"gracePeriodSeconds": 0})
                continue
            run = self.runs.get(uid) or self.start_pod(pod)
            if not run:
                continue
            self.runs[uid] = run
            if run.volume and run.file:
                run.volume.counts[run.file] += 1
            conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions") or []}
            if conditions.get("Ready") != "True" or pod["status"].get("podIP") != run.address:
                true = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady", "Initialized")]
                host = self.world.site.server(node).addresses["node"]
                status = {"phase": "Running", "conditions": true, "podIP": run.address, "hostIP": host}
                status |= {"podIPs": [{"$patch": "replace"}, {"ip": run.address}], "hostIPs": [{"ip": host}]}
                self.api.patch(f"{path}/status", {"status": status}, "strategic-merge-patch")
        for uid in set(self.runs) - there:
            del self.runs[uid]

    def start_pod(self, pod: dict[str, Any]) -> Run | None:
        """None: its volume is not there."""
        meta, node = pod["metadata"], pod["spec"]["nodeName"]
        volume = None
        for one in pod["spec"].get("volumes") or []:
            if "persistentVolumeClaim" in one:
                name = one["persistentVolumeClaim"]["claimName"]
                claim = self.api.ask("GET", f"/api/v1/namespaces/{meta['namespace']}/persistentvolumeclaims/{name}")
                if not claim or claim["status"].get("phase") != "Bound":
                    return None
                volume = self.volumes[claim["spec"]["volumeName"]]
        number = next(self.numbers)
        prefix = self.world.site.server(node).pod_cidr.split("/")[0].rsplit(".", 1)
        address = f"{prefix[0]}.{int(prefix[1]) + number % 120 + 2}"
        run = Run(meta["name"], node, self.boots[node], address, meta.get("labels") or {}, volume)
        if volume and any(one["name"] == "count" for one in pod["spec"]["containers"]):
            run.file = f"/data/count.{number}"
            volume.counts[run.file] = 0
        return run

    def claims(self) -> None:
        classes = {one["metadata"]["name"]: one for one in self.api.items("/apis/storage.k8s.io/v1/storageclasses")}
        missing = {"lvm", "local", "nfs"} - {name.removeprefix("kiban-") for name in classes}
        if self.removed[-1:] != [missing]:
            self.removed.append(missing)
        if "kiban-lvm" in classes:
            room = {
                "metadata": {"name": "lvm-s0001"},
                "storageClassName": "kiban-lvm",
                "capacity": "1Gi",
                "nodeTopology": {"matchLabels": {"kubernetes.io/hostname": CUT}},
            }
            self.api.ask("POST", "/apis/storage.k8s.io/v1/namespaces/kiban-lvm/csistoragecapacities", room)
        for claim in self.api.items("/api/v1/persistentvolumeclaims"):
            known = classes.get(claim["spec"]["storageClassName"])
            asked = claim["spec"]["resources"]["requests"]["storage"]
            if known and claim["status"]["phase"] == "Pending":
                self.make(claim, known, asked)
            elif claim["status"]["phase"] == "Bound" and asked != claim["status"]["capacity"]["storage"]:
                meta, name = claim["metadata"], claim["spec"]["volumeName"]
                self.api.patch(f"/api/v1/persistentvolumes/{name}", {"spec": {"capacity": {"storage": asked}}})
                path = f"/api/v1/namespaces/{meta['namespace']}/persistentvolumeclaims/{meta['name']}/status"
                self.api.patch(path, {"status": {"capacity": {"storage": asked}}})
                self.volumes[name].size = int(asked.removesuffix("Mi"))
        for volume in self.api.items("/api/v1/persistentvolumes"):
            name = volume["metadata"]["name"]
            if volume["status"].get("phase") == "Released" and self.volumes.pop(name, None):
                self.api.ask("DELETE", f"/api/v1/persistentvolumes/{name}")
                self.freed += 16
                (self.world.work / "free").write_text(str((self.freed + 100) * MIB))

    def make(self, claim: dict[str, Any], known: dict[str, Any], asked: str) -> None:
        meta, spec = claim["metadata"], claim["spec"]
        node = (meta.get("annotations") or {}).get("volume.kubernetes.io/selected-node")
        if known["volumeBindingMode"] == "WaitForFirstConsumer" and not node:
            return
        name, driver = f"pvc-{meta['uid']}", spec["storageClassName"].removeprefix("kiban-")
        hostname = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [hostname]}]}}
        where = {
            "nfs": {"nfs": {"server": "127.33.0.2", "path": f"/srv/volumes/{name}"}},
            "lvm": {"local": {"path": f"/dev/fast/{name}"}, "nodeAffinity": affinity},
            "local": {"local": {"path": f"/var/lib/kiban/local/S1/{name}"}, "nodeAffinity": affinity},
        }[driver]
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": known["provisioner"]}},
            "spec": {
                "capacity": {"storage": asked},
                "accessModes": spec["accessModes"],
                "storageClassName": spec["storageClassName"],
                "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": meta["namespace"],
                    "name": meta["name"],
                    "uid": meta["uid"],
                },
                **where,
            },
        }
        self.volumes.setdefault(name, Volume(driver, int(asked.removesuffix("Mi"))))
        self.api.ask("POST", "/api/v1/persistentvolumes", volume)

    # -- what pods answer

    def chosen(self, host: str) -> list[Run]:
        """The pods behind an address or a name."""
        runs = list(self.runs.values())
        if found := re.match(r"(\d+-\d+-\d+-\d+)\.", host):
            host = found[1].replace("-", ".")
        for name, service in list(self.services.items()):
            if host in (service["spec"].get("clusterIP"), f"{name}.{NAMESPACE}.svc.cluster.local"):
                wanted = service["spec"]["selector"].items()
                return [run for run in runs if wanted <= run.labels.items()]
        if host.startswith("127.33."):
            return [run for run in runs if run.labels.get("app") == "web"]
        return [run for run in runs if run.address == host]

    def shell(self, run: Run, command: str) -> str:
        volume = run.volume
        assert volume, f"{run.name} has no volume"
        if "/dev/urandom" in command and not volume.sum:
            volume.sum = f"{next(self.numbers):064x}"
        if "cat /told/last" in command:
            return f"{run.file} {volume.counts[run.file]}"
        if "cat /data/other" in command:
            return volume.other
        if found := re.search(r"echo ([0-9a-f]+) > /data/other", command):
            volume.other = found[1]
        if found := re.search(r"-gt (\d+)", command):
            return "larger" if volume.size > int(found[1]) else ""
        if found := re.search(r"if=/dev/zero of=/data/full bs=1M count=(\d+)", command):
            return "dd: No space left on device" if int(found[1]) > volume.size and volume.driver == "lvm" else ""
        if "echo took" in command:
            return "took 12 30"
        if (found := re.search(r"head -n (\d+) (\S+) ", command)) and volume.counts.get(found[2], 0) < int(found[1]):
            return ""
        return f"{volume.sum}  -\n" if "sha256sum < /data/file" in command else f"not known: {command}"


class Agnhost(BaseHTTPRequestHandler):
    turn = count()

    def do_GET(self) -> None:
        rack: Rack = self.server.rack  # type: ignore[attr-defined]
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        runs = rack.chosen(self.connection.getsockname()[0])
        if not runs:
            self.send_error(503)
            return
        run = runs[next(self.turn) % len(runs)]
        body = run.name
        if path == "/dial":
            asked = rack.chosen(query["host"][0])
            tries = range(int(query["tries"][0]))
            body = json.dumps(
                {"responses": [asked[number % len(asked)].name for number in tries]}, separators=(",", ":")
            )
        elif path == "/shell":
            body = json.dumps({"output": rack.shell(run, query["cmd"][0])}, separators=(",", ":"))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: object) -> None:
        pass


def controllers(world: World, stack: ExitStack) -> None:
    here, config = world.work / "api", world.site_dir / "kubeconfig"
    common = [f"--kubeconfig={config}", "--bind-address=127.0.0.1", "--leader-elect=false"]
    soon = ["--node-monitor-grace-period=15s", "--node-monitor-period=1s"]
    signs = f"--service-account-private-key-file={here / 'sa.key'}"
    for name, flags in (("kube-controller-manager", [*soon, signs]), ("kube-scheduler", [])):
        program = take_program(BUNDLE / f"images/{name}.tar", name, here)
        stack.enter_context(process([str(program), *common, *flags], here / f"{name}.log", ready=False))


def drivers(world: World) -> None:
    image = "kiban/volume-provisioner:0"
    images = sds_local.Images("local-path-provisioner:x", "agnhost:x")
    nodes = {name: ["/var/lib/kiban/local/S1"] for name in (CONTROL, CUT, FILER)}
    objects = [
        *sds_drivers.PROVISIONED["nfs"](world.site, image),
        *sds_drivers.PROVISIONED["lvm"](world.site, image, default_class=False),
        *sds_local.manifests(nodes, images, world.site.cluster.endpoint, default_class=False),
    ]
    path = world.work / "drivers.json"
    # Namespaces first.
    objects.sort(key=lambda one: one["kind"] != "Namespace")
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    world.kubectl("apply", "--server-side", "--field-manager=kiban", "--validate=false", "-f", str(path))


def inventory(world: World) -> None:
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (world.inventory / "outside.yml").write_text(yaml.safe_dump({"outside": {"hosts": {"uplink": local}}}))
    path = world.inventory / "group_vars" / "servers.yml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | local))
    tools = world.work / "tools"
    tools.mkdir()
    free = world.work / "free"
    free.write_text(str(100 * MIB))
    for name, text in {
        "vgs": f"cat {free}",
        "findmnt": f'case "$*" in *AVAIL*) cat {free};; *) echo /dev/vdb;; esac',
        "dd": "exit 0",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    world.environment["PATH"] = f"{tools}:{world.environment['PATH']}"


def verify(world: World, *options: str) -> tuple[int, dict[str, Any], str]:
    seconds = {"verify_pod_timeout": 90, "verify_node_timeout": 60, "verify_probe_seconds": 2}
    command = ["ansible-playbook", "kiban.baremetal.verify", "-i", str(world.inventory), "-e", json.dumps(seconds)]
    done = subprocess.run(
        [*command, *options], env=world.environment, cwd=CHECKOUT, check=False, capture_output=True, text=True
    )
    if "--show" in sys.argv:
        print(done.stdout, done.stderr, file=sys.stderr)
    path = world.site_dir / "verify.json"
    return done.returncode, json.loads(path.read_text()) if path.exists() else {}, done.stdout[-3000:] + done.stderr


def main() -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for cidr in ("10.0.0.0/8", "192.168.0.0/16"):
        subprocess.run(["ip", "route", "add", "local", cidr, "dev", "lo"], check=True)
    wrong: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="kiban-contract-") as directory:
        world = World(Path(directory), model())
        with world.running(), ExitStack() as stack:
            inventory(world)
            controllers(world, stack)
            drivers(world)
            rack = Rack(world)
            rack.listen(80)
            rack.listen(8080)
            rack.start()
            began = time.monotonic()
            only = ["-e", "verify_contract=true", "-e", "verify_contract_of=storage"]
            code, result, text = verify(world, *only)
            seconds = time.monotonic() - began
            rack.ended.set()
            rack.join(30)
    schema = json.loads((CHECKOUT / "roles/verify/files/result.schema.json").read_text())
    checks = result.get("checks", [])
    failed = {check["name"]: check["detail"] for check in checks if not check["ok"]}

    def expect(what: str, found: object, wanted: object) -> None:
        if found != wanted:
            wrong[what] = f"{found!r}, not {wanted!r}"

    expect("ends as failed", code, 2)
    expect("what failed", sorted(failed), [f"sds_power:{LOSES}"])
    expect("the power was cut", rack.cuts, [CUT])
    expect("drivers were missing together", {"lvm", "local", "nfs"} in rack.removed, True)
    expect("all drivers are there again", rack.removed[-1], set())
    expect("all servers are on again", rack.on, dict.fromkeys(rack.on, True))
    try:
        jsonschema.validate(result, schema)
    except jsonschema.ValidationError as exc:
        wrong["schema"] = str(exc)
    if wrong:
        wrong["details"] = json.dumps(failed) + text
    if "--show" in sys.argv:
        for check in checks:
            print(check["name"], check["ok"], check["seconds"], check["detail"], file=sys.stderr)
    print(json.dumps({"seconds": round(seconds), "checks": len(checks), "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
