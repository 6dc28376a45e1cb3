# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads servers over OpenSSH: one connection and one small script a server."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass

from .._probe.probe import script
from .._site.state import HostState

__all__ = ["SshAccess", "read_host", "ssh_command"]


@dataclass(frozen=True)
class SshAccess:
    """How this control host reaches the servers of a site. Host keys are always verified."""

    site_dir: str
    connect_timeout: int = 4
    """Seconds until a silent address counts as not answering."""
    total_timeout: int = 60


def ssh_command(access: SshAccess, name: str, address: str) -> list[str]:
    """The OpenSSH client command for one server, without the remote command."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(access.connect_timeout),
        "HostKeyAlias": name,
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f"{access.site_dir}/known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
    }
    command = ["ssh", "-F", "none", "-T", "-i", f"{access.site_dir}/ssh/id_ed25519"]
    for key, value in options.items():
        command += ["-o", f"{key}={value}"]
    return [*command, f"root@{address}"]


def read_host(access: SshAccess, name: str, address: str, paths: list[str]) -> HostState:
    """Run the probe on one server. Never raises: what failed is in C(error)."""
    command = [*ssh_command(access, name, address), "python3", "-"]
    began = time.time()
    try:
        done = subprocess.run(
            command, input=script(paths), capture_output=True, text=True, timeout=access.total_timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return HostState(error=f"no answer over SSH at {address} within {access.total_timeout} s")
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"ssh ended with {done.returncode}"])[-1]
        return HostState(error=f"SSH to {address}: {reason}")
    try:
        probe = json.loads(done.stdout.strip().splitlines()[-1])
        # Before it was asked or after it answered: its clock is off by that much, at least.
        off = max(began - probe["time"], probe["time"] - time.time(), 0.0)
        return HostState.from_probe(probe, off)
    except (ValueError, IndexError, KeyError):
        return HostState(error=f"SSH to {address}: the probe's answer can't be read: {done.stdout[-200:]!r}")
