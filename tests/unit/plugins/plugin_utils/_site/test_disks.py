# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which disks may be taken. A wrong answer here costs somebody's data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.disks import match_drives, matching, select_disks
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.expressions import ExpressionError


def disk(name: str, serial: str | None, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "path": f"/dev/{name}",
        "serial_number": serial,
        "model": None,
        "capacity_bytes": 4_000_000_000,
        "protocol": "NVMe",
        "media_type": "SSD",
        "holders": [],
        "mounts": [],
        "partitions": [],
        "signatures": [],
        "kiban": None,
        **more,
    }


EXT4 = {"type": "ext4", "offset": 1080, "label": None, "uuid": "u", "usage": "filesystem"}
GPT = {"type": "gpt", "offset": 512, "label": None, "uuid": "u", "usage": "partition-table"}
PARTITION = {"name": "a1", "number": 1, "label": "x", "uuid": "u", "size_bytes": 1, "signatures": [EXT4]}
NVME = {"select": "protocol == 'NVMe'", "count": None}


def serials(result: dict[str, list[Any]]) -> list[str]:
    return [record["serial_number"] for record in result["chosen"]]


def test_blank_disks_are_chosen() -> None:
    records = [disk("a", "S1"), disk("b", "S2"), disk("c", "S3", protocol="SATA")]
    result = select_disks(records, NVME, purpose="data")
    assert serials(result) == ["S1", "S2"]
    assert (result["refused"], result["problems"]) == ([], [])


def test_none_matches_names_every_disk() -> None:
    records = [disk("sda", "S1", protocol="SATA"), disk("sdb", None, protocol=None, capacity_bytes=None)]
    result = select_disks(records, NVME, purpose="data")
    assert result["chosen"] == []
    assert result["problems"] == [
        "no disk for data matches \"protocol == 'NVMe'\"; disks seen: "
        "sda: serial S1, 4.0 GB (4000000000 bytes), protocol SATA; "
        "sdb: serial no serial number, unknown size, protocol unknown"
    ]


def test_no_disk_at_all() -> None:
    assert select_disks([], NVME, purpose="data")["problems"] == [
        "no disk for data matches \"protocol == 'NVMe'\"; disks seen: none"
    ]


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_than_asked_for_names_them(count: int) -> None:
    result = select_disks([disk("a", "S1"), disk("b", "S2")], {**NVME, "count": count}, purpose="system")
    assert result["chosen"] == []
    [problem] = result["problems"]
    assert problem.startswith(f"2 disks for system match \"protocol == 'NVMe'\" where {count} must: a: serial S1")
    assert "b: serial S2" in problem


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({"signatures": [EXT4]}, "carries ext4"),
        ({"signatures": [GPT], "partitions": [PARTITION]}, "carries gpt, partition 1 (ext4)"),
        ({"partitions": [{**PARTITION, "signatures": []}]}, "carries partition 1"),
        ({"signatures": [EXT4], "kiban": {"purpose": "system"}}, "carries ext4"),
    ],
)
def test_a_disk_that_carries_something(contents: dict[str, Any], words: str) -> None:
    records = [disk("a", "S1", **contents), disk("b", "S2")]
    result = select_disks(records, NVME, purpose="data")
    assert serials(result) == ["S2"]
    [refused] = result["refused"]
    assert (refused["serial_number"], refused["name"]) == ("S1", "a")
    assert refused["reason"] == f"disk a (serial S1) {words}; add S1 to the server's `wipe` if that may be lost"
    assert serials(select_disks(records, NVME, purpose="data", wipe=["S1"])) == ["S1", "S2"]
    assert serials(select_disks(records, NVME, purpose="data", wipe=["S2", "s1"])) == ["S2"]


@pytest.mark.parametrize("use", [{"mounts": ["/srv"]}, {"holders": ["dm-0"]}])
def test_a_disk_in_use_is_refused_even_if_it_may_be_wiped(use: dict[str, Any]) -> None:
    result = select_disks([disk("a", "S1", signatures=[EXT4], **use)], NVME, purpose="data", wipe=["S1"])
    assert result["chosen"] == []
    assert result["refused"][0]["reason"].startswith("disk a (serial S1) is in use (")
    assert next(iter(use.values()))[0] in result["refused"][0]["reason"]


def test_our_own_claim_for_this_purpose() -> None:
    ours = disk("a", "S1", signatures=[EXT4], mounts=["/var/lib/kiban/S1"], kiban={"purpose": "data"})
    assert serials(select_disks([ours], NVME, purpose="data")) == ["S1"]
    assert serials(select_disks([ours], NVME, purpose="system")) == []


@pytest.mark.parametrize("serial", [None, ""])
def test_a_disk_without_serial_number(serial: str | None) -> None:
    result = select_disks([disk("a", serial), disk("b", "S2")], NVME, purpose="data", wipe=["", "S2"])
    assert serials(result) == ["S2"]
    assert "no serial number" in result["refused"][0]["reason"]


def test_one_serial_number_on_two_disks() -> None:
    result = select_disks([disk("a", "S1"), disk("b", "S1", protocol="SATA")], NVME, purpose="data", wipe=["S1"])
    assert result["chosen"] == []
    assert "2 disks show the serial number S1" in result["refused"][0]["reason"]


def test_disks_of_another_purpose_are_not_looked_at() -> None:
    result = select_disks([disk("a", "S1"), disk("b", "S2")], {**NVME, "count": 1}, purpose="data", exclude=["S1"])
    assert serials(result) == ["S2"]
    assert result["problems"] == []


