# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads servers over SSH: one process, one connection and one small script a server.

By AsyncSSH and not by OpenSSH: a client process a server takes more than ten times the processor time, see
docs/testing.md.
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import asyncssh

from .._probe.probe import COMMAND, script
from .._site.state import HostState

__all__ = ["SshAccess", "read_hosts", "ssh_command"]

_PORT = 22


@dataclass(frozen=True)
class SshAccess:
    """How this control host reaches the servers of a site. Host keys are always verified."""

    site_dir: str
    connect_timeout: int = 4
    """Seconds until a silent address counts as not answering."""
    total_timeout: int = 60

    @property
    def key(self) -> str:
        return os.path.join(self.site_dir, "ssh", "id_ed25519")

    @property
    def known_hosts(self) -> str:
        return os.path.join(self.site_dir, "known_hosts")


def ssh_command(access: SshAccess, name: str, address: str) -> list[str]:
    """The OpenSSH client command for one server, without the remote command."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(access.connect_timeout),
        "HostKeyAlias": name,
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": access.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
    }
    command = ["ssh", "-F", "none", "-T", "-i", access.key]
    for key, value in options.items():
        command += ["-o", f"{key}={value}"]
    return [*command, f"root@{address}"]


def read_hosts(
    access: SshAccess,
    addresses: Mapping[str, str],
    paths: Mapping[str, Iterable[str]],
    at_once: int,
    layouts: Collection[str] = (),
) -> dict[str, HostState]:
    """Run the probe on servers (name to address), C(at_once) side by side. Never raises: what failed is in C(error).

    Those in C(layouts) are asked for their pools too.
    """
    if not addresses:
        return {}
    # It tells of every connection that fails, and so does the plan.
    logging.getLogger("asyncssh").setLevel(logging.CRITICAL)

    def program(name: str) -> str:
        return script(sorted(paths.get(name, ())), name in layouts)

    return asyncio.run(_read_all(access, addresses, program, at_once))


async def _read_all(
    access: SshAccess, addresses: Mapping[str, str], program: Callable[[str], str], at_once: int
) -> dict[str, HostState]:
    try:
        key = asyncssh.read_private_key(access.key)
        with open(access.known_hosts, encoding="utf-8") as file:
            known_hosts = asyncssh.import_known_hosts(file.read())
    except (OSError, asyncssh.KeyImportError, ValueError) as exc:
        return dict.fromkeys(addresses, HostState(error=f"this control host has no usable SSH keys of the site: {exc}"))
    options = asyncssh.SSHClientConnectionOptions(
        username="root",
        client_keys=[key],
        known_hosts=known_hosts,
        # Nothing of the user's own: no configuration, no agent, no other keys.
        config=[],
        agent_path=None,
        gss_host=None,
        preferred_auth="publickey",
        connect_timeout=access.total_timeout,
    )
    gate = asyncio.Semaphore(at_once)

    async def one(name: str) -> HostState:
        async with gate:
            return await _read(access, options, name, addresses[name], program(name))

    return dict(zip(addresses, await asyncio.gather(*map(one, addresses)), strict=True))


async def _read(
    access: SshAccess, options: asyncssh.SSHClientConnectionOptions, name: str, address: str, program: str
) -> HostState:
    try:
        async with asyncio.timeout(access.total_timeout):
            answer, began = await _ask(access, options, name, address, program)
    except TimeoutError as exc:
        return HostState(error=str(exc) or f"no answer over SSH at {address} within {access.total_timeout} s")
    except (OSError, asyncssh.Error) as exc:
        return HostState(error=f"SSH to {address}: {_reason(exc)}")
    try:
        probe = json.loads(answer.strip().splitlines()[-1])
        # Before it was asked or after it answered: its clock is off by that much, at least.
        off = max(began - probe["time"], probe["time"] - time.time(), 0.0)
        return HostState.from_probe(probe, off)
    except (ValueError, IndexError, KeyError, TypeError):
        return HostState(error=f"SSH to {address}: the probe's answer can't be read: {answer[-200:]!r}")


async def _ask(
    access: SshAccess, options: asyncssh.SSHClientConnectionOptions, name: str, address: str, program: str
) -> tuple[str, float]:
    """What the program writes on the server, and when it was sent there."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        try:
            async with asyncio.timeout(access.connect_timeout):
                await asyncio.get_running_loop().sock_connect(sock, (address, _PORT))
        except TimeoutError:
            raise TimeoutError(f"SSH to {address}: no answer within {access.connect_timeout} s") from None
        # Known under its name: the ramdisk and the installed system answer at one address.
        connection = await asyncssh.connect(address, sock=sock, options=options, host_key_alias=name)
    except BaseException:
        sock.close()
        raise
    try:
        began = time.time()
        done = await connection.run(COMMAND, input=program, errors="replace")
    finally:
        connection.abort()
        with contextlib.suppress(OSError, asyncssh.Error):
            await connection.wait_closed()
    if done.exit_status != 0:
        lines = str(done.stderr or "").strip().splitlines() or [f"the probe ended with {done.exit_status}"]
        raise OSError(lines[-1])
    return str(done.stdout), began


def _reason(exc: Exception) -> str:
    if isinstance(exc, asyncssh.HostKeyNotVerifiable):
        return f"Host key verification failed: {exc.reason}. Is that address another machine's?"
    if isinstance(exc, asyncssh.PermissionDenied):
        return "it does not let in the site's key"
    # asyncio puts its own sentence in the place of the system's.
    return os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
