# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan says of pools, on hosts in memory that were made by the steps of disk_layout itself."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.module_utils import _clevis, _layout
from ansible_collections.kiban.baremetal.plugins.module_utils._clevis import Binding, Tang, Unlock
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_plan import decide
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.layouts import (
    differences_of_pools,
    path_messages,
    pool_disks,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import (
    BlockStorage,
    Cache,
    Pool,
    Target,
    Volume,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import HostState
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.storage import size_in_bytes
from ansible_collections.kiban.baremetal.tests.unit.plugins.layout_host import Host

IDS = "00000000-0000-4000-8000-0000000000{:02}"
DATA = Volume("data", "100MiB", "linear", None, "ext4", "/srv/data")
LOGS = Volume("logs", None, "linear", None, "xfs", "/srv/logs")
STORE = Volume("store", "400MiB", "thin-pool", None, None, None)
DB = Volume("db-1", "4GiB", "thin", "store", "xfs", "/srv/db")


def pool(*volumes: Volume, count: int = 2, **more: Any) -> Pool:
    blank = {"raid": None, "metadata": "1.2", "luks": False, "filesystem": None, "mount": None}
    select = " || ".join(f"serial_number == '{serial}'" for serial in "abdef")
    return Pool(**{**blank, "name": "fast", "select": select, "count": count, "volumes": volumes, **more})


def tier(volume: str = "logs", count: int = 1, mode: str = "writethrough") -> Cache:
    return Cache("serial_number == 'h' || serial_number == 'i'", count, volume, mode)


UNLOCK = Unlock((Tang("http://tang.example", "k" * 43),), (7,))


POOLS = {
    "mirror": pool(DATA, LOGS, raid="raid1"),
    "encrypted mirror": pool(DATA, STORE, DB, raid="raid1", luks=True),
    "one": pool(count=1, filesystem="ext4", mount="/srv/one"),
    "one encrypted": pool(count=1, luks=True, filesystem="xfs", mount="/srv/one"),
    "mirrored file system": pool(raid="raid1", filesystem="xfs", mount="/srv/one"),
    "wide": pool(DATA, LOGS),
    "for the storage driver": pool(),
    "encrypted disks": pool(STORE, DB, luks=True),
    "of a storage driver": pool(raid="raid1"),
    "cached": pool(DATA, LOGS, cache=tier()),
    "encrypted, cached thin pool": pool(STORE, DB, raid="raid1", luks=UNLOCK, cache=tier("store", 2)),
    "opened by Tang": pool(STORE, DB, luks=UNLOCK),
    "opened by Tang, one file system": pool(raid="raid1", luks=UNLOCK, filesystem="xfs", mount="/srv/one"),
}


def wanted(pool: Pool, *disks: str) -> _layout.Pool:
    volumes = tuple(
        _layout.Volume(each.name, size_in_bytes(each.size), each.type, each.thin_pool, each.filesystem, each.mount)
        for each in pool.volumes
    )
    names = disks or ("a", "b")[: pool.count]
    cache = pool.cache and _layout.Cache(("h", "i")[: pool.cache.count], pool.cache.volume, pool.cache.mode)
    unlock = None if isinstance(pool.luks, bool) else pool.luks
    rest = (volumes, pool.filesystem, pool.mount, cache, unlock)
    return _layout.Pool(pool.name, names, pool.raid, pool.metadata, bool(pool.luks), *rest)


def made(pool: Pool, *disks: str) -> Host:
    here = Host()
    for serial in wanted(pool, *disks).all_disks:
        here.add(serial)
    settle(here, wanted(pool, *disks))
    return here


def settle(here: Host, pool: _layout.Pool) -> None:
    for number in range(1, 17):
        steps, refused = decide([pool], "lab", (), here.facts(), IDS.format(number))
        assert not refused
        for step in steps:
            here.do(step)


def node(device: str) -> str:
    """As the kernel, or device-mapper, calls a device of the plan."""
    if device.startswith("/dev/md/"):
        return "md127"
    if device.startswith("/dev/mapper/"):
        return device.rpartition("/")[2]
    parts = device.split("/")[2:]
    return "-".join(part.replace("-", "--") for part in parts)


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def header(found: tuple[Binding, ...]) -> dict[str, Any]:
    """Of a container, as the probe tells it. Thumbprints are hashes of keys, so those of the model are put in."""
    tokens = {}
    for one in found:
        if one.token is not None and one.found is not None:
            parts = [
                encoded({"clevis": {"pin": "tang", "tang": {"url": url, "adv": {"keys": sorted(prints)}}}}) + ".x"
                for url, prints in one.found.tang
            ]
            if one.found.tpm2:
                bank, ids = one.found.tpm2
                parts.append(encoded({"clevis": {"pin": "tpm2", "tpm2": {"pcr_bank": bank, "pcr_ids": ids}}}) + ".x")
            sss = {"clevis": {"pin": "sss", "sss": {"t": one.found.threshold, "jwe": parts}}}
            token = {"type": "clevis", "keyslots": [str(one.slot)], "jwe": {"protected": encoded(sss)}}
            tokens[str(one.token)] = token
    return {"keyslots": {str(slot): {} for slot in (0, *(one.slot for one in found))}, "tokens": tokens}


@pytest.fixture(autouse=True)
def thumbprints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_clevis, "_thumbprints", iter)


def seen(here: Host) -> HostState:
    """What the probe would tell of this host."""
    there, caches = here.devices(), {}
    volumes = {node(path): here.size(path) for path in sorted(here.opened)}
    for name, group in here.groups.items():
        if set(group.pvs) - group.cache <= set(there):
            volumes |= {node(f"/dev/{name}/{lv}"): each.size for lv, each in group.lvs.items() if each.active}
        for lv, each in here.seen(name, set(there)).lvs.items():
            if each.cached and each.active and not each.stale:
                front = node(f"/dev/{name}/{lv}") + ("_tdata" if each.type == "thin-pool" else "")
                caches[front] = "Fail" if each.cached.lost else each.cached.mode
                volumes[node(f"/dev/{name}/kiban_cache_cvol")] = sum(
                    group.pvs[device] - group.free[device] for device in group.cache
                )
    luks = {}
    for path in (*(disk.part for disk in here.disks.values()), *(f"/dev/md/{name}" for name in here.running)):
        held = here.contents.get(path)
        if held and held.type == "crypto_LUKS":
            luks[node(path)] = header(held.bindings)
    arrays = []
    for name in here.running:
        array = here.arrays[name]
        words = {"active": "in_sync", "spare": "spare", "faulty": "faulty"}
        members = {part.rpartition("/")[2]: words[state] for part, state in array.members.items()}
        members = {part: state if part[:-1] in here.disks else "gone" for part, state in members.items()}
        degraded = array.slots - list(members.values()).count("in_sync")
        arrays.append(
            {
                "pool": name,
                "node": "md127",
                "state": "clean",
                "slots": array.slots,
                "degraded": degraded,
                "members": members,
                "sync": "",
            }
        )
    records = {
        serial: {"pool": disk.pool, "site": disk.site, "made": sorted(disk.made), "mates": sorted(disk.mates)}
        | {"cache": sorted(disk.cache)}
        for serial, disk in here.disks.items()
        if disk.id
    }
    mounts = {
        mount: [node(device), here.size(device), here.fs_sizes.get(device)] for mount, device in here.mounts.items()
    }
    disks = tuple({"name": serial, "serial_number": serial, "capacity_bytes": 1 << 30} for serial in here.disks)
    layouts = {
        "disks": records,
        "arrays": arrays,
        "volumes": volumes,
        "suspended": [],
        "caches": caches,
        "luks": luks,
        "thin": {"fast-store-tpool": [10, 5, "rw"]} if "fast-store" in volumes else {},
        "mounts": mounts,
    }
    return HostState(where="node", disks=disks, layouts=layouts)


def said(pool: Pool, host: Host | HostState) -> list[str]:
    state = host if isinstance(host, HostState) else seen(host)
    return [one.text for one in differences_of_pools([pool], "lab", state)]


@pytest.mark.parametrize("shape", POOLS)
def test_a_complete_pool_says_nothing(shape: str) -> None:
    here = made(POOLS[shape])
    here.add("c")
    assert said(POOLS[shape], here) == []
    assert pool_disks([POOLS[shape]], "lab", seen(here)) == set(wanted(POOLS[shape]).all_disks)
    assert said(POOLS[shape], replace(seen(here), layouts=None)) == []


@settings(max_examples=300, deadline=None)
@given(shape=st.sampled_from(sorted(POOLS)), seed=st.integers(0, 2**32), restarts=st.booleans())
def test_the_plan_says_something_if_and_only_if_a_run_would_do_something(shape: str, seed: int, restarts: bool) -> None:
    """After any kills and restarts on the way to a complete pool."""
    dice, here, intended = random.Random(seed), Host(), wanted(POOLS[shape])
    intended_main = len(intended.disks)
    for serial in ("a", "b", "c", *intended.all_disks[intended_main:]):
        here.add(serial)
    for number in range(1, 12):
        steps, refused = decide([intended], "lab", (), here.facts(), IDS.format(number))
        assert not refused
        found = list(differences_of_pools([POOLS[shape]], "lab", seen(here)))
        assert bool(steps) == bool(found), (steps, found)
        # With more disks than the pool takes, the role refuses before it looks at them.
        assert not steps or any(one.mended or "disks are there" in one.text for one in found)
        cut = dice.randrange(len(steps) + 1)
        for step in steps[:cut]:
            here.do(step)
        if cut < len(steps) and dice.random() < 0.7:
            here.do(steps[cut], half=True)
        if restarts and dice.random() < 0.5:
            here.restart()


def failed(here: Host) -> None:
    here.arrays["fast"] = replace(here.arrays["fast"], members={"/dev/a1": "faulty", "/dev/b1": "active"})


def pulled(here: Host) -> None:
    del here.disks["a"]


def pulled_and_replaced(here: Host) -> None:
    pulled(here)
    here.add("d")


def stopped(here: Host) -> None:
    here.running.clear()
    here.mounts.clear()
    here.groups.clear()


def volume_lost(here: Host) -> None:
    group = here.groups["fast"]
    here.groups["fast"] = replace(group, lvs={**group.lvs, "data": replace(group.lvs["data"], active=False)})
    del here.mounts["/srv/data"]


def small_file_system(here: Host) -> None:
    here.fs_sizes["/dev/fast/data"] -= 64 << 20


def mounted_elsewhere(here: Host) -> None:
    here.mounts["/srv/data"] = "/dev/fast/logs"


def wiped(here: Host) -> None:
    for serial in "ab":
        here.disks[serial] = replace(here.disks[serial], id=None, pool=None, site=None)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (failed, ["its array md127 has 1 of 2 members; failed: a1 (serial a); put another disk in its place"]),
        (pulled, ["md127 has 1 of 2 members; gone, pulled or dead: serial a; put another disk"]),
        (pulled_and_replaced, ["gone, pulled or dead: serial a; the playbook storage takes in d (serial d)"]),
        (stopped, ["its array does not run", "volume data is not there", "volume logs is not there"]),
        (volume_lost, ["volume data is not there"]),
        (small_file_system, ["the file system at /srv/data leaves 64 MiB of its volume unused"]),
        (mounted_elsewhere, ["at /srv/data another device is mounted: fast-logs"]),
        (lambda here: here.mounts.pop("/srv/logs"), ["nothing of it is mounted at /srv/logs"]),
        (wiped, ["is not made; the playbook storage makes it of a (serial a), b (serial b)"]),
    ],
)
def test_what_is_said_of_a_damage(damage: Callable[[Host], Any], words: list[str]) -> None:
    here = made(POOLS["mirror"])
    damage(here)
    found = said(POOLS["mirror"], here)
    assert len(found) == len(words), found
    for message, word in zip(found, words, strict=True):
        assert message.startswith("pool fast: ") and word in message


