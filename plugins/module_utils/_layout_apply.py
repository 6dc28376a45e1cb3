# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""Does the steps that were decided, with the tools of md, LVM, LUKS and the file systems."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import (
    _disk_claim,
    _disk_wipe,
    _disks,
    _gpt,
    _layout_apply_cache,
    _layout_apply_luks,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._layout import Step
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_read import (
    LABEL,
    MARK,
    MATES_MARK,
    MATES_OFFSET,
    MATES_SIZE,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_tools import (
    NEW_TAG,
    LayoutError,
    array_node,
    array_uuid,
    device_of,
    md_uuid,
    run,
    running_arrays,
)

__all__ = ["apply"]

_HOST = _disk_claim.Host()


def apply(step: Step, keys: Mapping[str, str]) -> None:
    """Does one step. The disks of its pool are locked."""
    _STEPS[step.kind](step, keys.get(step.pool))


def _partition(step: Step, _key: str | None) -> None:
    record = _disks.find_disk(step.target)
    path, block = record["path"], record["logical_block_bytes"]
    owner = {"site": step.args["site"], "storage": step.pool, "serial_number": step.target}
    _disks.map_partitions(path, False)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_EXCL)
    try:
        size = _disks.device_size(fd)
        mark = _disks.record_bytes(MARK, owner)
        _disk_wipe.put(fd, 0, mark)
        _disk_wipe.put(fd, len(mark), bytes(_disk_wipe.EDGE - len(mark)))
        _disk_wipe.put(fd, size - _disk_wipe.EDGE, bytes(_disk_wipe.EDGE))
        table = _gpt.new_table(size, block, LABEL, str(uuid.uuid4()), str(uuid.uuid4()))
        layout = table.layout()
        state = {**owner, "disk": table.disk_uuid, "id": step.args["id"], "made": []}
        _disk_wipe.put(fd, *layout.backup)
        _disk_wipe.put(fd, *layout.primary)
        _disk_wipe.put(fd, _disks.RECORD_OFFSET, _disks.record_bytes(_disks.RECORD_MARK, state))
        _disk_wipe.put(fd, *layout.protective_mbr)
        _disks.reread_partitions(path, fd)
    finally:
        os.close(fd)
    _disks.map_partitions(path)
    node = _disks.part_node(path, 1)
    if not os.path.exists(node):
        raise LayoutError(f"{node} does not appear after {path} was partitioned")
    run("wipefs", "-a", "-q", node)


def _record(step: Step, _key: str | None) -> None:
    path = _disks.find_path(step.target)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        raw = os.pread(fd, _disks.RECORD_SIZE, _disks.RECORD_OFFSET)
        state = _disks.json_after(raw, _disks.RECORD_MARK)
        if state.get("storage") != step.pool:
            raise LayoutError(f"the record of {path} changed while it was worked on")
        state["made"] = step.args["made"]
        os.sync()
        names = {name: step.args[name] for name in ("mates", "cache")}
        _disk_wipe.put(fd, MATES_OFFSET, _disks.record_bytes(MATES_MARK, names, MATES_SIZE))
        _disk_wipe.put(fd, _disks.RECORD_OFFSET, _disks.record_bytes(_disks.RECORD_MARK, state))
    finally:
        os.close(fd)


def _array_create(step: Step, _key: str | None) -> None:
    members: Any = step.args["members"]
    _stop(step)
    for member in members:
        found = _disks._blkid(member, 0, 0)
        if found and found[0]["type"] == "linux_raid_member" and md_uuid(found[0]["uuid"] or "") == array_uuid(step):
            run("mdadm", "--zero-superblock", member)
    level = str(step.args["level"])
    words = ["--run", f"--level={level}", f"--raid-devices={len(members)}", f"--metadata={step.args['metadata']}"]
    words += [f"--uuid={step.args['array']}", f"--name={step.pool}", "--homehost=any"]
    words.append("--bitmap=none" if level == "raid0" else "--bitmap=internal")
    run("mdadm", "--create", step.target, *words, *members)
    run("wipefs", "-a", "-q", array_node(step))


def _array_assemble(step: Step, _key: str | None) -> None:
    members: Any = step.args["members"]
    _stop(step)
    run("mdadm", "--assemble", step.target, "--run", f"--uuid={step.args['array']}", *members)


def _stop(step: Step) -> None:
    """What is left of an array with this UUID: made by a killed run, or put together in part by udev."""
    run("udevadm", "settle", "--timeout=60", accept=(0, 1))
    if node := running_arrays().get(array_uuid(step)):
        run("mdadm", "--stop", node)


def _array_remove(step: Step, _key: str | None) -> None:
    node = array_node(step)
    run("mdadm", node, "--fail", "detached", "--remove", "detached")
    run("mdadm", node, "--remove", "failed")


def _array_add(step: Step, _key: str | None) -> None:
    run("mdadm", array_node(step), "--add", str(step.args["member"]))


def _array_grow(step: Step, _key: str | None) -> None:
    run("mdadm", "--grow", array_node(step), "--size=max")


def _group_create(step: Step, _key: str | None) -> None:
    pvs: Any = step.args["pvs"]
    devices = [device_of(step, pv) for pv in pvs]
    run("wipefs", "-a", "-q", *devices)
    run("vgcreate", "-qq", "-y", step.target, *devices)


def _group_extend(step: Step, _key: str | None) -> None:
    device = device_of(step, str(step.args["device"]))
    run("wipefs", "-a", "-q", device)
    run("vgextend", "-qq", "-y", step.target, device)


