# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the deploy ramdisk, on disks of four buses that hold nothing of value: guest.py CONFIG STEP.

Lines that begin with '#' are for a person, those that begin with '?' wait until the host has done what they say and
answered with a line; the last line is the result as JSON.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import (
    _disk_health,
    _disk_wipe,
    _disks,
    _image_writer,
    _smartctl,
)
from ansible_collections.kiban.baremetal.plugins.modules import disk_claim, image_write, node_root

BLKFLSBUF = 0x1261
CONFIG: dict[str, Any] = {}
BASE = "/run/local"


def tool(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)


def path(serial: str) -> str:
    return _disks.find_path(serial)


def say(text: str) -> None:
    print("#", text, flush=True)


def ask(*words: str) -> None:
    """The host sees the disks from outside: it puts content on them, and compares every byte."""
    print("?", *words, flush=True)
    assert sys.stdin.readline(), "the host has gone"


def flush(disk: str) -> None:
    """Writes and forgets what is cached of a disk."""
    fd = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, BLKFLSBUF)
    finally:
        os.close(fd)


def fill(content: str, *serials: str) -> dict[str, str]:
    """Nothing but this content on these disks, or on all; their paths."""
    disks = {serial: path(serial) for serial in serials or CONFIG["serials"]}
    for disk in disks.values():
        flush(disk)
    ask("fill", content, *disks)
    for disk in disks.values():
        with _disks.locked(disk):
            fd = os.open(disk, os.O_RDONLY)
            try:
                _disks.reread_partitions(disk, fd)
            finally:
                os.close(fd)
    return disks


def same(*serials: str) -> None:
    """Every byte of these disks, or of all, is as it was when they were filled."""
    for serial in serials or CONFIG["serials"]:
        flush(path(serial))
    ask("same", *serials)


def holds_image(serial: str) -> None:
    flush(path(serial))
    ask("image", serial)


def request(**changes: Any) -> _image_writer.Request:
    image = CONFIG["image"]
    return _image_writer.Request(**{"url": image["url"], "sha256": image["sha256"], "image_id": "image-1", **changes})


def write(serial: str, check: bool = False, **changes: Any) -> dict[str, Any]:
    return image_write.run(request(**changes), serial, check)


def claim(*serials: str, check: bool = False, **changes: Any) -> dict[str, Any]:
    params = {"state": "present", "disks": list(serials), "wipe": [], "site": "lab", "mount_base": BASE}
    params |= {"wipe_method": "signatures", "wipe_log": None}
    return disk_claim.run({**params, **changes}, check)


def fails(call: Callable[[], Any], *words: str) -> None:
    try:
        call()
    except (_image_writer.ImageError, _disks.DiskError, disk_claim.Failure) as exc:
        assert all(word in str(exc) for word in words), (words, str(exc))
        return
    raise AssertionError(f"was not refused: {words}")


def identity() -> Any:
    fill("blank")
    records = _disks.list_disks()
    for record in records:
        record["health"] = _disk_health.health(record["path"], record["protocol"])
        record["smartctl"] = _smartctl.with_smartctl(record)
    return records


@contextlib.contextmanager
def held_by_dm(*disks: str) -> Iterator[None]:
    """One volume of all of these disks: whatever they hold, the kernel uses them."""
    sizes = [(disk, int(Path(f"/sys/block/{os.path.basename(disk)}/size").read_text())) for disk in disks]
    starts = [sum(size for _disk, size in sizes[:number]) for number in range(len(sizes))]
    rows = [f"{start} {size} linear {disk} 0\n" for start, (disk, size) in zip(starts, sizes, strict=True)]
    tool("dmsetup", "create", "held", "--noudevsync", "--table", "".join(rows))
    try:
        yield
    finally:
        tool("dmsetup", "remove", "--retry", "held")


def refused(disks: Iterable[str], *words: str, wipe: bool = False) -> int:
    """Each module, as check and for real, refuses each of these disks; how many refusals that is."""
    serials = list(disks)
    for check in (True, False):
        for serial in serials:
            fails(partial(write, serial, check, wipe=wipe), serial, *words)
        fails(partial(claim, *serials, check=check, wipe=serials if wipe else []), *serials, *words)
    return 4 * len(serials)


