# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools in the site model: what is refused with its key path, and which disks they get."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.kiban.baremetal.plugins.module_utils._clevis import Tang, Unlock
from ansible_collections.kiban.baremetal.plugins.module_utils._layout import Cache
from ansible_collections.kiban.baremetal.plugins.modules import disk_layout
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.storage import block_targets, select_pools
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import site_vars

INVENTORIES = Path(__file__).resolve().parents[5] / "inventories"
LAB = yaml.safe_load((INVENTORIES / "lab-fabric" / "site.yml").read_text("utf-8"))
PROFILE = next(iter(LAB["profiles"]))
TANG = {"url": "http://192.0.2.20:7500", "thumbprint": "k" * 43}
FAST: dict[str, Any] = {
    "select": "protocol == 'NVMe'",
    "count": 2,
    "raid": "raid1",
    "volumes": {
        "data": {"size": "20GiB", "filesystem": "ext4", "mount": "/srv/data"},
        "store": {"type": "thin-pool"},
        "db": {"type": "thin", "thin_pool": "store", "size": "1TiB", "filesystem": "xfs", "mount": "/srv/db"},
    },
}


def site_with(storage: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = copy.deepcopy(LAB)
    data["profiles"][PROFILE]["storage"] = storage
    return data


def changed(**more: Any) -> dict[str, Any]:
    return {**copy.deepcopy(FAST), **more}


def test_a_model_without_pools_says_nothing_of_them() -> None:
    assert all("storage" not in profile for profile in site_vars(load_site(LAB))["profiles"].values())


def test_pools_come_back_in_the_normal_form() -> None:
    normal = site_vars(load_site(site_with({"fast": FAST})))
    pool = normal["profiles"][PROFILE]["storage"]["fast"]
    assert (pool["metadata"], pool["luks"], list(pool["volumes"])) == ("1.2", False, ["data", "store", "db"])
    again = {**LAB, "profiles": normal["profiles"]}
    assert site_vars(load_site(again))["profiles"] == normal["profiles"]


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({"select": "true", "cuont": 2}, "storage.fast.cuont: unknown key; did you mean 'count'?"),
        (changed(count=1), "storage.fast: raid1 needs 2 disks or more, not 1"),
        (changed(select="protocl == 'NVMe'"), "storage.fast.select: "),
        (changed(filesystem="ext4"), "storage.fast: has either volumes or a filesystem"),
        (changed(volumes={"db": FAST["volumes"]["db"]}), "storage.fast.volumes.db: is thin: it needs a size"),
        (changed(volumes={"data": {"size": "20GB", "filesystem": "ext4"}}), "storage.fast.volumes.data.size: "),
        (changed(volumes={"a": {"filesystem": "ext4"}, "b": {}}), "storage.fast.volumes.b: takes all that is left"),
        (changed(volumes={"a": {"size": "1GiB", "mount": "/"}}), "storage.fast.volumes.a.mount: "),
        (changed(volumes={"a": {"size": "1GiB", "mount": "/srv/a"}}), "storage.fast.volumes.a: is mounted and has no"),
        (changed(volumes={"a": {"size": "8MiB", "filesystem": "xfs"}}), "storage.fast.volumes.a: has 8388608 bytes"),
        (changed(cache={"count": 1}), "storage.fast.cache.select: missing"),
        (changed(cache={"select": "x ="}), "storage.fast.cache.select: "),
        (changed(cache={"select": "true"}), "storage.fast: its cache needs a volume that is not thin, among: data, st"),
        (changed(cache={"select": "true", "volume": "db"}), "storage.fast: its cache needs a volume that is not thin"),
        (changed(luks="yes"), "storage.fast.luks: must be true or false or a mapping"),
        (changed(luks={}), "storage.fast: its container is to be opened by nothing: name tang, tpm2, or both"),
        (changed(luks={"tang": [{"url": "http://t.example"}]}), "storage.fast.luks.tang[0].thumbprint: missing"),
        (changed(luks={"tang": [{**TANG, "thumbprint": "k"}]}), "storage.fast.luks.tang[0].thumbprint: 'k' is not a"),
        (changed(luks={"tang": [TANG], "threshold": 2}), "storage.fast: its container is to be opened by 2 of 1"),
        (changed(luks={"tpm2": {"pcr_ids": [24]}}), "storage.fast.luks.tpm2.pcr_ids[0]: 24 is out of range"),
    ],
)
def test_what_is_refused_and_where(pool: dict[str, Any], said: str) -> None:
    with pytest.raises(SiteError) as error:
        load_site(site_with({"fast": pool}))
    assert f"profiles.{PROFILE}.{said}" in str(error.value)


