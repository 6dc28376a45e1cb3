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

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.ipam import address6
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import site_vars
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import with_ipv6

LAB = yaml.safe_load((Path(__file__).resolve().parents[5] / "inventories" / "lab" / "site.yml").read_text("utf-8"))


DUAL = with_ipv6(LAB)


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
    site = load_site(with_ipv6(site_with(entries)))
    servers = site.servers
    for values in (
        [server.name for server in servers],
        [server.bmc.address for server in servers],
        [server.addresses["node"] for server in servers],
        [server.pod_cidr for server in servers],
        [server.pod_cidr6 for server in servers],
        [address6(site.networks["node"], server.addresses["node"]) for server in servers],
    ):
        assert len(set(values)) == len(values)


@settings(deadline=None)
@given(layouts(), st.data())
def test_pod_ranges_stay_when_servers_come_and_go(entries: list[dict[str, Any]], data: st.DataObject) -> None:
    kept = [item for item in entries if data.draw(st.booleans())]
    before = {server.name: server.pod_cidrs for server in load_site(with_ipv6(site_with(kept))).servers}
    after = {server.name: server.pod_cidrs for server in load_site(with_ipv6(site_with(entries))).servers}
    assert before.items() <= after.items()


@settings(deadline=None)
@given(layouts())
def test_the_normal_form_is_the_same_site(entries: list[dict[str, Any]]) -> None:
    for data in (site_with(entries), with_ipv6(site_with(entries))):
        site = load_site(data)
        assert load_site(site_vars(site)) == site


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in the data."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2**33),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        [
            "0.0.0.0",
            "255.255.255.255",
            "192.0.2.1",
            "0.0.0.0/0",
            "10.0.0.0/32",
            "node[1:3]",
            "`1`",
            "cp1",
            "::/0",
            "fd00::/64",
            "fe80::1",
            "2001:db8::/127",
            "::",
        ]
    ),
    st.lists(st.sampled_from([None, 1, "x", {}]), max_size=2),
    st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), st.sampled_from([None, 1, "x", []]), max_size=2),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(places(DUAL)), JUNK, st.booleans()), min_size=1, max_size=4))
def test_whatever_is_in_it_ends_in_a_site_or_in_sentences(edits: list[tuple[tuple[Any, ...], Any, bool]]) -> None:
    data: Any = copy.deepcopy(DUAL)
    for (*steps, last), value, remove in edits:
        place = data
        try:
            for step in steps:
                place = place[step]
            if remove and isinstance(place, dict):
                del place[last]
            else:
                place[last] = value
        except (KeyError, IndexError, TypeError):
            continue
    try:
        site = load_site(data)
    except SiteError as error:
        assert error.problems
        assert all(problem.path and problem.message for problem in error.problems)
    else:
        assert load_site(site_vars(site)) == site
