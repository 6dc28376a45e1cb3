# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a node in QEMU: caches in front of volumes, and what happens when their disks are lost. Prints JSON."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

from ansible_collections.kiban.baremetal.tests.rack.disks.layout_guest import (
    data,
    endures,
    fails,
    layout,
    main,
    no_change,
    pool,
    pull,
    put,
    size_of,
    tool,
    volume,
    whole,
)

MOUNTS = ("/srv/data", "/srv/db")


def tier(*cache: str, front: str = "store", size: int = 80, luks: bool = False, mode: str = "writethrough") -> Any:
    """Two disks with a thin pool and a plain volume, and a cache in front of one of these."""
    db = volume("db", 400, type="thin", thin_pool="store", filesystem="xfs", mount="/srv/db")
    volumes = [data(size), volume("store", 340, type="thin-pool"), db]
    stated = {"disks": list(cache), "volume": front, "mode": mode} if cache else None
    return pool("slow", "DATA-VIRTIO", "DATA-SATA", luks=luks, volumes=volumes, cache=stated)


def kernel(name: str) -> str:
    """The target that device-mapper has for a device."""
    return tool("dmsetup", "status", name).split()[2]


def create() -> Any:
    foreseen = layout(tier("DATA-NVME"), check=True)["steps"]
    done = layout(tier("DATA-NVME"))["steps"]
    assert done[: len(foreseen)] == foreseen, (foreseen, done)
    for mount in MOUNTS:
        put(f"{mount}/precious", mount)
    no_change(tier("DATA-NVME"))
    assert kernel("slow-store_tdata") == "cache"
    return done


def after_start() -> Any:
    """systemd brings all of it back, cache and all."""
    end = time.monotonic() + 120
    while not all(map(os.path.ismount, MOUNTS)) and time.monotonic() < end:
        time.sleep(1)
    whole(*MOUNTS)
    assert kernel("slow-store_tdata") == "cache"
    no_change(tier("DATA-NVME"))
    return None


def pulled() -> Any:
    """The cache dies in use: the volume fails, and loses nothing that was written before."""
    put("/srv/db/before", "before")
    pull("DATA-NVME")
    try:
        put("/srv/db/after", "after")
        failed = False
    except OSError:
        failed = True
    fails("no disk has serial number", tier("DATA-NVME"))
    done = layout(tier("BIG-SCSI"))["steps"]
    whole(*MOUNTS)
    with open("/srv/db/before") as file:
        assert file.read() == "before"
    put("/srv/db/after", "after")
    assert kernel("slow-store_tdata") == "cache" and "needs_check" not in tool("dmsetup", "status", "slow-store-tpool")
    no_change(tier("BIG-SCSI"))
    return {"writes_failed": failed, "steps": done}


def gone_at_start() -> Any:
    """LVM activates nothing of a volume group with a lost disk; a run brings it back."""
    assert not any(map(os.path.ismount, MOUNTS))
    done = layout(tier("DATA-SCSI"))["steps"]
    whole(*MOUNTS)
    assert kernel("slow-store_tdata") == "cache"
    no_change(tier("DATA-SCSI"))
    return done


def changes() -> Any:
    """All of it in use: a larger volume, a second disk, another volume, another mode, and no cache any more."""
    before, steps = size_of("/srv/data"), []
    with open("/srv/db/open", "w"), open("/srv/data/open", "w"):
        for wanted, inner in (
            (tier("DATA-SCSI", size=160), "slow-store_tdata"),
            (tier("DATA-SCSI", "BIG-VIRTIO", size=160), "slow-store_tdata"),
            (tier("DATA-SCSI", "BIG-VIRTIO", size=160, front="data"), "slow-data"),
            (tier("DATA-SCSI", "BIG-VIRTIO", size=240, front="data"), "slow-data"),
            (tier("DATA-SCSI", "BIG-VIRTIO", size=240, front="data", mode="writeback"), "slow-data"),
        ):
            steps.append(layout(wanted)["steps"])
            assert kernel(inner) == "cache", inner
            no_change(wanted)
        steps.append(layout(tier(size=240))["steps"])
    assert (kernel("slow-data"), kernel("slow-store_tdata")) == ("linear", "linear")
    assert size_of("/srv/data") > before + 140
    whole(*MOUNTS)
    no_change(tier(size=240))
    return steps


def kills() -> Any:
    """Pools that follow on one another, so that caches are made, moved and taken away."""

    def pools() -> Iterator[Any]:
        wanted = [tier("DATA-NVME"), tier("DATA-NVME", "DATA-SCSI", front="data"), tier()]
        return itertools.cycle(wanted)

    def ended() -> None:
        for mount in MOUNTS:
            if os.path.exists(f"{mount}/precious"):
                whole(mount)
            put(f"{mount}/precious", mount)
        tool("umount", "/srv/data")
        tool("e2fsck", "-fn", "/dev/slow/data")

    return endures(pools(), 15, ended)


if __name__ == "__main__":
    main(globals())
