#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_root
short_description: Root file system of an installed node, mounted in the deploy ramdisk
version_added: 0.1.0
description:
  - Mounts the partition labelled C(kiban-root) of the disk with a given serial number, so that files can be laid down
    between the writing of the image and the first boot.
  - Lets the file system grow to the size of its partition while it is mounted.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  state:
    description: Whether the file system is mounted.
    type: str
    choices: [mounted, unmounted]
    default: mounted
  serial_number:
    description: Serial number of the system disk. Required for O(state=mounted).
    type: str
  path:
    description: Mount point. It is made, and removed again if it is empty.
    type: path
    default: /run/kiban/root
  esp:
    description:
      - Directory below O(path) to mount the EFI system partition at, for example V(boot/efi).
      - Without it that partition is left alone.
    type: str
  grow:
    description: Whether the file system grows to the size of its partition.
    type: bool
    default: true
seealso:
  - module: kiban.baremetal.image_write
  - module: kiban.baremetal.node_files
"""

EXAMPLES = r"""
- name: Mount the installed system
  kiban.baremetal.node_root:
    serial_number: SYS-NODE1

- name: Unmount it
  kiban.baremetal.node_root:
    state: unmounted
"""

RETURN = r"""
installed:
  description:
    - Site, server, image and reinstall word that the system was installed with. Null when it was never finished.
  type: dict
  returned: O(state=mounted), not in check mode
path:
  description: Mount point.
  returned: success
  type: str
grown_bytes:
  description: By how many bytes the file system grew.
  returned: O(state=mounted), not in check mode
  type: int
"""

import contextlib
import fcntl
import json
import os
import struct
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks

ESP_TYPE = "vfat"
EXT4_IOC_RESIZE_FS = 0x40086610


class RootError(Exception):
    """The file system cannot be mounted or unmounted."""


def partition(record: dict[str, Any], label: str) -> str:
    """The device node of the partition with this label."""
    mark = record["kiban"]
    if mark is None or mark["purpose"] != "system" or not mark["complete"]:
        raise RootError(
            f"disk {record['serial_number']} ({record['path']}) holds no complete node image; write one first"
        )
    found = [part for part in record["partitions"] if part["label"] == label and part["name"]]
    if len(found) != 1:
        raise RootError(
            f"{record['path']} has {len(found)} partitions labelled {label!r} that the kernel knows, not one"
        )
    return os.path.join(os.path.dirname(record["path"]), found[0]["name"])


def esp_partition(record: dict[str, Any]) -> str:
    for part in record["partitions"]:
        if part["name"] and any(sig["type"] == ESP_TYPE for sig in part["signatures"]):
            return os.path.join(os.path.dirname(record["path"]), part["name"])
    raise RootError(f"{record['path']} has no EFI system partition")


def mounted_at(path: str) -> list[str]:
    """The devices that are mounted at a path, as they were named."""
    path = os.path.realpath(path)
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields, _dash, tail = line.partition(" - ")
            if fields.split(" ")[4] == path:
                found.append(tail.split(" ")[1])
    return found


def grow(path: str) -> int:
    """Asks the kernel to let the mounted file system fill its partition; returns the bytes gained."""
    before = os.statvfs(path)
    device = os.stat(path).st_dev
    with open(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/size", encoding="ascii") as file:
        size = int(file.read()) * 512
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(handle, EXT4_IOC_RESIZE_FS, struct.pack("Q", size // before.f_bsize))
    except OSError as exc:
        raise RootError(f"the file system at {path} does not grow to its partition: {exc.strerror}") from exc
    finally:
        os.close(handle)
    return (os.statvfs(path).f_blocks - before.f_blocks) * before.f_frsize


def installed(path: str) -> Any:
    """What the system says it was installed as, null before its first boot or where that can't be read."""
    try:
        with open(os.path.join(path, "etc/kiban/installed.json"), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def command(*words: str) -> None:
    status, output, errors = _disks.run_tool(*words)
    if status != 0:
        raise RootError(f"{' '.join(words)}: {(errors or output).strip()}")


def mount(record: dict[str, Any], params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    wanted = [(partition(record, _disks.ROOT_LABEL), params["path"], "ext4", "noatime")]
    if params["esp"]:
        wanted.append(
            (esp_partition(record), os.path.join(params["path"], params["esp"].strip("/")), "vfat", "umask=0077")
        )
    todo = []
    for device, path, kind, options in wanted:
        there = mounted_at(path)
        if there and os.path.realpath(there[-1]) != os.path.realpath(device):
            raise RootError(f"{path} is taken: {there[-1]} is mounted there, not {device}")
        if not there:
            todo.append((device, path, kind, options))
    elsewhere = set(record["mounts"]) - {os.path.realpath(path) for _device, path, _type, _options in wanted}
    if elsewhere:
        raise RootError(f"disk {record['serial_number']} is mounted already at {', '.join(sorted(elsewhere))}")
    result: dict[str, Any] = {
        "changed": bool(todo),
        "path": params["path"],
        "diff": {"before": "", "after": "".join(f"{device} at {path}\n" for device, path, _type, _options in todo)},
    }
    if check_mode:
        return result
    for device, path, kind, options in todo:
        os.makedirs(path, exist_ok=True)
        command("mount", "-t", kind, "-o", options, device, path)
    result["installed"] = installed(params["path"])
    result["grown_bytes"] = grow(params["path"]) if params["grow"] else 0
    result["changed"] = bool(todo) or result["grown_bytes"] > 0
    return result


def unmount(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    paths = [params["path"]]
    if params["esp"]:
        paths.insert(0, os.path.join(params["path"], params["esp"].strip("/")))
    todo = [path for path in paths for _mount in mounted_at(path)]
    if not check_mode:
        for path in todo:
            # A lazy unmount would let a server reboot with files that are not on its disk.
            command("umount", path)
        with contextlib.suppress(OSError):
            os.rmdir(params["path"])
    diff = {"before": "".join(f"{path}\n" for path in todo), "after": ""}
    return {"changed": bool(todo), "path": params["path"], "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["mounted", "unmounted"], "default": "mounted"},
            "serial_number": {"type": "str"},
            "path": {"type": "path", "default": "/run/kiban/root"},
            "esp": {"type": "str"},
            "grow": {"type": "bool", "default": True},
        },
        required_if=[("state", "mounted", ["serial_number"])],
        supports_check_mode=True,
    )
    params = module.params
    try:
        if params["state"] == "mounted":
            with _disks.locked(_disks.find_path(params["serial_number"])):
                record = _disks.find_disk(params["serial_number"])
                if not module.check_mode and _disks.show_partitions(record):
                    record = _disks.find_disk(params["serial_number"])
                result = mount(record, params, module.check_mode)
        else:
            result = unmount(params, module.check_mode)
    except (RootError, _disks.DiskError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
