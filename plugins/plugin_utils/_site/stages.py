# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of a run after a server's system is there, each with what it compares. Pure.

A stage is added here and nowhere else: its place in the table is its place in a run, its name that of the group
C(todo_<name>) that a play targets. It is asked about servers whose system answers, and about those that are installed
or booted first (C(view.unseen)): these get every change that may be needed, each a no-op where it is done already.
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Callable, Iterator

from .changes import Change, Finding, View
from .disks import matching
from .model import Server

__all__ = ["INSTALL", "STAGES", "later_stages", "node_labels"]

INSTALL = "os"
"""The first stage: a server's way to its booted system, see C(plan.py)."""


def host(view: View) -> Iterator[Finding]:
    if view.unseen:
        return  # Written when the system is installed.
    wanted = view.intent.files.get(view.server.name, {})
    differing = sorted(path for path, digest in wanted.items() if view.host.files.get(path) != digest)
    if differing:
        yield view.change("host", "files", "host files", "differ: " + ", ".join(differing), "as the model says")


def disks(view: View) -> Iterator[Finding]:
    selector = view.site.profiles[view.server.profile].disks.get("data")
    if not selector:
        return
    found = {disk["serial_number"] for disk in matching(view.host.disks, selector.select) if disk.get("serial_number")}
    missing = sorted(found - set(view.host.local_mounts))
    if missing or view.unseen:
        yield view.change("disks", "claim", "data disks", "not mounted: " + ", ".join(missing), "claimed and mounted")


def control_plane(view: View) -> Iterator[Finding]:
    if not view.controls:
        return
    cluster = view.state.cluster
    if view.unseen or not view.host.initialised or not cluster.reachable:
        # An API that does not answer may only be one whose kubeconfig is not here, or is of an earlier cluster.
        before = f"API: {cluster.error}" if view.host.initialised else "not initialised"
        yield view.change("control_plane", "init", "control plane", before, "initialised")


def join(view: View) -> Iterator[Finding]:
    if not view.controls and (view.unseen or _joins(view)):
        yield view.change("join", "join", "cluster membership", "not joined", "joined")


def labels(view: View) -> Iterator[Finding]:
    wanted = node_labels(view.server)
    if not wanted:
        return
    node = view.state.cluster.nodes.get(view.server.name)
    joins = view.unseen or _joins(view)
    if joins or (node and not wanted.items() <= node.labels.items()):
        after = ", ".join(f"{key}={value}" for key, value in sorted(wanted.items()))
        yield view.change("labels", "label", "node labels", "not joined" if joins else "differ", after)


def _joins(view: View) -> bool:
    """The server becomes a node in this run."""
    if view.controls:
        return not view.host.initialised
    cluster = view.state.cluster
    return not view.host.kubelet_configured or (cluster.reachable and view.server.name not in cluster.nodes)


def node_labels(server: Server) -> dict[str, str]:
    """Labels that a server's Node object must have. More labels than these are left alone."""
    role = {} if "control_plane" in server.roles else {"node-role.kubernetes.io/worker": ""}
    return {**role, **server.labels}


_TABLE: tuple[Callable[[View], Iterator[Finding]], ...] = (host, disks, control_plane, join, labels)

STAGES = (INSTALL, *(stage.__name__ for stage in _TABLE))
"""The order in which a run acts; each is a group C(todo_<stage>) of the inventory."""


def later_stages(view: View) -> Iterator[Finding]:
    """What the stages after the installation have to do."""
    for stage in _TABLE:
        for finding in stage(view):
            if isinstance(finding, Change) and finding.stage != stage.__name__:
                raise AssertionError(f"stage {stage.__name__} has yielded a change of stage {finding.stage}")
            yield finding
