# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role verify. The work is done in plugin_utils/_verify.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._verify import (
    contract_dials,
    node_problems,
    pod_dials,
    probe_figures,
    sds_capabilities,
    space_command,
)
from ..plugin_utils._verify_network import (
    balancer_dials,
    lost_node_figures,
    lost_node_watch,
    policy_steps,
)


def _pod_dials(pods: Sequence[Mapping[str, Any]], service: str, namespace: str, domain: str) -> list[dict[str, str]]:
    try:
        return pod_dials(pods, service, namespace, domain)
    except ValueError as exc:
        raise AnsibleFilterError(str(exc)) from exc


def _contract_dials(
    pods: Sequence[Mapping[str, Any]],
    services: Sequence[Mapping[str, Any]],
    domain: str,
    mtu: int,
    outside: str | None = None,
    port: int = 18081,
    overlay: bool = False,
) -> dict[str, list[dict[str, str]]]:
    try:
        return contract_dials(pods, services, domain, mtu, (outside, port) if outside else None, overlay)
    except ValueError as exc:
        raise AnsibleFilterError(str(exc)) from exc


def _policy_steps(pods: Sequence[Mapping[str, Any]], stranger: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        return policy_steps(pods, stranger)
    except ValueError as exc:
        raise AnsibleFilterError(str(exc)) from exc


def _balancer_dials(services: Sequence[Mapping[str, Any]], pools: Sequence[str], outside: str) -> list[dict[str, str]]:
    try:
        return balancer_dials(services, pools, outside)
    except ValueError as exc:
        raise AnsibleFilterError(str(exc)) from exc


def _sds_capabilities(driver: str, server_known: bool = True) -> dict[str, Any]:
    try:
        return sds_capabilities(driver, server_known)
    except ValueError as exc:
        raise AnsibleFilterError(str(exc)) from exc


def _lost_node_watch(
    pods: Sequence[Mapping[str, Any]], node: str, balanced: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    try:
        return lost_node_watch(pods, node, balanced)
    except ValueError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "balancer_dials": _balancer_dials,
            "contract_dials": _contract_dials,
            "lost_node_figures": lost_node_figures,
            "lost_node_watch": _lost_node_watch,
            "node_problems": node_problems,
            "pod_dials": _pod_dials,
            "policy_steps": _policy_steps,
            "probe_figures": probe_figures,
            "sds_capabilities": _sds_capabilities,
            "space_command": space_command,
        }
