# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is decided for a layout, on hosts in memory: by tables, and at random with kills at any step."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.module_utils._clevis import Binding, Tang, Unlock, found_of
from ansible_collections.kiban.baremetal.plugins.module_utils._layout import (
    BARRIERS,
    CACHE_VOLUME,
    DESTRUCTIVE,
    MIB,
    Cache,
    Cached,
    Content,
    Lv,
    Pool,
    Step,
    Volume,
    problems,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_apply_cache import without_leftover
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_plan import decide
from ansible_collections.kiban.baremetal.tests.unit.plugins.layout_host import Host

IDS = "00000000-0000-4000-8000-0000000000{:02}"
VOLUMES = (
    Volume("data", 100 * MIB, filesystem="ext4", mount="/srv/data"),
    Volume("logs", None, filesystem="xfs", mount="/srv/logs"),
)
THIN = (
    Volume("store", 400 * MIB, "thin-pool"),
    Volume("db", 4096 * MIB, "thin", "store", "xfs", "/srv/db"),
)


def mirror(*disks: str, **more: Any) -> Pool:
    return Pool("fast", disks or ("a", "b"), **{"level": "raid1", "volumes": VOLUMES, **more})


UNLOCK = Unlock((Tang("http://tang1.example", "k1"), Tang("http://tang2.example", "k2")), (7,), threshold=2)


def cached(*disks: str, volume: str = "logs", mode: str = "writethrough", **more: Any) -> Pool:
    cache = Cache(disks or ("f",), volume, mode)
    return Pool("fast", ("a", "b"), **{"volumes": VOLUMES, "cache": cache, **more})


def host(*serials: str) -> Host:
    made = Host()
    for serial in serials or ("a", "b"):
        made.add(serial)
    return made


def plan(here: Host, *pools: Pool, wipe: tuple[str, ...] = (), number: int = 1) -> tuple[list[Step], list[str]]:
    return decide(pools, "lab", wipe, here.facts(), IDS.format(number))


def settle(here: Host, *pools: Pool, wipe: tuple[str, ...] = ()) -> list[Step]:
    """Runs until nothing is left, as the module does."""
    done: list[Step] = []
    for number in range(1, 17):
        steps, refused = plan(here, *pools, wipe=wipe, number=number)
        assert not refused, refused
        if not steps:
            return done
        for step in steps:
            here.do(step)
        done += steps
    raise AssertionError("there is no end")


def kinds(steps: list[Step]) -> list[str]:
    return [step.kind for step in steps]


def test_a_mirror_with_volumes_from_blank_disks() -> None:
    here = host()
    assert kinds(settle(here, mirror())) == (
        ["partition", "partition", "array_create", "record", "record", "group_create"]
        + ["lv_create", "mkfs", "lv_ready", "fstab", "mount"] * 2
        + ["record", "record"]
    )
    assert plan(here, mirror()) == ([], [])
    assert here.mounts == {"/srv/data": "/dev/fast/data", "/srv/logs": "/dev/fast/logs"}


def test_a_restart_closes_containers_only() -> None:
    here = host()
    pool = mirror(luks=True, volumes=THIN)
    settle(here, pool)
    here.restart()
    assert kinds(plan(here, pool)[0]) == ["luks_open"]
    assert kinds(settle(here, pool)) == ["luks_open", "group_activate", "mount"]


def test_a_file_system_on_one_disk() -> None:
    here = host("a")
    pool = Pool("one", ("a",), filesystem="ext4", mount="/srv/one")
    assert kinds(settle(here, pool)) == ["partition", "mkfs", "fstab", "mount", "record"]


def test_a_thin_volume_that_was_cut_off_is_made_again() -> None:
    here = host()
    pool = mirror(volumes=THIN)
    steps = plan(here, pool)[0]
    for step in steps:
        here.do(step, half=step.target == "/dev/fast/db")
        if step.target == "/dev/fast/db":
            break
    assert here.unheard == {"/dev/fast/db"}
    done = kinds(settle(here, pool))
    assert done[:3] == ["lv_remove", "group_activate", "lv_create"] and here.mounts == {"/srv/db": "/dev/fast/db"}


def test_a_new_volume_of_a_storage_driver_is_left_alone() -> None:
    here = host()
    settle(here, mirror(volumes=VOLUMES))
    group = here.groups["fast"]
    driver = {"pvc-1": Lv(4 * MIB, new=True, active=False)}
    here.groups["fast"] = replace(group, lvs={**group.lvs, **driver})
    assert kinds(plan(here, mirror(volumes=VOLUMES))[0]) == ["group_activate"]


def test_a_volume_that_was_complete_is_not_made_again() -> None:
    here = host()
    settle(here, mirror(volumes=THIN))
    group = here.groups["fast"]
    here.groups["fast"] = replace(group, lvs={**group.lvs, "db": replace(group.lvs["db"], active=False)})
    assert kinds(plan(here, mirror(volumes=THIN))[0]) == ["group_activate"]


def test_growth_is_done_while_mounted() -> None:
    here = host()
    settle(here, mirror(volumes=VOLUMES[:1]))
    grown = replace(VOLUMES[0], size=200 * MIB)
    assert kinds(settle(here, mirror(volumes=(grown,)))) == ["lv_extend", "fs_grow"]
    assert here.fs_sizes["/dev/fast/data"] == 200 * MIB


def test_a_kill_between_volume_and_file_system_growth_is_mended() -> None:
    here = host()
    settle(here, mirror(volumes=VOLUMES[:1]))
    larger = mirror(volumes=(replace(VOLUMES[0], size=200 * MIB),))
    here.do(plan(here, larger)[0][0])
    assert kinds(settle(here, larger)) == ["fs_grow"]


def test_a_failed_member_is_replaced_and_larger_members_are_used() -> None:
    here = host()
    settle(here, mirror())
    here.add("c", 2048 * MIB)
    here.add("d", 2048 * MIB)
    for gone, pool in (("a", mirror("c", "b")), ("b", mirror("c", "d"))):
        members = {**here.arrays["fast"].members, f"/dev/{gone}1": "faulty"}
        here.arrays["fast"] = replace(here.arrays["fast"], members=members)
        del here.disks[gone]
        done = [kind for kind in kinds(settle(here, pool)) if kind != "record"]
        assert done[:3] == ["partition", "array_remove", "array_add"]
    assert done[3:] == ["array_grow", "pv_resize", "lv_extend", "fs_grow"]
    assert here.fs_sizes["/dev/fast/logs"] > 1500 * MIB


def test_a_disk_that_came_back_joins_again() -> None:
    here = host()
    settle(here, mirror())
    here.arrays["fast"] = replace(here.arrays["fast"], members={"/dev/a1": "active"})
    assert kinds(settle(here, mirror())) == ["array_add"]


def test_a_group_takes_another_disk() -> None:
    here = host("a", "b")
    pool = Pool("wide", ("a",), volumes=VOLUMES[1:])
    settle(here, pool)
    done = kinds(settle(here, replace(pool, disks=("a", "b"))))
    assert done == ["partition", "group_extend", "record", "record", "lv_extend", "fs_grow"]
    assert here.disks["a"].mates == here.disks["b"].mates == {"a", "b"}
    assert here.fs_sizes["/dev/wide/logs"] > 1800 * MIB


def foreign(here: Host) -> None:
    here.disks["b"] = replace(here.disks["b"], content=("/dev/b holds ext4",))


def busy(here: Host) -> None:
    here.disks["b"] = replace(here.disks["b"], busy=("/dev/b is in use: held by dm-7",))


def other_site(here: Host) -> None:
    here.disks["b"] = replace(here.disks["b"], site="tokyo", pool="fast", id=IDS.format(8), content=("member",))


def other_pool(here: Host) -> None:
    here.disks["b"] = replace(here.disks["b"], site="lab", pool="slow", id=IDS.format(8), content=("member",))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (foreign, "name the serial number under wipe"),
        (busy, "held by dm-7"),
        (other_site, "belongs to pool fast of site tokyo"),
        (other_pool, "belongs to pool slow of site lab"),
        (lambda here: here.disks.pop("b"), "no disk has serial number b"),
    ],
)
def test_disks_that_are_refused(change: Any, reason: str) -> None:
    here = host()
    change(here)
    steps, refused = plan(here, mirror())
    assert steps == [] and reason in refused[0]