def _group_activate(step: Step, _key: str | None) -> None:
    _layout_apply_cache.release_components(step.target)
    run("vgchange", "-qq", "-ay", *_layout_apply_cache.CHECKED, step.target)


def _pv_resize(step: Step, _key: str | None) -> None:
    run("pvresize", "-qq", "-y", device_of(step))


def _lv_create(step: Step, _key: str | None) -> None:
    group, name = step.target.split("/")[2:]
    kind, size = str(step.args["type"]), step.args["size"]
    # A killed lvcreate of a thin pool leaves a volume of its own making, with our tag and never used.
    for line in run("lvs", "--noheadings", "-o", "lv_name", "-S", f"lv_tags={NEW_TAG}", group).split():
        if re.match(r"^lvol\d+$", line):
            run("lvremove", "-qq", "-y", f"{group}/{line}")
    _layout_apply_cache.release_components(group)
    words = ["-qq", "-y", "-n", name, "--addtag", NEW_TAG]
    if kind == "thin":
        words += ["--type", "thin", "-V", f"{size}b", "--thinpool", str(step.args["thin_pool"])]
    else:
        words += ["-l", _rest(step)] if size is None else ["-L", f"{size}b"]
        words += ["--type", "thin-pool"] if kind == "thin-pool" else ["-Wy", "-Zy"]
    run("lvcreate", *words, group, *_pvs(step))


def _lv_remove(step: Step, _key: str | None) -> None:
    _layout_apply_cache.release_components(step.pool)
    run("lvremove", "-qq", "-y", step.target[len("/dev/") :])


def _lv_ready(step: Step, _key: str | None) -> None:
    os.sync()
    run("lvchange", "-qq", "--deltag", NEW_TAG, step.target[len("/dev/") :])


def _lv_extend(step: Step, _key: str | None) -> None:
    size = step.args["size"]
    words = ["-l", f"+{_rest(step)}"] if size is None else ["-L", f"{size}b"]
    run("lvextend", "-qq", *words, step.target[len("/dev/") :], *_pvs(step), accept=(0, 5) if size is None else (0,))


def _pvs(step: Step) -> list[str]:
    """Where a volume may be: on any physical volume, or on these."""
    pvs: Any = step.args["pvs"]
    return [device_of(step, pv) for pv in pvs]


def _rest(step: Step) -> str:
    return "100%PVS" if step.args["pvs"] else "100%FREE"


def _mkfs(step: Step, _key: str | None) -> None:
    kind, device = str(step.args["type"]), device_of(step)
    run("wipefs", "-a", "-q", device)
    if kind == "xfs":
        run("mkfs.xfs", "-q", "-f", "-m", f"uuid={step.args['uuid']}", device)
    else:
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-U", str(step.args["uuid"]), device)
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fs_grow(step: Step, _key: str | None) -> None:
    if step.args["type"] == "xfs":
        run("xfs_growfs", "-d", str(step.args["mount"]))
        return
    if step.args["mount"] is None:
        run("e2fsck", "-fp", device_of(step), accept=(0, 1))
    run("resize2fs", device_of(step))


def _fstab(step: Step, _key: str | None) -> None:
    source, kind = str(step.args["source"]), str(step.args["type"])
    # The name that systemd-escape(1) gives /dev/disk/by-uuid/<uuid>.
    device = r"dev-disk-by\x2duuid-{}.device".format(source.partition("=")[2].replace("-", r"\x2d"))
    options = f"{_disk_claim._OPTIONS},x-systemd.wanted-by=local-fs.target,x-systemd.wanted-by={device}"
    if not step.args["boot"]:
        # A container that needs a key is opened, and mounted, by a run.
        options = "noatime,noauto"
    line = f"{source} {step.target} {kind} {options} 0 {2 if kind == 'ext4' else 0}"
    _disk_claim._set_fstab(_HOST, step.target, line)


def _mount(step: Step, _key: str | None) -> None:
    path = str(step.args["mount"])
    if not os.path.isdir(path):
        os.makedirs(path, mode=0o755)
    # Nothing shall fill the root file system while this one is missing.
    with contextlib.suppress(OSError):
        _disk_claim._immutable(path, True)
    kind, device = str(step.args["type"]), device_of(step)
    try:
        if kind == "ext4":
            run("e2fsck", "-p", device, accept=(0, 1))
        run("mount", "-t", kind, "-o", "noatime", device, path)
    except LayoutError:
        # systemd mounts what fstab names as soon as the device is there.
        if not (os.path.ismount(path) and os.stat(path).st_dev == os.stat(device).st_rdev):
            raise


_STEPS: dict[str, Callable[[Step, str | None], None]] = {
    "partition": _partition,
    "record": _record,
    "array_create": _array_create,
    "array_assemble": _array_assemble,
    "array_remove": _array_remove,
    "array_add": _array_add,
    "array_grow": _array_grow,
    "group_create": _group_create,
    "group_extend": _group_extend,
    "group_activate": _group_activate,
    "pv_resize": _pv_resize,
    "lv_create": _lv_create,
    "lv_remove": _lv_remove,
    "lv_ready": _lv_ready,
    "lv_extend": _lv_extend,
    "mkfs": _mkfs,
    "fs_grow": _fs_grow,
    "fstab": _fstab,
    "mount": _mount,
    **_layout_apply_luks.STEPS,
    **_layout_apply_cache.STEPS,
}
