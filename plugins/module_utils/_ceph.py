# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is a private module utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

"""What the modules for Ceph share: keys and what they allow, and the ceph program. Python 3.9, standard library."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._files import write_whole

__all__ = (
    "FILESYSTEM",
    "CephError",
    "Host",
    "caps",
    "differing",
    "entities",
    "keyring",
    "monitor_map",
    "new_key",
    "on_this_server",
)

FILESYSTEM = "volumes"
"""The one CephFS of a site, and the client that mounts it."""

_ALL = {"mon": "allow *", "osd": "allow *", "mds": "allow *", "mgr": "allow *"}
# https://docs.ceph.com/en/reef/rados/operations/user-management/ and the manuals of the daemons
_CAPS: dict[str, dict[str, str]] = {
    "mon.": {"mon": "allow *"},
    "client.admin": _ALL,
    "client.bootstrap-osd": {"mon": "allow profile bootstrap-osd"},
    # p: quotas of directories. https://docs.ceph.com/en/reef/cephfs/quota/
    f"client.{FILESYSTEM}": {
        "mds": f"allow rwp fsname={FILESYSTEM}",
        "mon": f"allow r fsname={FILESYSTEM}",
        "osd": f"allow rw tag cephfs data={FILESYSTEM}",
    },
    "mgr": {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"},
    "mds": {"mon": "allow profile mds", "osd": "allow rwx", "mds": "allow *", "mgr": "allow profile mds"},
}


class CephError(Exception):
    """A sentence for a person: what is wrong, and what to do."""


def new_key() -> str:
    """A secret of cephx: type 1, when it was made, its length, 16 random bytes."""
    now = time.time()
    head = struct.pack("<HIIH", 1, int(now), int(now % 1 * 1e9), 16)
    return base64.b64encode(head + os.urandom(16)).decode()


def entities(monitors: Sequence[str]) -> list[str]:
    """Who has a key: the cluster, its people and clients, and on each monitor's server a manager and an MDS."""
    daemons = [f"{kind}.{name}" for name in sorted(monitors) for kind in ("mds", "mgr")]
    return [*(name for name in _CAPS if "." in name), *daemons]


def caps(entity: str) -> dict[str, str]:
    """What a key allows; KeyError for an entity of another kind."""
    return _CAPS[entity] if entity in _CAPS else _CAPS[entity.partition(".")[0]]


def keyring(keys: Mapping[str, str], with_caps: bool = True) -> str:
    """Keys in the format of a keyring file."""
    lines = []
    for entity in sorted(keys):
        lines += [f"[{entity}]", f"\tkey = {keys[entity]}"]
        if with_caps:
            lines += [f'\tcaps {kind} = "{text}"' for kind, text in sorted(caps(entity).items())]
    return "\n".join(lines) + "\n"


def differing(keys: Mapping[str, str], known: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which entities the cluster has otherwise than they must be, by its own list of them; C(mon.) is in no list."""
    there = {str(entry["entity"]): (entry["key"], entry.get("caps") or {}) for entry in known}
    return [name for name in sorted(keys) if name != "mon." and there.get(name) != (keys[name], caps(name))]


@dataclass
class Host:
    """One server. C(run) takes a command and what it reads, and gives its code, output and errors."""

    run: Callable[..., tuple[int, str, str]]
    root: str = "/"
    """Where the server's files are: another place in tests alone."""
    files: bool = False
    """An OSD may be on a regular file: in tests alone."""

    def path(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def call(self, *argv: str, data: str | None = None, said: str = "") -> str:
        """The output. C(said): what failed, in words, where the command itself would tell nothing or too much."""
        code, out, err = self.run(list(argv), data)
        if code:
            lines = [line for line in err.splitlines() if line.strip()] or [f"it ended with {code}"]
            raise CephError(f"{said or ' '.join(argv[:4])}: {lines[-1].strip()}")
        return out

    def ceph(self, *args: str, data: str | None = None, patience: int = 30) -> Any:
        """The answer of a command of the cluster, from its JSON; as it is where it is none."""
        out = self.call("ceph", f"--connect-timeout={patience}", *args, "--format=json", data=data)
        try:
            return json.loads(out)
        except ValueError:
            return out.strip()

    def owner(self) -> tuple[int, int]:
        """User and group that the daemons run as."""
        try:
            with open(self.path("/etc/passwd"), encoding="utf-8") as handle:
                for line in handle:
                    fields = line.split(":")
                    if fields[0] == "ceph":
                        return int(fields[2]), int(fields[3])
        except OSError:
            pass
        raise CephError(
            "there is no user ceph, so Ceph is not in the server's image. Name ceph-mon, ceph-mgr, ceph-mds, ceph-osd "
            "and ceph-common in image_node_packages, make the image again and install the server anew"
        )

    def own(self, path: str) -> None:
        """Give a directory and what is in it to the daemons. Links are not followed."""
        user, group = self.owner()
        os.chown(self.path(path), user, group, follow_symlinks=False)
        for folder, folders, names in os.walk(self.path(path)):
            for name in (*folders, *names):
                os.chown(os.path.join(folder, name), user, group, follow_symlinks=False)

    def write(self, path: str, text: str, check_mode: bool = False, daemons: bool = True) -> bool:
        """A file with a secret, whole or not at all; true where it was another before."""
        place = self.path(path)
        try:
            with open(place, encoding="utf-8") as handle:
                if handle.read() == text:
                    return False
        except FileNotFoundError:
            pass
        if not check_mode:
            os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
            write_whole(place, text)
            if daemons:
                os.chown(place, *self.owner())
        return True

    def read(self, path: str) -> str:
        with contextlib.suppress(FileNotFoundError), open(self.path(path), encoding="utf-8") as handle:
            return handle.read()
        return ""


def monitor_map(host: Host, fsid: str, monitors: Mapping[str, str], path: str) -> None:
    """Write the map that new monitors begin with: names and addresses, version 2 of the protocol only."""
    places = [word for name in sorted(monitors) for word in ("--addv", name, f"[v2:{monitors[name]}:3300/0]")]
    host.call("monmaptool", "--create", "--clobber", "--fsid", fsid, *places, path)


def on_this_server(module: Any) -> Host:
    """The server that an Ansible module runs on."""

    def run(argv: list[str], data: str | None) -> tuple[int, str, str]:
        # The keys of OSDs go in by standard input.
        code, out, err = module.run_command(argv, data=data, handle_exceptions=False)
        return int(code), str(out), str(err)

    return Host(run)
