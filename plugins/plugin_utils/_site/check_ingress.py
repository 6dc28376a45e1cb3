# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Checks of meaning: how HTTP from outside reaches the cluster."""

from __future__ import annotations

import netaddr  # type: ignore[import-untyped, unused-ignore]

from .draft import Draft
from .model import Ingress

__all__ = ["check_ingress"]


def check_ingress(draft: Draft) -> None:
    ingress, path = draft.part("cluster", "ingress"), "cluster.ingress"
    balancer = draft.part("cluster", "load_balancer")
    address = ingress.get("address")
    if address and not ingress.get("driver") and f"{path}.driver" not in draft.told:
        draft.problem(f"{path}.driver", "missing", "the address is for it: driver: traefik")
    elif address and not balancer.get("driver"):
        message = "without cluster.load_balancer.driver nothing gives it to a Service"
        draft.problem(
            f"{path}.address", message, "leave it out: http_node_port and https_node_port answer on every node"
        )
    elif address:
        pools = [pool for pool in balancer.get("pools") or [] if pool]
        own = [pool for pool in pools if ":" not in pool]
        if pools and not any(netaddr.IPAddress(address) in netaddr.IPNetwork(pool) for pool in own):
            message = f"{address} is in none of cluster.load_balancer.pools"
            draft.problem(f"{path}.address", message, f"an address of {', '.join(own) or 'an IPv4 pool'}")
    usual = Ingress()
    http, https = ingress.get("http_node_port"), ingress.get("https_node_port")
    if (http or usual.http_node_port) == (https or usual.https_node_port):
        key = "https_node_port" if https else "http_node_port"
        draft.problem(f"{path}.{key}", f"{https or http} would be the port of HTTP and of HTTPS", "another port")