def refusals() -> Any:
    """Every content on every bus at once."""
    count, began = 0, time.monotonic()
    for number, (content, word) in enumerate(CONFIG["words"].items(), 1):
        disks = fill(content)
        count += refused(disks, word)
        one, other, *_more = disks
        for check in (True, False):
            # The permission for another disk is no permission, and no disk is taken for one that is not there.
            fails(partial(claim, one, check=check, wipe=[other]), word)
            fails(partial(write, "NO-SUCH", check, wipe=True), "no disk has serial number 'NO-SUCH'")
            fails(partial(claim, "NO-SUCH", *disks, check=check, wipe=[*disks]), "'NO-SUCH'")
        count += 2 * (2 + len(disks))
        with held_by_dm(*disks.values()):
            count += refused(disks, "held by dm-", wipe=True)
        same()
        say(f"{number} of {len(CONFIG['words'])}: {content}, {count} refusals, {time.monotonic() - began:.0f} s")
    return {"refusals": count, "contents": len(CONFIG["words"])}


def by_mount(disk: str) -> Callable[[], None]:
    place = f"/run/held/{os.path.basename(disk)}"
    os.makedirs(place, exist_ok=True)
    tool("mount", "-o", "ro,noload", disk, place)
    return lambda: tool("umount", place)


def by_mount_elsewhere(disk: str) -> Callable[[], None]:
    """In a mount namespace that nobody here sees."""
    script = f"mount -o ro,noload {disk} /mnt && echo ready && exec sleep 600"
    child = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.readline() == b"ready\n"

    def end() -> None:
        child.kill()
        child.wait()

    return end


def by_swap(disk: str) -> Callable[[], None]:
    tool("swapon", disk)
    return lambda: tool("swapoff", disk)


def by_partition(disk: str) -> Callable[[], None]:
    """The disk itself is free, a partition of it is swap."""
    tool("mkswap", "-q", _disks.part_node(disk, 1))
    return by_swap(_disks.part_node(disk, 1))


def by_md(disk: str) -> Callable[[], None]:
    node = f"/dev/md{100 + os.stat(disk).st_rdev % 97}"
    tool("mdadm", "--create", node, "--run", "--level=1", "--raid-devices=2", "--force", disk, "missing")
    return lambda: tool("mdadm", "--stop", node)


def by_lvm(disk: str) -> Callable[[], None]:
    group = f"held-{os.path.basename(disk)}"
    tool("pvcreate", "-qq", "-y", disk)
    tool("vgcreate", "-qq", group, disk)
    tool("lvcreate", "-qq", "-y", "-Wn", "-L", "20M", "-n", "v", group)
    return lambda: tool("vgchange", "-qq", "-an", group)


def by_crypt(disk: str) -> Callable[[], None]:
    """As an open LUKS volume: the ramdisk has the kernel's part of it, and not cryptsetup."""
    name = f"held-{os.path.basename(disk)}"
    table = f"0 65536 crypt aes-xts-plain64 {'0' * 32}{'1' * 32} 0 {disk} 32768"
    tool("dmsetup", "create", name, "--noudevsync", "--table", table)
    return lambda: tool("dmsetup", "remove", "--retry", name)


def by_program(disk: str) -> Callable[[], None]:
    fd = os.open(disk, os.O_RDWR | os.O_EXCL)
    return lambda: os.close(fd)


# kind: (what makes it, what the disk holds before, the words of the refusal)
HOLDERS = {
    "mount": (by_mount, "ext4", "mounted at /run/held"),
    "mount in another namespace": (by_mount_elsewhere, "ext4", "the kernel gives it to nobody else"),
    "swap": (by_swap, "swap", "mounted at [swap]"),
    "swap on a partition": (by_partition, "gpt", "mounted at [swap]"),
    "RAID": (by_md, "blank", "held by md1"),
    "LVM": (by_lvm, "blank", "held by dm-"),
    "dm-crypt": (by_crypt, "luks2", "held by dm-"),
    "program": (by_program, "blank", "the kernel gives it to nobody else"),
}


def held() -> Any:
    """In use by the kernel: no permission is enough. Every kind of holder on every bus."""
    count, began = 0, time.monotonic()
    for kind, (hold, content, word) in HOLDERS.items():
        with contextlib.ExitStack() as stack:
            disks = fill(content)
            for disk in disks.values():
                stack.callback(hold(disk))
            time.sleep(1)  # RAID says a little later that it is clean
            for disk in disks.values():
                flush(disk)
            ask("remember")
            count += refused(disks, word, wipe=True)
            for serial in disks:
                # Even if nobody had looked, the kernel refuses.
                record = _disks.find_disk(serial)
                fails(partial(_image_writer.write_image, record, request()), "in use by the kernel")
                count += 1
            same()
        say(f"{kind}: {count} refusals, {time.monotonic() - began:.0f} s")
    fill("blank")
    return {"refusals": count, "kinds": len(HOLDERS)}


def named() -> Any:
    """What is named is written, and no byte of what is not named: each bus in turn."""
    for serial in CONFIG["serials"]:
        disks = fill("gpt-with-ext4")
        assert claim(serial, wipe=[serial])["changed"]
        assert claim(serial, state="absent")["changed"]
        same(*(other for other in disks if other != serial))
        say(f"{disks[serial]} was claimed, the other {len(disks) - 1} are as they were")
    fill("blank")
    return {"buses": len(CONFIG["serials"])}


