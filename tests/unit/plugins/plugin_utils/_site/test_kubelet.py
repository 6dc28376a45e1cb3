# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.kubelet import differing_fields, merged_config


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("containerLogMonitorInterval: 1m0s", {"containerLogMonitorInterval": "1m"}),
        ("x: 1h30m0s", {"x": "90m"}),
        ("x: 1.5s", {"x": "1500ms"}),
        ("", {"volumeStatsAggPeriod": "0s", "a": 0, "b": "", "c": [], "d": {}, "e": False}),
        ("a: {b: 1, c: 2}", {"a": {"b": 1}}),
        ("maxPods: 200\nmore: x", {"maxPods": 200}),
    ],
)
def test_the_same(text: str, wanted: dict[str, Any]) -> None:
    assert differing_fields(text, wanted) == []


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("maxPods: 110", {"maxPods": 200}, [("maxPods", "110", "200")]),
        ("{}", {"maxPods": 200}, [("maxPods", "missing", "200")]),
        ("x: 1m", {"x": "1h"}, [("x", "1m", "1h")]),
        ("a: {b: 1}", {"a": {"b": 2, "c": 3}}, [("a.b", "1", "2"), ("a.c", "missing", "3")]),
        ("a: true", {"a": 1}, [("a", "True", "1")]),
        ("a: [1, 2]", {"a": [2, 1]}, [("a", "[1, 2]", "[2, 1]")]),
        ("a: [", {"a": 1}, [("a", "missing", "1")]),
        ("- list", {"a": 1}, [("a", "missing", "1")]),
    ],
)
def test_different(text: str, wanted: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    assert differing_fields(text, wanted) == expected


VALUES = st.recursive(
    st.one_of(st.integers(-5, 5), st.booleans(), st.sampled_from(["1m", "x", ""])),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
CONFIGS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@given(CONFIGS, CONFIGS)
def test_a_merged_file_does_not_differ_and_loses_nothing(have: dict[str, Any], wanted: dict[str, Any]) -> None:
    merged = merged_config(yaml.safe_dump(have), wanted)
    assert differing_fields(merged, wanted) == []
    for key, value in have.items():
        if key not in wanted:
            assert yaml.safe_load(merged)[key] == value
