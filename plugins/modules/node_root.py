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
  - Lets the file system grow to the size of its partition while it is mounted, and makes the system's ed25519 host key
    where there is none. The private key is made where it is used and never leaves that disk.
  - With O(state=unmounted) it writes O(files) before it unmounts.
  - Each call of a module costs a server seconds of its start, so what belongs to mounting and unmounting is done here.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
  - kiban.baremetal.files
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
  grow:
    description: Whether the file system grows to the size of its partition.
    type: bool
    default: true
  site:
    description: Site that the system must have been installed for, if it was installed. Required for O(state=mounted).
    type: str
  server:
    description: Server that the system must have been installed for, if it was. Required for O(state=mounted).
    type: str
seealso:
  - module: kiban.baremetal.image_write
  - module: kiban.baremetal.node_files
"""

EXAMPLES = r"""
- name: Mount the installed system
  kiban.baremetal.node_root:
    serial_number: SYS-NODE1
    site: lab
    server: node1

- name: Make it this server, and unmount it
  kiban.baremetal.node_root:
    state: unmounted
    files:
      - path: /etc/hostname
        content: "node1\n"
"""

RETURN = r"""
public_key:
  description: Public half of the system's host key, in OpenSSH format.
  type: str
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

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks, _node_files

HOST_KEY = "etc/ssh/ssh_host_ed25519_key"
EXT4_IOC_RESIZE_FS = 0x40086610


class RootError(Exception):
    """The file system cannot be mounted or unmounted."""


def partition(record: dict[str, Any], label: str) -> str:
    """The device node of the partition with this label."""
    mark = record["kiban"]
    if mark is None or mark["purpose"] != "system" or not mark["complete"]:
        raise RootError(f"{record['path']} holds no complete node image; write one first")
    found = [part for part in record["partitions"] if part["label"] == label and part["name"]]
    if len(found) != 1:
        raise RootError(
            f"{record['path']} has {len(found)} partitions labelled {label!r} that the kernel knows, not one"
        )
    return os.path.join(os.path.dirname(record["path"]), found[0]["name"])


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


def refuse_other(path: str, site: str, server: str) -> None:
    """A system that was installed as another server stays as it is."""
    try:
        with open(os.path.join(path, "etc/kiban/installed.json"), encoding="utf-8") as file:
            installed = json.load(file)
            owner = (installed["site"], installed["server"])
    except (OSError, ValueError, TypeError, KeyError):
        return
    if owner != (site, server):
        raise RootError(
            f"it holds the system of {owner[1]} of site {owner[0]}. Nothing was touched. Put the right disk in, or "
            "name its serial number under the server's 'wipe' together with a new word in 'reinstall'"
        )


def host_key(path: str) -> tuple[bool, str]:
    """Whether the host key had to be made, and its public half."""
    key = os.path.join(path, HOST_KEY)
    changed = not (os.path.exists(key) and os.path.exists(f"{key}.pub"))
    if changed:
        for leftover in (f"{key}.new", f"{key}.new.pub"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(leftover)
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kiban host key", "-f", f"{key}.new")
        os.replace(f"{key}.new.pub", f"{key}.pub")
        os.replace(f"{key}.new", key)
    with open(f"{key}.pub", encoding="utf-8") as file:
        return changed, file.read().strip()


def command(*words: str) -> None:
    status, output, errors = _disks.run_tool(*words)
    if status != 0:
        raise RootError(f"{' '.join(words)}: {(errors or output).strip()}")


def mount(record: dict[str, Any], params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    path, device = params["path"], partition(record, _disks.ROOT_LABEL)
    there = mounted_at(path)
    if there and os.path.realpath(there[-1]) != os.path.realpath(device):
        raise RootError(f"{path} is taken: {there[-1]} is mounted there, not {device}")
    if elsewhere := set(record["mounts"]) - {os.path.realpath(path)}:
        raise RootError(f"it is mounted already at {', '.join(sorted(elsewhere))}")
    result: dict[str, Any] = {
        "changed": not there,
        "path": path,
        "diff": {"before": "", "after": "" if there else f"{device} at {path}\n"},
    }
    if check_mode:
        return result
    if not there:
        os.makedirs(path, exist_ok=True)
        command("mount", "-t", "ext4", "-o", "noatime", device, path)
    try:
        refuse_other(path, params["site"], params["server"])
    except RootError:
        unmount(path)
        raise
    made, result["public_key"] = host_key(path)
    result["grown_bytes"] = grow(path) if params["grow"] else 0
    result["changed"] = not there or made or result["grown_bytes"] > 0
    return result


def unmount(path: str) -> None:
    for _mount in mounted_at(path):
        # A lazy unmount would let a server reboot with files that are not on its disk.
        command("umount", path)
    with contextlib.suppress(OSError):
        os.rmdir(path)


def finish(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Writes the files and unmounts."""
    path, wanted = params["path"], _node_files.wanted_files(params["files"], [])
    mounts = mounted_at(path)
    if wanted and not mounts:
        raise RootError(f"no system is mounted at {path}, so its files can't be written")
    changes = _node_files.differences(path, wanted) if wanted else []
    if not check_mode:
        _node_files.write_all(changes)
        unmount(path)
    gone = {"before": "".join(f"{path}\n" for _mount in mounts), "after": ""}
    return {"changed": bool(mounts), "path": path, "diff": [*_node_files.shown(changes), gone]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["mounted", "unmounted"], "default": "mounted"},
            "serial_number": {"type": "str"},
            "path": {"type": "path", "default": "/run/kiban/root"},
            "grow": {"type": "bool", "default": True},
            "site": {"type": "str"},
            "server": {"type": "str"},
            "files": {"type": "list", "elements": "dict", "default": [], "options": _node_files.OPTIONS},
        },
        required_if=[("state", "mounted", ["serial_number", "site", "server"])],
        supports_check_mode=True,
        # Keeps the parameters, and with them secret content, out of the system log.
        no_log=True,
    )
    params, serial = module.params, module.params["serial_number"]
    module.no_log_values.update(_node_files.secrets(params["files"]))
    try:
        if params["state"] == "mounted":
            with _disks.locked(_disks.find_path(serial)):
                record = _disks.find_disk(serial)
                if not module.check_mode and _disks.show_partitions(record):
                    record = _disks.find_disk(serial)
                result = mount(record, params, module.check_mode)
        else:
            result = finish(params, module.check_mode)
    except (RootError, _node_files.FilesError, _disks.DiskError, OSError) as exc:
        module.fail_json(msg=f"disk {serial}: {exc}" if serial else str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