@pytest.mark.parametrize("change", [foreign, other_site, other_pool])
def test_disks_that_are_named_for_wiping(change: Any) -> None:
    here = host()
    change(here)
    settle(here, mirror(), wipe=("b",))
    assert plan(here, mirror(), wipe=("a", "b")) == ([], [])


def no_file_system(here: Host) -> None:
    here.contents["/dev/fast/data"] = None


def other_file_system(here: Host) -> None:
    here.contents["/dev/fast/data"] = Content("xfs", "x")


def no_array(here: Host) -> None:
    here.arrays.clear()
    here.running.clear()
    here.contents |= {"/dev/a1": None, "/dev/b1": None}


def no_group(here: Host) -> None:
    here.groups.clear()


def no_container(here: Host) -> None:
    here.contents["/dev/md/fast"] = None


def failed_member(here: Host) -> None:
    members = {"/dev/a1": "faulty", "/dev/b1": "active"}
    here.arrays["fast"] = replace(here.arrays["fast"], members=members)


def other_group(here: Host) -> None:
    here.others.add("/dev/z1")
    lost_disk(here)


def lost_disk(here: Host) -> None:
    here.groups["fast"] = replace(here.groups["fast"], pvs={"/dev/z1": MIB, **here.groups["fast"].pvs})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (no_file_system, "holds nothing where ext4 was made"),
        (other_file_system, "holds xfs where ext4 was made"),
        (no_array, "the array is gone"),
        (no_group, "the volume group fast is gone"),
        (no_container, "the LUKS container is gone"),
        (failed_member, "/dev/a1 failed in /dev/md/fast"),
        (other_group, "is also on /dev/z1"),
        (lost_disk, "1 physical volumes of fast are missing"),
    ],
)
def test_a_loss_is_never_a_beginning(change: Any, reason: str) -> None:
    here = host()
    settle(here, mirror(luks=True))
    change(here)
    for wipe in ((), ("a", "b")):
        steps, refused = plan(here, mirror(luks=True), wipe=wipe)
        assert steps == [] and reason in refused[0]


