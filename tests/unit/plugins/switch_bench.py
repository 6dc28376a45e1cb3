# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switches of Open vSwitch and FRR in network namespaces, and wires between them. Needs root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# Two runs at once on one machine must not meet.
PREFIX = f"kfab-{os.getpid()}-"
PROGRAMS = ("ip", "ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "vtysh")
FRR_DAEMONS = "/usr/lib/frr"
MODULES = "ansible_collections.kiban.baremetal.plugins.modules"


def missing_programs(*programs: str) -> str:
    """Why nothing can be made in namespaces here; empty when it can."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [name for name in programs if not shutil.which(name, path=PATH)]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    probe = f"{PREFIX}probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True, check=False)
    return "" if made.returncode == 0 else "no network namespaces here"


def missing(*more: str) -> str:
    """Why no switch can be made here; empty when one can."""
    why = missing_programs(*PROGRAMS, *more)
    return why or ("" if os.path.exists(f"{FRR_DAEMONS}/bgpd") else "not installed: bgpd")


class Space:
    """A namespace, and the processes that were started in it."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.netns = name, f"{PREFIX}{name}"
        # Socket paths have to be short.
        self.directory = directory / name
        self.directory.mkdir(parents=True)
        self.processes: list[subprocess.Popen[bytes]] = []
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        self.run("ip", "link", "set", "lo", "up")

    def argv(self, *argv: Any) -> list[str]:
        return ["ip", "netns", "exec", self.netns, *map(str, argv)]

    def run(self, *argv: Any, check: bool = True) -> str:
        done = subprocess.run(
            self.argv(*argv), capture_output=True, text=True, check=False, env={**os.environ, "PATH": PATH}
        )
        assert done.returncode == 0 or not check, f"{argv}: {done.stderr}{done.stdout}"
        return done.stdout

    def daemon(self, *argv: Any, ready: Path | None = None) -> None:
        places = {f"OVS_{name}DIR": str(self.directory) for name in ("RUN", "LOG", "DB", "SYSCONF")}
        with open(self.directory / f"{Path(str(argv[0])).name}.log", "wb") as log:
            process = subprocess.Popen(
                self.argv(*argv), stdout=log, stderr=log, env={**os.environ, **places, "PATH": PATH}
            )
        self.processes.append(process)
        eventually(lambda: process.poll() is not None or ready is None or ready.exists(), 60)
        assert process.poll() is None, Path(log.name).read_text()

    def close(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        subprocess.run(["ip", "netns", "delete", self.netns], check=False)


class Router(Space):
    """A namespace with FRR."""

    frr = FRR_DAEMONS
    """Directory of the daemons; one of another version has its vtysh beside them."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, directory)
        here = self.directory
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
        # From FRR 10 on, which has no --bfdctl either.
        mgmtd = [("mgmtd", [])] if os.path.exists(f"{self.frr}/mgmtd") else []
        empty = ["-f", "/dev/null"]
        bfdd = ("bfdd", empty if mgmtd else [*empty, "--bfdctl", f"{here}/bfdd.sock"])
        for daemon, more in (*mgmtd, ("zebra", empty), ("staticd", [] if mgmtd else empty), bfdd, ("bgpd", empty)):
            self.daemon(
                f"{self.frr}/{daemon}",
                *("-u", "root", "-g", "frrvty", "-P", "0", "--vty_socket", here, "-z", here / "zserv.api"),
                *("-i", here / f"{daemon}.pid", "--log", "stdout", *more),
                ready=here / f"{daemon}.vty",
            )

    def vtysh(self, *lines: str) -> str:
        return self._vtysh(*(word for line in lines for word in ("-c", line)))

    def configure(self, text: str) -> None:
        """By a file, as FRR reads its own."""
        path = self.directory / "frr.conf"
        path.write_text(text)
        self._vtysh("-f", path)

    def _vtysh(self, *argv: Any) -> str:
        own = f"{self.frr}/vtysh"
        return self.run(own if os.path.exists(own) else "vtysh", "--vty_socket", self.directory, *argv)


class Switch(Router):
    """A router with Open vSwitch in user space."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, directory)
        here = self.directory
        # The kernel sees what a port receives beside Open vSwitch in user space, and would answer for the SVIs there.
        self.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1")
        self.run("ovsdb-tool", "create", here / "conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
        self.daemon(
            "ovsdb-server",
            here / "conf.db",
            f"--remote=punix:{here}/db.sock",
            f"--unixctl={here}/ovsdb.ctl",
            ready=here / "db.sock",
        )
        self.daemon(
            "ovs-vswitchd",
            f"unix:{here}/db.sock",
            "--disable-system",
            f"--unixctl={here}/vswitchd.ctl",
            ready=here / "vswitchd.ctl",
        )

    def options(self) -> dict[str, Any]:
        here = str(self.directory)
        return {"database": f"{here}/db.sock", "frr_run_dir": here, "state_dir": f"{here}/state"}

    def module(self, name: str, check: bool = False, **options: Any) -> dict[str, Any]:
        """The answer of a module that runs on this switch."""
        if name == "switch_config":
            options = {"datapath_type": "netdev", "frr_config": f"{self.directory}/frr.conf", **options}
        return run_module(self, name, check, **self.options(), **options)


def run_module(space: Space, name: str, check: bool = False, **options: Any) -> dict[str, Any]:
    """The answer of a module that runs in a namespace."""
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    code = (
        "import importlib,json,sys;from ansible.module_utils.testing import patch_module_args\n"
        f"module = importlib.import_module('{MODULES}.{name}')\n"
        "with patch_module_args(json.load(sys.stdin)): module.main()"
    )
    checkout = str(Path(__file__).resolve().parents[3] / ".ansible" / "collections")
    done = subprocess.run(
        space.argv(sys.executable, "-c", code),
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": PATH, "PYTHONPATH": checkout},
    )
    assert done.stdout.strip(), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


class Bench:
    """All that a test makes, taken away again at its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # lldpcli gives its rights up before it looks for the socket.
        directory.chmod(0o755)
        self.spaces: dict[str, Space] = {}

    def add(self, kind: type[Any], name: str) -> Any:
        """A Space, Router or Switch; one that fails while it starts is taken away too."""
        made = self.spaces[name] = kind.__new__(kind)
        made.processes, made.netns = [], f"{PREFIX}{name}"
        made.__init__(name, self.directory)
        return made

    def wire(self, one: str, port: str, other: str, far: str) -> None:
        """Interfaces by the names that they have in the model."""
        a, b = self.spaces[one].netns, self.spaces[other].netns
        subprocess.run(
            ["ip", "link", "add", port, "netns", a, "type", "veth", "peer", "name", far, "netns", b], check=True
        )
        for netns, name in ((a, port), (b, far)):
            subprocess.run(["ip", "-n", netns, "link", "set", name, "up"], check=True)
            # What a userspace switch forwards must be complete: no checksum left for hardware.
            subprocess.run(
                ["ip", "netns", "exec", netns, "ethtool", "-K", name, "tx", "off"], capture_output=True, check=False
            )

    def close(self) -> None:
        for space in reversed(list(self.spaces.values())):
            space.close()


def eventually(true: Callable[[], bool], seconds: float) -> float:
    """Wait until something is true; how long it took."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, f"not true after {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - start
