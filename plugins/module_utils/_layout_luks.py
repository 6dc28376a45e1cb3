# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.


"""What has to be done so that the LUKS2 containers of a pool are there, open, and open by themselves at boot. Pure."""

from __future__ import annotations

import os

from ansible_collections.kiban.baremetal.plugins.module_utils._clevis import SLOTS, Binding, fits, pin_config, unit_text
from ansible_collections.kiban.baremetal.plugins.module_utils._layout import (
    SLACK,
    Content,
    Disk,
    Refused,
    Step,
    cache_mapping_path,
    made_uuid,
    mapping_path,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_draft import Draft

__all__ = ["LuksDraft"]


class LuksDraft(Draft):
    """The containers of one pool, on its array or its disks, and on the disks of its cache."""

    def _luks(self, devices: list[str]) -> tuple[list[Step], list[str]]:
        steps: list[Step] = []
        opened = []
        for number, device in enumerate(devices):
            alone = "array" in self.pool.layers
            path = mapping_path(self.pool.name, None if alone else self._number(number))
            opened.append(path)
            steps += self._container(device, path, None if alone else self.disks[number])
        self.cache_devices = []
        for disk in self.cache_disks:
            path = cache_mapping_path(self.pool.name, disk.serial)
            self.cache_devices.append(path)
            steps += self._container(disk.part, path, disk)
        return steps, opened

    def _container(self, device: str, path: str, disk: Disk | None) -> list[Step]:
        made = "luks" in (self.made if disk is None or disk in self.fresh else disk.made)
        made = made and device not in self.new
        self.containers[device] = path
        held = self._content(device)
        want = made_uuid(self.id, f"luks {'' if disk is None else disk.serial}")
        opening = self._step("luks_open", path, f"open {device} as {path}", device=device)
        if not made and not (held and held.type == "crypto_LUKS" and held.uuid == want and held.ready):
            self.new.add(path)
            return [self._step("luks_format", device, f"make a LUKS2 container on {device}", uuid=want), opening]
        if held is None or held.type != "crypto_LUKS":
            raise Refused(f"the LUKS container is gone: {device} holds {held.type if held else 'nothing'}")
        if not held.ready:
            raise Refused(f"the key does not open the LUKS container on {device}")
        if path not in self.facts.devices:
            return [opening]
        if self.facts.devices[device].size - self.facts.devices[path].size >= 2 * SLACK:
            return [self._step("luks_resize", path, f"grow {path} to the size of {device}")]
        return []

    def _number(self, number: int) -> int:
        """Of the mapping of a disk: counted in the order of serial numbers."""
        return sorted(self.pool.disks).index(self.pool.disks[number])

    def _unlocking(self) -> list[Step]:
        """Last of all: a Tang server that does not answer shall keep nothing closed, nor unmounted."""
        steps: list[Step] = []
        for device, path in self.containers.items():
            held = self._content(device)
            if held is not None:
                steps += self._unit(os.path.basename(path), held)
                steps += self._bindings(device, held)
        return steps

    def _unit(self, name: str, held: Content) -> list[Step]:
        text = unit_text(name, str(held.uuid)) if self.pool.unlock else None
        if self.facts.units.get(name) == text:
            return []
        words = f"let {name} be opened at boot" if text else f"let {name} no longer be opened at boot"
        return [self._step("luks_unit", name, words, text=text)]

    def _bindings(self, device: str, held: Content) -> list[Step]:
        """The new one before the old one goes, so that at no moment there is none."""
        wanted, steps = self.pool.unlock, []
        good = [one for one in held.bindings if self._is_good(one)]
        bad = [one for one in held.bindings if one not in good[:1]]
        if wanted and not good:
            while len(bad) == len(SLOTS) or any(one.token is None for one in bad):
                bad.sort(key=lambda one: one.token is not None)
                steps.append(self._unbound(device, bad.pop(0)))
            slot = next(slot for slot in SLOTS if slot not in [one.slot for one in bad])
            words = f"let {wanted} open {device}"
            steps.append(self._step("luks_bind", device, words, slot=slot, config=pin_config(wanted)))
        return steps + [self._unbound(device, one) for one in bad]

    def _is_good(self, one: Binding) -> bool:
        wanted = self.pool.unlock
        return wanted is not None and one.found is not None and fits(wanted, one.found) and one.works is not False

    def _unbound(self, device: str, one: Binding) -> Step:
        words = f"remove the binding in key slot {one.slot} of {device}"
        return self._step("luks_unbind", device, words, slot=one.slot, token=one.token)
