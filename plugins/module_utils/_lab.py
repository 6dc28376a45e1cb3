# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: not an interface, may change in any release.
# Commands and network namespaces for the modules of the virtual rack.

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import typing as t

__all__ = ["LabError", "in_netns", "netns_path", "read_text", "run", "setns", "unshare_mounts"]

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
NETNS_DIR = "/run/netns"


class LabError(Exception):
    """Something of the lab cannot be done; the message is for a person."""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise LabError(f"{what}: {os.strerror(code)}")


def setns(path: str) -> None:
    """Move this process into a network namespace (os.setns needs Python 3.12)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc().setns(fd, CLONE_NEWNET), f"cannot enter network namespace {path}")
    finally:
        os.close(fd)


def unshare_mounts(binds: t.Sequence[tuple[str, str]]) -> None:
    """Give this process mounts of its own, with directories (made if missing) or files laid over others in it."""
    libc = _libc()
    _check(libc.unshare(CLONE_NEWNS), "cannot make a mount namespace")
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "cannot make mounts private")
    for source, target in binds:
        if not os.path.isfile(source):
            os.makedirs(source, exist_ok=True)
            os.makedirs(target, exist_ok=True)
        _check(
            libc.mount(source.encode(), os.path.realpath(target).encode(), None, MS_BIND, None),
            f"cannot mount {source} on {target}",
        )


def netns_path(name: str) -> str:
    return os.path.join(NETNS_DIR, name)


@contextlib.contextmanager
def in_netns(name: str | None) -> t.Iterator[None]:
    """Run the block (and commands started in it) in a named network namespace."""
    if not name:
        yield
        return
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(netns_path(name))
        try:
            yield
        finally:
            setns(f"/proc/self/fd/{home}")
    finally:
        os.close(home)


def run(argv: t.Sequence[str], stdin: str | None = None, check: bool = True) -> str:
    """Output of a command; a failure is a LabError with what the command said."""
    env = dict(os.environ, LC_ALL="C", PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    try:
        # Output goes through pipes that are drained, so a chatty command cannot block.
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=env, check=False)
    except FileNotFoundError:
        raise LabError(f"command {argv[0]} is not installed; run the lab with lab_install_packages: true") from None
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise LabError(f"{' '.join(argv[:6])}: exit status {done.returncode}: {' / '.join(said[-4:])}")
    return done.stdout


def read_text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return None