def test_what_is_not_done_is_refused() -> None:
    here = host("a", "b", "c")
    settle(here, mirror())
    smaller = mirror(volumes=(replace(VOLUMES[0], size=50 * MIB), VOLUMES[1]))
    too_much = mirror(volumes=(replace(VOLUMES[0], size=9000 * MIB), VOLUMES[1]))
    for pool, reason in (
        (smaller, "not made smaller"),
        (too_much, "are free"),
        (mirror("a", "b", "c"), "not reshaped"),
        (mirror(level="raid10"), "levels are not changed"),
    ):
        assert reason in plan(here, pool)[1][0]


def test_a_mount_point_that_is_taken() -> None:
    here = host()
    here.mounts["/srv/data"] = "/dev/other"
    assert "/srv/data is taken" in plan(here, mirror())[1][0]


@pytest.mark.parametrize(
    ("pool", "problem"),
    [
        (mirror("a"), "needs 2 disks or more"),
        (mirror(luks=True), "no key"),
        (mirror(filesystem="ext4"), "either volumes or a filesystem"),
        (Pool("p", ("a", "b"), filesystem="ext4"), "one disk or a RAID level"),
        (mirror(volumes=(THIN[1],)), "it needs a size, and a thin_pool"),
        (mirror(volumes=(VOLUMES[1], replace(VOLUMES[1], name="x", mount="/x"))), "takes all that is left"),
        (mirror(volumes=(replace(VOLUMES[0], filesystem="xfs"),)), "XFS needs"),
        (cached(volumes=THIN, volume="db"), "needs a volume that is not thin, among: store"),
        (cached("a"), "disk a is named twice"),
        (cached(volumes=(replace(VOLUMES[0], name=CACHE_VOLUME),), volume=CACHE_VOLUME), "is the name of a cache"),
        (mirror(unlock=UNLOCK), "has no LUKS container that could be opened"),
        (mirror(unlock=Unlock()), "by nothing: name tang, tpm2, or both"),
        (mirror(unlock=replace(UNLOCK, threshold=4)), "by 4 of 3"),
    ],
)
def test_wishes_that_contradict_themselves(pool: Pool, problem: str) -> None:
    assert any(problem in text for text in problems([pool], {}))


