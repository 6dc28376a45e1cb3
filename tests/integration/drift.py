# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift made by hand on a site of simulated devices and a real API server.

Of each kind the plan must name it, and nothing else. With `--mend` the playbook `site` must then mend those in MENDED,
changing only servers that have drift, and the next plan must be empty. Servers are directories, in which Ansible's
modules run for real; their kernel and systemd are stand-ins (tests/bench/scale). The API server is the bundle's own.

`unshare --net python tests/integration/drift.py`: the last line is JSON; `wrong` is empty when all is well.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".ansible" / "collections"))

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options, connect
from ansible_collections.kiban.baremetal.tests.bench.scale.world import PASSWORD, World

READY = {"type": "Ready", "status": "False", "reason": "Gone", "message": "kubelet stopped posting"}


@dataclass
class Server:
    """One server of the world, and how somebody would change it by hand."""

    world: World
    name: str

    @property
    def root(self) -> Path:
        return self.world.work / "roots" / self.name

    @property
    def own(self) -> Path:
        """What it shares with others otherwise: kernel, services, kubelet."""
        return self.world.whole(self.name) / "own"

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.own / path
        text = file.read_text()
        assert old in text, (path, old)
        file.write_text(text.replace(old, new))

    def kubectl(self, *words: str) -> None:
        self.world.kubectl(*words)

    def patch(self, patch: dict[str, Any], status: bool = False) -> None:
        more = ["--subresource=status"] if status else []
        self.kubectl("patch", "node", self.name, "--type=strategic", f"--patch={json.dumps(patch)}", *more)

    def power(self, state: str) -> None:
        address = self.world.site.server(self.name).bmc.address
        with connect(Options(address, "kiban", PASSWORD, ca_path=str(self.world.work / "bmc-ca.pem"))) as bmc:
            bmc.power.apply(bmc.power.plan(state, "forced"), 60)


def edit_mount(server: Server, disk: str, old: str, new: str) -> None:
    lines = (server.own / "proc/self/mountinfo").read_text().splitlines()
    changed = [line.replace(old, new) if disk in line else line for line in lines]
    assert changed != lines
    (server.own / "proc/self/mountinfo").write_text("\n".join(changed) + "\n")


def link(server: Server) -> None:
    (server.root / "etc/resolv.conf").unlink()
    (server.root / "etc/resolv.conf").symlink_to("/run/systemd/resolve/stub-resolv.conf")


def pull_disk(server: Server) -> None:
    (server.own / "sys/block/nvme2n1").unlink()


def hold(server: Server) -> None:
    disk = server.own / "sys/devices/pci/virtio1/block/vdb"
    shutil.copytree(server.own / "sys/devices/pci/virtio0/block/vda", disk)
    (disk / "holders/md0").mkdir(parents=True)
    (server.own / "sys/block/vdb").symlink_to("../devices/pci/virtio1/block/vdb")


def lose_disk(server: Server) -> None:
    (server.root / "etc/fstab").write_text("PARTUUID=x /var/lib/kiban/local/SERIAL-old ext4 noatime 0 2\n")


def grow_disk(server: Server) -> None:
    part = server.own / "sys/devices/pci/nvme/nvme0/nvme0n1/nvme0n1p1"
    part.mkdir()
    for name, value in {"partition": 1, "start": 2048, "size": (1 << 31) - 2048}.items():
        (part / name).write_text(f"{value}\n")


def new_disk(server: Server) -> None:
    hold(server)
    shutil.rmtree(server.own / "sys/block/vdb/holders")
    (server.own / "sys/block/vdb/serial").write_text("NEW\n")


def flush(server: Server) -> None:
    rows = (server.own / "proc/net/route").read_text().splitlines()
    (server.own / "proc/net/route").write_text(
        "\n".join(row for row in rows if row.split()[3] in ("Flags", "0001")) + "\n"
    )


def dmi(server: Server) -> None:
    (server.own / "sys/class/dmi/id").mkdir(parents=True)
    (server.own / "sys/class/dmi/id/product_uuid").write_text("00000000-1111-2222-3333-444444444444\n")


