# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks ten times a second whether this switch has a route to an IPv4 network. One line of JSON says when it had.

routes.py SECONDS LIMIT NETWORK: ends so many seconds after the route has left, after LIMIT seconds at the latest, and
at once where there is none. Each change is a moment and whether the route is there then.

It reads what the kernel has and does not wait to be told: what goes together with a port is not told.
"""

from __future__ import annotations

import ipaddress
import json
import sys
import time

SECONDS, LIMIT = float(sys.argv[1]), float(sys.argv[2])
NETWORK = ipaddress.IPv4Network(sys.argv[3])
# As they stand in the file: network byte order, printed as a number of this machine.
WANTED = tuple(
    f"{int.from_bytes(address.packed, sys.byteorder):08X}" for address in (NETWORK.network_address, NETWORK.netmask)
)


def present() -> bool:
    with open("/proc/net/route") as routes:
        fields = [line.split() for line in routes]
    return any((one[1], one[7]) == WANTED for one in fields if len(one) > 7)


end = time.monotonic() + LIMIT
changes: list[tuple[float, bool]] = []
left = time.monotonic() - SECONDS
while time.monotonic() < end:
    there = present()
    if there != bool(changes and changes[-1][1]):
        changes.append((time.time(), there))
        left = time.monotonic()
    if not there and time.monotonic() - left >= SECONDS:
        break
    time.sleep(0.1)
print(json.dumps(changes))