SHAPES = {
    "mirror": mirror(),
    "encrypted mirror": mirror(luks=True, volumes=(VOLUMES[0], *THIN)),
    "one": Pool("fast", ("a",), filesystem="ext4", mount="/srv/one"),
    "mirrored file system": mirror(volumes=(), filesystem="xfs", mount="/srv/one"),
    "wide": Pool("fast", ("a", "b"), volumes=VOLUMES),
    "for the storage driver": Pool("fast", ("a", "b")),
    "encrypted disks": Pool("fast", ("a", "b"), luks=True, volumes=THIN),
    "cached": cached(),
    "encrypted, cached": cached(luks=True, level="raid1", unlock=UNLOCK),
    "cached thin pool": cached("f", "g", volumes=THIN, volume="store"),
    "opened by Tang": Pool("fast", ("a", "b"), luks=True, unlock=UNLOCK, volumes=THIN),
    "opened by the TPM": mirror(luks=True, unlock=Unlock(pcr_ids=(7,)), volumes=(), filesystem="xfs", mount="/srv/one"),
}


@settings(max_examples=300, deadline=None)
@given(shape=st.sampled_from(sorted(SHAPES)), seed=st.integers(0, 2**32), restarts=st.booleans())
def test_any_kills_end_well(shape: str, seed: int, restarts: bool) -> None:
    """Cut off after any step, or in the middle of it, again and again: the end is the same, and nothing is refused."""
    dice, here, pool = random.Random(seed), host("a", "b", "c", "f", "g"), SHAPES[shape]
    here.disks["c"] = replace(here.disks["c"], content=("precious",))
    for number in range(1, 13):
        steps, refused = plan(here, pool, number=number)
        assert not refused, (refused, steps)
        cut = dice.randrange(len(steps) + 1)
        for step in steps[:cut]:
            here.do(step)
        if cut < len(steps) and dice.random() < 0.7:
            here.do(steps[cut], half=True)
        if restarts and dice.random() < 0.5:
            here.restart()
    settle(here, pool)
    assert plan(here, pool) == ([], [])
    assert here.disks["c"].content == ("precious",)


@settings(max_examples=300, deadline=None)
@given(
    shape=st.sampled_from(sorted(SHAPES)),
    seed=st.integers(0, 2**32),
    content=st.sampled_from([(), ("holds ext4",)]),
    wipe=st.sets(st.sampled_from(["a", "b", "c", "d", "f", "g"])),
    in_use=st.sampled_from([(), ("held",)]),
)
def test_only_what_may_be_lost_is_written_over(
    shape: str, seed: int, content: tuple[str, ...], wipe: set[str], in_use: tuple[str, ...]
) -> None:
    here, pool = host("a", "b", "c", "d", "f", "g"), SHAPES[shape]
    dice = random.Random(seed)
    for serial, disk in list(here.disks.items()):
        if dice.random() < 0.5:
            here.disks[serial] = replace(disk, content=content, busy=in_use if dice.random() < 0.3 else ())
    before = dict(here.disks)
    steps, refused = plan(here, pool, wipe=tuple(wipe))
    assert not (steps and refused)
    for step in steps:
        assert step.kind != "partition" or step.target in pool.all_disks
        if step.kind == "partition":
            disk = before[step.target]
            assert not disk.busy and (not disk.content or step.target in wipe)
    if steps:
        settle(here, pool, wipe=tuple(wipe))
        # Complete: whatever is named for wiping, nothing is written over any more.
        again = plan(here, pool, wipe=("a", "b", "c", "d", "f", "g"))[0]
        assert not [step for step in again if step.kind in DESTRUCTIVE]


def test_a_cache_is_put_in_front_of_a_volume_that_is_complete() -> None:
    here = host("a", "b", "f")
    done = kinds(settle(here, cached()))
    assert done[-4:] == ["group_extend", "pv_tag", "cache_create", "cache_attach"]
    group = here.groups["fast"]
    assert group.lvs["logs"].cached == Cached("writethrough") and group.free["/dev/f1"] == 0
    assert here.disks["f"].cache == here.disks["a"].cache == {"f"} and here.disks["f"].mates == {"a", "b"}


def test_volumes_stay_off_the_disks_of_a_cache() -> None:
    here = host("a", "b", "f")
    settle(here, cached(volumes=VOLUMES[:1], volume="data"))
    group = here.groups["fast"]
    here.groups["fast"] = replace(group, free={**group.free, "/dev/f1": 512 * MIB})
    more = cached(volumes=(replace(VOLUMES[0], size=2000 * MIB),), volume="data")
    steps = plan(here, more)[0]
    assert steps[0].kind == "lv_extend" and steps[0].args["pvs"] == ("/dev/a1", "/dev/b1")
    assert "are free" in plan(here, cached(volumes=(replace(VOLUMES[0], size=2400 * MIB),), volume="data"))[1][0]


