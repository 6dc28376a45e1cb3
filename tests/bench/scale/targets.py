# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many servers for SSH from one process: `python targets.py WORK`. It runs the reader's own program, as it was sent.

Each address of WORK/targets.json is a server with a root of its own. The program runs in a fork, with the paths in it
moved to that root; so the cost of a target, which no control host has to bear, is small enough for a thousand of them.
Any other command, such as Ansible's, runs for real in namespaces of its own, on the root of a server that has a whole
one (World.whole): with this machine's /usr, read-only, and stand-ins for systemctl and networkctl. One that has a /usr
of its own has that above it, and something mounted at /srv/volumes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch  # noqa: F401  (what the program imports is there before the fork)
import glob  # noqa: F401
import json
import os
import re
import select  # noqa: F401
import socket  # noqa: F401
import sys
from pathlib import Path
from typing import Any

import asyncssh

_SHARED = ("/sys/", "/proc/", "/var/lib/kubelet", "/usr/lib/kiban")


def moved(program: str, name: str, root: str, shared: str) -> str:
    """The program with its paths in the server's root. PATHS stay as sent, and are moved where they are read."""
    head, mark, rest = program.partition("\nLOCAL = ")
    rest = rest.replace('"/etc/', f'"{root}/etc/').replace('/etc/systemd/system/"', f'{root}/etc/systemd/system/"')
    for path in _SHARED:
        rest = rest.replace(f'"{path}', f'"{shared}{path}')
    rest = rest.replace("os.uname().nodename", repr(name))
    rest = rest.replace(":= digest(path))", f":= digest({root!r} + path))")
    return head + mark + rest


_INSIDE = """\
set -e
if [ -d "$1/own/usr" ]; then
  mount -t overlay -o "lowerdir=$1/own/usr:/usr" overlay "$1/usr"
  mount --bind "$1/own/srv/volumes" "$1/srv/volumes"
else
  mount --bind /usr "$1/usr"
  mount -o remount,bind,ro "$1/usr"
fi
mount --bind /dev "$1/dev"
mount --bind "$1/own/var/lib/kubelet" "$1/var/lib/kubelet"
exec unshare --pid --fork --kill-child --root="$1" --mount-proc /bin/sh -c "$2"
"""


class Targets:
    def __init__(self, work: Path) -> None:
        self.names: dict[str, str] = json.loads((work / "targets.json").read_text())
        self.work = work
        self.codes: dict[str, Any] = {}

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        name = self.names[process.get_extra_info("sockname")[0]]
        if not (process.command or "").startswith("python3 -"):
            await self.run_inside(name, process)
            return
        program = await process.stdin.read()
        process.stdout.write((await self.run(name, program.decode())).encode())
        process.exit(0)

    async def run_inside(self, name: str, process: asyncssh.SSHServerProcess[bytes]) -> None:
        root = f"{self.work}/roots/{name}"
        if not os.path.isdir(f"{root}/own/pristine"):
            process.stderr.write(f"{name} is no whole server: it knows only the reader's program\n".encode())
            process.exit(1)
            return
        command = ["unshare", "--mount", "/bin/sh", "-c", _INSIDE, "sh", root, process.command or "true"]
        environment = {"HOME": "/root", "PATH": "/own/bin:/usr/sbin:/usr/bin", "TARGET_ROOT": "/own", "LANG": "C.UTF-8"}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
        child = await asyncio.create_subprocess_exec(*command, env=environment, **pipes)

        async def feed() -> None:
            while data := await process.stdin.read(65536):
                child.stdin.write(data)
                await child.stdin.drain()
            child.stdin.close()

        feeding = asyncio.create_task(feed())
        out, errors = await asyncio.gather(child.stdout.read(), child.stderr.read())
        code = await child.wait()
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):  # it may have ended without reading all
            await feeding
        process.stdout.write(out)
        process.stderr.write(errors)
        process.exit(code)

    async def run(self, name: str, program: str) -> str:
        # A server may have a root of its own also for what others share.
        own = f"{self.work}/roots/{name}/own"
        shared = own if os.path.isdir(own) else f"{self.work}/root"
        code = compile(moved(program, name, f"{self.work}/roots/{name}", shared), name, "exec")
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(into, 1)
            os.environ["TARGET_ROOT"] = shared
            sys.stdout = os.fdopen(1, "w")
            try:
                exec(code, {"__name__": "__main__"})
                sys.stdout.flush()
            finally:
                os._exit(0)
        os.close(into)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(out, "rb"))
        answer = await reader.read()
        os.waitpid(pid, 0)
        return answer.decode()


class Login(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True


async def main(work: Path) -> None:
    ssh = work / "sites" / "scale" / "ssh"
    await asyncssh.listen(
        "0.0.0.0",
        22,
        server_factory=Login,
        server_host_keys=[(str(work / "host"), str(work / "host-cert.pub"))],
        authorized_client_keys=str(ssh / "id_ed25519.pub"),
        process_factory=Targets(work).serve,
        encoding=None,
        gss_host=None,
    )
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    os.environ["PATH"] = f"{sys.argv[1]}/root/bin:{os.environ['PATH']}"
    # A server's program may not find this machine's own.
    assert re.fullmatch(r"/[^\s'\"]+", sys.argv[1])
    asyncio.run(main(Path(sys.argv[1])))
