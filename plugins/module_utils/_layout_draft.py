# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.


"""What the decisions on all layers of a pool start from: its disks, and what is known of them. Pure."""

from __future__ import annotations

from ansible_collections.kiban.baremetal.plugins.module_utils._layout import (
    Content,
    Disk,
    Facts,
    Pool,
    Refused,
    Step,
    made_uuid,
)

__all__ = ["Draft"]


class Draft:
    """One pool on its host, and which devices a plan makes anew."""

    def __init__(self, pool: Pool, site: str, facts: Facts, new_id: str) -> None:
        self.pool, self.site, self.facts = pool, site, facts
        missing = [serial for serial in pool.all_disks if serial not in facts.disks]
        if missing:
            raise Refused(f"no disk has serial number {', '.join(missing)}")
        self.disks = [facts.disks[serial] for serial in pool.disks]
        self.cache_disks = [facts.disks[serial] for serial in pool.all_disks[len(pool.disks) :]]
        every = [*self.disks, *self.cache_disks]
        self.ours = [disk for disk in self.disks if self._is_ours(disk)]
        self.fresh = [disk for disk in every if not self._is_ours(disk)]
        mine = [disk for disk in every if self._is_ours(disk)]
        ids = {disk.id for disk in mine if disk.id}
        if len(ids) > 1:
            raise Refused(
                f"its disks belong to {len(ids)} different pools of this name: "
                f"{', '.join(f'{disk.path} {disk.serial}' for disk in mine)}. Take out what is not of this server"
            )
        self.id = ids.pop() if ids else new_id
        # What is complete according to any disk: disks are told one after the other, and a new one knows nothing.
        self.made = frozenset(layer for disk in self.ours for layer in disk.made)
        # Devices that this very plan makes hold nothing, whatever was read.
        self.new: set[str] = set()
        # What LVM gets of the disks of the cache: their partitions, or the containers on these.
        self.cache_devices = [disk.part for disk in self.cache_disks]
        # Device to the mapping that its container is opened as.
        self.containers: dict[str, str] = {}

    def _is_ours(self, disk: Disk) -> bool:
        return disk.id is not None and disk.site == self.site and disk.pool == self.pool.name

    def _step(self, kind: str, target: str, words: str, **args: object) -> Step:
        # Arrays are found by UUID: another one may have the name.
        array = {"array": made_uuid(self.id, "array")} if self.pool.level else {}
        return Step(kind, self.pool.name, target, words, {**array, **args})

    def _content(self, path: str) -> Content | None:
        device = None if path in self.new else self.facts.devices.get(path)
        return device.content if device else None
