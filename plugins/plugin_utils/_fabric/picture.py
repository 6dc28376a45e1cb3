# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""The network of a site as a picture of characters."""

from __future__ import annotations

from .._site.model import Site
from .cables import cables, of_switch
from .derive import server_asn

__all__ = ["picture"]


def picture(site: Site) -> str:
    """A tree of cables, from the switches that all others lead to, down to servers and BMCs.

    What hangs on several switches is described where it comes first, and called by its name after that.
    """
    every = cables(site)
    below = {switch.name: [cable for cable in every if cable.far.device == switch.name] for switch in site.switches}
    roots = [switch.name for switch in site.switches if not switch.cables]
    lines: list[str] = []
    told: set[str] = set()

    def describe(name: str) -> str:
        if name in told:
            return name
        told.add(name)
        return "  ".join((name, *_facts(site, name)))

    def branch(name: str, indent: str, way: frozenset[str]) -> None:
        found = [cable for cable in below.get(name, []) if cable.near.device not in way]
        for place, cable in enumerate(found, 1):
            last = place == len(found)
            near = cable.near
            text = f"BMC of {near.device}" if near.port == "bmc" else f"{near.port} {describe(near.device)}"
            lines.append(f"{indent}{'└' if last else '├'}─ {cable.far.port} ── {text}")
            branch(near.device, indent + ("   " if last else "│  "), way | {near.device})

    for root in roots or [switch.name for switch in site.switches]:
        if of_switch(every, root):
            lines.append(describe(root))
            branch(root, "", frozenset({root}))
    return "".join(f"{line}\n" for line in lines)


def _facts(site: Site, name: str) -> list[str]:
    for switch in site.switches:
        if switch.name == name:
            asn = [f"AS {switch.asn}"] if switch.asn else []
            loopback = [switch.loopback] if switch.loopback else []
            return [*asn, *loopback, *(f"{network} {address}" for network, address in switch.addresses.items())]
    server = site.server(name)
    number = server_asn(site, server)
    return [*([f"AS {number}"] if number else []), server.addresses["node"], f"pods {server.pod_cidr}"]
