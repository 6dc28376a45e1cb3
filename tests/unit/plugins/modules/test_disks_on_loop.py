# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same modules on block devices of the kernel: exclusive opens, partition nodes, mounts."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_claim, _disks, _image_writer
from ansible_collections.kiban.baremetal.plugins.modules import disk_claim, image_write, node_root
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import MIB, TOOLS, Image, run, serving

pytestmark = pytest.mark.root


def loop_works(directory: Path) -> bool:
    """A loop device with partitions that can be mounted."""
    if os.geteuid() != 0:
        return False
    probe = directory / "probe"
    probe.write_bytes(bytes(8 * MIB))
    try:
        run("mkfs.ext4", "-q", probe)
        (directory / "m").mkdir()
        run("mount", "-o", "loop", probe, directory / "m")
        run("umount", directory / "m")
    except (subprocess.CalledProcessError, OSError):
        return False
    return True


def may_grow() -> bool:
    """Containers often lack the one capability (SYS_RESOURCE) that growing a mounted file system takes."""
    found = re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
    return bool(found and int(found[1], 16) >> 24 & 1)


def show_partitions(path: str) -> None:
    """Some kernels know no partition tables, but all take partitions from partx."""
    forget_partitions(path)
    run("partx", "--add", path)


def forget_partitions(path: str) -> None:
    subprocess.run(["partx", "--delete", path], env=TOOLS, check=False, stderr=subprocess.DEVNULL)