def disable(server: Server, unit: str) -> None:
    (server.own.parent / "etc/systemd/system/multi-user.target.wants" / unit).unlink()


def mask(server: Server, unit: str) -> None:
    (server.own.parent / "etc/systemd/system" / unit).symlink_to("/dev/null")


def in_cluster(server: Server, kind: str, name: str, patch: dict[str, Any]) -> None:
    server.kubectl("-n", "kube-system", "patch", kind, name, "--type=strategic", f"--patch={json.dumps(patch)}")


OTHER = "registry.example.net/other:v1"
Made = Callable[[Server], object]
# What somebody does; the stage that names it, or 'notice'; and what is said. Each on a server of its own, but for those
# of PLACES.
MENDED: dict[str, tuple[Made, str, str]] = {
    "file content": (lambda s: (s.root / "etc/hosts").write_text("x"), "host", "differ: /etc/hosts"),
    "file mode": (lambda s: (s.root / "etc/hostname").chmod(0o600), "host", "differ: /etc/hostname"),
    "file gone": (lambda s: (s.root / "etc/cni/net.d/10-kiban.conflist").unlink(), "host", "/etc/cni/net.d"),
    "file is a link": (link, "host", "differ: /etc/resolv.conf"),
    "authorized key": (lambda s: (s.root / "root/.ssh/authorized_keys").write_text("x"), "host", "authorized_keys"),
    "time server": (lambda s: (s.root / "etc/systemd/timesyncd.conf.d/kiban.conf").unlink(), "host", "timesyncd"),
    "MTU": (lambda s: s.edit("sys/class/net/bond0/mtu", "1500", "1400"), "host", "bond0: MTU 1400, not 1500"),
    "MTU of a port": (lambda s: s.edit("sys/class/net/eth1/mtu", "1500", "1400"), "host", "eth1: MTU 1400, not 1500"),
    "bond mode": (lambda s: s.edit("sys/class/net/bond0/bonding/mode", "active-b", "x-b"), "host", "bond0: mode x-b"),
    "port out of bond": (lambda s: (s.own / "sys/class/net/eth0/master").unlink(), "host", "eth0: not in bond0"),
    "device gone": (lambda s: shutil.rmtree(s.own / "sys/class/net/bond0"), "host", "bond0: not there"),
    "address": (lambda s: (s.own / "proc/net/fib_trie").write_text(""), "host", "is missing"),
    "routes": (flush, "host", "default route by 127.32.0.1 and of"),
    "kubelet stopped": (
        lambda s: s.edit("units", "kubelet.service loaded active", "kubelet.service loaded failed"),
        "host",
        "kubelet.service is failed",
    ),
    "runtime stopped": (
        lambda s: s.edit("units", "containerd.service loaded active", "containerd.service loaded inactive"),
        "host",
        "containerd.service is inactive",
    ),
    "network service not enabled": (
        lambda s: disable(s, "systemd-networkd.service"),
        "host",
        "systemd-networkd.service is active, not enabled",
    ),
    "resolvers": (lambda s: (s.root / "etc/resolv.conf").write_text("nameserver 192.0.2.53\n"), "host", "resolv.conf"),
    "runtime not enabled": (
        lambda s: disable(s, "containerd.service"),
        "host",
        "containerd.service is active, not enabled",
    ),
    "time service masked": (
        lambda s: mask(s, "systemd-timesyncd.service"),
        "host",
        "systemd-timesyncd.service is masked",
    ),
    "kubelet configuration": (
        lambda s: s.edit("var/lib/kubelet/config.yaml", "maxPods: 200", "maxPods: 110"),
        "host",
        "maxPods: 110 -> maxPods: 200",
    ),
    "label gone": (
        lambda s: s.kubectl("label", "node", s.name, "node-role.kubernetes.io/worker-"),
        "labels",
        "node-role.kubernetes.io/worker=missing",
    ),
    "label of another value": (
        lambda s: s.kubectl("label", "--overwrite", "node", s.name, "node-role.kubernetes.io/worker=x"),
        "labels",
        "node-role.kubernetes.io/worker=x",
    ),
    "taint gone": (
        lambda s: s.kubectl("taint", "node", s.name, "node-role.kubernetes.io/control-plane:NoSchedule-"),
        "labels",
        "missing -> node-role.kubernetes.io/control-plane=:NoSchedule",
    ),
    "version of cluster DNS": (
        lambda s: s.kubectl("-n", "kube-system", "set", "image", "deployment/coredns", f"coredns={OTHER}"),
        "services",
        f"containers[coredns].image: {OTHER}",
    ),
    "configuration of cluster DNS": (
        lambda s: in_cluster(s, "configmap", "coredns", {"data": {"Corefile": ".:53 {}"}}),
        "services",
        "data.Corefile: .:53 {}",
    ),
    "Service of cluster DNS gone": (
        lambda s: s.kubectl("-n", "kube-system", "delete", "service", "kube-dns"),
        "services",
        "missing -> there",
    ),
    "rights of cluster DNS": (
        lambda s: s.kubectl("patch", "clusterrole", "system:coredns", "--type=merge", '--patch={"rules":[]}'),
        "services",
        "rules",
    ),
}
TOLD: dict[str, tuple[Made, str, str]] = {
    "data disk not mounted": (
        lambda s: edit_mount(s, "nvme1n1", "/var/lib/kiban/local/SERIAL-nvme1n1", "/mnt"),
        "disks",
        "not mounted: SERIAL-nvme1n1",
    ),
    "data disk gone": (pull_disk, "notice", "3 of 4 data disks are there"),
    "claimed disk gone": (lose_disk, "notice", "the data disk SERIAL-old is gone: pulled, or dead"),
    "disk grown": (grow_disk, "notice", "(serial SERIAL-nvme0n1) has grown: its volume leaves 1099.5 GB unused"),
    "new disk": (new_disk, "notice", "disk vdb (serial NEW) is used by nothing, and the profile does not select it"),
    "data disk read-only": (lambda s: edit_mount(s, "nvme0n1", "rw,noatime", "ro"), "notice", "mounted read-only"),
    "unknown disk use": (hold, "notice", "is used by something that the model does not know: held by md0"),
    "unit failed": (
        lambda s: s.edit("units", "unit7.service loaded inactive", "unit7.service loaded failed"),
        "notice",
        "failed units: unit7.service",
    ),
    "taint of somebody": (
        lambda s: s.kubectl("taint", "node", s.name, "example.net/x=y:NoSchedule"),
        "notice",
        "taints that the model does not know: example.net/x=y:NoSchedule",
    ),
    "cordoned": (lambda s: s.kubectl("cordon", s.name), "notice", "its node is cordoned"),
    "not Ready": (lambda s: s.patch({"status": {"conditions": [READY]}}, True), "notice", "kubelet stopped posting"),
    "kubelet version": (
        lambda s: s.patch({"status": {"nodeInfo": {"kubeletVersion": "v1.35.1"}}}, True),
        "notice",
        "runs kubelet v1.35.1, the model says v1.36.3",
    ),
    "runtime version": (
        lambda s: s.patch({"status": {"nodeInfo": {"containerRuntimeVersion": "containerd://2.1.0"}}}, True),
        "notice",
        "runs containerd 2.1.0",
    ),
    "node deleted": (lambda s: s.kubectl("delete", "node", s.name), "join", "not joined -> joined"),
    "BMC off": (lambda s: s.power("off"), "notice", "may be that of another server"),
    "BMC of another": (dmi, "notice", "its firmware says UUID 00000000-1111"),
}


