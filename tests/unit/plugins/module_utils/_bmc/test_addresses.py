# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person may write for many BMCs."""

from __future__ import annotations

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcOptionError, Options
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.addresses import LIMIT, expand
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.options import Endpoint


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("192.0.2.11", ["192.0.2.11"]),
        ("192.0.2.0/30", ["192.0.2.1", "192.0.2.2"]),
        ("192.0.2.1/30", ["192.0.2.1", "192.0.2.2"]),
        ("192.0.2.0/31", ["192.0.2.0", "192.0.2.1"]),
        ("192.0.2.9/32", ["192.0.2.9"]),
        ("192.0.2.254-192.0.3.1", ["192.0.2.254", "192.0.2.255", "192.0.3.0", "192.0.3.1"]),
        ("192.0.2.9-11", ["192.0.2.9", "192.0.2.10", "192.0.2.11"]),
        ("192.0.2.9-11:8443", ["192.0.2.9:8443", "192.0.2.10:8443", "192.0.2.11:8443"]),
        ("127.0.0.1:8000-8002", ["127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002"]),
        ("192.0.2.1-2:1-2", ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "192.0.2.2:2"]),
        ("192.0.2.1, 192.0.2.3 ,192.0.2.1", ["192.0.2.1", "192.0.2.3"]),
        ("2001:db8::7", ["2001:db8::7"]),
        ("[2001:db8::7]:8443", ["[2001:db8::7]:8443"]),
        ("2001:db8::/126", ["2001:db8::1", "2001:db8::2", "2001:db8::3"]),
        ("[2001:db8::1-2001:db8::2]:443", ["[2001:db8::1]:443", "[2001:db8::2]:443"]),
        ("bmc-a01.example.net", ["bmc-a01.example.net"]),
        ("bmc-1-2:8443", ["bmc-1-2:8443"]),
        ("https://192.0.2.1/redfish/v1/Systems/1", ["https://192.0.2.1/redfish/v1/Systems/1"]),
        ("", []),
    ],
)
def test_addresses(given: str, expected: list[str]) -> None:
    assert expand([given]) == expected
    for address in expected:
        # an address that comes out is one that all modules take
        Endpoint.parse(Options(address=address, username="u", password="p"))


@pytest.mark.parametrize(
    "given",
    ["192.0.2.0/33", "192.0.2.9-8", "192.0.2.9-x", "192.0.2.9-300", "192.0.2.9-2001:db8::1", "192.0.2.1:0", "x/24"]
    + ["192.0.2.1:9-8", "192.0.2.1:70000", "10.0.0.0/8", "2001:db8::/64", "10.0.0.0-10.9.0.0", "10.0.0.0/17:1-9"],
)
def test_what_is_refused(given: str) -> None:
    with pytest.raises(BmcOptionError) as caught:
        expand([given])
    assert caught.value.hint


def test_order_and_limit() -> None:
    assert expand(["192.0.2.2", "192.0.2.0/30"]) == ["192.0.2.2", "192.0.2.1"]
    assert len(expand(["10.0.0.0/16"])) == LIMIT - 2
