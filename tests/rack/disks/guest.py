# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the deploy ramdisk, on disks of four buses that hold nothing of value: guest.py CONFIG STEP. Prints JSON."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_claim, _disks, _gpt, _image_writer
from ansible_collections.kiban.baremetal.plugins.modules import disk_claim, image_write, node_root

MIB = 1 << 20
BLKFLSBUF = 0x1261
CONFIG: dict[str, Any] = {}
BASE = "/run/local"


def tool(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)


def path(serial: str) -> str:
    return _disks.find_path(serial)


def patches(name: str) -> list[tuple[int, bytes]]:
    """What the host's tools wrote to a blank disk of the same size."""
    return [(offset, zlib.decompress(base64.b64decode(data))) for offset, data in CONFIG["content"][name]]


def put(disk: str, changes: list[tuple[int, bytes]]) -> None:
    fd = os.open(disk, os.O_RDWR)
    try:
        for offset, data in changes:
            os.pwrite(fd, data, offset)
        os.fsync(fd)
    finally:
        os.close(fd)
    reread(disk)


def reread(disk: str) -> None:
    with _disks.locked(disk):
        fd = os.open(disk, os.O_RDONLY)
        try:
            _disks.reread_partitions(disk, fd)
        finally:
            os.close(fd)


def erase(disk: str) -> None:
    fd = os.open(disk, os.O_RDWR)
    try:
        size = _disks.device_size(fd)
        zeros = bytes(4 * MIB)
        for offset in range(0, size, len(zeros)):
            if os.pread(fd, len(zeros), offset) != zeros[: size - offset]:
                os.pwrite(fd, zeros[: size - offset], offset)
        os.fsync(fd)
    finally:
        os.close(fd)
    reread(disk)


def holds_exactly(disk: str, changes: list[tuple[int, bytes]]) -> None:
    """Every byte of the device, past the page cache."""
    fd = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, BLKFLSBUF)
        expected = bytearray(_disks.device_size(fd))
        for offset, data in changes:
            expected[offset : offset + len(data)] = data
        for offset in range(0, len(expected), 4 * MIB):
            actual = os.pread(fd, 4 * MIB, offset)
            assert actual == bytes(expected[offset : offset + 4 * MIB]), f"{disk} changed near {offset}"
    finally:
        os.close(fd)


def holds_image(disk: str) -> None:
    with open(disk, "rb") as file:
        fcntl.ioctl(file.fileno(), BLKFLSBUF)
        table = _gpt.parse(file.read(MIB), 512)
        assert table and table.disk_bytes == _disks.device_size(file.fileno())
        before = table.partitions[-1]
        for offset, size, crc in CONFIG["image"]["crc"]:
            file.seek(offset)
            assert zlib.crc32(file.read(size)) == crc, f"{disk} differs from the image at {offset}"
        assert (before.last + 1) * 512 > table.disk_bytes - 2 * MIB


def request(**changes: Any) -> _image_writer.Request:
    image = CONFIG["image"]
    return _image_writer.Request(**{"url": image["url"], "sha256": image["sha256"], "image_id": "image-1", **changes})


def write(serial: str, check: bool = False, **changes: Any) -> dict[str, Any]:
    return image_write.run(request(**changes), serial, check)


def claim(*serials: str, check: bool = False, **changes: Any) -> dict[str, Any]:
    params = {"state": "present", "disks": list(serials), "wipe": [], "site": "lab", "mount_base": BASE}
    return disk_claim.run({**params, **changes}, check)


def fails(call: Callable[[], Any], *words: str) -> None:
    try:
        call()
    except (_image_writer.ImageError, _disks.DiskError, disk_claim.Failure) as exc:
        assert all(word in str(exc) for word in words), (words, str(exc))
        return
    raise AssertionError(f"was not refused: {words}")


def identity() -> Any:
    for serial in CONFIG["serials"]:
        erase(path(serial))
    return _disks.list_disks()


def refusals() -> Any:
    """Every content on every bus at once; not one byte may change."""
    count = 0
    disks = {serial: path(serial) for serial in CONFIG["serials"]}
    for name, word in CONFIG["words"].items():
        changes = patches(name)
        for disk in disks.values():
            put(disk, changes)
        for check in (True, False):
            for serial in disks:
                fails(lambda serial=serial, check=check: write(serial, check), word, serial)
            fails(lambda check=check: claim(*disks, check=check), word, *disks)
            # the permission for another disk is no permission
            fails(lambda check=check: claim("DATA-SCSI", check=check, wipe=["SYS-VIRTIO"]), word)
            fails(lambda check=check: write("NO-SUCH-DISK", check, wipe=True), "no disk has serial number")
            count += 2 * len(disks) + 2
        for disk in disks.values():
            holds_exactly(disk, changes)
            put(disk, [(offset, bytes(len(data))) for offset, data in changes])
            erase(disk)
    return {"refusals": count, "contents": len(CONFIG["words"])}


