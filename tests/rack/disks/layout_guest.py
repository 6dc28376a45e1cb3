# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a node in QEMU, on disks that hold nothing of value: guest.py CONFIG STEP. Prints JSON."""

from __future__ import annotations

import glob
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks, _layout_apply, _layout_tools
from ansible_collections.kiban.baremetal.plugins.modules import disk_layout

MIB = 1 << 20
KEYS = {"slow": "a long secret", "vault": "another secret", "sealed": "a third secret"}
CONFIG: dict[str, Any] = {}


def volume(name: str, size: int | None, **more: Any) -> dict[str, Any]:
    size = None if size is None else size * MIB
    return {"name": name, "size": size, "type": "linear", "thin_pool": None, "filesystem": None, "mount": None, **more}


def pool(name: str, *disks: str, **more: Any) -> dict[str, Any]:
    blank = {"raid": None, "metadata": "1.2", "luks": False, "filesystem": None, "mount": None, "volumes": []}
    blank |= {"cache": None, "unlock": None}
    return {"name": name, "disks": list(disks), **blank, **more}


def data(size: int = 80) -> dict[str, Any]:
    return volume("data", size, filesystem="ext4", mount="/srv/data")


def mirror(*disks: str, size: int = 80) -> dict[str, Any]:
    volumes = [data(size), volume("logs", None, filesystem="xfs", mount="/srv/logs")]
    return pool("fast", *(disks or ("DATA-VIRTIO", "DATA-SCSI")), raid="raid1", volumes=volumes)


def thin(size: int = 600) -> dict[str, Any]:
    volumes = [
        volume("store", 400, type="thin-pool"),
        volume("db", size, type="thin", thin_pool="store", filesystem="xfs", mount="/srv/db"),
    ]
    return pool("slow", "DATA-NVME", "DATA-SATA", luks=True, volumes=volumes)


def layout(*pools: dict[str, Any], check: bool = False, **more: Any) -> dict[str, Any]:
    params = {"site": "lab", "pools": list(pools), "keys": KEYS, "wipe": [], **more}
    return disk_layout.run(params, check)


