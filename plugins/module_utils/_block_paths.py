# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""Paths to disks of storage servers: iSCSI sessions by open-iscsi, NVMe over TCP by the kernel."""

from __future__ import annotations

import glob
import os
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_paths, _disks

__all__ = ["Host", "PathError", "Step", "Wanted", "apply", "decide", "split_portal", "wait"]

# Lost paths are given up after this long (seconds), so that multipath takes another. Open-iscsi's README, 8.1.
MULTIPATH_TIMEOUT = 5
_KEYS = {
    "username": "node.session.auth.username",
    "password": "node.session.auth.password",
    "username_in": "node.session.auth.username_in",
    "password_in": "node.session.auth.password_in",
}


class PathError(Exception):
    """A path cannot be made; the message is complete and has no secret in it."""


@dataclass(frozen=True)
class Wanted:
    """One target at one portal."""

    name: str
    transport: str
    """iscsi or tcp."""
    target: str
    address: str
    port: str
    single: bool = False
    """The only path to its target."""
    chap: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def portal(self) -> str:
        return _disk_paths.portal(self.address, self.port)

    def settings(self) -> dict[str, str]:
        """What its record of open-iscsi must say."""
        found = {"node.startup": "automatic", "node.session.auth.authmethod": "CHAP" if self.chap else "None"}
        found |= {key: self.chap[name] for name, key in _KEYS.items() if self.chap.get(name)}
        if not self.single:
            found["node.session.timeo.replacement_timeout"] = str(MULTIPATH_TIMEOUT)
        return found


@dataclass(frozen=True)
class Step:
    kind: str
    words: str
    wanted: Wanted | None = None


@dataclass(frozen=True)
class Host:
    """Where the kernel's file systems and the files of the tools are."""

    sys: str = "/sys"
    # Where open-iscsi keeps its records since Debian 13, and before.
    nodes: tuple[str, ...] = ("/var/lib/iscsi/nodes", "/etc/iscsi/nodes")
    initiator: str = "/etc/iscsi/initiatorname.iscsi"
    fabrics: str = "/dev/nvme-fabrics"

    def sessions(self) -> list[dict[str, Any]]:
        return _disk_paths.network_sessions(self.sys)

    def record(self, wanted: Wanted) -> str | None:
        """The file that open-iscsi keeps about a target at a portal."""
        for nodes in self.nodes:
            base = os.path.join(nodes, wanted.target, f"{wanted.address},{wanted.port}")
            # Without a portal group it is a file, and with one a directory with a file for each interface.
            found = [base, *sorted(glob.glob(f"{glob.escape(base)},*/default")), os.path.join(base, "default")]
            if path := next(filter(os.path.isfile, found), None):
                return path
        return None

    def alone(self, targets: Collection[str]) -> list[str]:
        """Disks of these targets that dm-multipath has not taken (yet)."""
        block = os.path.join(self.sys, "block")
        names = sorted(os.listdir(block)) if os.path.isdir(block) else []
        behind = {name: {path["target"] for path in _disk_paths.network_paths(self.sys, name)} for name in names}
        disks = (name for name in names if behind[name] & {*targets})
        return [name for name in disks if not any(map(self._is_map, glob.glob(f"{block}/{name}/holders/*")))]

    def _is_map(self, holder: str) -> bool:
        name = os.path.basename(holder)
        return (_disk_paths.sysfs_word(self.sys, "block", name, "dm/uuid") or "").startswith("mpath-")

    def initiator_name(self) -> str | None:
        pairs = (line.partition("=")[::2] for line in _disks.read_text(self.initiator).splitlines())
        return next((value.strip() for key, value in pairs if key.strip() == "InitiatorName"), None)


def split_portal(portal: str, transport: str) -> tuple[str, str]:
    """Address and port; where none is given the registered one of the transport, iscsi or tcp."""
    usual = "3260" if transport == "iscsi" else "4420"
    if portal.startswith("["):
        address, _bracket, port = portal[1:].partition("]")
    else:
        address, _colon, port = portal.partition(":")
    return address, port.lstrip(":") or usual


def decide(wanted: Sequence[Wanted], initiator: str | None, host: Host) -> list[Step]:
    """What has to be done; nothing is written. Paths that are there and not wanted are left alone."""
    there = {(each["target"], each["portal"]) for each in host.sessions()}
    steps = []
    if initiator and initiator != host.initiator_name():
        steps.append(Step("initiator", f"call this host {initiator}"))
    for path in wanted:
        place = f"{path.target} at {path.portal}"
        if path.transport == "iscsi" and _differs(path, host):
            steps.append(Step("record", f"{path.name}: note how to reach {place}", path))
        if (path.target, path.portal) not in there:
            word = "log in to" if path.transport == "iscsi" else "connect"
            steps.append(Step(path.transport, f"{path.name}: {word} {place}", path))
    return steps


