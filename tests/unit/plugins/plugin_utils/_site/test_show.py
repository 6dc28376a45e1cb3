# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads of a plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.changes import Change, Notice, Problem
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.expand import expand_name
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.show import folded, lines, summary


def install(server: str, action: str = "ramdisk") -> list[Change]:
    return [
        Change(server, "os", action, "operating system", "powered off", "node image, booted", "data"),
        Change(server, "join", "join", "cluster membership", "not yet seen", "joined"),
    ]


HOST = Change("node9", "host", "files", "host files", "differ: /etc/hosts", "as the model says")


def test_servers_with_the_same_changes_are_one_group() -> None:
    changes = [change for number in range(1, 5) for change in install(f"node{number}")]
    text = lines([*changes, HOST], [Problem("x1", "silent"), Problem("x2", "silent")], [Notice("node5", "kept")], "sum")
    assert text == [
        "node[1:4] (4 servers):",
        "  os: operating system: powered off -> node image, booted [data]",
        "  join: cluster membership: not yet seen -> joined",
        "node9:",
        "  host: host files: differ: /etc/hosts -> as the model says",
        "notice: node5: kept",
        "problem: x[1:2] (2 servers): silent",
        "sum",
    ]


@pytest.mark.parametrize(
    ("changes", "problems", "expected"),
    [
        ([], [], "everything is in order: nothing to do"),
        (install("n1"), [], "1 server to install, 9 in order"),
        (install("n1") + install("n2", "inspect"), [], "2 servers to install, 8 in order"),
        ([Change("n1", "os", "disk", "power", "off", "on")], [], "1 server to power on, 9 in order"),
        (
            [Change("n1", "bios", "set", "x", "1", "2", "reboot"), Change("n2", "bios", "set", "y", "1", "2")],
            [],
            "2 servers with changes (bios 1, bios 1 with reboot), 8 in order",
        ),
        (
            [*install("n1"), *install("n2", "wait"), Change("n3", "host", "files", "a", "b", "c")],
            [Problem("n4", "silent")],
            "1 server to install, 1 to wait for, 1 with changes (host 1), 1 left alone, 6 in order",
        ),
        ([], [Problem("n4", "a"), Problem("n4", "b")], "1 server left alone, 9 in order"),
    ],
)
def test_summary(changes: list[Change], problems: list[Problem], expected: str) -> None:
    assert summary([f"n{number}" for number in range(10)], changes, problems) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cp1"], "cp1"),
        (["node2", "node1", "node3"], "node[1:3]"),
        (["node9", "node10", "node11"], "node[9:11]"),
        (["node09", "node10", "node11"], "node[09:11]"),
        (["a1-x", "a2-x", "a4-x"], "a[1:2]-x, a4-x"),
        (["web", "node1"], "node1, web"),
        (
            [f"n{number}" for number in range(0, 30, 2)],
            "n0, n2, n4, n6, n8, n10, n12, n14, n16, n18, n20, n22 and 3 more",
        ),
    ],
)
def test_names_are_folded(names: list[str], expected: str) -> None:
    assert folded(names) == expected


@given(st.sets(st.tuples(st.sampled_from(["n", "a1-"]), st.integers(0, 120), st.sampled_from([1, 2, 3]))))
def test_no_name_is_lost_or_made_up(parts: set[tuple[str, int, int]]) -> None:
    names = {f"{head}{number:0{width}d}" for head, number, width in parts}
    shown = folded(names, limit=1000).split(", ") if names else []
    assert sorted(name for part in shown for name in expand_name(part)) == sorted(names)
