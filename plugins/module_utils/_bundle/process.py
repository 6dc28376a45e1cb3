# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Running the tools of others."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import BundleError, full_disk

__all__ = ["run"]

_TAIL = 15


def run(what: str, argv: Sequence[str], place: Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command and return its output; on failure say which, where, and what it said last."""
    command = list(argv)
    if shutil.which("setpriv"):
        # A command must not outlive us and go on writing into a directory that the next run takes over.
        command = ["setpriv", "--pdeathsig", "TERM", *command]
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise BundleError(f"{what}: the command {argv[0]} is not installed") from error
    if done.returncode == 0:
        return done.stdout
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    if any("no space left on device" in line.lower() or "file too large" in line.lower() for line in said):
        raise BundleError(f"{what}: {full_disk(place)}")
    how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
    raise BundleError("\n".join([f"{what}: {' '.join(argv[:3])} ... {how}. It said last:", *said[-_TAIL:]]))