@pytest.mark.parametrize("luks", [False, True])
@pytest.mark.parametrize("restart", [False, True])
def test_a_lost_cache_is_replaced(luks: bool, restart: bool) -> None:
    here = host("a", "b", "f", "g")
    pool = cached(luks=luks, volumes=THIN, volume="store")
    settle(here, pool)
    here.pull("f")
    if restart:
        here.restart()
    new = replace(pool, cache=Cache(("g",), "store"))
    done = settle(here, new)
    assert here.groups["fast"].lvs["store"].cached == Cached("writethrough") and len(here.groups["fast"].cache) == 1
    [detached] = [step for step in done if step.kind == "cache_detach"]
    assert detached.args["volumes"] == ("/dev/fast/db", "/dev/fast/store")
    assert detached.args["mounts"] == (() if restart else ("/srv/db",)) and here.mounts == {"/srv/db": "/dev/fast/db"}


def test_a_lost_cache_of_a_pool_that_wants_none_any_more() -> None:
    here = host("a", "b", "f")
    settle(here, cached())
    here.pull("f")
    done = kinds(settle(here, replace(cached(), cache=None)))
    assert done == ["cache_detach", "group_reduce", "record", "record", "group_activate", "mount"]
    assert set(here.groups["fast"].pvs) == {"/dev/a1", "/dev/b1"}


def test_a_cache_that_is_no_longer_stated_is_detached_in_use() -> None:
    here = host("a", "b", "f")
    settle(here, cached())
    done = kinds(settle(here, replace(cached(), cache=None)))
    assert done == ["cache_detach", "group_reduce", "record", "record"] and len(here.mounts) == 2


def test_a_cache_grows_moves_and_changes_its_mode() -> None:
    here = host("a", "b", "f", "g")
    settle(here, cached())
    more = [kind for kind in kinds(settle(here, cached("f", "g"))) if kind != "record"]
    assert more == ["partition", "group_extend", "pv_tag", "cache_detach", "cache_create", "cache_attach"]
    assert kinds(settle(here, cached("f", "g", mode="writeback"))) == ["cache_mode"]
    moved = kinds(settle(here, cached("f", "g", volume="data")))
    assert moved == ["cache_detach", "cache_create", "cache_attach"]
    assert here.groups["fast"].lvs["data"].cached and len(here.mounts) == 2


def test_a_cache_that_the_kernel_gave_up_is_made_again() -> None:
    here = host("a", "b", "f")
    settle(here, cached())
    group = here.groups["fast"]
    lv = replace(group.lvs["logs"], cached=Cached("writethrough", lost=True))
    here.groups["fast"] = replace(group, lvs={**group.lvs, "logs": lv})
    done = kinds(settle(here, cached()))
    assert done == ["cache_detach", "group_activate", "mount", "cache_create", "cache_attach"]


def test_a_lost_cache_with_what_was_not_written_is_refused() -> None:
    here = host("a", "b", "f", "g")
    settle(here, cached(mode="writeback"))
    here.pull("f")
    steps, refused = plan(here, cached("g", mode="writeback"))
    assert steps == [] and "what was not written to the volume yet" in refused[0]


def test_a_volume_that_the_kernel_has_otherwise_than_lvm_is_refreshed_first() -> None:
    here = host("a", "b", "f")
    settle(here, cached())
    group = here.groups["fast"]
    lv = replace(group.lvs["logs"], cached=None, stale=True)
    here.groups["fast"] = replace(group, free={**group.free, "/dev/f1": MIB}, lvs={**group.lvs, "logs": lv})
    assert kinds(plan(here, cached())[0]) == ["lv_refresh"]


def test_a_detaching_that_was_cut_off_is_finished_before_all_else() -> None:
    here = host("a", "b", "f")
    settle(here, cached())
    [step] = [step for step in plan(here, cached(volume="data"))[0] if step.kind == "cache_detach"]
    here.do(step, half=True)
    assert here.groups["fast"].torn == ("logs_corig",)
    assert kinds(settle(here, cached(volume="data"))) == ["cache_forget", "cache_create", "cache_attach"]