class Loops:
    """Loop devices as the only disks of this host, each with a serial number."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.serials: dict[str, str] = {}

    def add(self, serial: str, mib: int) -> str:
        backing = self.directory / serial
        with open(backing, "wb") as file:
            file.truncate(mib * MIB)
        path = run("losetup", "--find", "--show", "--partscan", backing).strip()
        self.serials[os.path.basename(path)] = serial
        return path

    def close(self) -> None:
        for name in self.serials:
            nodes = [f"/dev/{name}", *map(str, Path("/dev").glob(f"{name}p*"))]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()[::-1]:
                if line.partition(" - ")[2].split(" ")[1] in nodes:
                    subprocess.run(["umount", line.split(" ")[4]], env=TOOLS, check=False)
            forget_partitions(f"/dev/{name}")
            subprocess.run(["losetup", "--detach", f"/dev/{name}"], env=TOOLS, check=False)

    def pretend(self) -> None:
        """In this process the loop devices are disks."""
        names = "|".join(self.serials)
        _disks._SKIPPED = re.compile(rf"^(?!({names})$)")
        _disks._made_up = lambda real: False
        _disks._serial = lambda system, base: self.serials.get(os.path.basename(base))
        _disks.reread_partitions = lambda path, fd: show_partitions(path)


@pytest.fixture
def loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loops]:
    if not loop_works(tmp_path):
        pytest.skip("needs root and loop devices")
    for name in ("_SKIPPED", "_made_up", "_serial", "reread_partitions"):
        monkeypatch.setattr(_disks, name, getattr(_disks, name))
    monkeypatch.setattr(image_write, "RAMDISK_MARKERS", (str(tmp_path),))
    loops = Loops(tmp_path)
    try:
        yield loops
    finally:
        loops.close()
        # Bare mount points are immutable, and pytest wants to remove them one day.
        for place in tmp_path.glob("local/*"):
            _disk_claim._immutable(str(place), False)


def test_write_mount_and_grow(loops: Loops, tmp_path: Path) -> None:
    disk = loops.add("SYS", 300)
    loops.pretend()
    image = Image(tmp_path / "image")
    with serving(image.compressed.read_bytes()) as server:
        request = _image_writer.Request(server.url, image.sha256, "image-1")
        result = image_write.run(request, "SYS", False)
        assert result["changed"] and result["zeroed_by_disk"]
        # what the disk zeroed itself is not written
        assert result["bytes_written"] < 14 * MIB
        image.content_of(Path(disk))
        assert os.path.exists(f"{disk}p2")
        assert not image_write.run(request, "SYS", False)["changed"]

        path = tmp_path / "root"
        params = {"state": "mounted", "serial_number": "SYS", "path": str(path), "grow": may_grow()}
        params |= {"site": "lab", "server": "node1", "files": []}
        mounted = node_root.mount(_disks.find_disk("SYS"), params, False)
        assert mounted["changed"] and (mounted["grown_bytes"] > 250 * MIB or not may_grow())
        assert (path / "etc/kiban/image.json").exists()
        assert not node_root.mount(_disks.find_disk("SYS"), params, False)["changed"]
        # Else the file system writes by itself meanwhile.
        run("fsfreeze", "--freeze", path)
        try:
            before = Path(loops.directory / "SYS").read_bytes()
            with pytest.raises(_image_writer.ImageError, match=f"mounted at {path}"):
                image_write.run(_image_writer.Request(server.url, image.sha256, "other", wipe=True), "SYS", False)
            # even if nobody had looked, the kernel would not let it
            with pytest.raises(_image_writer.ImageError, match="in use by the kernel"):
                _image_writer.write_image(_disks.find_disk("SYS"), request)
            assert Path(loops.directory / "SYS").read_bytes() == before
        finally:
            run("fsfreeze", "--unfreeze", path)

        files = [("/etc/kiban/installed.json", '{"site": "lab", "server": "node1"}'), ("/etc/hostname", "node1")]
        options = {"link": None, "mode": "0644", "secret": False}
        params["files"] = [{"path": name, "content": content, **options} for name, content in files]
        finished = node_root.finish(params, False)
        assert finished["changed"] and [each.get("after_header") for each in finished["diff"]][:2] == [
            name for name, _content in files
        ]
        assert not path.exists()
        with pytest.raises(node_root.RootError, match="no system is mounted"):
            node_root.finish(params, False)
        params["files"] = []
        assert not node_root.finish(params, False)["changed"]

        with pytest.raises(node_root.RootError, match=r"system of node1 of site lab. Nothing was touched"):
            node_root.mount(_disks.find_disk("SYS"), {**params, "server": "node2"}, False)
        assert not path.exists(), "a refused system is not left mounted"
        again = node_root.mount(_disks.find_disk("SYS"), params, False)
        assert again["public_key"] == mounted["public_key"] and (path / "etc/hostname").read_text() == "node1"
        assert node_root.finish(params, False)["changed"]
    run("e2fsck", "-fn", f"{disk}p2")


def test_an_image_that_was_written_by_hand_is_recognised(loops: Loops, tmp_path: Path) -> None:
    disk = loops.add("SYS", 64)
    loops.pretend()
    image = Image(tmp_path / "image", image_id="by-hand")
    run("dd", f"if={image.raw}", f"of={disk}", "bs=1M", "conv=fsync")
    show_partitions(disk)
    request = _image_writer.Request("http://127.0.0.1:9/x", image.sha256, "by-hand")
    assert not image_write.run(request, "SYS", False)["changed"]
    assert _disks.find_disk("SYS")["mounts"] == []


class Node:
    def __init__(self, loops: Loops, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base = directory / "local"
        self.fstab = directory / "fstab"
        monkeypatch.setattr(disk_claim, "HOST", _disk_claim.Host(fstab=str(self.fstab)))

    def run(self, *disks: str, **changes: Any) -> dict[str, Any]:
        params = {"state": "present", "disks": list(disks), "wipe": [], "site": "lab", "mount_base": str(self.base)}
        params |= {"wipe_method": "signatures", "wipe_log": None}
        return disk_claim.run({**params, **changes}, False)


def test_claim_forget_and_claim_again(loops: Loops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for serial in ("ONE", "TWO"):
        loops.add(serial, 100)
    loops.pretend()
    node = Node(loops, tmp_path, monkeypatch)
    assert node.run("ONE", "TWO")["changed"]
    (node.base / "ONE/precious").write_text("data")
    assert os.path.ismount(node.base / "ONE") and os.path.ismount(node.base / "TWO")
    assert not node.run("ONE", "TWO")["changed"]
    assert node.run("ONE", "TWO", state="absent")["changed"]
    assert not node.run("ONE", "TWO", state="absent")["changed"]
    assert not (node.base / "ONE").exists() and "kiban" not in node.fstab.read_text()
    assert [disk["action"] for disk in node.run("ONE")["disks"]] == ["add to fstab, mount"]
    assert (node.base / "ONE/precious").read_text() == "data"


def test_nothing_is_written_below_a_missing_disk(loops: Loops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loops.add("ONE", 100)
    loops.pretend()
    node = Node(loops, tmp_path, monkeypatch)
    node.run("ONE")
    run("umount", node.base / "ONE")
    try:
        with pytest.raises(OSError):
            (node.base / "ONE/volume").mkdir()
    finally:
        run("chattr", "-i", node.base / "ONE")


def test_a_kill_before_the_kernel_reads_the_table(
    loops: Loops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = loops.add("ONE", 100)
    loops.pretend()
    node = Node(loops, tmp_path, monkeypatch)

    def killed(path: str, fd: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_disks, "reread_partitions", killed)
        with pytest.raises(KeyboardInterrupt):
            node.run("ONE")
    assert not os.path.exists(f"{disk}p1")
    assert [each["action"] for each in node.run("ONE")["disks"]] == ["make file system, add to fstab, mount"]
    assert os.path.ismount(node.base / "ONE")


_CHILD = """
import sys
from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_claim
from ansible_collections.kiban.baremetal.plugins.modules import disk_claim
from ansible_collections.kiban.baremetal.tests.unit.plugins.modules.test_disks_on_loop import Loops
name, fstab, base = sys.argv[1:]
loops = Loops(None)
loops.serials = {name: "ONE"}
loops.pretend()
disk_claim.HOST = _disk_claim.Host(fstab=fstab)
disk_claim.run(
    {"state": "present", "disks": ["ONE"], "wipe": ["ONE"], "site": "lab", "mount_base": base,
     "wipe_method": "signatures", "wipe_log": None}, False
)
"""


@pytest.mark.slow
def test_sigkill_at_random_moments(
    loops: Loops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    disk = loops.add("ONE", 100)
    loops.pretend()
    node = Node(loops, tmp_path, monkeypatch)
    name = os.path.basename(disk)
    command = [sys.executable, "-c", _CHILD, name, str(node.fstab), str(node.base)]
    environment = {**TOOLS, "PYTHONPATH": str(checkout / ".ansible/collections")}
    states, dice, whole = set(), random.Random(3), 0.0
    for number in range(12):
        run("wipefs", "-aq", disk)
        run("dd", "if=/dev/zero", f"of={disk}", "bs=1M", "count=8", "conv=fsync")
        run("mkfs.ext4", "-q", "-F", disk)
        forget_partitions(disk)
        started = time.monotonic()
        child = subprocess.Popen(command, env=environment, start_new_session=True)
        if number == 0:
            assert child.wait() == 0
            whole = time.monotonic() - started
        else:
            time.sleep(dice.uniform(0.3, 1.0) * whole)
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        mark = _disks.find_disk("ONE")["kiban"]
        states.add((mark["complete"], mark["formatted"]) if mark else None)
        node.run("ONE", wipe=[] if mark else ["ONE"])
        assert os.path.ismount(node.base / "ONE")
        node.run("ONE", state="absent")
        run("e2fsck", "-fn", f"{disk}p1")
    assert len(states) > 1, states
