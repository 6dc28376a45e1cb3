# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: not an interface, may change in any release.
# The servers of the virtual rack: domains of a libvirt daemon, their disks, and what their BMCs remember.

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import sqlite3
import struct
import time
import typing as t

from ansible_collections.kiban.baremetal.plugins.module_utils._lab import LabError, netns_path, read_text, run
from ansible_collections.kiban.baremetal.plugins.module_utils._lab_domain import (
    METADATA,
    disk_path,
    domain_xml,
    nvram_path,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._lab_process import start_time

__all__ = ["Rack", "virtual_size"]

GIB = 1024**3
# A new qcow2 file is smaller; one cluster of data and its table make it larger.
EMPTY = 256 * 1024


def virtual_size(path: str) -> int | None:
    """Size in bytes that a qcow2 disk shows, None when the file is missing or damaged."""
    try:
        with open(path, "rb") as stream:
            header = stream.read(32)
    except FileNotFoundError:
        return None
    if len(header) < 32 or header[:4] != b"QFI\xfb":
        return None
    return int(struct.unpack_from(">Q", header, 24)[0])


class Rack:
    def __init__(self, params: dict[str, t.Any], check: bool) -> None:
        self.servers: list[dict[str, t.Any]] = params["servers"]
        self.directory: str = params["directory"]
        self.netns: str = params["netns"]
        self.check = check
        self.actions: list[str] = []
        self._call = ["virsh", "-q", "-c", params["uri"]]
        self._lab = {
            "disk_dir": self.path("disks"),
            "console_dir": self.path("console"),
            "firmware": params["firmware"],
            "firmware_variables": params["firmware_variables"],
            "kvm": params["kvm"],
            "emulator": params["emulator"],
        }

    def path(self, *parts: str) -> str:
        return os.path.join(self.directory, *parts)

    def virsh(self, *argv: str, stdin: str | None = None) -> str:
        return run([*self._call, *argv], stdin=stdin)

    def _todo(self, action: str) -> bool:
        self.actions.append(action)
        return not self.check

    # What is there

    def _domains(self, *flags: str) -> set[str]:
        try:
            return set(self.virsh("list", "--name", *flags).split())
        except LabError:
            if self.check:
                return set()
            raise

    def _stamp(self, name: str) -> str:
        """The checksum that a definition carries."""
        try:
            return self.virsh("metadata", name, METADATA, "--config")
        except LabError:
            return ""

    def _qemu(self) -> dict[str, int]:
        """Processes of this lab's servers by name: those that libvirt noted and that hold this lab's disks."""
        found = {}
        for path in glob.glob(self.path("libvirt", "run", "libvirt", "qemu", "*.pid")):
            text = (read_text(path) or "").strip()
            if text.isdigit() and f"{self.path('disks')}/" in (read_text(f"/proc/{text}/cmdline") or ""):
                found[os.path.basename(path)[: -len(".pid")]] = int(text)
        return found

    # What is wanted

    def present(self) -> None:
        defined = self._prepare()
        for server in self.servers:
            self._disks(server)
            xml = domain_xml(server, self._lab)
            if server["name"] not in defined:
                self._define(server, xml, "define")
            elif _checksum(xml) not in self._stamp(server["name"]):
                self._define(server, xml, "define anew")

    def blank(self) -> None:
        self._prepare()
        running = self._domains()
        for server in self.servers:
            if server["name"] in running and self._todo(f"power {server['name']} off"):
                self.virsh("destroy", server["name"])
            if self._is_blank(server) or not self._todo(f"blank {server['name']}"):
                continue
            _unlink(self.path("disks", server["name"]))
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self.path("console", f"{server['name']}.log"), 0)
            self._disks(server, quiet=True)
            self._define(server, domain_xml(server, self._lab), None)

    def absent(self) -> None:
        try:
            defined = set(run([*self._call, "list", "--all", "--name"]).split())
        except LabError:
            defined = None
        if defined is not None:
            running = self._domains()
            for name in sorted(defined):
                self._remove(name, name in running)
        for name, pid in self._qemu().items():
            if self._todo(f"stop {name}: libvirt does not know it"):
                _kill(name, pid)
        for part in ("disks", "media"):
            for path in sorted(glob.glob(self.path(part, "*"))):
                if self._todo(f"remove {os.path.relpath(path, self.directory)}"):
                    _unlink(path)

    # Steps

    def _prepare(self) -> set[str]:
        """What comes before each server; names of the servers that are defined."""
        if not self.check:
            for part in ("console", "disks", "media"):
                os.makedirs(self.path(part), mode=0o700, exist_ok=True)
        defined, running = self._domains("--all"), self._domains()
        wanted = {server["name"] for server in self.servers}
        for name in sorted(defined - wanted):
            self._remove(name, name in running)
        self._cut_off()
        return defined & wanted

    def _is_blank(self, server: dict[str, t.Any]) -> bool:
        """Whether a server is as new: never powered on, nothing in its drive, nothing ever written to its disks."""
        disks = [disk_path(self.path("disks"), server["name"], index) for index in range(len(server["disks"]))]
        sizes = [disk["size_gib"] * GIB for disk in server["disks"]]
        return (
            [virtual_size(path) for path in disks] == sizes
            and all(os.path.getsize(path) <= EMPTY for path in disks)
            and not os.path.exists(nvram_path(self.path("disks"), server["name"]))
            and not os.path.exists(self.path("media", f"{server['name']}.iso"))
            and _checksum(domain_xml(server, self._lab)) in self._stamp(server["name"])
        )

    def _cut_off(self) -> None:
        """Power off servers whose network namespace was deleted under them."""
        try:
            wanted = os.stat(netns_path(self.netns)).st_ino
        except FileNotFoundError:
            return
        for name, pid in self._qemu().items():
            with contextlib.suppress(FileNotFoundError):
                here = os.stat(f"/proc/{pid}/ns/net").st_ino == wanted
                if not here and self._todo(f"power {name} off: its network namespace is gone"):
                    self.virsh("destroy", name)

    def _disks(self, server: dict[str, t.Any], quiet: bool = False) -> None:
        for index, disk in enumerate(server["disks"]):
            path = disk_path(self.path("disks"), server["name"], index)
            size = disk["size_gib"] * GIB
            have = virtual_size(path)
            if have == size:
                continue
            if have is not None:
                raise LabError(
                    f"disk {disk['serial']} of {server['name']} has {have // GIB} GiB and lab_hardware says "
                    f"{disk['size_gib']} GiB; run the lab with lab_state=blank to make it anew, which loses its data"
                )
            if not quiet:
                self.actions.append(f"make disk {disk['serial']} of {server['name']}")
            if not self.check:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                run(["qemu-img", "create", "-q", "-f", "qcow2", f"{path}.new", str(size)])
                os.replace(f"{path}.new", path)

    def _define(self, server: dict[str, t.Any], xml: str, action: str | None) -> None:
        if action:
            self.actions.append(f"{action} {server['name']}")
        if self.check:
            return
        self.virsh("define", "/dev/stdin", stdin=xml)
        self._forget_media(server["name"])

    def _forget_media(self, name: str) -> None:
        """A new definition has no medium in its drive; the BMC must not think otherwise."""
        for path in glob.glob(self.path("bmc", name, "state", "vmedia.sqlite")):
            with contextlib.closing(sqlite3.connect(path, timeout=10)) as database, database:
                database.execute("delete from cache")
        _unlink(self.path("media", f"{name}.iso"))
        for path in glob.glob(self.path("bmc", name, "tmp", "*")):
            _unlink(path)

    def _remove(self, name: str, running: bool) -> None:
        if not self._todo(f"remove {name}"):
            return
        if running:
            self.virsh("destroy", name)
        self.virsh("undefine", name, "--nvram")
        _unlink(self.path("disks", name))
        _unlink(self.path("bmc", name))
        _unlink(self.path("console", f"{name}.log"))


def _checksum(xml: str) -> str:
    return xml.partition('sha256="')[2].partition('"')[0]


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def _kill(name: str, pid: int) -> None:
    started = start_time(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while started is not None and start_time(pid) == started:
        if time.monotonic() > deadline:
            raise LabError(f"server {name} (process {pid}) does not end")
        time.sleep(0.02)