def test_a_closed_container_is_named_and_nothing_behind_it() -> None:
    here = made(POOLS["encrypted disks"])
    here.restart()
    [message] = said(POOLS["encrypted disks"], here)
    assert message == "pool fast: its LUKS container is closed: fast-luks0, fast-luks1; the playbook storage opens it"


def test_a_disk_of_a_volume_group_that_is_gone() -> None:
    here = made(POOLS["wide"])
    del here.disks["b"]
    assert "the disk b is gone: pulled, or dead" in said(POOLS["wide"], here)[0]


@pytest.mark.parametrize("restart", [False, True])
def test_a_container_that_nothing_opened_at_boot(restart: bool) -> None:
    here = made(POOLS["opened by Tang"])
    here.unlocks = not restart
    here.restart()
    found = said(POOLS["opened by Tang"], here)
    assert [one for one in found if "closed: fast-luks0, fast-luks1; not opened by 1 of Tang http://tang" in one] == (
        found if restart else []
    )


def other_server(here: Host) -> Pool:
    return replace(POOLS["opened by Tang"], luks=Unlock((Tang("http://other.example", "o" * 43),)))


def no_server(here: Host) -> Pool:
    return replace(POOLS["opened by Tang"], luks=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_server, "its container on a1 is not opened by Tang http://other.example; the playbook storage binds it"),
        (no_server, "its container on a1 has a binding that is not stated; the playbook storage removes it"),
    ],
)
def test_bindings_that_are_not_those_of_the_profile(change: Callable[[Host], Pool], words: str) -> None:
    here = made(POOLS["opened by Tang"])
    assert words in said(change(here), here)[0]


