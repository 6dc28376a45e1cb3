# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: a run that boots a server holds it until the run ends, so that no other run boots it too.

A lease is a file in the site's directory that names the process of the run. It ends with that process: a run that was
killed leaves none that counts. Runs on several control hosts see each other's leases only if they share that directory.
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils._files import write_whole

__all__ = ["Leased", "asking", "read_leases", "take_lease"]


class Leased(Exception):
    """Another run has this server."""


@contextmanager
def asking(site_dir: str) -> Iterator[None]:
    """Between the question who holds what and the lease that follows nobody else asks."""
    directory = _directory(site_dir)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with open(os.path.join(directory, ".asking"), "a", encoding="ascii") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield


def read_leases(site_dir: str, run: int, mine: bool = False) -> dict[str, str]:
    """Server to who works on it, for leases that other runs than the process C(run) hold; C(mine): for those of it."""
    directory = _directory(site_dir)
    try:
        names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except FileNotFoundError:
        return {}
    found = {name: _read(os.path.join(directory, name)) for name in names}
    own = _identity(run)
    return {
        name: _words(lease) for name, lease in found.items() if lease and _alive(lease) and _same(lease, own) == mine
    }


def take_lease(site_dir: str, server: str, run: int) -> None:
    """Hold the server for the process C(run) until that ends. Raises Leased if another run holds it, and NotWritten."""
    directory = _directory(site_dir)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path, own = os.path.join(directory, server), _identity(run)
    with open(os.path.join(directory, ".gate"), "a", encoding="ascii") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        lease = _read(path)
        if lease and _alive(lease) and not _same(lease, own):
            raise Leased(f"another run works on it ({_words(lease)})")
        write_whole(path, json.dumps({**own, "since": time.strftime("%Y-%m-%d %H:%M:%S")}))


def _directory(site_dir: str) -> str:
    return os.path.join(site_dir, "leases")


def _identity(pid: int) -> dict[str, Any]:
    return {"host": os.uname().nodename, "pid": pid, "began": _began(pid)}


def _began(pid: int) -> str | None:
    """When the process began, in boot id and clock ticks: a number may be given again, this may not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            ticks = file.read().rpartition(")")[2].split()[19]
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}/{ticks}"
    except OSError:
        return None


def _alive(lease: dict[str, Any]) -> bool:
    # Of another host nobody knows here whether it still runs.
    return lease["host"] != os.uname().nodename or (
        lease["began"] is not None and _began(lease["pid"]) == lease["began"]
    )


def _same(lease: dict[str, Any], own: dict[str, Any]) -> bool:
    return all(lease[key] == own[key] for key in own)


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            lease = json.load(file)
        return {key: lease[key] for key in ("host", "pid", "began", "since")}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _words(lease: dict[str, Any]) -> str:
    return f"process {lease['pid']} on {lease['host']}, since {lease['since']}"