LEFTOVER = """
\t\tstore_tdata_corig {
\t\t\tstatus = ["READ", "WRITE", "VISIBLE"]

\t\t\tsegment1 {
\t\t\t\ttype = "cache+CACHE_USES_CACHEVOL"
\t\t\t\tcache_pool = "kiban_cache_cvol"
\t\t\t\torigin = "store_tdata"
\t\t\t}
\t\t}
"""
CACHE = """
\t\tkiban_cache_cvol {
\t\t\tflags = ["CACHE_VOL"]
\t\t}
"""
KEPT = """
\t\tstore_tdata {
\t\t\tstripes = ["pv0", 42]
\t\t}
"""


def test_what_is_forgotten_is_only_what_a_killed_tool_leaves() -> None:
    assert without_leftover(KEPT + LEFTOVER + CACHE + KEPT, "store_tdata_corig") == KEPT + "\n\n" + KEPT
    assert without_leftover(LEFTOVER + KEPT, "store_tdata_corig") is None
    assert without_leftover(CACHE + LEFTOVER.replace("kiban_cache", "other"), "store_tdata_corig") is None
    assert without_leftover(CACHE + KEPT, "store_tdata") is None


def tang(*names: str, **more: Any) -> Unlock:
    return Unlock(tuple(Tang(f"http://{name}.example", f"key of {name}") for name in names), **more)


def opened(unlock: Unlock | None) -> Pool:
    return mirror(luks=True, unlock=unlock)


def test_a_bound_container_opens_by_itself() -> None:
    here = host()
    assert kinds(settle(here, opened(tang("one"))))[-2:] == ["luks_unit", "luks_bind"]
    here.restart()
    assert kinds(settle(here, opened(tang("one")))) == ["mount", "mount"] and not here.by_hand
    here.unlocks = False
    here.restart()
    assert kinds(settle(here, opened(tang("one")))) == ["luks_open", "group_activate", "mount", "mount"]


def test_a_binding_follows_the_model() -> None:
    here = host()
    settle(here, opened(None))
    assert len(here.by_hand) == 2
    changes = ["fstab", "fstab", "luks_unit"]
    assert kinds(settle(here, opened(tang("one")))) == [*changes, "luks_bind"] and not here.by_hand
    for unlock in (
        tang("one", "two"),
        tang("one", "two", threshold=2),
        tang("one", pcr_ids=(7,)),
        Unlock(pcr_ids=(7,)),
    ):
        assert kinds(settle(here, opened(unlock))) == ["luks_bind", "luks_unbind"], unlock
    assert [one.slot for one in (here.contents["/dev/md/fast"] or Content("")).bindings] == [30]
    assert kinds(settle(here, opened(None))) == [*changes, "luks_unbind"] and not here.units


def test_a_binding_that_does_not_work_any_more_is_made_again() -> None:
    here = host()
    settle(here, opened(tang("one")))
    held = here.contents["/dev/md/fast"]
    assert held
    for works, done in ((None, []), (False, ["luks_bind", "luks_unbind"])):
        bindings = tuple(replace(one, works=works) for one in held.bindings)
        here.contents["/dev/md/fast"] = replace(held, bindings=bindings)
        assert kinds(settle(here, opened(tang("one")))) == done


@pytest.mark.parametrize(
    "bindings",
    [
        (Binding(30),),
        (Binding(31),),
        (Binding(30), Binding(31)),
        (Binding(30, 0, found_of(tang("old"))), Binding(31)),
        (Binding(30, 0, found_of(tang("old"))), Binding(31, 1, found_of(tang("older")))),
        (Binding(30, 0, found_of(tang("one"))), Binding(31, 1, found_of(tang("one")))),
        (Binding(30, 0, None),),
    ],
)
def test_key_slots_that_a_killed_run_left(bindings: tuple[Binding, ...]) -> None:
    here = host()
    settle(here, opened(tang("one")))
    held = here.contents["/dev/md/fast"]
    assert held
    here.contents["/dev/md/fast"] = replace(held, bindings=bindings)
    settle(here, opened(tang("one")))
    left = here.contents["/dev/md/fast"]
    assert left and [(one.found and one.found.tang[0][0], one.token is None) for one in left.bindings] == [
        ("http://one.example", False)
    ]


def test_barriers_end_a_plan() -> None:
    here = host()
    settle(here, mirror(luks=True))
    here.restart()
    here.running.clear()
    steps = plan(here, mirror(luks=True))[0]
    assert steps[-1].kind in BARRIERS and kinds(steps) == ["array_assemble"]
