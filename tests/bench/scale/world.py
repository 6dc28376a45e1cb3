# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A finished site of many servers on loopback: BMCs, SSH targets, and a real API server with a node object each."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options, connect
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds_drivers import PROVISIONER
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.kubelet import kubelet_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import file_mode, node_files
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.stages import node_labels, node_taints
from ansible_collections.kiban.baremetal.tests.integration.kube_api import (
    BUNDLE,
    free_ports,
    take_program,
    wait_until_ready,
    write_kubeconfig,
)

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
IMAGE = "5ca1e" * 12 + "0000"
UNITS = ("containerd.service", "kubelet.service", "systemd-networkd.service", "systemd-timesyncd.service")
PASSWORD = "simulated-1"

ALONE = ("setpriv", "--pdeathsig=KILL", "unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Runs a command with a loopback of its own. The kernel ends it, and all that it started, when its parent has ended."""

AUDIT = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, users: [admin]}
  - {level: None}
"""
"""Only what is asked from outside: the API server asks itself many things, the more the longer it runs."""


def site_data(servers: int) -> dict[str, Any]:
    racks = []
    for first in range(0, servers, 40):
        # The first server is the control plane; BMCs and servers are numbered through.
        entries = []
        for start, count, role in (
            ((0, 1, "control_plane"), (1, 39, "worker")) if first == 0 else ((first, 40, "worker"),)
        ):
            count = min(count, servers - start)
            if count > 0:
                address = f"{start // 256}.{start % 256}"
                entries.append(
                    {
                        "name": f"s[{start:04}:{start + count - 1:04}]",
                        "roles": [role],
                        "profile": "compute",
                        "bmc": f"127.17.{address}",
                        "addresses": {"node": f"127.33.{address}"},
                    }
                )
        racks.append({"name": f"r{first // 40:02}", "servers": entries})
    disks = {"system": {"select": "protocol == 'VirtIO'"}, "data": {"select": "protocol == 'NVMe'", "count": 4}}
    return {
        "plugin": "kiban.baremetal.site",
        "site": {"name": "scale", "domain": "scale.example.net", "ntp": ["127.0.0.1"], "dns": ["127.0.0.1"]},
        "networks": {"bmc": {"cidr": "127.16.0.0/15"}, "node": {"cidr": "127.32.0.0/15", "gateway": "127.32.0.1"}},
        "deploy": {"address": "127.32.0.2", "bmc_address": "127.16.0.2", "port": 8089},
        "profiles": {"compute": {"disks": disks}},
        "racks": racks,
        "cluster": {
            "kubernetes": "v1.36.3",
            "sdn": {"driver": "bgp", "pods": "10.0.0.0/8", "services": "192.168.0.0/16", "node_prefix": 25},
            "extra_args": {"kubelet_config": {"maxPods": 200}},
        },
    }  # fmt: skip


class World:
    """Everything on disk, and the processes, of one site."""

    def __init__(self, work: Path, data: dict[str, Any]) -> None:
        self.work, self.data = work, data
        self.site: Site = load_site(data)
        self.environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "KIBAN_WORK": str(work),
            "KIBAN_BMC_PASSWORD": PASSWORD,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    @property
    def inventory(self) -> Path:
        return self.work / "inventory"

    @property
    def site_dir(self) -> Path:
        return self.work / "sites" / "scale"

    @contextmanager
    def running(self) -> Iterator[World]:
        self._write()
        with ExitStack() as stack:
            targets = [sys.executable, str(HERE / "targets.py"), str(self.work)]
            self.processes = [
                stack.enter_context(process(targets, self.work / "targets.log")),
                stack.enter_context(self.bmcs(self.site.servers[0].bmc.address, len(self.site.servers), "bmc")),
            ]
            self.processes += [stack.enter_context(part) for part in self._api()]
            self._nodes()
            yield self

    def cpu_seconds(self) -> float:
        """Processor time of everything that would be on other machines, with what has ended."""
        ticks = 0
        for one in self.processes:
            after_name = Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(value) for value in after_name[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def api_requests(self) -> int:
        """Requests that the API server has answered, but for its own."""
        with (self.work / "api" / "audit.log").open("rb") as log:
            return sum(1 for _line in log)

    def kubectl(self, *words: str) -> None:
        command = [str(self.work / "bundle/bin/kubectl"), f"--kubeconfig={self.site_dir}/kubeconfig", *words]
        subprocess.run(command, check=True, capture_output=True)

    def system(self) -> str:
        """Identifier of the server in the tree of its simulated BMC."""
        options = Options(self.site.servers[0].bmc.address, "kiban", PASSWORD, ca_path=str(self.work / "bmc-ca.pem"))
        with connect(options) as bmc:
            return str(bmc.resources.system()["Id"])

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context)
        headers = {"Authorization": "Bearer admin", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def _write(self) -> None:
        self.inventory.mkdir(parents=True)
        (self.inventory / "site.yml").write_text(yaml.safe_dump(self.data, sort_keys=False))
        variables = {
            "kiban_bmc_username": "kiban",
            "kiban_bmc_password": PASSWORD,
            "kiban_bmc_ca_path": str(self.work / "bmc-ca.pem"),
        }
        (self.inventory / "group_vars").mkdir()
        (self.inventory / "group_vars" / "servers.yml").write_text(yaml.safe_dump(variables))
        self._bundle()
        (self.work / "image").mkdir()
        (self.work / "image" / "manifest.json").write_text(json.dumps({"node": {"id": IMAGE}}))
        arguments = f"path={self.site_dir} comment=scale"
        self.ansible("ansible", "localhost", "-m", "kiban.baremetal.site_keys", "-a", arguments)
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "target", "-f", str(self.work / "host")]
        subprocess.run(keygen, check=True)
        # One key for all of them, so its certificate names none. Clients check the authority all the same.
        sign = [
            "ssh-keygen",
            "-q",
            "-s",
            str(self.site_dir / "ssh" / "ca"),
            "-h",
            "-I",
            "targets",
            f"{self.work}/host.pub",
        ]
        subprocess.run(sign, check=True, capture_output=True)
        self._roots((self.site_dir / "ssh" / "id_ed25519.pub").read_text().strip())

    def _bundle(self) -> None:
        """The bundle that was made, with the image of the provisioner, which is only in those of some sites."""
        (self.work / "bundle").mkdir()
        for part in BUNDLE.iterdir():
            (self.work / "bundle" / part.name).symlink_to(part)
        path = self.work / "bundle" / "manifest.json"
        manifest = json.loads(path.read_text())
        if PROVISIONER not in {artifact["name"] for artifact in manifest["artifacts"]}:
            manifest["artifacts"].append({"name": PROVISIONER, "kind": "image", "reference": f"kiban/{PROVISIONER}:0"})
        path.unlink()
        path.write_text(json.dumps(manifest))

    def ansible(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}")
        return done.stdout

    # -- what a target's program finds

    def _roots(self, key: str) -> None:
        shared = self.work / "root"

        def put(path: str, text: str, root: Path = shared) -> None:
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

        put("etc/kiban/image.json", json.dumps({"id": IMAGE, "kubernetes": "v1.36.3"}))
        put("etc/kiban/installed.json", json.dumps({"site": "scale", "reinstall": ""}))
        for unit in UNITS:
            put(f"etc/systemd/system/multi-user.target.wants/{unit}", "")
        put("etc/kubernetes/kubelet.conf", "")
        put("var/lib/kubelet/config.yaml", yaml.safe_dump({**kubelet_config(self.site), "syncFrequency": "1m0s"}))
        rows = [f"{unit} loaded active running {unit}" for unit in UNITS]
        rows += [f"unit{number}.service loaded inactive dead Some unit" for number in range(100)]
        put("units", "\n".join(rows) + "\n")
        quick = 'while read -r line; do echo "$line"; done < "$TARGET_ROOT/units"'
        rest = 'exec /usr/bin/python3 "$TARGET_ROOT/bin/systemctl.py"'
        put("bin/systemctl", f'#!/bin/sh\n[ "$1" = list-units ] || {rest} "$@"\n{quick}\n')
        put("bin/networkctl", f'#!/bin/sh\n{rest} "$@"\n')
        put("bin/systemctl.py", (HERE / "systemctl.py").read_text())
        for name in ("systemctl", "networkctl"):
            (shared / "bin" / name).chmod(0o755)
        self._hardware(put)
        self._network(put)
        roots = self.work / "roots"
        names = {}
        for server in self.site.servers:
            names[server.addresses["node"]] = server.name
            root = roots / server.name
            for path, text in node_files(self.site, server, key).items():
                # What systemd reads is the same on all of them, and comes by a link.
                place = shared if path.startswith("/etc/systemd/system/") else root
                put(path.lstrip("/"), text, place)
                (place / path.lstrip("/")).chmod(int(file_mode(path), 8))
            for name in ("kiban", "kubernetes", "systemd/system"):
                (root / "etc" / name).symlink_to(shared / "etc" / name)
        control = roots / self.site.with_role("control_plane")[0].name / "etc" / "kubernetes"
        control.unlink()
        put("kubelet.conf", "", control)
        put("kiban/initialised", "", control)
        (self.work / "targets.json").write_text(json.dumps(names))

    def whole(self, name: str) -> Path:
        """A root in which any program can run, with nothing that is another server's too."""
        root, own = self.work / "roots" / name, self.work / "roots" / name / "own"
        if own.exists():
            return root
        shutil.copytree(self.work / "root", own, symlinks=True)
        for part in ("sys/class/net", "proc/net"):
            shutil.copytree(own / part, own / "pristine" / part, symlinks=True)
        for part in ("kiban", "kubernetes", "systemd/system"):
            place = root / "etc" / part
            if place.is_symlink():
                place.unlink()
                shutil.copytree(self.work / "root" / "etc" / part, place, symlinks=True)
        for part in ("usr", "dev", "proc", "tmp", "root", "var/lib/kubelet"):
            (root / part).mkdir(parents=True, exist_ok=True)
        for part in ("bin", "sbin", "lib", "lib64"):
            (root / part).symlink_to(f"usr/{part}")
        (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "etc" / "group").write_text("root:x:0:\n")
        return root

    def _hardware(self, put: Any) -> None:
        mounts = []
        for number, (name, bus, size) in enumerate(
            [("vda", "virtio0/block", 1 << 25), *((f"nvme{n}n1", "nvme/nvme0", 1 << 32) for n in range(4))]
        ):
            real = f"sys/devices/pci/{bus}/{name}"
            put(f"{real}/size", str(size))
            put(f"{real}/queue/rotational", "0")
            put(f"{real}/device/model", "Simulated")
            put(f"{real}/serial", f"SERIAL-{name}")
            for folder, link in (("sys/block", name), ("sys/dev/block", f"259:{number}")):
                (self.work / "root" / folder).mkdir(parents=True, exist_ok=True)
                # Relative, as in sysfs: a copy of the tree is a whole one.
                (self.work / "root" / folder / link).symlink_to(os.path.relpath(real, folder))
            at = "/" if name == "vda" else f"/var/lib/kiban/local/SERIAL-{name}"
            mounts.append(f"{20 + number} 1 259:{number} / {at} rw,noatime shared:1 - ext4 /dev/{name} rw")
        put("proc/self/mountinfo", "\n".join(mounts) + "\n")
        put("proc/swaps", "Filename Type Size Used Priority\n")
        put("proc/uptime", "1000.00 2000.00\n")
        put("proc/sys/kernel/random/boot_id", "00000000-0000-0000-0000-000000000000\n")

    def _network(self, put: Any) -> None:
        """One kernel that has the routes of all servers; a program only looks for its own."""

        def word(address: str) -> str:
            return "".join(f"{int(part):02X}" for part in reversed(address.split(".")))

        put("sys/class/net/bond0/mtu", "1500\n")
        put("sys/class/net/bond0/bonding/mode", "active-backup 1\n")
        put("sys/class/net/bond0/bonding/slaves", "eth0 eth1\n")
        for port in ("eth0", "eth1"):
            put(f"sys/class/net/{port}/mtu", "1500\n")
            put(f"sys/class/net/{port}/device/vendor", "0x8086\n")
            (self.work / f"root/sys/class/net/{port}/master").symlink_to("../bond0")
        rows = ["Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"]
        rows.append(f"bond0 00000000 {word('127.32.0.1')} 0003 0 0 0 00000000 0 0 0")
        rows.append(f"bond0 {word('127.32.0.0')} 00000000 0001 0 0 0 {word('255.254.0.0')} 0 0 0")
        trie = []
        for server in self.site.servers:
            mask, pods = word("255.255.255.128"), word(server.pod_cidr.split("/")[0])
            rows.append(f"bond0 {pods} {word(server.addresses['node'])} 0003 0 0 0 {mask} 0 0 0")
            rows.append(f"* {pods} 00000000 0201 0 0 4096 {mask} 0 0 0")
            trie.append(f"           |-- {server.addresses['node']}\n              /32 host LOCAL\n")
        put("proc/net/route", "\n".join(rows) + "\n")
        put("proc/net/fib_trie", "".join(trie))

    # -- processes

    def bmcs(self, first: str, count: int, name: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Simulated BMCs, at addresses from the first one on; the certificate of their authority is NAME-ca.pem.

        Those of servers with a cable hear the switch at its other end.
        """
        options = ["--count", str(count), "--spread", "--first", first, "--port", "443", "--no-record"]
        options += ["--tree", "synthetic", "--username", "kiban", "--password", PASSWORD, "--power", "On"]
        cables = [next(iter(server.cables.values()), "none:none").split(":") for server in self.site.servers]
        if name == "bmc" and any(server.cables for server in self.site.servers):
            (self.work / "hears.json").write_text(json.dumps(cables))
            options += ["--hears", str(self.work / "hears.json")]
        command = [sys.executable, "-m", "tests.simulator", *options, "--ca", str(self.work / f"{name}-ca.pem")]
        return process(command, self.work / f"{name}.log", cwd=CHECKOUT)

    def _api(self) -> Iterator[Any]:
        here = self.work / "api"
        here.mkdir()
        client, peer, self.port = free_ports(3)
        subprocess.run(["openssl", "genrsa", "-out", here / "sa.key", "2048"], check=True, capture_output=True)
        (here / "tokens.csv").write_text("admin,admin,1,system:masters\n")
        (here / "audit.yml").write_text(AUDIT)
        etcd, server = (take_program(BUNDLE / f"images/{name}.tar", name, here) for name in ("etcd", "kube-apiserver"))
        peers, clients = f"http://127.0.0.1:{peer}", f"http://127.0.0.1:{client}"
        yield process(
            [
                str(etcd),
                f"--data-dir={here / 'data'}",
                f"--listen-client-urls={clients}",
                f"--advertise-client-urls={clients}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=default={peers}",
                "--unsafe-no-fsync",
            ],
            here / "etcd.log",
            ready=False,
        )
        log = here / "kube-apiserver.log"
        yield process(
            [
                str(server),
                f"--etcd-servers={clients}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={self.port}",
                f"--cert-dir={here / 'certs'}",
                "--authorization-mode=RBAC",
                f"--token-auth-file={here / 'tokens.csv'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={here / 'sa.key'}",
                f"--service-account-signing-key-file={here / 'sa.key'}",
                f"--service-cluster-ip-range={self.site.cluster.sdn.services}",
                "--endpoint-reconciler-type=none",
                "--allow-privileged",
                f"--audit-policy-file={here / 'audit.yml'}",
                f"--audit-log-path={here / 'audit.log'}",
            ],
            log,
            ready=False,
            wait=lambda started: wait_until_ready(self.port, started, log),
        )
        write_kubeconfig(self.site_dir / "kubeconfig", self.port, "admin")

    def _nodes(self) -> None:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=ssl._create_unverified_context())
        for server in self.site.servers:
            connection.request("POST", "/api/v1/nodes", json.dumps(node_object(self.site, server)), {
                "Authorization": "Bearer admin", "Content-Type": "application/json"})  # fmt: skip
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 201:
                raise RuntimeError(f"node {server.name}: {answer.status} {text[:500]!r}")


def node_object(site: Site, server: Any) -> dict[str, Any]:
    """As large as a real one: with conditions and the images that a node has."""
    now = "2026-01-01T00:00:00Z"
    kinds = ("MemoryPressure", "DiskPressure", "PIDPressure")
    conditions = [{"type": kind, "status": "False", "reason": "KubeletHasSufficientMemory"} for kind in kinds]
    conditions.append({"type": "Ready", "status": "True", "reason": "KubeletReady"})
    digest = base64.b16encode(server.name.encode() * 8).decode().lower()[:64]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": server.name, "labels": {**node_labels(server), "kubernetes.io/hostname": server.name}},
        "spec": {"podCIDR": server.pod_cidr, "taints": node_taints(server)},
        "status": {
            "capacity": {"cpu": "64", "memory": "263856508Ki", "pods": "200"},
            "conditions": [{**item, "lastHeartbeatTime": now, "lastTransitionTime": now} for item in conditions],
            "addresses": [{"type": "InternalIP", "address": server.addresses["node"]}],
            "images": [
                {"names": [f"registry.example.net/image-{n}@sha256:{digest}"], "sizeBytes": n << 20} for n in range(12)
            ],
            "nodeInfo": {
                "kubeletVersion": site.cluster.kubernetes, "containerRuntimeVersion": "containerd://2.4.2",
                "machineID": "x", "systemUUID": "x", "bootID": "x", "kernelVersion": "6.12", "osImage": "Debian",
                "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64",
            },
        },
    }  # fmt: skip


@contextmanager
def process(
    command: list[str], log: Path, *, ready: bool = True, wait: Any = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the world; `ready`: it says so by its first line."""
    with log.open("wb") as errors:
        started = subprocess.Popen(command, stdout=subprocess.PIPE if ready else errors, stderr=errors, cwd=cwd)
    try:
        if ready and started.stdout and not started.stdout.readline():
            raise RuntimeError(f"{command[:3]} did not start: {log.read_text()[-2000:]}")
        if wait:
            wait(started)
        yield started
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
