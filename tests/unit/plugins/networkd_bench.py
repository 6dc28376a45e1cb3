# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with systemd-networkd in network namespaces. Needs root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .switch_bench import Space, eventually, missing_programs, run_module

NETWORKD = "/lib/systemd/systemd-networkd"


def missing_networkd(*more: str) -> str:
    """Why no such host can be made here; empty when one can."""
    why = missing_programs("ip", "unshare", "nsenter", "mount", "dbus-daemon", "networkctl", *more)
    return why or ("" if os.path.exists(NETWORKD) else "not installed: systemd-networkd")


# Without /sys to write to, networkd takes the place for a container and waits for no udev.
_HOLD = """\
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network: /run/systemd/netif
mount -t tmpfs tmpfs /etc/systemd
mkdir /etc/systemd/network
mount -o remount,ro,bind /sys || mount -o remount,ro /sys
touch {ready}
exec sleep 3600
"""
# Stands for the service manager, which is not there.
_SYSTEMCTL = """\
#!/bin/sh
[ "$1 $2" = "restart systemd-networkd.service" ] || exit 1
kill "$(cat /run/networkd.pid)"
while kill -0 "$(cat /run/networkd.pid)" 2>/dev/null; do sleep 0.1; done
exec {here}/networkd
"""
_NETWORKD = """\
#!/bin/sh
{networkd} >> {here}/networkd.log 2>&1 < /dev/null &
echo $! > /run/networkd.pid
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
  networkctl list > /dev/null 2>&1 && exit 0
  sleep 1
done
exit 1
"""


class Host(Space):
    """A namespace with systemd-networkd, and a /run and /etc/systemd/network of its own."""

    holder = 0

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, directory)
        here = self.directory
        for program, text in (("systemctl", _SYSTEMCTL), ("networkd", _NETWORKD)):
            (here / program).write_text(text.format(here=here, networkd=NETWORKD))
            (here / program).chmod(0o755)
        self.daemon("unshare", "-m", "--propagation", "private", "sh", "-c", _HOLD.format(ready=here / "ready"))
        # The shell becomes the sleeping process, so the namespace is that of the process that was started.
        self.holder = self.processes[-1].pid
        eventually((here / "ready").exists, 30)
        self.daemon("dbus-daemon", "--system", "--nofork", "--nopidfile")
        socket = "[ -S /run/dbus/system_bus_socket ] && echo yes"
        eventually(lambda: "yes" in self.run("sh", "-c", socket, check=False), 30)
        self.run(here / "networkd")

    def argv(self, *argv: Any) -> list[str]:
        if not self.holder:
            return super().argv(*argv)
        path = f"PATH={self.directory}:/usr/sbin:/usr/bin:/sbin:/bin"
        return ["nsenter", "-t", str(self.holder), "-m", "-n", "env", path, *map(str, argv)]

    def module(self, check: bool = False, **options: Any) -> dict[str, Any]:
        return run_module(self, "host_network", check, **options)

    def close(self) -> None:
        if self.holder:
            self.run("sh", "-c", "kill $(cat /run/networkd.pid)", check=False)
        super().close()
