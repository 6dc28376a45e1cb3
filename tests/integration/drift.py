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
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".ansible" / "collections"))

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, Options, connect
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.firmware import Update
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.volume import Volume
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds_nfs import EXPORTS
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import DRAINED
from ansible_collections.kiban.baremetal.tests.bench.scale.world import IMAGE, PASSWORD, World, site_data
from ansible_collections.kiban.baremetal.tests.integration.waves import patch_status, serving

EXPORT = "srv/volumes"
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

    @property
    def exports(self) -> Path:
        return self.root / EXPORTS.lstrip("/")

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.own / path
        text = file.read_text()
        assert old in text, (path, old)
        file.write_text(text.replace(old, new))

    def other_image(self) -> None:
        (self.root / "etc/kiban/image.json").write_text(json.dumps({"id": "0" * 64, "kubernetes": "v1.36.3"}))

    def kubectl(self, *words: str) -> None:
        self.world.kubectl(*words)

    def patch(self, patch: dict[str, Any], status: bool = False) -> None:
        more = ["--subresource=status"] if status else []
        self.kubectl("patch", "node", self.name, "--type=strategic", f"--patch={json.dumps(patch)}", *more)

    def bmc(self) -> Bmc:
        address = self.world.site.server(self.name).bmc.address
        return connect(Options(address, "kiban", PASSWORD, ca_path=str(self.world.work / "bmc-ca.pem")))

    def power(self, state: str) -> None:
        with self.bmc() as bmc:
            bmc.power.apply(bmc.power.plan(state, "forced"), 60)

    def bios(self, restart: str | None) -> None:
        with self.bmc() as bmc:
            bmc.bios.apply(bmc.bios.plan({"ProcVirtualization": "Disabled"}, restart=restart), 120)

    def firmware(self) -> None:
        update = Update("Device1", "1.9", image="http://192.0.2.2/Device1_1.9.bin")
        with self.bmc() as bmc:
            bmc.firmware.apply(bmc.firmware.plan([update]), None, None, 120)

    def volume(self, name: str, drives: tuple[str, ...], state: str = "present") -> None:
        with self.bmc() as bmc:
            volumes, wanted = bmc.volumes(), Volume(name, f"RAID{len(drives) - 1}", drives)
            volumes.apply(volumes.plan(state, wanted, "forced"), wanted, 120)


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
    "cordoned by a run that was killed": (
        lambda s: s.patch({"metadata": {"annotations": {DRAINED: "true"}}, "spec": {"unschedulable": True}}),
        "labels",
        "cordoned by a run that did not end -> takes pods",
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
# On servers of the profile `tuned`, the only one that states anything about BIOS and volumes.
TUNED_MENDED: dict[str, tuple[Made, str, str]] = {
    "BIOS attribute": (
        lambda s: s.bios("forced"),
        "hardware",
        "ProcVirtualization: Disabled -> ProcVirtualization: Enabled",
    ),
    "BIOS attribute that waits for a reset": (
        lambda s: s.bios(None),
        "hardware",
        "ProcVirtualization: Enabled (Disabled after the next reset) -> ProcVirtualization: Enabled",
    ),
}
TUNED_TOLD: dict[str, tuple[Made, str, str]] = {
    "volume gone": (
        lambda s: s.volume("system", MIRROR, "absent"),
        "notice",
        "its controller has no volume system",
    ),
    "volume of somebody": (
        lambda s: s.volume("old", ("RAID.3",)),
        "notice",
        "its controller has volumes that the profile does not know: old",
    ),
    "firmware": (lambda s: s.firmware(), "notice", "firmware Device 1 firmware is 1.9 and not 1.1"),
}
MIRROR = ("RAID.1", "RAID.2")
# On the server whose export the storage driver uses, the only one whose pools a run looks after.
FILER_MENDED: dict[str, tuple[Made, str, str]] = {
    "NFS server stopped": (
        lambda s: s.edit("units", "nfs-server.service loaded active", "nfs-server.service loaded inactive"),
        "pools",
        "nfs-server.service is inactive",
    ),
    "NFS export to everybody": (
        lambda s: s.exports.write_text("/srv *(rw)\n"),
        "pools",
        f"{EXPORTS} differs",
    ),
}
MENDED |= TUNED_MENDED | FILER_MENDED
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
    "image of another version": (
        lambda s: s.other_image(),
        "notice",
        f"runs image 000000000000, the site's image is {IMAGE[:12]}. Kept",
    ),
    "BMC of another": (dmi, "notice", "its firmware says UUID 00000000-1111"),
    **TUNED_TOLD,
}