def lost(here: Host) -> Pool:
    here.pull("h")
    return POOLS["cached"]


def lost_and_replaced(here: Host) -> Pool:
    here.add("i")
    return lost(here)


def lost_with_writes(here: Host) -> Pool:
    return replace(lost(here), cache=tier(mode="writeback"))


def gave_up(here: Host) -> Pool:
    group = here.groups["fast"]
    lv = replace(group.lvs["logs"], cached=_layout.Cached("writethrough", lost=True))
    here.groups["fast"] = replace(group, lvs={**group.lvs, "logs": lv})
    return POOLS["cached"]


@pytest.mark.parametrize(
    ("change", "words", "mended"),
    [
        (
            lost,
            "the disk h of its cache is gone: pulled, or dead. Volume logs fails with it: put another one in",
            False,
        ),
        (lost_and_replaced, "Volume logs fails with it; the playbook storage takes i (serial i) in its place", True),
        (lost_with_writes, "and what was not written to it yet is lost", False),
        (gave_up, "the cache of volume logs failed, and the volume with it; the playbook storage makes it again", True),
        (lambda here: POOLS["wide"], "has a cache that is not stated; the playbook storage takes it away", True),
        (lambda here: pool(DATA, LOGS, cache=tier("data")), "volume data has no cache in front of it", True),
        (lambda here: pool(DATA, LOGS, cache=tier(mode="writeback")), "is writethrough, not writeback", True),
        (lambda here: pool(DATA, LOGS, cache=tier(count=2)), "its cache lacks a disk", False),
    ],
)
def test_caches_that_are_not_as_stated(change: Callable[[Host], Pool], words: str, mended: bool) -> None:
    here = made(POOLS["cached"])
    [one] = differences_of_pools([change(here)], "lab", seen(here))
    assert words in one.text and one.mended == mended


