# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges of names and addresses, and the pod ranges that follow from them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.expand import (
    MAX_RANGE,
    RangeError,
    count_up,
    expand_name,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.ipam import PodRangeError, pod_range


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cp1", ["cp1"]),
        ("node[1:3]", ["node1", "node2", "node3"]),
        ("node[08:11]", ["node08", "node09", "node10", "node11"]),
        ("node[9:11]", ["node9", "node10", "node11"]),
        ("n[0:1]", ["n0", "n1"]),
        ("r[001:002]-a", ["r001-a", "r002-a"]),
        ("n[7:7]", ["n7"]),
        ("e[0:12:4]", ["e0", "e4", "e8", "e12"]),
        ("e[0:3:4]", ["e0"]),
    ],
)
def test_expand_name(text: str, names: list[str]) -> None:
    assert list(expand_name(text)) == names


@pytest.mark.parametrize(
    "text", ["n[", "n]", "n[]", "n[1]", "n[a:c]", "n[1:2:0]", "n[1:2:3:4]", "n[1:2][3:4]", "n[2:1]", "n[1:02]"]
)
def test_expand_name_refuses(text: str) -> None:
    with pytest.raises(RangeError) as caught:
        expand_name(text)
    assert caught.value.hint


def test_the_longest_range() -> None:
    assert len(expand_name(f"n[1:{MAX_RANGE}]")) == MAX_RANGE
    with pytest.raises(RangeError):
        expand_name(f"n[0:{MAX_RANGE}]")


@given(start=st.integers(0, 99999), count=st.integers(1, 300), width=st.integers(1, 6))
def test_names_are_distinct_and_in_order(start: int, count: int, width: int) -> None:
    end = start + count - 1
    first, last = f"{start:0{width}d}", f"{end:0{width}d}"
    if len(first) != len(last) and first[0] == "0" and len(first) > 1:
        return
    names = expand_name(f"n[{first}:{last}]")
    assert len(names) == len(set(names)) == count
    assert [int(name[1:]) for name in names] == list(range(start, end + 1))
    assert names[0] == f"n{first}"
    assert names[-1] == f"n{last}"


@given(first=st.ip_addresses(v=4), count=st.integers(1, 300))
def test_addresses_are_distinct_and_in_order(first: ipaddress.IPv4Address, count: int) -> None:
    if int(first) + count > 2**32:
        with pytest.raises(RangeError):
            count_up(str(first), count)
        return
    assert [ipaddress.ip_address(address) for address in count_up(str(first), count)] == [
        first + step for step in range(count)
    ]


@st.composite
def plans(draw: st.DrawFn) -> tuple[str, str, int, list[str]]:
    """A node network, a pod network with room for every address in it, a prefix, and some node addresses."""
    node_prefix = draw(st.integers(20, 30))
    node = ipaddress.ip_network(
        (draw(st.integers(0, 2**32 - 1)) >> (32 - node_prefix) << (32 - node_prefix), node_prefix)
    )
    prefix = draw(st.integers(22, 28))
    pods_prefix = draw(st.integers(8, prefix - (32 - node_prefix)))
    pods = ipaddress.ip_network(
        (draw(st.integers(0, 2**32 - 1)) >> (32 - pods_prefix) << (32 - pods_prefix), pods_prefix)
    )
    steps = draw(st.lists(st.integers(0, node.num_addresses - 1), min_size=1, max_size=30, unique=True))
    return str(node), str(pods), prefix, [str(node[step]) for step in steps]


@given(plans())
def test_pod_ranges_are_apart_and_inside(plan: tuple[str, str, int, list[str]]) -> None:
    node, pods, prefix, addresses = plan
    ranges = [ipaddress.ip_network(pod_range(address, node, pods, prefix)) for address in addresses]
    assert all(one.subnet_of(ipaddress.ip_network(pods)) and one.prefixlen == prefix for one in ranges)
    # Of one size and aligned, so different means apart.
    assert len(set(ranges)) == len(addresses)


@given(last=st.integers(1, 254))
def test_the_place_in_the_network_is_the_place_of_the_range(last: int) -> None:
    assert pod_range(f"198.51.100.{last}", "198.51.100.0/24", "10.244.0.0/16", 24) == f"10.244.{last}.0/24"


@given(offset=st.integers(1, 2**16 - 2), pods_prefix=st.integers(8, 24))
def test_the_hint_for_a_small_pod_network_is_true(offset: int, pods_prefix: int) -> None:
    """A pod network that is too small is refused, and the one that the hint names is just large enough."""
    address = str(ipaddress.ip_address("172.16.0.0") + offset)
    try:
        pod_range(address, "172.16.0.0/16", f"10.0.0.0/{pods_prefix}", 24)
    except PodRangeError as error:
        named = int(error.hint.split("/")[1].split()[0])
        assert named < pods_prefix
        assert pod_range(address, "172.16.0.0/16", f"10.0.0.0/{named}", 24) if named >= 8 else True
        with pytest.raises(PodRangeError):
            pod_range(address, "172.16.0.0/16", f"0.0.0.0/{named + 1}", 24)
    else:
        assert offset < 2 ** (24 - pods_prefix)


def test_an_address_of_another_network() -> None:
    with pytest.raises(ValueError, match="is not in"):
        pod_range("192.0.2.1", "198.51.100.0/24", "10.244.0.0/16", 24)