def images() -> Any:
    result = {}
    for serial in CONFIG["serials"]:
        disk = fill("gpt-with-ext4", serial)[serial]
        done = write(serial, wipe=True)
        assert done["changed"]
        holds_image(serial)
        assert not write(serial)["changed"]
        params = {"state": "mounted", "serial_number": serial, "path": "/run/root", "grow": True}
        params |= {"site": "lab", "server": "node1", "files": []}
        with _disks.locked(disk):
            mounted = node_root.mount(_disks.find_disk(serial), params, False)
        assert mounted["changed"] and mounted["grown_bytes"] > 0
        assert os.path.exists("/run/root/etc/kiban/image.json")
        fails(partial(write, serial, wipe=True, image_id="other"), "mounted at /run/root")
        assert node_root.finish(params, False)["changed"]
        tool("e2fsck", "-fn", _disks.part_node(disk, 2))
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
        fill("gpt-with-ext4", serial)
        started = time.monotonic()
        if number == 0:
            write(serial, wipe=True)
            whole = time.monotonic() - started
            continue
        hit = killed(lambda serial=serial: write(serial, wipe=True), dice.uniform(0.2, 1.0) * whole)
        mark = _disks.find_disk(serial)["kiban"]
        states.append([hit, mark and mark["complete"]])
        if mark is None:
            same(serial)
        assert write(serial, wipe=mark is None)["changed"] is not bool(mark and mark["complete"])
        holds_image(serial)
    return states


WIPES = {
    "SYS-VIRTIO": ("discard", "overwrite"),
    "DATA-SCSI": ("discard", "overwrite"),
    "DATA-NVME": ("nvme_format", "discard", "overwrite"),
    "DATA-SATA": ("discard", "overwrite"),
}


def wipes() -> Any:
    """Each method that the emulator's disks offer, on disks that are full; the others stay as they are."""
    found = []
    disks = fill("full")
    for serial, methods in WIPES.items():
        for method in methods:
            fill("full", serial)
            wiping = _disk_wipe.decide(_disks.find_disk(serial), method, _disks.list_disks())
            with _disks.locked(disks[serial]):
                done = wiping.apply("lab")
            flush(disks[serial])
            same(*(other for other in disks if other != serial))
            ask("empty", serial)
            say(f"{serial} by {method}: {done['verified']}")
            found.append([serial, method, done["bytes"]])
        fill("full", serial)
    for serial, method in (
        ("DATA-NVME", "nvme_sanitize"),
        ("DATA-SATA", "nvme_format"),
        ("DATA-SCSI", "ata_secure_erase"),
    ):
        for check in (True, False):
            fails(partial(claim, serial, check=check, wipe=[serial], wipe_method=method), "cannot be wiped by")
        same()
    fill("blank")
    return found


def keep() -> Any:
    """Claims with something on them, released: the server is taken apart next."""
    serials = CONFIG["serials"]
    fill("blank")
    claim(*serials)
    for serial in serials:
        Path(BASE, serial, "precious").write_text(serial)
    assert claim(*serials, state="absent")["changed"]
    for serial in serials:
        flush(path(serial))
    return {serial: path(serial) for serial in serials}


def recabled() -> Any:
    """The same disks on other buses and with other names."""
    serials = CONFIG["serials"]
    done = claim(*serials)
    for serial in serials:
        assert Path(BASE, serial, "precious").read_text() == serial
    assert claim(*serials, state="absent")["changed"]
    return {disk["serial_number"]: [disk["path"], disk["action"]] for disk in done["disks"]}


def claims() -> Any:
    result = {}
    serials = CONFIG["serials"]
    fill("blank")
    fill("lvm", serials[-1])
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
        disk = fill("blank", serial)[serial]
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
        tool("e2fsck", "-fn", _disks.part_node(disk, 1))
    return states


def power_cut() -> Any:
    """Called in the background: the host cuts the power meanwhile."""
    flush(path("SYS-VIRTIO"))
    print("writing", flush=True)
    return write("SYS-VIRTIO", wipe=True)


def after_power_cut() -> Any:
    mark = _disks.find_disk("SYS-VIRTIO")["kiban"]
    if mark is None:
        same("SYS-VIRTIO")
    write("SYS-VIRTIO", wipe=mark is None)
    holds_image("SYS-VIRTIO")
    return mark


if __name__ == "__main__":
    with open(sys.argv[1]) as config:
        CONFIG.update(json.load(config))
    print(json.dumps(globals()[sys.argv[2]]()))