def test_all_problems_are_told_at_once() -> None:
    pools = {"one": changed(count=1), "two": changed(filesystem="xfs")}
    with pytest.raises(SiteError) as error:
        load_site(site_with(pools))
    assert len(error.value.problems) == 4  # the mount points of `two` are those of `one`


def disk(serial: str | None, protocol: str = "NVMe", kiban: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"serial_number": serial, "name": f"disk-{serial}", "protocol": protocol, "kiban": kiban}


def taken(pools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pools as the module gets them from Ansible."""
    result = ArgumentSpecValidator(disk_layout.ARGUMENTS).validate({"site": "lab", "pools": pools})
    assert result.error_messages == []
    taken: list[dict[str, Any]] = result.validated_parameters["pools"]
    return taken


def test_the_disks_of_the_pools_are_what_the_module_takes() -> None:
    storage = site_vars(load_site(site_with({"fast": FAST})))["profiles"][PROFILE]["storage"]
    system = disk("s", kiban={"purpose": "system"})
    chosen = select_pools([disk("b"), disk("x", "SATA"), system, disk("a")], storage)
    assert chosen["problems"] == []
    pool = disk_layout.wanted(taken(chosen["pools"])[0])
    assert (pool.disks, pool.level) == (("a", "b"), "raid1")
    assert [volume.size for volume in pool.volumes] == [20 << 30, None, 1 << 40]


@pytest.mark.parametrize(
    "pool", [{"filesystem": "xfs", "mount": "/srv/volumes"}, {"volumes": {"data": {"size": "1GiB"}}}]
)
def test_what_a_pool_does_not_state_is_not_handed_to_the_module(pool: dict[str, Any]) -> None:
    small = {"select": "protocol == 'NVMe'", "count": 1, **pool}
    storage = site_vars(load_site(site_with({"fast": small})))["profiles"][PROFILE]["storage"]
    chosen = select_pools([disk("a")], storage)
    assert (chosen["problems"], disk_layout.wanted(taken(chosen["pools"])[0]).disks) == ([], ("a",))


@pytest.mark.parametrize(
    ("disks", "said"),
    [
        ([disk("a")], "1 disks match \"protocol == 'NVMe'\" where 2 must: disk-a serial a"),
        ([disk("a"), disk("b", kiban={"purpose": "local"})], "since they are claimed: disk-b serial b (local)"),
        ([disk("a"), disk(None)], "disk disk-None has no serial number"),
    ],
)
def test_disks_that_do_not_fit(disks: list[dict[str, Any]], said: str) -> None:
    chosen = select_pools(disks, {"fast": FAST})
    assert chosen["pools"] == [] and said in "; ".join(chosen["problems"])


SLOW: dict[str, Any] = {
    "select": "protocol == 'SATA'",
    "count": 1,
    "luks": {"tang": [TANG], "tpm2": {}},
    "cache": {"select": "protocol == 'NVMe'"},
    "volumes": {"store": {"type": "thin-pool"}},
}


def test_a_cache_and_what_opens_containers_come_to_the_module() -> None:
    normal = site_vars(load_site(site_with({"slow": SLOW})))
    pool = normal["profiles"][PROFILE]["storage"]["slow"]
    assert pool["cache"] == {
        **{"select": "protocol == 'NVMe'", "count": 1},
        **{"volume": "store", "mode": "writethrough"},
    }
    assert pool["luks"] == {"tang": [TANG], "tpm2": {"pcr_ids": [7], "pcr_bank": "sha256"}, "threshold": 1}
    assert site_vars(load_site({**LAB, "profiles": normal["profiles"]}))["profiles"] == normal["profiles"]
    for storage in (normal["profiles"][PROFILE]["storage"], {"slow": SLOW}):
        chosen = select_pools([disk("a", "SATA"), disk("c")], storage)
        assert chosen["problems"] == []
        wanted = disk_layout.wanted(taken(chosen["pools"])[0])
        assert (wanted.disks, wanted.luks, wanted.cache) == (("a",), True, Cache(("c",), "store"))
        assert wanted.unlock == Unlock((Tang(**TANG),), (7,))


def test_what_opens_containers_may_be_servers_alone() -> None:
    stated = {**SLOW, "luks": {"tang": [TANG]}, "cache": None}
    storage = site_vars(load_site(site_with({"slow": stated})))["profiles"][PROFILE]["storage"]
    chosen = select_pools([disk("a", "SATA")], storage)
    assert disk_layout.wanted(taken(chosen["pools"])[0]).unlock == Unlock((Tang(**TANG),))


def test_a_cache_without_its_disks() -> None:
    chosen = select_pools([disk("a", "SATA")], {"slow": SLOW})
    assert chosen["pools"] == [] and "pool slow, its cache: 0 disks match" in chosen["problems"][0]
    both = {**SLOW, "cache": {"select": "protocol == 'SATA'"}}
    chosen = select_pools([disk("a", "SATA")], {"slow": both})
    assert "disk a matches the selectors of the pools slow and slow, its cache" in chosen["problems"]


def test_a_disk_has_one_pool() -> None:
    chosen = select_pools([disk("a"), disk("b")], {"fast": FAST, "other": FAST})
    assert "disk a matches the selectors of the pools fast and other" in chosen["problems"]


REMOTE: dict[str, Any] = {
    "iscsi": {"array1": {"target": "iqn.2003-01.org.example:a", "portals": ["192.0.2.10", "[::1]:3261"], "chap": True}},
    "nvme_of": {"fast1": {"subsystem": "nqn.2014-08.org.example:b", "portals": ["192.0.2.11"]}},
    "multipath": [{"vendor": "EXAMPLE", "product": "ARRAY.*", "no_path_retry": 24}],
}
CHAP = {"array1": {"username": "node1", "password": "a long secret"}}


def site_with_remote(remote: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = copy.deepcopy(LAB)
    data["profiles"][PROFILE]["block_storage"] = remote
    return data


def test_storage_servers_come_back_in_the_normal_form() -> None:
    normal = site_vars(load_site(site_with_remote(REMOTE)))
    assert normal["profiles"][PROFILE]["block_storage"] == REMOTE
    assert site_vars(load_site({**LAB, "profiles": normal["profiles"]}))["profiles"] == normal["profiles"]
    assert "block_storage" not in site_vars(load_site(LAB))["profiles"][PROFILE]


@pytest.mark.parametrize(
    ("remote", "said"),
    [
        ({"iscsi": {"a": {"target": "array1", "portals": ["192.0.2.10"]}}}, "block_storage.iscsi.a.target"),
        ({"iscsi": {"a": {"target": "iqn.x:a", "portals": []}}}, "block_storage.iscsi.a.portals"),
        ({"iscsi": {"a": {"target": "iqn.x:a", "portals": ["filer"]}}}, "block_storage.iscsi.a.portals[0]"),
        ({"nvme_of": {"a": {"subsystem": "iqn.x:a", "portals": ["192.0.2.10"]}}}, "block_storage.nvme_of.a.subsystem"),
        ({"multipath": [{"vendor": "X"}]}, "block_storage.multipath[0]"),
        ({"multipath": [{"vendor": 'X" }', "product": "Y"}]}, "block_storage.multipath[0].vendor"),
    ],
)
def test_storage_servers_that_are_refused(remote: dict[str, Any], said: str) -> None:
    with pytest.raises(SiteError) as error:
        load_site(site_with_remote(remote))
    assert said in str(error.value)


def test_targets_with_their_secrets() -> None:
    found = block_targets(REMOTE, CHAP)
    assert found["iscsi"][0]["chap"] == CHAP["array1"] and found["nvme_of"][0]["name"] == "fast1"
    [path] = found["nvme_paths"]
    assert path == {"subsystem": "nqn.2014-08.org.example:b", "address": "192.0.2.11", "port": "4420"}
    for secrets in ({}, {"array1": {"username": "node1"}}):
        with pytest.raises(ValueError, match="storage array1 wants CHAP"):
            block_targets(REMOTE, secrets)
    assert block_targets(None, {}) == block_targets({}, {}) == {"iscsi": [], "nvme_of": [], "nvme_paths": []}