CONTROL, CLUSTER, STRANGER = "s0000", "(cluster)", "127.17.255.1"
# Stages that have to do with a kind besides the one that names it.
ALSO = {
    "node deleted": {"labels"},
    "BIOS attribute": {"drain"},
    "NFS export to everybody": {"host"},
    "NFS server stopped": {"host"},
}
# What is said of something else than a worker.
PLACES = {"taint gone": CONTROL} | {
    kind: CLUSTER for kind, (_made, stage, _text) in MENDED.items() if stage == "services"
}
TUNED = [*TUNED_MENDED, *TUNED_TOLD]
FREE = len({**MENDED, **TOLD}) - len(PLACES) - len(TUNED) - len(FILER_MENDED)
FIRST_TUNED = FREE + 2
FILER = f"s{FIRST_TUNED + len(TUNED):04}"
PLACES |= {kind: f"s{FIRST_TUNED + number:04}" for number, kind in enumerate(TUNED)}
PLACES |= dict.fromkeys(FILER_MENDED, FILER)


def model() -> dict[str, Any]:
    """The usual servers, a rack with those whose profile says something about their hardware, and one with a filer."""
    data = site_data(FIRST_TUNED)
    profiles = data["profiles"]
    profiles["tuned"] = {
        **profiles["compute"],
        "bios": {"ProcVirtualization": "Enabled", "LogicalProc": "Enabled"},
        "volumes": {"system": {"raid_type": "RAID1", "drives": [*MIRROR]}},
        "firmware": [{"component": "Device1", "version": "1.1"}],
    }
    last = FIRST_TUNED + len(TUNED)
    for rack, first, end in (("tuned", FIRST_TUNED, last), ("compute", last, last + 1)):
        address = f"{first // 256}.{first % 256}"
        servers = {
            "name": f"s[{first:04}:{end - 1:04}]",
            "roles": ["worker"],
            "profile": rack,
            "bmc": f"127.17.{address}",
            "addresses": {"node": f"127.33.{address}"},
        }
        data["racks"].append({"name": rack, "servers": [servers]})
    data["cluster"]["sds"] = [{"driver": "nfs", "server": FILER, "export": f"/{EXPORT}"}]
    data["discover"] = [STRANGER]
    return data


def serve_exports(filer: Server) -> None:
    """An NFS server, as far as Ansible's modules see it: a unit, something mounted, and a program."""
    with (filer.own / "units").open("a") as units:
        units.write("nfs-server.service loaded active exited NFS server\n")
    (filer.root / "etc/systemd/system/multi-user.target.wants/nfs-server.service").touch()
    for place in (filer.root / EXPORT, filer.own / EXPORT, filer.own / "usr/sbin"):
        place.mkdir(parents=True)
    program = filer.own / "usr/sbin/exportfs"
    program.write_text('#!/bin/sh\nexec cat /etc/exports.d/*.exports > "$TARGET_ROOT/exported"\n')
    program.chmod(0o755)


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
    others = {c["stage"] for c in found["changes"] if c["server"] == name} - {stage, *ALSO.get(kind, ())}
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
        world = World(Path(directory), model())
        with world.running():
            for server in world.site.servers:
                world.whole(server.name)
            for number in range(len(TUNED)):
                Server(world, f"s{FIRST_TUNED + number:04}").volume("system", MIRROR)
            serve_exports(Server(world, FILER))
            # The run waits for the driver, and there is no controller that would make its pods.
            with ThreadPoolExecutor() as beside:
                available = beside.submit(make_available, world)
                site(world)  # what the site brings into the cluster
                available.result()
            serving(world)
            before = plan(world)
            if before["changes"] or before["problems"] or before["notices"]:
                wrong["before"] = before["summary"] + str(before["notices"][:3] + before["changes"][:3])
            usual = world.site.servers[:FIRST_TUNED]
            workers = iter([server.name for server in usual if "worker" in server.roles])
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
            with world.bmcs(STRANGER, 1, "stranger"):
                found = plan(world)
            wrong |= named(found, told, {"stray", STRANGER})
            for kind, who, text in (
                ("unknown node", "stray", "is a node of the cluster, but no server of the model"),
                ("unknown BMC", STRANGER, "is a BMC (Example, Example BMC, UUID "),
            ):
                if not any(one["server"] == who and text in one["message"] for one in found["notices"]):
                    wrong[kind] = "not named"
    print(json.dumps({"kinds": len(places) + 2, "mended": len(MENDED) if mend else 0, "wrong": wrong}))
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
    exported, file = (Server(world, FILER).own / "exported", Server(world, FILER).exports)
    if not exported.exists() or exported.read_text() != file.read_text():
        wrong["exported"] = "the NFS server does not export what its file says"
    after = plan(world)
    if after["changes"] or after["problems"] or after["notices"]:
        wrong["after"] = f"{after['summary']}: {after['changes'][:5]}"
    return wrong


def make_available(world: World) -> None:
    """Say of the storage driver's Deployment what its controller would, once it is there."""
    status = {"conditions": [{"type": "Available", "status": "True"}], "observedGeneration": 99, "replicas": 1}
    status |= dict.fromkeys(("readyReplicas", "availableReplicas", "updatedReplicas"), 1)
    deadline = time.monotonic() + 300
    while True:
        try:
            patch_status(world.work, "deployment", "nfs-provisioner", status, "--namespace=kiban-nfs")
            return
        except subprocess.CalledProcessError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def write_stray(world: World) -> Path:
    path = world.work / "stray.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "stray"}}))
    return path


if __name__ == "__main__":
    sys.exit(main())
