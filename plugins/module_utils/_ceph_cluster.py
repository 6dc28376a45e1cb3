# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is a private module utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

"""What a Ceph cluster has beside its daemons: keys, pools, the file system, and OSDs that are gone for good."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._ceph import FILESYSTEM, CephError, Host, differing, keyring

__all__ = (
    "MUTED",
    "ensure_cluster",
    "forget_osds",
    "health_of",
    "not_serving",
    "pg_counts",
    "quorum_missing",
    "wait_for",
)

MUTED = "MGR_MODULE_ERROR"
"""The manager's Python modules are left out, see the driver; it says so as an error for ever."""
_SIZE, _LEAST = 3, 2
_PER_OSD = 100
"""Placement groups an OSD should have, https://docs.ceph.com/en/reef/rados/operations/placement-groups/"""


def pg_counts(osds: int) -> dict[str, int]:
    """Placement groups of the pools of data and of metadata: powers of two, an eighth for metadata, at least 16."""
    wanted = max(1, osds * _PER_OSD // _SIZE)
    data = max(16, 1 << (wanted.bit_length() - 1))
    return {f"{FILESYSTEM}.data": data, f"{FILESYSTEM}.meta": max(16, data // 8)}


def health_of(status: Mapping[str, Any]) -> list[str]:
    """What is wrong, one sentence a check, from C(ceph health detail); none: HEALTH_OK."""
    found = []
    for code, check in sorted((status.get("checks") or {}).items()):
        if not check.get("muted"):
            more = [str(line["message"]) for line in check.get("detail") or ()][:3]
            found.append(f"{code}: {check['summary']['message']}" + (f" ({'; '.join(more)})" if more else ""))
    return found


def wait_for(
    what: Callable[[], str], timeout: float, clock: Callable[[], float] = time.monotonic, pause: float = 2.0
) -> None:
    """Ask again until nothing is missing; CephError with what is missing then."""
    end = clock() + timeout
    while True:
        try:
            missing = what()
        except CephError as exc:
            missing = str(exc)
        if not missing:
            return
        if clock() >= end:
            raise CephError(f"after {timeout:.0f} s: {missing}")
        time.sleep(pause)


def quorum_missing(host: Host) -> str:
    """Why no command of the cluster can be answered; empty where one can."""
    if host.ceph("quorum_status", patience=10)["quorum_names"]:
        return ""
    return "no monitor is in a quorum"


def not_serving(host: Host) -> str:
    """Why files cannot be read and written in the file system; empty where they can."""
    status = host.ceph("status")
    states = {str(one["state_name"]): one["count"] for one in status["pgmap"].get("pgs_by_state") or ()}
    silent = {state: count for state, count in states.items() if "active" not in state.split("+")}
    if silent or not states:
        told = ", ".join(f"{count} {state}" for state, count in silent.items()) or "there is none"
        return f"not all placement groups are active: {told}. Ceph says: {'; '.join(health_of(status['health']))}"
    if not status["fsmap"].get("up"):
        return f"the file system {FILESYSTEM} has no active MDS"
    return ""


def ensure_cluster(host: Host, keys: Mapping[str, str], osds: int, check_mode: bool = False) -> list[str]:
    """What was changed, or would be. Keys, pools and the file system; nothing is removed or made smaller."""
    done = _keys(host, keys, check_mode)
    status = host.ceph("health", "detail")
    if MUTED not in {mute["code"] for mute in status.get("mutes") or ()}:
        done.append(f"mute of {MUTED}")
        if not check_mode:
            host.ceph("health", "mute", MUTED, "--sticky")
    pools = {pool["pool_name"]: pool for pool in host.ceph("osd", "pool", "ls", "detail")}
    for name, count in pg_counts(osds).items():
        done += _pool(host, name, count, pools.get(name), check_mode)
    if FILESYSTEM not in {fs["name"] for fs in host.ceph("fs", "ls")}:
        done.append(f"file system {FILESYSTEM}")
        if not check_mode:
            host.ceph("fs", "new", FILESYSTEM, f"{FILESYSTEM}.meta", f"{FILESYSTEM}.data")
    return done


def _keys(host: Host, keys: Mapping[str, str], check_mode: bool) -> list[str]:
    known = host.ceph("auth", "ls")["auth_dump"]
    wrong = differing(keys, known)
    if wrong and not check_mode:
        host.ceph("auth", "import", "--in-file=-", data=keyring({name: keys[name] for name in wrong}))
    return [f"key of {name}" for name in wrong]


def _pool(host: Host, name: str, count: int, there: Any, check_mode: bool) -> list[str]:
    if there is None:
        if not check_mode:
            host.ceph("osd", "pool", "create", name, str(count), str(count), "replicated", "--autoscale-mode=off")
            host.ceph("osd", "pool", "set", name, "size", str(_SIZE))
            host.ceph("osd", "pool", "set", name, "min_size", str(_LEAST))
        return [f"pool {name}"]
    done = []
    for key, want, have in (
        ("size", _SIZE, there["size"]),
        ("min_size", _LEAST, there["min_size"]),
        ("pg_num", count, there.get("pg_num_target", there["pg_num"])),
    ):
        # More copies and groups, never less: that would move or drop data.
        if have < want:
            done.append(f"{key} of pool {name}")
            if not check_mode:
                host.ceph("osd", "pool", "set", name, key, str(want))
    return done


def forget_osds(
    host: Host, present: Mapping[str, Sequence[str]], check_mode: bool = False
) -> tuple[list[str], dict[int, str]]:
    """Forget the OSDs whose disk is not in its server any more, as soon as Ceph says that no data needs them.

    C(present): server to the UUIDs of the OSDs on its disks; servers that are not named are left alone. Gives what was
    changed, and why OSDs that are gone are kept.
    """
    uuids = {int(osd["osd"]): str(osd["uuid"]) for osd in host.ceph("osd", "dump")["osds"]}
    nodes = host.ceph("osd", "tree")["nodes"]
    by_id = {node["id"]: node for node in nodes}
    done, kept = [], {}
    for bucket in nodes:
        if bucket["type"] != "host" or bucket["name"] not in present:
            continue
        for number in sorted(bucket.get("children") or ()):
            osd = by_id[number]
            # One that runs is on some disk, whatever was read.
            if uuids.get(number) in present[bucket["name"]] or osd["status"] == "up":
                continue
            told, why = _forget(host, number, float(osd["reweight"]) > 0, check_mode)
            done += told
            if why:
                kept[number] = why
    return done, kept


def _forget(host: Host, number: int, is_in: bool, check_mode: bool) -> tuple[list[str], str]:
    done = []
    if is_in:
        # Its copies are made anew elsewhere now, and not only after ten minutes.
        done.append(f"OSD {number} out")
        if not check_mode:
            host.ceph("osd", "out", str(number))
    try:
        host.ceph("osd", "safe-to-destroy", str(number))
    except CephError as exc:
        return done, str(exc)
    if not check_mode:
        host.ceph("osd", "purge", str(number), "--yes-i-really-mean-it")
    return [*done, f"OSD {number} forgotten"], ""
