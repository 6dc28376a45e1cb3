# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role verify. The work is done in plugin_utils/_verify*.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._play import site_of_input
from ..plugin_utils._verify import (
    contract_dials,
    node_problems,
    pod_dials,
    probe_figures,
)
from ..plugin_utils._verify_network import (
    balancer_dials,
    ingress_dials,
    lost_node_figures,
    lost_node_watch,
    policy_steps,
    silence_figures,
    throughput_ends,
    throughput_figures,
)
from ..plugin_utils._verify_storage import checks, space_command


def _told(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with what is wrong about its arguments as a filter's error."""

    @wraps(work)
    def run(*arguments: Any, **named: Any) -> Any:
        try:
            return work(*arguments, **named)
        except ValueError as exc:
            raise AnsibleFilterError(str(exc)) from exc

    return run


def _contract_dials(
    pods: Sequence[Mapping[str, Any]],
    services: Sequence[Mapping[str, Any]],
    domain: str,
    mtu: int,
    outside: str | None = None,
    port: int = 18081,
    overlay: bool = False,
    masquerade: bool = False,
    dual: bool = False,
    outside6: str | None = None,
) -> dict[str, list[dict[str, str]]]:
    far = (outside, port) if outside else None
    return contract_dials(pods, services, domain, mtu, far, overlay, masquerade, dual, outside6 or None)


def _verify_checks(
    rows: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any] | str,
    has: Sequence[str],
    drivers: Sequence[str] | str,
    workers: Sequence[str],
) -> list[dict[str, Any]]:
    named = drivers.split(",") if isinstance(drivers, str) else drivers
    return checks(rows, site_of_input(data), has, [name.strip() for name in named if name.strip()], workers)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "balancer_dials": _told(balancer_dials),
            "contract_dials": _told(_contract_dials),
            "ingress_dials": _told(ingress_dials),
            "lost_node_figures": lost_node_figures,
            "lost_node_watch": _told(lost_node_watch),
            "node_problems": node_problems,
            "pod_dials": _told(pod_dials),
            "policy_steps": _told(policy_steps),
            "probe_figures": probe_figures,
            "silence_figures": silence_figures,
            "space_command": space_command,
            "throughput_ends": _told(throughput_ends),
            "throughput_figures": throughput_figures,
            "verify_checks": _told(_verify_checks),
        }
