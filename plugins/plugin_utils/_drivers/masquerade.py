# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With which address pods are seen outside the cluster: their own, or that of their server."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from .._fabric.overlay import BRIDGE
from .._site.ipam import address6
from .._site.model import Server, Site

__all__ = ["RULES", "masquerade_files"]

RULES = "/etc/kiban/pods.nft"
_KUBELET = "/etc/systemd/system/kubelet.service.d/20-kiban-pods.conf"


def masquerade_files(site: Site, server: Server) -> dict[str, str]:
    """Path to content; none where the model does not say anything about it and has no overlay.

    Where it says no, the rules are none: they take away what an earlier model asked for.
    """
    sdn = site.cluster.sdn
    if sdn.masquerade is None and not sdn.overlay:
        return {}
    return {
        RULES: "".join(_table(word, _rules(site, server, word)) for word in ("ip", "ip6") if word == "ip" or sdn.ipv6),
        # Before any pod starts. A service of its own would have to be enabled, which is no file.
        _KUBELET: f"[Service]\nExecStartPre=/usr/sbin/nft -f {RULES}\n",
    }


def _rules(site: Site, server: Server, word: str) -> list[str]:
    """Of a family, as nftables calls it."""
    sdn, own = site.cluster.sdn, server.addresses["node"]
    pods = sdn.pods if word == "ip" else sdn.pod_networks[-1]
    many = "224.0.0.0/4" if word == "ip" else "ff00::/8"
    outside = f"{word} saddr {pods} {word} daddr != {{ {pods}, {many} }}"
    if sdn.overlay:
        # Nobody outside knows the way back to a pod, and what comes in by this server has to be answered by this one.
        return [f"{outside} masquerade", f'oifname "{BRIDGE}" {word} saddr != {pods} masquerade']
    # A stated address: to masquerade is to take what the link gives, and to forget connections that change links.
    mine = own if word == "ip" else address6(site.networks["node"], own)
    return [f"{outside} snat to {mine}"] if sdn.masquerade else []


def _table(word: str, rules: list[str]) -> str:
    """In the place of what was there. Answers of pods keep their address: they are no new connections."""
    text = f"table {word} kiban-pods\ndelete table {word} kiban-pods\n"
    if rules:
        lines = "".join(f"        {rule}\n" for rule in rules)
        text += (
            f"table {word} kiban-pods {{\n    chain postrouting {{\n"
            f"        type nat hook postrouting priority srcnat; policy accept;\n{lines}    }}\n}}\n"
        )
    return text
