# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Ports in the language of `switchport`, which EOS and NX-OS have in common."""

from __future__ import annotations

from .config import Tree, vlan_list, vlan_set
from .intent import Lag, Port

__all__ = ["describe", "parse_port", "parse_vlans", "vlans"]


def vlans(port: Port | Lag) -> tuple[str, list[str]]:
    """Mode of the port, and the lines of its VLANs."""
    if port.untagged is not None and not port.tagged:
        return "access", [f"switchport access vlan {port.untagged}"]
    native = [f"switchport trunk native vlan {port.untagged}"] if port.untagged else []
    allowed = vlan_list({*port.tagged, *([port.untagged] if port.untagged else [])}) or "none"
    return "trunk", [*native, f"switchport trunk allowed vlan {allowed}"]


def describe(lines: Tree) -> tuple[str, int]:
    """Description and MTU."""
    return lines.one("description ") or "", int(lines.one("mtu ") or 0)


def parse_vlans(lines: Tree) -> tuple[int | None, tuple[int, ...]]:
    """Untagged VLAN, and tagged ones."""
    access, native = lines.one("switchport access vlan "), lines.one("switchport trunk native vlan ")
    untagged = int(access or native or 0) or None
    allowed = vlan_set(lines.one("switchport trunk allowed vlan ") or "none")
    return untagged, tuple(number for number in allowed if number != untagged)


def parse_port(name: str, lines: Tree) -> Port:
    description, mtu = describe(lines)
    if "no switchport" in lines.children:
        return Port(name, description, mtu, routed=True, address=lines.one("ip address "))
    group = lines.one("channel-group ")
    if group:
        return Port(name, description, mtu, lag=int(group.split()[0]))
    return Port(name, description, mtu, *parse_vlans(lines))
