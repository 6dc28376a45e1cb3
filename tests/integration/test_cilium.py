# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cilium's programs with the images, rights and settings that the site gives them, and pods of two servers.

Servers and pods are network namespaces. Agents and operator are plain processes in the images' own files; the agents
compile their programs for packets with the image's clang and load them into this machine's kernel, for devices of their
namespaces and a control group of their own. Needs root, such a kernel, and a bundle of a site with the driver.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import sdn_cilium
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.cluster import images_of, manifests
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.integration.kube_api import (
    BUNDLE,
    CHECKOUT,
    take_program,
    write_kubeconfig,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import (
    PREFIX,
    Bench,
    Space,
    eventually,
    missing_programs,
)

SITE = load_site(yaml.safe_load((CHECKOUT / "inventories/lab-cilium/site.yml").read_text()))
NODES = ("node1", "node2")
API, SERVICE = SITE.cluster.endpoint, "10.96.0.77"
PODS = {"one": "node1", "two": "node1", "three": "node2"}
NODE_PORT, HOST_PORT = 30077, 18080


def _why_not() -> str:
    lacking = [name for name in sdn_cilium.IMAGES if not (BUNDLE / f"images/{name}.tar").exists()]
    if lacking:
        return f"not in the bundle: {', '.join(lacking)}"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "the kernel describes no types (BTF)"
    return missing_programs("ip", "unshare", "nsenter", "chroot", "openssl")


WHY = _why_not()
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]

# The mounts that a container gets. Settings of the kernel that are not a namespace's stay as they are.
_MOUNTS = """set -e
cd "$1"
mount --make-rprivate /
mount -t proc proc proc
mount --bind proc/sys/kernel proc/sys/kernel
mount -o remount,bind,ro proc/sys/kernel
mount -t sysfs sysfs sys
mount -t bpf bpf sys/fs/bpf
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --bind /dev dev
mount -t tmpfs run run
mount -t tmpfs var-run var/run
mount -t tmpfs config tmp/cilium/config-map
mkdir -p var/run/cilium/netns run/netns run/cilium
mount --bind var/run/cilium run/cilium
mount --rbind /run/netns var/run/cilium/netns
mount --rbind /run/netns run/netns
cp "$2"/* tmp/cilium/config-map/
shift 2
exec chroot . "$@"
"""
_ECHO = """
import http.server, os, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(f"{sys.argv[1]} {self.client_address[0]}".encode())
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Answer).serve_forever()
"""
_ASK = "import sys,urllib.request;print(urllib.request.urlopen(sys.argv[1],timeout=float(sys.argv[2])).read().decode())"


def control_groups() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _device, place, kind, *_rest = line.split()
        if kind == "cgroup2":
            return Path(place)
    pytest.skip("no control groups of version 2 here")


def unpack(image: Path, root: Path) -> None:
    with tarfile.open(image) as archive:

        def blob(digest: str) -> Any:
            return archive.extractfile(f"blobs/{digest.replace(':', '/')}")

        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
        for layer in json.load(blob(index["manifests"][0]["digest"]))["layers"]:
            with tarfile.open(fileobj=blob(layer["digest"])) as files:
                files.extractall(root, filter="fully_trusted")


