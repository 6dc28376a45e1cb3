# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of whole sites: nothing twice, and nothing moves when servers come or go."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import site_vars

LAB = yaml.safe_load((Path(__file__).resolve().parents[5] / "inventories" / "lab" / "site.yml").read_text("utf-8"))


def entry(name: str, first: int) -> dict[str, Any]:
    return {
        "name": name,
        "roles": ["worker"],
        "profile": "compute",
        "bmc": f"192.0.2.{first}",
        "addresses": {"node": f"198.51.100.{first}"},
    }


@st.composite
def layouts(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Entries for workers, single and ranges, that do not meet each other."""
    entries, first, number = [], 20, 0
    for size in draw(st.lists(st.integers(1, 12), max_size=12)):
        first += draw(st.integers(0, 5))
        name = f"w{number}" if size == 1 else f"w{number}-[1:{size}]"
        entries.append(entry(name, first))
        first, number = first + size, number + 1
    return draw(st.permutations(entries))


def site_with(entries: list[dict[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = copy.deepcopy(LAB)
    data["racks"][0]["servers"] = [data["racks"][0]["servers"][0]]
    data["racks"].append({"name": "more", "servers": entries})
    return data


@settings(deadline=None)
@given(layouts())
def test_nothing_is_there_twice(entries: list[dict[str, Any]]) -> None:
    servers = load_site(site_with(entries)).servers
    for values in (
        [server.name for server in servers],
        [server.bmc.address for server in servers],
        [server.addresses["node"] for server in servers],
        [server.pod_cidr for server in servers],
    ):
        assert len(set(values)) == len(values)


@settings(deadline=None)
@given(layouts(), st.data())
def test_pod_ranges_stay_when_servers_come_and_go(entries: list[dict[str, Any]], data: st.DataObject) -> None:
    kept = [item for item in entries if data.draw(st.booleans())]
    before = {server.name: server.pod_cidr for server in load_site(site_with(kept)).servers}
    after = {server.name: server.pod_cidr for server in load_site(site_with(entries)).servers}
    assert before.items() <= after.items()


@settings(deadline=None)
@given(layouts())
def test_the_normal_form_is_the_same_site(entries: list[dict[str, Any]]) -> None:
    site = load_site(site_with(entries))
    assert load_site(site_vars(site)) == site
