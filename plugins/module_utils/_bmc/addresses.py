# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Addresses of many BMCs, from what a person writes: networks, ranges, ports, names and URLs."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from .errors import BmcOptionError

__all__ = ("LIMIT", "expand")

LIMIT = 65536
_HINT = (
    "Write an address, a name or URL, a network (192.0.2.0/24), a range (192.0.2.11-192.0.2.40 or 192.0.2.11-40), "
    "each with a port or range of ports if need be (192.0.2.0/24:8443, [2001:db8::/120]:8000-8009)"
)
_PORTS = re.compile(r":(\d+)(?:-(\d+))?$")
_Ip = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def expand(given: t.Iterable[str]) -> list[str]:
    """All addresses, in the order in which they are named, each once; commas separate as well as items do."""
    found: dict[str, None] = {}
    for item in given:
        for part in item.split(","):
            if not part.strip():
                continue
            for address in _one(part.strip()):
                found[address] = None
                if len(found) > LIMIT:
                    raise BmcOptionError(part, f"these are more than {LIMIT} addresses", hint="Scan in several runs")
    return list(found)


def _one(part: str) -> t.Iterator[str]:
    if "://" in part:
        yield part
        return
    body, ports = _ports(part)
    hosts = _hosts(body)
    if hosts is None:
        hosts = iter([body])
    for host in hosts:
        named = f"[{host}]" if ":" in host and ports != [None] else host
        for port in ports:
            yield named if port is None else f"{named}:{port}"


def _ports(part: str) -> tuple[str, list[int | None]]:
    """The part without its ports, and the ports; None stands for the usual one."""
    found = _PORTS.search(part)
    bare_ipv6 = part.count(":") > 1 and not part.startswith("[")
    if found is None or bare_ipv6:
        return part.strip("[]"), [None]
    first, last = int(found.group(1)), int(found.group(2) or found.group(1))
    if not 0 < first <= last < 65536:
        raise BmcOptionError(part, f"{first} to {last} are not ports", hint=_HINT)
    return part[: found.start()].strip("[]"), list(range(first, last + 1))


def _hosts(body: str) -> t.Iterator[str] | None:
    """Every address of a network or range; None where it is neither."""
    if "/" in body:
        try:
            network = ipaddress.ip_network(body, strict=False)
        except ValueError as exc:
            raise BmcOptionError(body, f"not a network: {exc}", hint=_HINT) from None
        if network.num_addresses > LIMIT + 2:
            raise BmcOptionError(body, f"it has more than {LIMIT} addresses", hint="Scan smaller networks")
        return (str(host) for host in network.hosts())
    left, dash, right = body.partition("-")
    start = _ip(left)
    if not dash or start is None:
        return None  # a name may hold hyphens
    end = _ip(right)
    if end is None and right.isdigit() and start.version == 4:
        end = _ip(f"{left.rsplit('.', 1)[0]}.{right}")
    if end is None or end.version != start.version or int(end) < int(start):
        raise BmcOptionError(body, f"{right} is not the end of a range that begins with {left}", hint=_HINT)
    if int(end) - int(start) >= LIMIT:
        raise BmcOptionError(body, f"these are more than {LIMIT} addresses", hint="Scan smaller ranges")
    return (str(type(start)(number)) for number in range(int(start), int(end) + 1))


def _ip(text: str) -> _Ip | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