def tool(*words: str, ok: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not ok, (words, done.stdout, done.stderr)
    return done.stdout


def fails(word: str, *pools: dict[str, Any], **more: Any) -> str:
    try:
        layout(*pools, **more)
    except disk_layout.Failure as exc:
        assert word in str(exc), (word, str(exc))
        return str(exc)
    raise AssertionError(f"was not refused: {word}")


def put(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def get(path: str) -> str:
    with open(path) as file:
        return file.read()


def size_of(path: str) -> int:
    status = os.statvfs(path)
    return status.f_blocks * status.f_frsize // MIB


def no_change(*pools: dict[str, Any]) -> None:
    done = layout(*pools)
    assert done["steps"] == [], done["steps"]
    assert layout(*pools, check=True)["steps"] == []


def bigger() -> Any:
    done = layout(mirror("BIG-VIRTIO", "BIG-SCSI"), thin(900))["steps"]
    no_change(mirror("BIG-VIRTIO", "BIG-SCSI"), thin(900))
    whole("/srv/data", "/srv/logs", "/srv/db")
    return [done, {mount: size_of(mount) for mount in ("/srv/data", "/srv/logs", "/srv/db")}]


def erase() -> Any:
    """Everything off, and zeros at the ends. What is in the middle stays, and shows through on the next array."""
    for file in glob.glob("/etc/systemd/system/kiban-luks-*"):
        tool("systemctl", "disable", "--quiet", os.path.basename(file))
        os.remove(file)
    for mount in re.findall(r" (/srv/\S+) ", get("/proc/self/mountinfo")):
        tool("umount", mount, ok=False)
    for name in tool("vgs", "--noheadings", "-o", "vg_name").split():
        tool("vgchange", "-an", name, ok=False)
    for name in os.listdir("/dev/mapper"):
        if "luks" in name:
            tool("cryptsetup", "close", name, ok=False)
    for name in list(os.listdir("/sys/block")):
        if name.startswith("dm-"):
            tool("dmsetup", "remove", "--force", get(f"/sys/block/{name}/dm/name").strip(), ok=False)
    for node in _layout_tools.running_arrays().values():
        tool("mdadm", "--stop", node)
    for record in _disks.list_disks():
        if record["serial_number"] in CONFIG["serials"]:
            fd = os.open(record["path"], os.O_RDWR | os.O_EXCL)
            try:
                for offset in (0, record["capacity_bytes"] - 16 * MIB):
                    os.pwrite(fd, bytes(16 * MIB), offset)
                os.fsync(fd)
                _disks.reread_partitions(record["path"], fd)
            finally:
                os.close(fd)
    lines = [line for line in get("/etc/fstab").splitlines(True) if "/srv/" not in line]
    put("/etc/fstab", "".join(lines))
    tool("udevadm", "settle")
    return None


def create() -> Any:
    """Everything at once; check says beforehand what is done."""
    foreseen = layout(mirror(), thin(), check=True)["steps"]
    assert not any(_disks.find_disk(serial)["partitions"] for serial in CONFIG["serials"])
    started = time.monotonic()
    done = layout(mirror(), thin())["steps"]
    seconds = time.monotonic() - started
    assert done[: len(foreseen)] == foreseen, (foreseen, done)
    for mount in ("/srv/data", "/srv/logs", "/srv/db"):
        put(f"{mount}/precious", mount)
    started = time.monotonic()
    no_change(mirror(), thin())
    return {"steps": done, "seconds": seconds, "twice_nothing": time.monotonic() - started}


def whole(*mounts: str) -> None:
    for mount in mounts:
        assert os.path.ismount(mount) and get(f"{mount}/precious") == mount


def after_start() -> Any:
    """What systemd brought back by itself, and what a run adds: the container that needs a key."""
    end = time.monotonic() + 90
    while not all(os.path.ismount(mount) for mount in ("/srv/data", "/srv/logs")) and time.monotonic() < end:
        time.sleep(1)
    whole("/srv/data", "/srv/logs")
    assert not os.path.ismount("/srv/db")
    done = layout(mirror(), thin())["steps"]
    assert [step.split(": ")[1].split()[0] for step in done[:2]] == ["open", "open"], done
    whole("/srv/db")
    no_change(mirror(), thin())
    return done


def pull(serial: str) -> None:
    """The kernel loses the device, as if it had been pulled out."""
    name = _disks.find_disk(serial)["name"]
    real = os.path.realpath(f"/sys/block/{name}")
    port = f"/sys/block/{name}/device/delete"
    if not os.path.exists(port):
        # virtio and NVMe: the device is behind a PCI function
        port = re.sub(r"/(virtio[0-9]+|nvme)/.*", "/remove", real)
    with open(port, "w") as file:
        file.write("1")


def synced() -> None:
    """Waits until the array has all its members."""
    end = time.monotonic() + 300
    while "[UU]" not in get("/proc/mdstat"):
        assert time.monotonic() < end, get("/proc/mdstat")
        time.sleep(1)


def grow() -> Any:
    """More for a thin volume, while it is written to."""
    before = size_of("/srv/db")
    with open("/srv/db/growing", "wb") as file:
        file.write(b"x" * MIB)
        done = layout(mirror(), thin(900))["steps"]
        file.write(b"y" * MIB)
        file.flush()
        os.fsync(file.fileno())
    assert size_of("/srv/db") > before + 250
    whole("/srv/db")
    no_change(mirror(), thin(900))
    fails("not made smaller", mirror(), thin(600))
    return done


def replace() -> Any:
    """Both members of the mirror, one after the other, by larger ones; then there is more room, and it is used."""
    sizes = size_of("/srv/data"), size_of("/srv/logs")
    steps = []
    for old, disks, size in (
        ("DATA-SCSI", ("DATA-VIRTIO", "BIG-SCSI"), 80),
        ("DATA-VIRTIO", ("BIG-VIRTIO", "BIG-SCSI"), 160),
    ):
        pull(old)
        put("/srv/data/meanwhile", old)
        fails("no disk has serial number", mirror(*disks[:1], old))
        steps += layout(mirror(*disks, size=size))["steps"]
        synced()
    assert size_of("/srv/data") > sizes[0] + 60 and size_of("/srv/logs") > sizes[1] + 40
    whole("/srv/data", "/srv/logs")
    no_change(mirror(*disks, size=160))
    return steps


def refused() -> Any:
    """Not one byte is written, whatever is asked for beside it."""
    disk = _disks.find_path("BIG-SCSI")
    tool("mkfs.ext4", "-q", "-F", disk)
    before = tool("sha256sum", disk)
    for check in (True, False):
        fails("holds ext4", mirror("BIG-SCSI", "DATA-SCSI"), pool("one", "DATA-NVME", filesystem="ext4"), check=check)
        fails("holds ext4", mirror("BIG-SCSI", "DATA-SCSI"), check=check, wipe=["DATA-SCSI"])
    assert tool("sha256sum", disk) == before
    for serial in ("DATA-SCSI", "DATA-NVME"):
        assert not _disks.find_disk(serial)["partitions"]
    return None


def killed(seconds: float, alone: bool, *pools: dict[str, Any]) -> bool:
    """Lays out in a child and kills it some seconds after its first step began; whether it was still at work."""
    put("/run/t/now", "reading")
    child = os.fork()
    if child == 0:
        os.setsid()
        apply = _layout_apply.apply

        def noted(step: Any, keys: Any) -> None:
            put("/run/t/now", f"in {step.kind}")
            apply(step, keys)
            put("/run/t/now", f"after {step.kind}")

        _layout_apply.apply = noted
        status = 1
        try:
            layout(*pools)
            status = 0
        except BaseException as exc:
            print(exc, file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    end, done, status = 0.0, 0, 0
    while not done and not (end and time.monotonic() > end):
        time.sleep(0.02)
        done, status = os.waitpid(child, os.WNOHANG)
        # Before the first step it only reads.
        if not end and get("/run/t/now") not in ("", "reading"):
            end = time.monotonic() + seconds
    if not done:
        (os.kill if alone else os.killpg)(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0, "a run after a kill failed"
    return os.WIFSIGNALED(status)


def endures(pools: Iterator[dict[str, Any]], window: float, ended: Callable[[], None]) -> Any:
    """SIGKILL at 20 random moments: each pool in turn, until a run ends; then no more is to be done, and `ended`."""
    dice, hits, ends = random.Random(CONFIG["seed"]), [], 0
    here = next(pools)
    while len(hits) < 20:
        if killed(dice.uniform(0, window), dice.random() < 0.3, here):
            hits.append(get("/run/t/now"))
            print(len(hits), hits[-1], file=sys.stderr, flush=True)
            continue
        ends += 1
        no_change(here)
        ended()
        print("complete", file=sys.stderr, flush=True)
        here = next(pools)
    layout(here)
    no_change(here)
    return {"complete_between": ends, "killed": hits}


def kills() -> Any:
    """From blank disks on and again from where that left them."""
    volumes = [data(), volume("store", 340, type="thin-pool")]
    volumes.append(volume("db", 400, type="thin", thin_pool="store", filesystem="xfs", mount="/srv/db"))
    here = pool("slow", "DATA-SATA", "DATA-NVME", raid="raid1", luks=CONFIG.get("luks", True), volumes=volumes)

    def ended() -> None:
        tool("umount", "/srv/data")
        tool("e2fsck", "-fn", "/dev/slow/data")
        erase()

    return endures(itertools.repeat(here), CONFIG.get("window", 20), ended)


def main(steps: dict[str, Any]) -> None:
    with open(sys.argv[1]) as config:
        CONFIG.update(json.load(config))
    print(json.dumps(steps[sys.argv[2]]()))


if __name__ == "__main__":
    main(globals())