def apply(step: Step, initiator: str | None, names: tuple[str, str], host: Host) -> None:
    """Does one step. names: the NQN and the identifier of this host."""
    if step.wanted is None:
        _put(host.initiator, f"InitiatorName={initiator}\n")
        _tool("systemctl", "restart", "iscsid.service")
    elif step.kind == "record":
        _write_record(step.wanted, host)
    elif step.kind == "iscsi":
        _tool("iscsiadm", "-m", "node", "-T", step.wanted.target, "-p", step.wanted.portal, "--login")
    else:
        _connect(step.wanted, names, host)


def wait(wanted: Sequence[Wanted], host: Host, seconds: float) -> None:
    """Until all paths carry input and output, and each disk behind several of them is one device."""
    end = time.monotonic() + seconds
    while missing := [path for path in wanted if not _good(path, host)]:
        if time.monotonic() > end:
            told = ", ".join(f"{path.target} at {path.portal}" for path in missing)
            raise PathError(f"no path after {seconds:.0f} s: {told}. See: journalctl -u iscsid; dmesg")
        time.sleep(0.2)
    _tool("udevadm", "settle", "--timeout=60")
    shared = {path.target for path in wanted if path.transport == "iscsi" and not path.single}
    while alone := host.alone(shared):
        if time.monotonic() > end:
            raise PathError(f"no multipath device after {seconds:.0f} s: {', '.join(alone)}. See: multipath -ll -v3")
        time.sleep(0.2)


def _good(path: Wanted, host: Host) -> bool:
    states = [s["state"] for s in host.sessions() if (s["target"], s["portal"]) == (path.target, path.portal)]
    return any(state in _disk_paths.GOOD_STATES for state in states)


def _differs(path: Wanted, host: Host) -> bool:
    record = host.record(path)
    return record is None or any(_read(record).get(key) != value for key, value in path.settings().items())


def _read(record: str) -> dict[str, str]:
    pairs = (line.partition(" = ")[::2] for line in _disks.read_text(record).splitlines())
    return {key.strip(): value.strip() for key, value in pairs}


def _write_record(path: Wanted, host: Host) -> None:
    """By the file and not by iscsiadm, whose command line would show the password to everybody on the host."""
    if host.record(path) is None:
        _tool("iscsiadm", "-m", "node", "-T", path.target, "-p", path.portal, "-o", "new")
    record = host.record(path)
    if record is None:
        raise PathError(f"iscsiadm made no record of {path.target} at {path.portal} under {' or '.join(host.nodes)}")
    settings = path.settings()
    lines = _disks.read_text(record).splitlines()
    gone = {*settings, *_KEYS.values()}
    kept = [line for line in lines if line.partition(" = ")[0].strip() not in gone]
    place = next((number for number, line in enumerate(kept) if line.startswith("# END")), len(kept))
    kept[place:place] = [f"{key} = {value}" for key, value in settings.items()]
    _put(record, "".join(f"{line}\n" for line in kept))


def _connect(path: Wanted, names: tuple[str, str], host: Host) -> None:
    """By the kernel's own interface (drivers/nvme/host/fabrics.c). A path that is lost is tried again for ever."""
    _tool("modprobe", "nvme-tcp")
    options = {"nqn": path.target, "transport": "tcp", "traddr": path.address, "trsvcid": path.port}
    options |= {"hostnqn": names[0], "hostid": names[1], "ctrl_loss_tmo": "-1"}
    try:
        fd = os.open(host.fabrics, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(fd, ",".join(f"{key}={value}" for key, value in options.items()).encode())
        finally:
            os.close(fd)
    except OSError as exc:
        raise PathError(
            f"{path.target} at {path.portal} cannot be connected: {exc.strerror}. See: dmesg | grep nvme"
        ) from exc


def _put(path: str, text: str) -> None:
    """A whole file that only root reads. It grows a directory higher: open-iscsi reads files beside records."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".kiban-", dir=os.path.dirname(os.path.dirname(path)))
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _tool(*words: str) -> None:
    status, output, errors = _disks.run_tool(*words)
    if status != 0:
        raise PathError(f"{' '.join(words)}: {' '.join((errors or output).split())}")
