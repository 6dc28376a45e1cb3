# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan gives the plays of a run: groups of servers, and what each play acts with. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from .changes import CLUSTER, Intent
from .kubelet import merged_config
from .model import Site
from .plan import Plan
from .stages import DRAIN, node_labels, node_range, node_taints
from .state import SiteState

__all__ = ["todo_hosts", "todo_nodes", "wave_before"]


def wave_before(waves: Sequence[Sequence[str]], wave: Collection[str]) -> Sequence[str]:
    """The wave that goes before the one with these servers."""
    return next((one for one, after in pairwise(waves) if {*after} & {*wave}), ())


def todo_hosts(plan: Plan, intent: Intent, state: SiteState) -> list[dict[str, Any]]:
    """One entry a server that has anything to do: its groups, and the actions of each stage. Those of later waves come
    last and in their order; what they need is found out when it is their turn.
    """
    later = {*plan.later}
    todo: dict[str, dict[str, list[str]]] = {}
    for change in plan.changes:
        if change.server == CLUSTER or change.server in later:
            continue  # Objects of the cluster are applied from the control host in every run.
        todo.setdefault(change.server, {}).setdefault(change.stage, []).append(change.action)
    return [
        {
            "name": name,
            "groups": ["todo", *(f"todo_{stage}" for stage in stages)],
            "todo": {stage: actions[0] for stage, actions in stages.items()},
            "hardware_actions": stages.get("hardware", []),
            "host_actions": stages.get("host", []),
            "kubelet_config": (
                merged_config(state.hosts[name].kubelet_config, intent.kubelet_config)
                if "kubelet" in stages.get("host", [])
                else ""
            ),
        }
        for name, stages in todo.items()
    ] + [
        {
            "name": name,
            "groups": ["todo", "todo_waits"],
            "todo": {},
            "hardware_actions": [],
            "host_actions": [],
            "kubelet_config": "",
        }
        for name in plan.later
    ]


def todo_nodes(site: Site, plan: Plan) -> dict[str, Any]:
    """What Node objects get, by the names of the module's return values: later waves' only when it is their turn."""
    later = {*plan.later}
    now = [change for change in plan.changes if change.server not in later]
    labelled = list(dict.fromkeys(change.server for change in now if change.stage == "labels"))
    ranges = {name: node_range(site, site.server(name)) for name in labelled}
    return {
        "node_labels": {name: node_labels(site.server(name)) for name in labelled},
        "node_ranges": {name: pods for name, pods in ranges.items() if pods},
        "node_taints": {
            change.server: node_taints(site.server(change.server)) for change in now if change.action == "taint"
        },
        "uncordon": [change.server for change in now if change.stage == DRAIN or change.action == "uncordon"],
    }
