# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.


"""The tools of md, LVM and LUKS: how they are called, and how they call what a step is about."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks
from ansible_collections.kiban.baremetal.plugins.module_utils._layout import Step

__all__ = [
    "CACHE_TAG",
    "NEW_TAG",
    "LayoutError",
    "array_node",
    "array_uuid",
    "device_of",
    "md_uuid",
    "run",
    "running_arrays",
]

# LVM tag of a logical volume whose content is not complete. It is set in the same commit that makes the volume.
NEW_TAG = "kiban-new"
# LVM tag of a physical volume that is there for a cache.
CACHE_TAG = "kiban-cache"


class LayoutError(Exception):
    """A tool failed; the message is complete."""


def run(*words: str, key: str | None = None, accept: Sequence[int] = (0,), files: Sequence[int] = ()) -> str:
    """Runs a tool in the C locale, with the locks of the disks and, on its standard input, the key of a container.

    files: descriptors that it gets besides.
    """
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LVM_SUPPRESS_FD_WARNINGS": "1",
    }
    try:
        done = subprocess.run(
            words,
            input=(key or "").encode(),
            capture_output=True,
            check=False,
            env=environment,
            pass_fds=(*_disks._locks, *files),
        )
    except FileNotFoundError as exc:
        raise LayoutError(f"the program {words[0]} is missing on this host") from exc
    if done.returncode not in accept:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        # Some tools go on with all their options.
        said = " ".join(said.partition("Usage:")[0].split()) or f"exit status {done.returncode}"
        raise LayoutError(f"{' '.join(words)}: {said}")
    return done.stdout.decode("utf-8", "replace")


def md_uuid(text: str) -> str:
    """A UUID as mdadm, blkid or Python write it, in one form."""
    return re.sub(r"[^0-9a-f]", "", text.lower())


def running_arrays() -> dict[str, str]:
    """md arrays that the kernel shows, by UUID: device node."""
    found = {}
    for name in os.listdir("/sys/block"):
        if re.match(r"^md\d+$|^md_", name):
            output = run("mdadm", "--detail", "--export", f"/dev/{name}", accept=(0, 1, 4))
            pairs = dict(line.partition("=")[::2] for line in output.splitlines())
            uuid = pairs.get("MD_UUID") or _disks.sysfs_value(f"/sys/block/{name}/md/uuid")
            if uuid:
                found[md_uuid(uuid)] = f"/dev/{name}"
    return found


def array_uuid(step: Step) -> str:
    """Of the array of a step's pool."""
    return md_uuid(str(step.args["array"]))


def array_node(step: Step) -> str:
    """Its device node."""
    node = running_arrays().get(array_uuid(step))
    if node is None:
        raise LayoutError(f"the array of pool {step.pool} does not run")
    return node


def device_of(step: Step, path: str | None = None) -> str:
    """The device node of a step's target, or of another device of its pool."""
    path = path or step.target
    return array_node(step) if path.startswith("/dev/md/") else path
