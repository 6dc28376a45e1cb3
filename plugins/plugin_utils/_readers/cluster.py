# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the Kubernetes API with the bundle's kubectl: one list a kind."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import json
import os
import subprocess

from .._site.state import ClusterState, NodeState

__all__ = ["read_cluster"]


def read_cluster(kubectl: str, kubeconfig: str, timeout: int = 8) -> ClusterState:
    """All nodes of the cluster. Never raises: what failed is in C(error)."""
    if not os.path.exists(kubeconfig):
        return ClusterState(error=f"no kubeconfig at {kubeconfig}")
    command = [kubectl, "--kubeconfig", kubeconfig, "get", "nodes", "-o", "json", f"--request-timeout={timeout}s"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout * 2, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return ClusterState(known=True, error=str(exc))
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"kubectl ended with {done.returncode}"])[-1]
        return ClusterState(known=True, error=reason)
    items = json.loads(done.stdout)["items"]
    nodes = {item["metadata"]["name"]: NodeState.from_object(item) for item in items}
    return ClusterState(reachable=True, known=True, nodes=nodes)