class World:
    """A segment with the API server, two servers and three pods."""

    def __init__(self, here: Path) -> None:
        self.here, self.bench, self.root = here, Bench(here), here / "root"
        self.lan: Space = self.bench.add(Space, "lan")
        self.nodes = {name: self.bench.add(Space, name) for name in NODES}
        self.pods = {name: self.bench.add(Space, name) for name in PODS}
        self.groups = {name: control_groups() / f"{PREFIX}{name}" for name in (*NODES, "lan")}
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        self.addresses: dict[str, str] = {}
        self.lan.run("ip", "link", "add", "segment", "type", "bridge")
        self.lan.run("ip", "address", "add", f"{API}/24", "dev", "segment")
        self.lan.run("ip", "link", "set", "segment", "up")
        for name, node in self.nodes.items():
            self.bench.wire(name, "eth0", "lan", name)
            self.lan.run("ip", "link", "set", name, "master", "segment")
            node.run("ip", "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            node.run("ip", "route", "add", "default", "via", API)
            node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
        for path in ("dev", "proc", "run", "sys", "tmp/cilium/config-map", "var/run"):
            (self.root / path).mkdir(parents=True, exist_ok=True)
        for image in sdn_cilium.IMAGES:
            unpack(BUNDLE / f"images/{image}.tar", self.root)
        shutil.copy(BUNDLE / f"cni/{sdn_cilium.PLUGIN}", self.root / "usr/bin")
        objects = manifests(SITE, dict.fromkeys(images_of(SITE), "x:y"))
        self.objects = [obj for obj in objects if obj["metadata"].get("namespace") in (None, "kube-system")]
        for group in self.groups.values():
            group.mkdir(exist_ok=True)

    @staticmethod
    def address(name: str) -> str:
        return SITE.server(name).addresses["node"]

    def serve(self) -> None:
        for image in ("etcd", "kube-apiserver"):
            take_program(BUNDLE / f"images/{image}.tar", image, self.here)
        subprocess.run(["openssl", "genrsa", "-out", self.here / "sa.key", "2048"], check=True, capture_output=True)
        (self.here / "tokens.csv").write_text("admin,admin,1,system:masters\n")
        peers, clients = "http://127.0.0.1:2380", "http://127.0.0.1:2379"
        self.lan.daemon(
            self.here / "etcd",
            f"--data-dir={self.here / 'data'}",
            *(f"--{kind}-client-urls={clients}" for kind in ("listen", "advertise")),
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
        )
        self.lan.daemon(
            self.here / "kube-apiserver",
            f"--etcd-servers={clients}",
            "--allow-privileged=true",
            f"--advertise-address={API}",
            f"--cert-dir={self.here / 'certs'}",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={self.here / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            *(f"--service-account-{kind}-file={self.here / 'sa.key'}" for kind in ("key", "signing-key")),
            f"--service-cluster-ip-range={SITE.cluster.sdn.services}",
            "--disable-admission-plugins=ServiceAccount",
        )
        self.kubeconfig = write_kubeconfig(self.here / "admin.conf", 6443, "admin")
        eventually(lambda: self.kubectl("get", "--raw=/readyz", check=False) == "ok", 300)

    def kubectl(self, *args: str, stdin: str = "", check: bool = True) -> str:
        command = self.lan.argv(BUNDLE / "bin/kubectl", f"--kubeconfig={self.kubeconfig}", *args)
        done = subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def apply(self, objects: list[dict[str, Any]], *more: str) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "--validate=false", "--filename=-", *more, stdin=text)

    def run_as(self, account: str, name: str, space: Space, program: str) -> subprocess.Popen[bytes]:
        """A program of the images with the rights of its service account and the settings of the site."""
        token = self.kubectl("-n", "kube-system", "create", "token", account).strip()
        config = self.here / f"config-{name}"
        config.mkdir()
        for key, value in sdn_cilium.settings(SITE).items():
            (config / key).write_text(value)
        path = write_kubeconfig(self.root / f"tmp/{name}.conf", 6443, token)
        path.write_text(path.read_text().replace("127.0.0.1", API))
        options = ["--config-dir=/tmp/cilium/config-map", f"--k8s-kubeconfig-path=/tmp/{name}.conf"]
        environment = {"K8S_NODE_NAME": name, "CILIUM_K8S_NAMESPACE": "kube-system", "PATH": "/usr/bin"}
        inner = ["unshare", "--mount", "--cgroup", "sh", "-c", _MOUNTS, "sh"]
        inner += [str(self.root), str(config), program, *options]
        with (self.here / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*self._entered(space.name), *space.argv(*inner)],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            )
        space.processes.append(process)
        return process

    def _entered(self, group: str) -> list[str]:
        return ["sh", "-c", f'echo $$ > {self.groups[group]}/cgroup.procs && exec "$@"', "sh"]

    def start(self) -> None:
        self.run_as("cilium-operator", "operator", self.lan, "/usr/bin/cilium-operator-generic")
        for name, node in self.nodes.items():
            self.agents[name] = self.run_as("cilium", name, node, "/usr/bin/cilium-agent")

    def log(self, name: str) -> str:
        return (self.here / f"{name}.log").read_text()

    def healthy(self, name: str) -> bool:
        assert self.agents[name].poll() is None, self.log(name)[-4000:]
        return self.ask(self.nodes[name], "http://127.0.0.1:9879/healthz") is not None

    def inside(self, node: str, *argv: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """A program of the image in the namespaces of a node's agent."""
        entered = ["nsenter", f"--target={self.agents[node].pid}", "--mount", "--net", "--root", "--wd=/"]
        return subprocess.run(
            [*entered, *argv],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin", **environment},
        )

    def add(self, pod: str) -> None:
        """What the kubelet and the container runtime do for a pod."""
        node, space = PODS[pod], self.pods[pod]
        names = f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID={pod};IgnoreUnknown=1"
        config = json.loads(sdn_cilium.cni_config(SITE, SITE.server(node)))
        plugin = {**config["plugins"][0], "cniVersion": config["cniVersion"], "name": config["name"]}
        call = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": f"{pod}-1",
            "CNI_NETNS": f"/run/netns/{space.netns}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/usr/bin",
            "CNI_ARGS": names,
        }
        answers: list[str] = []

        def added() -> bool:
            done = self.inside(node, "/usr/bin/cilium-cni", stdin=json.dumps(plugin), **call)
            answers.append(done.stdout)
            return done.returncode == 0

        # As the kubelet does: an agent that still compiles lets the first attempts fail.
        eventually(added, 900)
        told = json.loads(answers[-1])
        self.addresses[pod] = told["ips"][0]["address"].partition("/")[0]
        status = {"phase": "Running", "podIP": self.addresses[pod], "podIPs": [{"ip": self.addresses[pod]}]}
        status["hostIP"] = self.address(node)
        self.kubectl(
            "patch", "pod", pod, "--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}"
        )
        space.processes.append(subprocess.Popen(space.argv(sys.executable, "-c", _ECHO, pod)))
        eventually(lambda: self.ask(space, "http://127.0.0.1:8080/") is not None, 20)

    def ask(self, space: Space, url: str, seconds: float = 2) -> str | None:
        argv = space.argv(sys.executable, "-c", _ASK, url, seconds)
        if space.name in PODS:
            # In the control group of its server, as pods are: there the agent changes addresses of Services.
            argv = [*self._entered(PODS[space.name]), *argv]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def close(self) -> None:
        self.bench.close()
        for group in self.groups.values():
            # A compiler may outlive its agent for a moment.
            eventually(lambda group=group: not (group / "cgroup.procs").read_text(), 60)  # type: ignore[misc]
            group.rmdir()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="kcil") as directory:
        made = World(Path(directory))
        try:
            yield made
        finally:
            keep = os.environ.get("KIBAN_KEEP_LOGS")
            if keep:
                for log in Path(directory).glob("*.log"):
                    Path(keep, log.name).write_bytes(log.read_bytes())
            made.close()