def test_other_sizes_than_the_model_states() -> None:
    here = made(POOLS["mirror"])
    for size, words in (("200MiB", "the playbook storage grows it"), ("50MiB", "volumes are not made smaller")):
        [message] = said(pool(replace(DATA, size=size), LOGS, raid="raid1"), here)
        assert message == f"pool fast: volume data has 100 MiB, the model says {size}; {words}"


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        ([79, 79, "rw"], []),
        ([80, 5, "rw"], ["thin pool store is 80 % full"]),
        ([10, 90, "rw"], ["the metadata of thin pool store is 90 % full"]),
        ([100, 5, "out_of_data_space"], ["takes no more writes (out_of_data_space)", "is 100 % full"]),
        ([0, 0, "Fail"], ["takes no more writes (Fail)"]),
    ],
)
def test_thin_pools_that_are_nearly_full(fill: list[Any], words: list[str]) -> None:
    state = seen(made(POOLS["encrypted disks"]))
    assert state.layouts
    found = said(
        POOLS["encrypted disks"], replace(state, layouts={**state.layouts, "thin": {"fast-store-tpool": fill}})
    )
    assert len(found) == len(words) and all(word in message for word, message in zip(words, found, strict=True))


def test_a_disk_with_a_claim_takes_no_lost_disks_place() -> None:
    here = made(POOLS["mirror"])
    pulled_and_replaced(here)
    state = seen(here)
    assert state.layouts
    layouts = {**state.layouts, "claims": {"d": {"purpose": "system", "site": None}}}
    [message] = said(POOLS["mirror"], replace(state, layouts=layouts))
    assert message.endswith(
        "put another disk in its place, then the playbook storage takes it in; not counted, since claimed already: "
        "d (serial d) for a system"
    )
    assert pool_disks([POOLS["mirror"]], "lab", replace(state, layouts=layouts)) == {"b", "d"}


