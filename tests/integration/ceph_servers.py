# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers for Ceph's real daemons: a root of their own for each, with the programs of one Debian 13, on loopback.

KIBAN_CEPH_ROOT names a directory with that Debian, which mmdebstrap makes:

    mmdebstrap --mode=root --variant=extract trixie <directory> --include=bash,coreutils,util-linux,ceph-mon,ceph-mgr,\
ceph-osd,ceph-mds,ceph-common,ceph-fuse,python3-cephfs
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.kiban.baremetal.plugins.module_utils._ceph import Host

__all__ = ["PLACE", "Server", "environment", "why_not"]

PLACE = "KIBAN_CEPH_ROOT"
_ENTER = (
    'cd "$0" && mount --rbind "$ROOT/usr" usr && mount --rbind /proc proc && mount --rbind /dev dev && '
    'mount --rbind /sys sys && exec chroot . "$@"'
)
_DEBIAN_CEPH = 64045
_FOLDERS = ("usr", "proc", "dev", "sys", "tmp", "run/ceph", "etc/ceph", "var/lib/ceph/mon", "var/lib/ceph/osd")


def why_not() -> str:
    """Why Ceph cannot be run here; empty where it can."""
    root = os.environ.get(PLACE, "")
    if os.geteuid() != 0:
        return "only root makes roots of servers"
    if not root:
        return f"{PLACE} names no directory with Ceph, see tests/integration/ceph_servers.py"
    missing = [name for name in ("mon", "mgr", "osd", "mds") if not Path(root, f"usr/bin/ceph-{name}").exists()]
    return f"{root} has no ceph-{missing[0]}" if missing else ""


class Server:
    """A server of which only Ceph is real."""

    def __init__(self, name: str, place: Path, conf: str) -> None:
        self.name, self.place = name, place
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        source = Path(os.environ[PLACE])
        for folder in _FOLDERS:
            (place / folder).mkdir(parents=True, exist_ok=True)
        for link in ("bin", "lib", "lib64", "sbin"):
            (place / link).symlink_to(f"usr/{link}")
        (place / "var/run").symlink_to("../run")
        for name_ in ("etc/ld.so.cache", "etc/protocols", "etc/services"):
            if (source / name_).exists():
                (place / name_).write_bytes((source / name_).read_bytes())
        ceph = f"ceph:x:{_DEBIAN_CEPH}:"
        (place / "etc/passwd").write_text(
            f"root:x:0:0::/root:/bin/sh\n{ceph}{_DEBIAN_CEPH}::/var/lib/ceph:/bin/false\n"
        )
        (place / "etc/group").write_text(f"root:x:0:\n{ceph}\n")
        for folder in ("run/ceph", "var/lib/ceph", "var/lib/ceph/mon", "var/lib/ceph/osd"):
            os.chown(place / folder, _DEBIAN_CEPH, _DEBIAN_CEPH)
        (place / "etc/ceph/ceph.conf").write_text(conf)
        self.host = Host(self._run, root=str(place), files=True)

    def command(self, argv: Sequence[str]) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", _ENTER, str(self.place), *argv]

    def _run(self, argv: Sequence[str], data: str | None = None) -> tuple[int, str, str]:
        done = subprocess.run(
            self.command(argv),
            input=data or "",
            capture_output=True,
            text=True,
            timeout=180,
            env=environment(),
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def start(self, kind: str, name: str) -> None:
        """As systemd would: in the foreground, as the user of the daemons."""
        argv = [f"ceph-{kind}", "-f", f"--id={name}", "--setuser=ceph", "--setgroup=ceph"]
        with (self.place / f"{kind}.{name}.log").open("ab") as log:
            self.running[f"{kind}.{name}"] = subprocess.Popen(
                self.command(argv), stdout=log, stderr=log, env=environment()
            )

    def kill(self, daemon: str) -> None:
        process = self.running.pop(daemon)
        process.kill()
        process.wait()

    def lose_power(self) -> None:
        for daemon in list(self.running):
            self.kill(daemon)


def environment() -> dict[str, str]:
    """Of commands on servers."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "ROOT": os.environ[PLACE]}
