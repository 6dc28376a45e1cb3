# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.


"""What has to be done so that a volume of a pool has its cache: dm-cache on faster disks of its volume group. Pure.

A cache is never looked after beyond its loss: what is not as it should be is detached and made again. It begins cold.
"""

from __future__ import annotations

from ansible_collections.kiban.baremetal.plugins.module_utils._layout import CACHE_VOLUME, SLACK, Group, Refused, Step
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_draft import Draft

__all__ = ["CacheDraft"]


class CacheDraft(Draft):
    """The cache of one pool."""

    def _cache_mended(self, group: Group) -> list[Step]:
        """What stands in the way of volumes: a lost cache keeps them from being activated, or lets them fail."""
        steps = []
        for name in group.torn:
            words = f"forget {self._lv(name)}, which a killed tool left of a cache that was detached"
            steps.append(self._step("cache_forget", self._lv(name), words))
        if steps:
            return steps
        for name, lv in group.lvs.items():
            if lv.stale:
                words = f"give the kernel what LVM has of {self._lv(name)}"
                steps.append(self._step("lv_refresh", self._lv(name), words))
        if steps:
            return steps
        gone = sorted(group.cache & set(group.pvs) - set(self.cache_devices))
        for name, lv in group.lvs.items():
            if lv.cached is None:
                continue
            if lv.cached.lost:
                steps.append(self._abandoned(name, group))
            elif gone or self.pool.cache is None or self.pool.cache.volume != name:
                steps.append(self._detached(name, f"detach the cache of {self._lv(name)}"))
        if (gone or group.lost) and CACHE_VOLUME in group.lvs:
            words = f"remove {self._lv(CACHE_VOLUME)}, which is not in use yet"
            steps.append(self._step("cache_remove", self._lv(CACHE_VOLUME), words))
        if gone or group.lost:
            words = f"let go of {', '.join(gone) or 'the lost disk'} of the cache of {self.pool.name}"
            steps.append(self._step("group_reduce", self.pool.name, words, pvs=tuple(gone), lost=bool(group.lost)))
        return steps

    def _abandoned(self, name: str, group: Group) -> Step:
        cached = group.lvs[name].cached
        if cached is None or cached.mode != "writethrough":
            raise Refused(
                f"the cache of {self._lv(name)} is lost, and with it what was not written to the volume yet. Put its "
                f"disk back. If that may be lost: lvconvert --uncache --force {self.pool.name}/{name}, then check its "
                "file systems"
            )
        inside = [lv for lv, each in group.lvs.items() if each.thin_pool == name]
        paths = [self._lv(lv) for lv in (*inside, name)]
        mounts = [mount for path in paths if path in self.facts.devices for mount in self.facts.devices[path].mounts]
        words = f"take {self._lv(name)} off its lost cache, which holds nothing that the volume does not"
        return self._detached(name, words, volumes=tuple(paths), mounts=tuple(mounts))

    def _detached(self, name: str, words: str, **args: object) -> Step:
        return self._step("cache_detach", self._lv(name), words, **args)

    def _caching(self) -> list[Step]:
        cache, group = self.pool.cache, self.facts.groups.get(self.pool.name)
        if cache is None:
            return []
        pvs = group.pvs if group else {}
        steps = []
        for device in self.cache_devices:
            if device not in pvs:
                words = f"add {device} to volume group {self.pool.name}, for its cache"
                steps.append(self._step("group_extend", self.pool.name, words, device=device))
        if steps or group is None:
            return steps
        for device in self.cache_devices:
            if device not in group.cache:
                words = f"note that {device} is for the cache of {self.pool.name}"
                steps.append(self._step("pv_tag", device, words))
        lv = group.lvs.get(cache.volume)
        if lv is None or lv.new:
            return steps
        path = self._lv(cache.volume)
        if lv.cached is None:
            if CACHE_VOLUME not in group.lvs:
                words = f"create the cache of {path} on {', '.join(self.cache_devices)}"
                made = self._lv(CACHE_VOLUME)
                steps.append(self._step("cache_create", made, words, pvs=tuple(self.cache_devices)))
            words = f"put the cache in front of {path}: {cache.mode}"
            steps.append(self._step("cache_attach", path, words, mode=cache.mode))
        elif sum(group.free.get(device, 0) for device in self.cache_devices) >= SLACK:
            steps.append(self._detached(cache.volume, f"detach the cache of {path}, to make it again with more disks"))
        elif lv.cached.mode != cache.mode:
            steps.append(self._step("cache_mode", path, f"change the cache of {path} to {cache.mode}", mode=cache.mode))
        return steps

    def _lv(self, name: str) -> str:
        return f"/dev/{self.pool.name}/{name}"
