# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of kiban.baremetal.server_boot: media, boot override, power and the wait for SSH as one step."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..module_utils._bmc import BmcError, Options, connect
from ..module_utils._bmc.boot import BootState
from ..plugin_utils._play import lease_errors
from ..plugin_utils._readers.bmcs import bmc_options
from ..plugin_utils._readers.hosts import SshAccess, ssh_command
from ..plugin_utils._runs.leases import take_lease
from ..plugin_utils._runs.power import Feed, PowerTimeout, power_slot

_PAUSE = 1.0


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        # Read through hostvars: only there are templates in variables resolved.
        variables = task_vars["hostvars"][task_vars["inventory_hostname"]]
        _unused, args = self.validate_argument_spec(
            {
                "source": {"type": "str", "choices": ["virtual_media", "disk", "none"], "required": True},
                "image": {"type": "str"},
                "system": {"type": "str", "choices": ["ramdisk", "node"], "required": True},
                "restart": {"type": "str", "choices": ["graceful", "forced"], "default": "forced"},
                "timeout": {"type": "int", "default": 600},
                "bmc_timeout": {"type": "int", "default": 120},
            },
            required_if=[("source", "virtual_media", ["image"])],
        )
        server = variables["kiban_server"]
        access = SshAccess(variables["kiban_site_dir"])
        if args["source"] == "none":
            began = time.monotonic()
            wait(access, server, args["system"], args["timeout"])
            return {**result, "changed": False, "seconds": round(time.monotonic() - began, 1)}
        if self._task.check_mode:
            return {**result, "changed": True, "seconds": 0.0}
        feed = feed_of(variables["kiban_site"], server)
        with lease_errors(server["name"]):
            # Of the run, not of this process, which ends with the task.
            take_lease(access.site_dir, server["name"], os.getppid())
        try:
            watts = server["profile"].get("power_on_watts") or 0
            with power_slot(access.site_dir, feed, server["name"], watts, 10.0 * args["timeout"]):
                began = time.monotonic()
                start(
                    bmc_options(server, variables), args["source"], args["image"], args["restart"], args["bmc_timeout"]
                )
                if hasattr(self._connection, "reset"):
                    # A connection that is kept open would go on waiting for a system that is gone.
                    self._connection.reset()
                wait(access, server, args["system"], args["timeout"])
        except PowerTimeout as exc:
            raise AnsibleActionFail(f"{server['name']}: {exc}. Run again when that is over") from exc
        except BmcError as exc:
            raise AnsibleActionFail(f"{server['name']}: {exc}", result={"failure": exc.as_dict()}) from exc
        return {**result, "changed": True, "seconds": round(time.monotonic() - began, 1)}


def feed_of(site: Mapping[str, Any], server: Mapping[str, Any]) -> Feed:
    """What the server's rack bears, from the model."""
    rack: Mapping[str, Any] = next((rack for rack in site["racks"] if rack["name"] == server["rack"]), {})
    return Feed(server["rack"], site["limits"].get("rack_power_ons"), rack.get("power_on_watts"))


def start(options: Options, source: str, image: str | None, restart: str, timeout: int) -> None:
    """Set what the server boots from, and boot it, in one session of its BMC."""
    with connect(options) as bmc:
        media, target = ("inserted", "cd") if source == "virtual_media" else ("ejected", "disk")
        bmc.media.apply(bmc.media.plan(media, image, "cd"), timeout)
        wanted = BootState(target, "once")
        if not bmc.boot.same(wanted, bmc.boot.read()):
            bmc.boot.apply(wanted, timeout)
        now = bmc.power.read()
        if restart == "graceful" and now == "on":
            # Not a restart: nobody could tell the system that still answers from the one that comes.
            now, _sent = bmc.power.apply(bmc.power.plan("off", "graceful"), timeout)
        bmc.power.apply(bmc.power.plan("on" if now in ("off", "powering_off") else "restarted", "forced"), timeout)


def wait(access: SshAccess, server: Mapping[str, Any], system: str, timeout: int) -> None:
    """Until the wanted system answers over SSH with a host key that the site's authority signed."""
    name, address = server["name"], server["addresses"]["node"]
    # The marker file is what tells the ramdisk from an installed system.
    command = [*ssh_command(access, name, address), "test -e /etc/kiban/ramdisk && echo ramdisk || echo node"]
    deadline = time.monotonic() + timeout
    seen = "nothing"
    while time.monotonic() < deadline:
        began = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            seen = f"the {done.stdout.strip()} system" if done.returncode == 0 else _last(done.stderr)
            if done.returncode == 0 and done.stdout.strip() == system:
                return
        except subprocess.TimeoutExpired:
            seen = "an SSH connection that does not get on"
        time.sleep(max(0.0, _PAUSE - (time.monotonic() - began)))
    raise AnsibleActionFail(
        f"{name}: the {system} system has not answered over SSH at {address} within {timeout} s. Last seen: {seen}. "
        f"Look at the server's console through its BMC {server['bmc']['address']}: does it start at all, from where, "
        "and does it find its network?"
    )


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no answer"
