# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# The part of the probe that asks for LLDP. It runs on the servers: Python 3.9, standard library.

from __future__ import annotations

import json
from typing import Any

NETWORKD = "/run/systemd/netif/io.systemd.Network"
# Of a port's name, in IEEE 802.1AB.
_ADDRESS = 3


def neighbors(path: str = NETWORKD) -> list[dict[str, Any]]:
    """What systemd-networkd hears on each port, by Varlink. Nothing where it is older than that of Debian 13."""
    import socket  # Few servers need it.

    said = b""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(path)
            client.sendall(b'{"method":"io.systemd.Network.GetLLDPNeighbors","parameters":{}}\0')
            while not said.endswith(b"\0"):
                part = client.recv(65536)
                if not part:
                    return []
                said += part
        return [
            {"port": port["InterfaceName"], "device": one.get("SystemName"), "device_port": _port(one)}
            for port in json.loads(said[:-1])["parameters"]["Neighbors"]
            for one in port["Neighbors"]
        ]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _port(one: dict[str, Any]) -> Any:
    """A neighbour that gives an address in the place of a name may describe the port."""
    by_address = (one.get("RawPortID") or [0])[0] == _ADDRESS
    return (one.get("PortDescription") if by_address else None) or one.get("PortID")
