# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role verify. The work is done in plugin_utils/_verify.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._verify import contract_dials, node_problems, pod_dials, probe_figures


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


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "contract_dials": _contract_dials,
            "node_problems": node_problems,
            "pod_dials": _pod_dials,
            "probe_figures": probe_figures,
        }
