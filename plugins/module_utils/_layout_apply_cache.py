# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.


"""Does the steps of caches: dm-cache by LVM."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils._layout import CACHE_VOLUME, Step
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_tools import (
    CACHE_TAG,
    LayoutError,
    device_of,
    run,
)

__all__ = ["CHECKED", "STEPS", "release_components", "without_leftover"]

# A lost cache leaves a thin pool that wants to be checked, and takes no writes until it was and is said to be well.
CHECKED = ("--config", 'global/thin_check_options=["-q","--clear-needs-check-flag"]')

# The cache while it is in front of a volume.
_IN_USE = f"{CACHE_VOLUME}_cvol"


def release_components(group: str) -> None:
    """A kill while a thin pool is activated leaves its parts active, and LVM refuses the pool until they are not."""
    for line in run("lvs", "--noheadings", "-o", "lv_name,segtype,lv_active", group).splitlines():
        words = line.split()
        if words[1:] == ["thin-pool"]:
            parts = [f"{group}/{words[0]}_{part}" for part in ("tmeta", "tdata")]
            run("lvchange", "-qq", "-an", *parts, accept=(0, 5))


def _name(step: Step) -> str:
    return step.target[len("/dev/") :]


def _release_cache(step: Step) -> None:
    """While no volume has a cache: devices of one that a killed tool left, which hold its disks."""
    prefix = step.pool.replace("-", "--") + "-"
    left = [line.split("\t")[0] for line in run("dmsetup", "ls").splitlines()]
    # Those with the longest names are above the others.
    for name in sorted(left, key=len, reverse=True):
        if name.startswith(prefix + CACHE_VOLUME) or (name.startswith(prefix) and name.endswith("_corig")):
            run("dmsetup", "remove", name, accept=(0, 1))


def _pv_tag(step: Step, _key: str | None) -> None:
    run("pvchange", "-qq", "--addtag", CACHE_TAG, device_of(step))


def _group_reduce(step: Step, _key: str | None) -> None:
    pvs: Any = step.args["pvs"]
    _release_cache(step)
    if step.args["lost"]:
        run("vgreduce", "-qq", "--removemissing", step.target)
    if pvs:
        run("vgreduce", "-qq", step.target, *pvs)


def _lv_refresh(step: Step, _key: str | None) -> None:
    run("lvchange", "-qq", "--refresh", _name(step))


def _cache_create(step: Step, _key: str | None) -> None:
    pvs: Any = step.args["pvs"]
    devices = [device_of(step, pv) for pv in pvs]
    _release_cache(step)
    run("lvcreate", "-qq", "-y", "-n", CACHE_VOLUME, "-l", "100%PVS", "-Wy", "-Zy", step.pool, *devices)


def _cache_remove(step: Step, _key: str | None) -> None:
    run("lvremove", "-qq", "-y", _name(step))


def _cache_attach(step: Step, _key: str | None) -> None:
    _release_cache(step)
    words = ["--type", "cache", "--cachevol", CACHE_VOLUME, "--cachemode", str(step.args["mode"])]
    run("lvconvert", "-qq", "-y", *words, _name(step))


def _cache_mode(step: Step, _key: str | None) -> None:
    run("lvchange", "-qq", "-y", "--cachemode", str(step.args["mode"]), _name(step))


def _cache_detach(step: Step, _key: str | None) -> None:
    """One that is lost fails all that is on it, so nothing of that may be in use."""
    mounts: Any = step.args.get("mounts", ())
    volumes: Any = step.args.get("volumes", ())
    for mount in mounts:
        run("umount", mount)
    for volume in volumes:
        run("lvchange", "-qq", "-an", volume[len("/dev/") :])
    run("lvconvert", "-qq", "-y", "--uncache", *(["--force"] if volumes else []), _name(step))


def _cache_forget(step: Step, _key: str | None) -> None:
    """Out of LVM's metadata: to remove these two would remove the volume that one of them claims."""
    name = step.target.rpartition("/")[2]
    _release_cache(step)
    with tempfile.TemporaryDirectory() as directory:
        before, after = f"{directory}/before", f"{directory}/after"
        run("vgcfgbackup", "-qq", "-f", before, step.pool)
        with open(before, encoding="utf-8") as file:
            text = without_leftover(file.read(), name)
        if text is None:
            raise LayoutError(f"{step.target} is not what a killed tool leaves: see lvs -a {step.pool}")
        with open(after, "w", encoding="utf-8") as file:
            file.write(text)
        run("vgcfgrestore", "-qq", "-y", "--force", "-f", after, step.pool)


def without_leftover(text: str, name: str) -> str | None:
    """Metadata of LVM without a cache and what it was in front of; None if they are not just that."""
    for each, mine in ((name, f'cache_pool = "{_IN_USE}"'), (_IN_USE, '"CACHE_VOL"')):
        block = re.search(rf"\n\t\t{re.escape(each)} \{{\n.*?\n\t\t\}}\n", text, re.DOTALL)
        if block is None or mine not in block[0]:
            return None
        text = text.replace(block[0], "\n", 1)
    return text


STEPS: dict[str, Callable[[Step, str | None], None]] = {
    "pv_tag": _pv_tag,
    "group_reduce": _group_reduce,
    "lv_refresh": _lv_refresh,
    "cache_create": _cache_create,
    "cache_remove": _cache_remove,
    "cache_attach": _cache_attach,
    "cache_mode": _cache_mode,
    "cache_detach": _cache_detach,
    "cache_forget": _cache_forget,
}
