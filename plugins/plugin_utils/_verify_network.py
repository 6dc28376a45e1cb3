# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role verify asks to prove network policies and load balancer. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import netaddr  # type: ignore[import-untyped, unused-ignore]

from ._verify import dial, two_sets

__all__ = ["balancer_dials", "policy_steps"]

# agnhost gives up after five seconds; a refused connection would be another error.
_CUT_OFF = r'^\{"errors":\[".*([Tt]imeout|deadline exceeded)'


def policy_steps(pods: Sequence[Mapping[str, Any]], stranger: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Policies to apply one after another, and what pods must and must not reach then.

    C(pods) are those of the DaemonSets C(one) and C(two); policies select C(one) for what comes in, and C(two) for what
    goes out. C(stranger) is a pod of another namespace. A step without policies is what must hold when all are gone.
    """
    sets, (here, there) = two_sets(pods)
    server, far_server = sets["one"][here], sets["one"][there]
    client, far_client = sets["two"][here], sets["two"][there]
    namespace = server["metadata"]["namespace"]

    def policy(name: str, group: str, **rules: Any) -> dict[str, Any]:
        kinds = [kind.capitalize() for kind in ("ingress", "egress") if kind in rules]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": {"set": group}}, "policyTypes": kinds, **rules},
        }

    def ask(who: Mapping[str, Any], whom: Mapping[str, Any], through: bool, protocol: str = "http") -> dict[str, str]:
        name = {id(stranger): "another namespace", id(client): "the same node", id(far_client): "another node"}
        label = f"{protocol.upper()} from {name.get(id(who), 'a pod')}"
        port = 8080 if protocol == "http" else 8081
        found = dial(who, whom["status"]["podIP"], port, protocol, "hostname", [whom["metadata"]["name"]], label)
        return found if through else {**found, "expect": _CUT_OFF, "label": f"{found['label']}, cut off"}

    one, two = ([{"podSelector": {"matchLabels": {"set": group}}}] for group in ("one", "two"))
    other = {"matchLabels": {"kubernetes.io/metadata.name": stranger["metadata"]["namespace"]}}
    http = [{"port": 8080, "protocol": "TCP"}]
    return [
        {
            "name": "deny",
            "policies": [policy("deny", "one", ingress=[])],
            "dials": [
                ask(client, server, False),
                ask(far_client, server, False),
                ask(client, server, False, "udp"),
                ask(stranger, far_server, False),
                # What no policy selects is not touched.
                ask(stranger, client, True),
            ],
        },
        {
            "name": "allow by label",
            "policies": [policy("allow-label", "one", ingress=[{"from": two, "ports": http}])],
            "dials": [
                ask(client, server, True),
                ask(far_client, server, True),
                ask(client, server, False, "udp"),
                ask(stranger, server, False),
            ],
        },
        {
            "name": "allow by namespace",
            "policies": [policy("allow-namespace", "one", ingress=[{"from": [{"namespaceSelector": other}]}])],
            "dials": [ask(stranger, server, True), ask(stranger, far_server, True), ask(client, server, False, "udp")],
        },
        {
            "name": "egress",
            "policies": [policy("egress", "two", egress=[{"to": one, "ports": http}])],
            "dials": [
                ask(client, server, True),
                ask(client, far_server, True),
                ask(client, far_client, False),
                ask(client, stranger, False),
                ask(stranger, client, True),
            ],
        },
        {
            "name": "none",
            "policies": [],
            "dials": [
                ask(client, server, True),
                ask(client, server, True, "udp"),
                ask(stranger, far_server, True),
                ask(client, far_client, True),
            ],
        },
    ]


def balancer_dials(services: Sequence[Mapping[str, Any]], pools: Sequence[str], outside: str) -> list[dict[str, str]]:
    """What to ask of the Services C(sdn-balanced) and C(sdn-balanced-local) from outside, and the right answers.

    ValueError where a Service has no address, or one that is in no pool.
    """
    known = {service["metadata"]["name"]: service for service in services}
    address = {name: _address_of(known[name], pools) for name in ("sdn-balanced", "sdn-balanced-local")}
    return [
        {
            "url": f"http://{address['sdn-balanced']}/hostname",
            "expect": "^sdn-(one|two)-",
            "label": f"{address['sdn-balanced']}, by every node",
        },
        {
            "url": f"http://{address['sdn-balanced-local']}/clientip",
            "expect": f"^{re.escape(outside)}:[0-9]+$",
            "label": f"{address['sdn-balanced-local']}, by nodes with a pod of it, source address kept",
        },
    ]


def _address_of(service: Mapping[str, Any], pools: Sequence[str]) -> str:
    name = service["metadata"]["name"]
    given = (((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [{}])[0].get("ip")
    if not given:
        raise ValueError(f"Service {name} has no address")
    if not any(netaddr.IPAddress(given) in netaddr.IPNetwork(pool) for pool in pools):
        raise ValueError(f"Service {name} has the address {given}, which is in none of the pools {', '.join(pools)}")
    return str(given)