CONTROL, CLUSTER = "s0000", "(cluster)"
# What is said of something else than a worker.
PLACES = {"taint gone": CONTROL} | {
    kind: CLUSTER for kind, (_made, stage, _text) in MENDED.items() if stage == "services"
}
FREE = len({**MENDED, **TOLD}) - len(PLACES)


def plan(world: World, *playbook: str) -> dict[str, Any]:
    world.ansible("ansible-playbook", "-i", str(world.inventory), *(playbook or ("kiban.baremetal.plan",)))
    found: dict[str, Any] = json.loads((world.site_dir / "plan.json").read_text())
    return found


def site(world: World) -> set[str]:
    """Run it; returns the hosts for which something was changed."""
    out = world.ansible("ansible-playbook", "kiban.baremetal.site", "-i", str(world.inventory))
    return {line.split()[0] for line in out.splitlines() if " : ok=" in line and "changed=0" not in line}


def judge(found: dict[str, Any], kind: str, name: str) -> str:
    """What is wrong with what the plan says of this drift; empty when it is right."""
    _make, stage, text = {**MENDED, **TOLD}[kind]
    changes = [
        f"{c['before']} -> {c['after']}" for c in found["changes"] if c["server"] == name and c["stage"] == stage
    ]
    notices = [n["message"] for n in found["notices"] if n["server"] == name]
    said = notices if stage == "notice" else changes
    if not any(text in line for line in said):
        return f"not named on {name}: {said}"
    others = {c["stage"] for c in found["changes"] if c["server"] == name} - {
        stage,
        *(["labels"] if stage == "join" else []),
    }
    return f"{name} has also changes of {others}" if others else ""


