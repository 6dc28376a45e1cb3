# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: not an interface, may change in any release.

"""A change that undoes itself unless it is confirmed. What that takes lies on the device before anything is changed."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import time
import uuid
from collections.abc import Sequence

__all__ = ["Commit"]

# Whoever renames `pending` first, the timer or the confirmation, decides; the other one finds it gone.
_SCRIPT = """\
#!/bin/sh
# Takes a change back that nobody confirmed. Arguments: seconds to wait, identity of the change.
cd {directory} || exit 1
left="$1"
while [ "$(cat pending 2>/dev/null)" = "$2" ]; do
  [ "$left" -gt 0 ] || break
  left=$((left - 1))
  sleep 1
done
[ "$(cat pending 2>/dev/null)" = "$2" ] || exit 0
mv pending reverting 2>/dev/null || exit 0
{{
{steps}
}} > undo.log 2>&1
mv reverting reverted
"""


class Commit:
    """Files in a directory of the device: C(undo.sh), and C(pending) or what became of it."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _has(self, name: str) -> bool:
        return os.path.exists(self._path(name))

    @property
    def pending(self) -> bool:
        return self._has("pending") or self._has("reverting")

    @property
    def reverted(self) -> bool:
        """The last change was taken back and nobody has looked yet."""
        return self._has("reverted")

    def arm(self, undo: Sequence[Sequence[str]], seconds: int) -> None:
        """From now on the steps of `undo` run after so many seconds, whatever becomes of this process."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        self.clear()
        # One that fails must not keep the others from running.
        steps = "\n".join(" ".join(shlex.quote(word) for word in step) for step in undo) or ":"
        self.write("undo.sh", _SCRIPT.format(directory=shlex.quote(self.directory), steps=steps))
        change = uuid.uuid4().hex
        self.write("pending", change)
        subprocess.Popen(
            ["/bin/sh", self._path("undo.sh"), str(seconds), change],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=True,
            start_new_session=True,
            cwd="/",
        )

    def write(self, name: str, content: str) -> str:
        """A file beside the others; its path."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        with open(self._path(name), "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        return self._path(name)

    def confirm(self) -> bool:
        """True when there was a change to confirm, and it stays."""
        try:
            os.rename(self._path("pending"), self._path("confirmed"))
        except FileNotFoundError:
            return False
        return True

    def revert(self) -> bool:
        """Take the change back now; True when there was one."""
        try:
            with open(self._path("pending"), encoding="utf-8") as stream:
                change = stream.read()
        except FileNotFoundError:
            return False
        subprocess.run(["/bin/sh", self._path("undo.sh"), "0", change], check=False, cwd="/")
        return True

    def wait(self, seconds: float) -> None:
        """Until a reversal that has begun is through."""
        end = time.monotonic() + seconds
        while self._has("reverting") and time.monotonic() < end:
            time.sleep(0.1)

    def clear(self) -> None:
        for name in ("reverted", "confirmed", "undo.log"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(name))