def test_what_a_killed_run_left_suspended() -> None:
    state = seen(made(POOLS["mirror"]))
    assert state.layouts
    suspended = ["fast-data", "fast--other-data", "fast-of_a_driver", "held"]
    layouts = {**state.layouts, "suspended": suspended}
    [message] = said(POOLS["mirror"], replace(state, layouts=layouts))
    assert "fast-data is suspended" in message


def test_disks_of_another_site_or_pool_are_not_this_pools() -> None:
    for change in ({"site": "tokyo"}, {"pool": "slow"}):
        here = made(POOLS["mirror"])
        for serial in "ab":
            here.disks[serial] = replace(here.disks[serial], **change)
        [message] = said(POOLS["mirror"], here)
        assert "is not made" in message and "0 of 2 disks are there" in message


REMOTE = BlockStorage(
    (Target("array1", "iqn.x:array1", ("192.0.2.10", "198.51.100.10:3261"), chap=True),),
    (Target("fast1", "nqn.x:fast1", ("[2001:db8::1]",)),),
    (),
)


def reached(**states: str) -> HostState:
    places = {
        "a": ("iqn.x:array1", "192.0.2.10:3260"),
        "b": ("iqn.x:array1", "198.51.100.10:3261"),
        "c": ("nqn.x:fast1", "[2001:db8::1]:4420"),
    }
    sessions = [
        {"target": places[name][0], "portal": places[name][1], "state": state} for name, state in states.items()
    ]
    return HostState(where="node", layouts={}, sessions=tuple(sessions))


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({"a": "LOGGED_IN", "b": "LOGGED_IN", "c": "live"}, []),
        (
            {"a": "LOGGED_IN", "c": "live"},
            ["storage array1: there is no path at 198.51.100.10:3261; 1 of 2 paths work"],
        ),
        (
            {"a": "FAILED", "b": "LOGGED_IN", "c": "live"},
            ["storage array1: the path at 192.0.2.10:3260 is lost (FAILED); 1 of 2 paths work"],
        ),
        (
            {"a": "LOGGED_IN", "b": "LOGGED_IN", "c": "connecting"},
            ["storage fast1: the path at [2001:db8::1]:4420 is lost (connecting); no path works"],
        ),
    ],
)
def test_paths_to_storage_servers(states: dict[str, str], words: list[str]) -> None:
    found = list(path_messages(REMOTE, reached(**states)))
    assert len(found) == len(words) and all(text.startswith(word) for text, word in zip(found, words, strict=True))
    assert list(path_messages(REMOTE, replace(reached(), layouts=None))) == []
