# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection. A part of the probe too: Python 3.9, standard library.

"""Disks behind a network, and disks that are reached by several paths. Read from sysfs; nothing is asked of a disk."""

from __future__ import annotations

import os
import re
from typing import Any

# Kernel names of the states in which a path carries input and output.
GOOD_STATES = ("running", "live", "LOGGED_IN")


def sysfs_word(*path: str) -> str | None:
    try:
        with open(os.path.join(*path), "rb") as file:
            return " ".join(file.read().decode("utf-8", "replace").replace("\0", "").split()) or None
    except OSError:
        return None


def network_paths(root: str, name: str) -> list[dict[str, Any]]:
    """The paths by which the kernel reaches a disk of /sys/block over a network; none: it is a local disk."""
    base = os.path.join(root, "block", name)
    real = os.path.realpath(base)
    if found := re.search(r"^(.*/(session\d+))/target", real):
        session = iscsi_session(root, found.group(2))
        state = sysfs_word(base, "device/state")
        # A session that is lost leaves its disks running for a while.
        state = state if session["state"] == "LOGGED_IN" else session["state"] or state
        return [{**session, "name": name, "state": state}]
    if "/nvme" not in real:
        return []
    device = os.path.realpath(os.path.join(base, "device"))
    # Behind native multipath the disk belongs to a subsystem, otherwise to one controller.
    near = (
        [device] if sysfs_word(device, "transport") else [os.path.join(device, each) for each in sorted(_list(device))]
    )
    paths = [
        {**nvme_controller(each), "name": os.path.basename(each)} for each in near if sysfs_word(each, "transport")
    ]
    return [path for path in paths if path["transport"] != "pcie"]


def iscsi_session(root: str, name: str) -> dict[str, Any]:
    """target (IQN), portal and state of an iSCSI session."""
    base = os.path.join(root, "class/iscsi_session", name)
    connection = os.path.join(root, "class/iscsi_connection", name.replace("session", "connection") + ":0")
    # The address that was asked for; the other is what the target redirected to.
    address = sysfs_word(connection, "persistent_address") or ""
    port = sysfs_word(connection, "persistent_port") or "3260"
    return {
        "transport": "iscsi",
        "target": sysfs_word(base, "targetname"),
        "portal": portal(address, port),
        "state": sysfs_word(base, "state"),
    }


def nvme_controller(base: str) -> dict[str, Any]:
    """target (NQN), portal and state of an NVMe controller."""
    words = dict(word.partition("=")[::2] for word in (sysfs_word(base, "address") or "").split(","))
    return {
        "transport": sysfs_word(base, "transport"),
        "target": sysfs_word(base, "subsysnqn"),
        "portal": portal(words.get("traddr", ""), words.get("trsvcid", "4420")),
        "state": sysfs_word(base, "state"),
    }


def portal(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def network_sessions(root: str) -> list[dict[str, Any]]:
    """All iSCSI sessions and NVMe controllers over a network, whether there is a disk behind them or not."""
    found = [iscsi_session(root, name) for name in sorted(_list(os.path.join(root, "class/iscsi_session")))]
    nvme = os.path.join(root, "class/nvme")
    found += [nvme_controller(os.path.join(nvme, name)) for name in sorted(_list(nvme))]
    return [each for each in found if each["transport"] not in (None, "pcie")]


def joined(root: str, dev: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Disk records, those that are paths of one device of dm-multipath made one."""
    found = {record["name"]: record for record in records}
    for name in sorted(_list(os.path.join(root, "block")), key=lambda each: (len(each), each)):
        base = os.path.join(root, "block", name)
        if not name.startswith("dm-") or not (sysfs_word(base, "dm/uuid") or "").startswith("mpath-"):
            continue
        members = [found.pop(path) for path in sorted(_list(os.path.join(base, "slaves"))) if path in found]
        if not members:
            continue
        paths = [path for member in members for path in member["paths"] or [_local_path(root, member["name"])]]
        one = {
            "name": name,
            "path": os.path.join(dev, "mapper", sysfs_word(base, "dm/name") or name),
            "capacity_bytes": int(sysfs_word(base, "size") or 0) * 512,
            "paths": paths,
            **{key: sysfs_word(base, "ro") == "1" for key in ("read_only",) if key in members[0]},
            **{key: None for key in ("by_path",) if key in members[0]},
        }
        found[name] = {**members[0], **one}
    return list(found.values())


def answers(record: dict[str, Any]) -> bool:
    """Whether a disk can be read from without waiting for a path to come back."""
    return not record["paths"] or any(path["state"] in GOOD_STATES for path in record["paths"])


def _local_path(root: str, name: str) -> dict[str, Any]:
    state = sysfs_word(root, "block", name, "device/state")
    return {"transport": None, "target": None, "portal": None, "state": state, "name": name}


def multipath_parts(root: str, name: str) -> dict[int, str]:
    """Partitions of a device of dm-multipath, which are devices of their own: number to kernel name."""
    found = {}
    for holder in _list(os.path.join(root, "block", name, "holders")):
        if match := re.match(r"part(\d+)-mpath-", sysfs_word(root, "block", holder, "dm/uuid") or ""):
            found[int(match.group(1))] = holder
    return found


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