def nodes() -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {"podCIDR": SITE.server(name).pod_cidr, "podCIDRs": [SITE.server(name).pod_cidr]},
            "status": {"addresses": [{"type": "InternalIP", "address": World.address(name)}]},
        }
        for name in NODES
    ]


def pods() -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {
                "nodeName": node,
                "containers": [
                    {
                        "name": name,
                        "image": "x",
                        "ports": [{"containerPort": 8080, "hostPort": HOST_PORT}] if name == "three" else [],
                    }
                ],
            },
        }
        for name, node in PODS.items()
    ]


def service(world: World) -> list[dict[str, Any]]:
    ports = [{"port": 80, "targetPort": 8080, "nodePort": NODE_PORT}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": "NodePort", "clusterIP": SERVICE, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"port": 8080}],
            "endpoints": [
                {"addresses": [world.addresses["three"]], "nodeName": "node2", "conditions": {"ready": True}}
            ],
        },
    ]


DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "only-two", "namespace": "default"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "three"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "two"}}}]}],
    },
}


def test_pods_services_and_policies(world: World) -> None:
    world.serve()
    world.apply(world.objects)
    world.apply(nodes())
    for node in nodes():
        status = json.dumps({"status": node["status"]})
        world.kubectl("patch", "node", node["metadata"]["name"], "--subresource=status", f"--patch={status}")
    world.apply(pods())
    started = time.monotonic()
    world.start()
    for name in NODES:
        eventually(lambda name=name: world.healthy(name), 900)  # type: ignore[misc]
    took = time.monotonic() - started
    print(f"agents healthy after {took:.1f} s")

    # The kinds that the rights and the removal name are those that there are.
    def kinds() -> list[str]:
        told = world.kubectl("get", "crd", "--output=name").split()
        return sorted(name.partition("/")[2].partition(".")[0] for name in told)

    assert kinds() == sorted(sdn_cilium.KINDS)
    for pod in PODS:
        world.add(pod)
    for pod, node in PODS.items():
        assert world.addresses[pod].startswith(SITE.server(node).pod_cidr.rpartition(".")[0])
    # To a pod of the same server, and to one of another server by VXLAN; addresses are kept.
    for here, there in (("one", "two"), ("one", "three"), ("three", "one")):
        url = f"http://{world.addresses[there]}:8080/"
        eventually(lambda here=here, url=url: world.ask(world.pods[here], url) is not None, 120)  # type: ignore[misc]
        assert world.ask(world.pods[here], url) == f"{there} {world.addresses[here]}"
    world.apply(service(world))
    eventually(lambda: world.ask(world.pods["one"], f"http://{SERVICE}/") is not None, 60)
    assert world.ask(world.pods["one"], f"http://{SERVICE}/") == f"three {world.addresses['one']}"
    # From outside by a server without the pod, without kube-proxy.
    eventually(lambda: world.ask(world.lan, f"http://{world.address('node1')}:{NODE_PORT}/") is not None, 60)
    eventually(lambda: world.ask(world.lan, f"http://{world.address('node2')}:{HOST_PORT}/") is not None, 60)
    # A host of the segment that knows the way, as the control host of the lab does.
    world.lan.run("ip", "route", "add", SITE.server("node2").pod_cidr, "via", world.address("node2"))
    eventually(lambda: world.ask(world.lan, f"http://{world.addresses['three']}:8080/") is not None, 60)
    # To outside with the address of the server.
    outside = subprocess.Popen(world.lan.argv(sys.executable, "-c", _ECHO, "outside"))
    world.lan.processes.append(outside)
    eventually(lambda: world.ask(world.pods["one"], f"http://{API}:8080/") is not None, 60)
    assert world.ask(world.pods["one"], f"http://{API}:8080/") == f"outside {world.address('node1')}"
    world.apply([DENY])
    url = f"http://{world.addresses['three']}:8080/"
    eventually(lambda: world.ask(world.pods["one"], url) is None, 60)
    assert world.ask(world.pods["two"], url) == f"three {world.addresses['two']}"
