# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil

__all__ = ("NotWritten", "write_whole")


class NotWritten(OSError):
    """A file could not be written: which, why, and what to do. Has errno and strerror of the cause."""

    def __str__(self) -> str:
        said = f"{self.filename} cannot be written, and is as it was: {self.strerror}"
        if self.errno not in (errno.ENOSPC, errno.EDQUOT):
            return said
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(os.path.dirname(self.filename) or ".")
            said += f" ({usage.free >> 20} MiB free of {usage.total >> 20} MiB)"
        return f"{said}. Free some space there and run again"


def write_whole(path: str, text: str, mode: int = 0o600) -> None:
    """Replace a file in one step, and never let others read it in between. Raises NotWritten."""
    new = f"{path}.{os.getpid()}.new"
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, mode)  # whatever the umask is
            stream.write(text)
        os.replace(new, path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise NotWritten(exc.errno, exc.strerror, path) from exc