def named(found: dict[str, Any], kinds: Mapping[str, str], more: set[str]) -> dict[str, str]:
    """What is wrong with a plan that should name these kinds on these servers, and besides only C(more)."""
    wrong = {kind: problem for kind, name in kinds.items() if (problem := judge(found, kind, name))}
    touched = {entry["server"] for part in ("changes", "notices", "problems") for entry in found[part]}
    if strangers := touched - {*kinds.values(), *more}:
        wrong["false"] = f"named without drift: {sorted(strangers)}"
    return wrong


def main() -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    mend, wrong = "--mend" in sys.argv, dict[str, str]()
    with tempfile.TemporaryDirectory(prefix="kiban-drift-") as directory:
        world = World(Path(directory), FREE + 2)
        with world.running():
            for server in world.site.servers:
                world.whole(server.name)
            site(world)  # what the site brings into the cluster
            before = plan(world)
            if before["changes"] or before["problems"] or before["notices"]:
                wrong["before"] = before["summary"] + str(before["notices"][:3] + before["changes"][:3])
            workers = iter([server.name for server in world.site.servers if "worker" in server.roles])
            places = {kind: PLACES.get(kind) or next(workers) for kind in {**MENDED, **TOLD}}
            if mend:
                mended = make(world, MENDED, places)
                checked, planned = plan(world, "kiban.baremetal.site", "--check"), plan(world)
                if checked != planned:
                    wrong["check"] = "site --check says something else than the plan after it"
                wrong |= named(planned, mended, set()) | mending(world, mended)
            told = make(world, TOLD if mend else {**MENDED, **TOLD}, places)
            stray = Server(world, CONTROL)
            stray.kubectl("create", "-f", str(write_stray(world)))
            found = plan(world)
            wrong |= named(found, told, {"stray"})
            if not any(n["server"] == "stray" and "no server of the model" in n["message"] for n in found["notices"]):
                wrong["unknown node"] = "not named"
    print(json.dumps({"kinds": len(places) + 1, "mended": len(MENDED) if mend else 0, "wrong": wrong}))
    return 1 if wrong else 0


def make(world: World, kinds: Mapping[str, tuple[Made, str, str]], places: Mapping[str, str]) -> dict[str, str]:
    for kind, (made, _stage, _text) in kinds.items():
        made(Server(world, CONTROL if places[kind] == CLUSTER else places[kind]))
    return {kind: places[kind] for kind in kinds}


def mending(world: World, kinds: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with a site run, and with the plan after it."""
    wrong = {}
    # What is done once for the whole run counts for its first host.
    if strangers := site(world) - {*kinds.values(), CONTROL, "localhost"}:
        wrong["changed"] = f"site changed servers without drift: {sorted(strangers)}"
    after = plan(world)
    if after["changes"] or after["problems"] or after["notices"]:
        wrong["after"] = f"{after['summary']}: {after['changes'][:5]}"
    return wrong


def write_stray(world: World) -> Path:
    path = world.work / "stray.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "stray"}}))
    return path


if __name__ == "__main__":
    sys.exit(main())