def held() -> Any:
    """In use by the kernel: no permission is enough."""
    disks = {serial: path(serial) for serial in CONFIG["serials"]}
    virtio, scsi, nvme, sata = disks.values()
    tool("mkfs.ext4", "-q", "-F", virtio)
    os.makedirs("/run/held", exist_ok=True)
    tool("mount", virtio, "/run/held")
    tool("pvcreate", "-qq", "-y", scsi)
    tool("vgcreate", "-qq", "held", scsi)
    tool("lvcreate", "-qq", "-y", "-Wn", "-L", "20M", "-n", "v", "held")
    tool("mdadm", "--create", "/dev/md9", "--run", "--level=1", "--raid-devices=2", "--force", nvme, "missing")
    tool("mkswap", "-q", sata)
    tool("swapon", sata)
    try:
        words = ("mounted at /run/held", "held by dm-", "held by md9", "mounted at [swap]")
        for serial, word in zip(disks, words, strict=True):
            fails(lambda serial=serial: write(serial, wipe=True), word)
            fails(lambda serial=serial: claim(serial, wipe=[serial]), word)
            # even if nobody had looked, the kernel refuses
            fails(
                lambda serial=serial: _image_writer.write_image(_disks.find_disk(serial), request()),
                "in use by the kernel",
            )
    finally:
        tool("swapoff", sata)
        tool("umount", "/run/held")
        tool("vgchange", "-qq", "-an", "held")
        tool("mdadm", "--stop", "/dev/md9")
    return {"held": len(disks)}


def images() -> Any:
    result = {}
    for serial in CONFIG["serials"]:
        disk = path(serial)
        erase(disk)
        put(disk, patches("gpt-with-ext4"))
        done = write(serial, wipe=True)
        assert done["changed"]
        holds_image(disk)
        assert not write(serial)["changed"]
        params = {"state": "mounted", "serial_number": serial, "path": "/run/root", "grow": True}
        params |= {"site": "lab", "server": "node1", "files": []}
        with _disks.locked(disk):
            mounted = node_root.mount(_disks.find_disk(serial), params, False)
        assert mounted["changed"] and mounted["grown_bytes"] > 0
        assert os.path.exists("/run/root/etc/kiban/image.json")
        fails(lambda serial=serial: write(serial, wipe=True, image_id="other"), "mounted at /run/root")
        assert node_root.finish(params, False)["changed"]
        tool("e2fsck", "-fn", _disk_claim._node(disk, 2))
        result[serial] = {key: done[key] for key in ("seconds", "bytes_written", "zeroed_by_disk")}
    return result


def killed(work: Callable[[], Any], seconds: float) -> bool:
    """Runs the work in a child and kills it after some time; whether it was still at work."""
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kill_images() -> Any:
    dice, states = random.Random(CONFIG["seed"]), []
    for number in range(20):
        serial = CONFIG["serials"][number % len(CONFIG["serials"])]
        disk = path(serial)
        erase(disk)
        put(disk, patches("gpt-with-ext4"))
        started = time.monotonic()
        if number == 0:
            write(serial, wipe=True)
            whole = time.monotonic() - started
            continue
        hit = killed(lambda serial=serial: write(serial, wipe=True), dice.uniform(0.2, 1.0) * whole)
        mark = _disks.find_disk(serial)["kiban"]
        states.append([hit, mark and mark["complete"]])
        if mark is None:
            holds_exactly(disk, patches("gpt-with-ext4"))
        assert write(serial, wipe=mark is None)["changed"] is not bool(mark and mark["complete"])
        holds_image(disk)
    return states


def claims() -> Any:
    result = {}
    serials = CONFIG["serials"]
    for serial in serials:
        erase(path(serial))
    put(path(serials[-1]), patches("lvm"))
    started = time.monotonic()
    assert claim(*serials, wipe=[serials[-1]])["changed"]
    result["seconds"] = time.monotonic() - started
    for serial in serials:
        with open(f"{BASE}/{serial}/precious", "w") as file:
            file.write(serial)
    started = time.monotonic()
    assert not claim(*serials, wipe=[serials[-1]])["changed"]
    result["again"] = time.monotonic() - started
    assert claim(*serials, state="absent")["changed"]
    assert claim(*serials)["changed"]
    for serial in serials:
        with open(f"{BASE}/{serial}/precious") as file:
            assert file.read() == serial
    assert claim(*serials, state="absent")["changed"]
    return result


def kill_claims() -> Any:
    dice, states = random.Random(CONFIG["seed"]), []
    for number in range(20):
        serial = CONFIG["serials"][number % len(CONFIG["serials"])]
        disk = path(serial)
        erase(disk)
        started = time.monotonic()
        if number == 0:
            claim(serial)
            whole = time.monotonic() - started
        else:
            hit = killed(lambda serial=serial: claim(serial), dice.uniform(0.2, 1.0) * whole)
            mark = _disks.find_disk(serial)["kiban"]
            states.append([hit, mark and [mark["complete"], mark["formatted"]]])
            claim(serial)
        assert os.path.ismount(f"{BASE}/{serial}")
        claim(serial, state="absent")
        tool("e2fsck", "-fn", _disk_claim._node(disk, 1))
    return states


def power_cut() -> Any:
    """Called in the background: the host cuts the power meanwhile."""
    erase(path("SYS-VIRTIO"))
    put(path("SYS-VIRTIO"), patches("gpt-with-ext4"))
    print("writing", flush=True)
    return write("SYS-VIRTIO", wipe=True)


def after_power_cut() -> Any:
    mark = _disks.find_disk("SYS-VIRTIO")["kiban"]
    if mark is None:
        holds_exactly(path("SYS-VIRTIO"), patches("gpt-with-ext4"))
    write("SYS-VIRTIO", wipe=mark is None)
    holds_image(path("SYS-VIRTIO"))
    return mark


if __name__ == "__main__":
    with open(sys.argv[1]) as config:
        CONFIG.update(json.load(config))
    print(json.dumps(globals()[sys.argv[2]]()))