def test_without_a_selector_nothing_is_wanted() -> None:
    assert select_disks([disk("a", "S1")], None, purpose="data") == {"chosen": [], "refused": [], "problems": []}


def test_an_unknown_value_does_not_match_and_is_told() -> None:
    selector = {"select": "starts_with(model, 'X')"}
    assert matching([disk("a", "S1"), disk("b", "S2", model="X1")], selector["select"])[0]["name"] == "b"
    [problem] = select_disks([disk("a", "S1")], selector, purpose="data")["problems"]
    assert "not comparable: a: " in problem


def test_a_bad_predicate_and_a_bad_purpose() -> None:
    with pytest.raises(ExpressionError):
        select_disks([], {"select": "a ="}, purpose="data")
    with pytest.raises(ValueError, match="purpose must be one of system, data"):
        select_disks([], NVME, purpose="swap")


records = st.lists(
    st.builds(
        disk,
        st.sampled_from(["sda", "sdb", "vda", "nvme0n1"]),
        st.sampled_from([None, "", "S1", "S2", "S3", "S4", "S5"]),
        protocol=st.sampled_from(["NVMe", "SATA", None]),
        signatures=st.lists(st.sampled_from([EXT4, GPT]), max_size=2),
        partitions=st.lists(st.just(PARTITION), max_size=1),
        holders=st.lists(st.just("dm-0"), max_size=1),
        mounts=st.lists(st.just("/srv"), max_size=1),
        kiban=st.sampled_from([None, {"purpose": "data"}, {"purpose": "system"}]),
    ),
    max_size=6,
)
names = st.sets(st.sampled_from(["", "S1", "S2", "S3", "S4", "S5"]))


@given(records, names, names, st.sampled_from(["system", "data"]), st.sampled_from([None, 1, 2]))
def test_nothing_is_taken_that_must_not_be(
    seen: list[dict[str, Any]], wipe: set[str], exclude: set[str], purpose: str, count: int | None
) -> None:
    result = select_disks(seen, {**NVME, "count": count}, purpose=purpose, wipe=wipe, exclude=exclude)
    selected = matching(seen, NVME["select"] or "")
    for record in result["chosen"]:
        ours = (record["kiban"] or {}).get("purpose") == purpose
        assert record in selected
        assert record["serial_number"]
        assert record["serial_number"] not in exclude
        assert [other["serial_number"] for other in seen].count(record["serial_number"]) == 1
        assert ours or not (record["mounts"] or record["holders"])
        assert ours or record["serial_number"] in wipe or not (record["signatures"] or record["partitions"])
    # Nothing goes missing in silence: what was selected is chosen, refused or part of a problem.
    if not result["problems"]:
        wanted = [record for record in selected if record["serial_number"] not in exclude]
        assert len(result["chosen"]) + len(result["refused"]) == len(wanted) > 0
        assert count is None or len(wanted) == count
    else:
        assert result["chosen"] == []


def drive(serial: str | None, **more: Any) -> dict[str, Any]:
    return {
        "serial_number": serial,
        "capacity_bytes": 4_000_000_000,
        "health": "OK",
        "failure_predicted": False,
        **more,
    }


def test_drives_are_matched_by_serial_number_however_it_is_written() -> None:
    found = match_drives([disk("sda", "WD-WX1 2ab"), disk("sdb", "S2")], [drive("S2"), drive(" wdwx12AB ")])
    assert [(m["disk"]["name"], m["serial_number"], m["differences"]) for m in found["matched"]] == [
        ("sda", "WD-WX1 2ab", []),
        ("sdb", "S2", []),
    ]
    assert (found["disks"], found["drives"], found["problems"]) == ([], [], [])


def test_what_only_one_side_sees_stands_alone() -> None:
    alone = [disk("sda", "VOLUME"), disk("sdb", None)], [drive("S1"), drive(None)]
    assert match_drives(*alone) == {"matched": [], "disks": alone[0], "drives": alone[1], "problems": []}


@pytest.mark.parametrize("count", [(2, 1), (1, 2)])
def test_a_serial_number_that_is_shown_twice_matches_nothing(count: tuple[int, int]) -> None:
    found = match_drives([disk("sda", "S1")] * count[0], [drive("S1")] * count[1])
    assert found["matched"] == [] and (len(found["disks"]), len(found["drives"])) == count
    assert found["problems"] == ["more than one disk or drive shows the serial number S1"]


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        ({}, {"capacity_bytes": 8_000_000_000}, "the server sees 4000000000 bytes, its BMC 8000000000"),
        ({}, {"failure_predicted": True}, "the BMC predicts that it fails"),
        ({}, {"health": "Critical"}, "the BMC says that its health is Critical"),
        ({"health": {"status": "failing", "problems": ["is worn"]}}, {}, "the disk says: is worn"),
    ],
)
def test_differences(ours: dict[str, Any], theirs: dict[str, Any], text: str) -> None:
    [match] = match_drives([disk("sda", "S1", **ours)], [drive("S1", **theirs)])["matched"]
    assert match["differences"] == [text]


def test_what_is_no_difference() -> None:
    ours = disk("sda", "S1", health={"status": "ok", "problems": []}, capacity_bytes=480_103_981_056)
    theirs = [drive("S1", capacity_bytes=480_000_000_000), drive("S1", capacity_bytes=None, health=None)]
    assert [match_drives([ours], [each])["matched"][0]["differences"] for each in theirs] == [[], []]
