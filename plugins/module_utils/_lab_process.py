# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: not an interface, may change in any release.
# Starts, finds again and stops the daemons of the virtual rack without an init system.

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.kiban.baremetal.plugins.module_utils._files import write_whole
from ansible_collections.kiban.baremetal.plugins.module_utils._lab import (
    LabError,
    in_netns,
    netns_path,
    read_text,
    run,
    setns,
    unshare_mounts,
)

__all__ = ["Spec", "Supervisor", "boot_id", "start_time"]


@dataclass
class Spec:
    """One daemon: what runs, where, and when it counts as ready."""

    name: str
    argv: list[str]
    netns: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    binds: list[tuple[str, str]] = field(default_factory=list)
    before: list[list[str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    requires: list[str] = field(default_factory=list)
    ready_unix: str | None = None
    ready_tcp: str | None = None
    timeout: float = 30.0


def boot_id() -> str:
    return (read_text("/proc/sys/kernel/random/boot_id") or "").strip()


def start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot; None when it is gone or a zombie."""
    stat = read_text(f"/proc/{pid}/stat")
    if stat is None:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if not fields or fields[0] in ("Z", "X") else int(fields[19])


def _cmdline(pid: int) -> list[str]:
    return (read_text(f"/proc/{pid}/cmdline") or "").rstrip("\0").split("\0")


class Supervisor:
    """Daemons known by their records, <run_dir>/<name>.json, each written by the daemon's own process before it
    becomes the daemon: a run that is killed at any moment leaves no daemon without a record."""

    def __init__(self, run_dir: str, log_dir: str, stop_timeout: float = 10.0) -> None:
        self.run_dir, self.log_dir, self.stop_timeout = run_dir, log_dir, stop_timeout

    def _path(self, name: str) -> str:
        return os.path.join(self.run_dir, f"{name}.json")

    def names(self) -> list[str]:
        """Names of all records, youngest first."""
        found = []
        for entry in os.listdir(self.run_dir) if os.path.isdir(self.run_dir) else []:
            if entry.endswith(".json"):
                name = entry[: -len(".json")]
                found.append(((self.record(name) or {}).get("start", 0), name))
        return [name for _start, name in sorted(found, reverse=True)]

    def record(self, name: str) -> dict[str, t.Any] | None:
        try:
            loaded = json.loads(read_text(self._path(name)) or "null")
        except ValueError:
            return None
        return loaded if isinstance(loaded, dict) else None

    def pid(self, name: str) -> int | None:
        """Process id of a running daemon. Start time and arguments must agree with the record, so that a reused
        process id is never taken for the daemon."""
        record = self.record(name)
        if record is None or record.get("boot") != boot_id():
            return None
        pid = int(record["pid"])
        arguments = [str(item) for item in record["argv"][1:]]
        if start_time(pid) != record["start"]:
            return None
        seen = _cmdline(pid)
        return pid if not arguments or seen[-len(arguments) :] == arguments else None

    def digest(self, spec: Spec) -> str:
        """Changes when the daemon has to be started anew: its call, its files, what it depends on."""
        parts: list[t.Any] = [spec.argv, spec.netns, sorted(spec.env.items()), spec.binds]
        for path in spec.files:
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as stream:
                parts.append(hashlib.sha256(stream.read()).hexdigest())
        for name in spec.requires:
            record = self.record(name) or {}
            parts.append([record.get("pid"), record.get("start")])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def why_not_running(self, spec: Spec) -> str | None:
        """Reason why the daemon has to be started, None when it runs as it should."""
        pid = self.pid(spec.name)
        if pid is None:
            return "not running"
        if spec.netns:
            try:
                wanted = os.stat(netns_path(spec.netns)).st_ino
                if os.stat(f"/proc/{pid}/ns/net").st_ino != wanted:
                    return f"network namespace {spec.netns} was made anew"
            except FileNotFoundError:
                return f"network namespace {spec.netns} is missing"
        if (self.record(spec.name) or {}).get("digest") != self.digest(spec):
            return "its configuration or a daemon it depends on changed"
        return None

    def start(self, spec: Spec) -> int:
        os.makedirs(self.run_dir, exist_ok=True)
        os.makedirs(self.log_dir, exist_ok=True)
        self.stop(spec.name)
        for argv in spec.before:
            run(argv)
        digest = self.digest(spec)
        pid = self._spawn(spec, digest)
        self._wait_ready(spec, pid)
        return pid

    def _spawn(self, spec: Spec, digest: str) -> int:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                with contextlib.suppress(PermissionError):
                    # The rack is not slower because it was built in the background.
                    os.setpriority(os.PRIO_PROCESS, 0, 0)
                if spec.netns:
                    setns(netns_path(spec.netns))
                if spec.binds:
                    unshare_mounts(spec.binds)
                log = os.open(
                    os.path.join(self.log_dir, f"{spec.name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
                )
                null = os.open(os.devnull, os.O_RDONLY)
                record = {
                    "pid": os.getpid(),
                    "start": start_time(os.getpid()),
                    "boot": boot_id(),
                    "argv": spec.argv,
                    "digest": digest,
                }
                write_whole(self._path(spec.name), json.dumps(record))
                for target, source in ((0, null), (1, log), (2, log)):
                    os.dup2(source, target)
                os.closerange(3, writer)
                os.closerange(writer + 1, 4096)
                environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
                os.chdir("/")
                os.execve(spec.argv[0], spec.argv, {**environment, **spec.env})
            except BaseException as problem:  # pylint: disable=broad-exception-caught
                os.write(writer, str(problem).encode()[:1000])
            finally:
                os._exit(127)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            said = stream.read().decode(errors="replace")
        if said:
            os.waitpid(pid, 0)
            raise LabError(f"{spec.name} cannot be started: {said}")
        return pid

    def _wait_ready(self, spec: Spec, pid: int) -> None:
        deadline = time.monotonic() + spec.timeout
        while not self.ready(spec):
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone:
                code = os.waitstatus_to_exitcode(status)
                raise LabError(f"{spec.name} ended with status {code} while starting. {self._tail(spec.name)}")
            if time.monotonic() > deadline:
                raise LabError(f"{spec.name} runs but is not ready after {spec.timeout:g} s. {self._tail(spec.name)}")
            time.sleep(0.05)

    def _tail(self, name: str) -> str:
        path = os.path.join(self.log_dir, f"{name}.log")
        lines = (read_text(path) or "").strip().splitlines()[-5:]
        return f"Last lines of {path}: {' / '.join(lines) or '(empty)'}"

    @staticmethod
    def ready(spec: Spec) -> bool:
        """One attempt to reach what the daemon serves; a daemon that names nothing is ready at once."""
        family: t.Any = socket.AF_INET
        address: t.Any = None
        if spec.ready_unix:
            family, address = socket.AF_UNIX, spec.ready_unix
        elif spec.ready_tcp:
            host, _colon, port = spec.ready_tcp.rpartition(":")
            address = (host, int(port))
        if address is None:
            return True
        with in_netns(spec.netns if spec.ready_tcp else None), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(2)
            return probe.connect_ex(address) == 0

    def stop(self, name: str) -> bool:
        """Stop a daemon that this supervisor started; True when one was running."""
        pid = self.pid(name)
        if pid is not None:
            started = start_time(pid)
            for number, patience in ((signal.SIGTERM, self.stop_timeout), (signal.SIGKILL, 5.0)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                if self._gone(pid, started, patience):
                    break
            else:
                raise LabError(f"{name} (process {pid}) does not end even after SIGKILL")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(name))
        return pid is not None

    @staticmethod
    def _gone(pid: int, started: int | None, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while start_time(pid) == started:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True
