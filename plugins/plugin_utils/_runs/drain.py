# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the pods off a node before its server is disrupted, and lets it take pods again afterwards."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils._kubectl import Kubectl, KubeError

from .._site.service import evictable
from .._site.state import DRAINED

__all__ = ["Drained", "NotDrained", "cordon_patch", "drain", "uncordon", "uncordon_patch"]

_TRIES = 5
_SHOWN = 5


class NotDrained(Exception):
    """Some pods are still there; the text is for a person."""


@dataclass(frozen=True)
class Drained:
    changed: bool = False
    pods: tuple[str, ...] = ()
    """Pods that were asked to leave."""
    emptydir: tuple[str, ...] = ()
    """Those of them whose emptyDir volumes ended with them."""
    left: str = ""
    """By force: which pods are still there, and why."""


def cordon_patch(node: Mapping[str, Any]) -> dict[str, Any] | None:
    """What keeps new pods away and says that a run did it; none where somebody has cordoned the node already."""
    return None if node.get("spec", {}).get("unschedulable") else _patch(node, True)


def uncordon_patch(node: Mapping[str, Any]) -> dict[str, Any] | None:
    """What undoes a cordon of a run; none for a node that no run has cordoned."""
    return _patch(node, None) if _marked(node) else None


def _patch(node: Mapping[str, Any], cordoned: bool | None) -> dict[str, Any]:
    # With the version that was read, so that it fails where somebody else has changed the node meanwhile.
    meta = {"resourceVersion": node["metadata"]["resourceVersion"]}
    mark = {DRAINED: "true" if cordoned else None}
    return {"metadata": {**meta, "annotations": mark}, "spec": {"unschedulable": cordoned}}


def _marked(node: Mapping[str, Any]) -> bool:
    return DRAINED in (node["metadata"].get("annotations") or {})


def drain(kube: Kubectl, name: str, seconds: int, force: bool = False, check: bool = False) -> Drained:
    """Cordon a node and evict its pods. A name that is no node has none.

    C(force) deletes them instead, without asking PodDisruptionBudgets, also those that nothing would make again, and
    bears with those that stay. Raises KubeError, and NotDrained when pods are still there; then the node takes pods
    again, if it did before.
    """
    node = _node(kube, name)
    if node is None:
        return Drained()
    pods = _pods(kube, name)
    asked = tuple(map(_label, pods))
    emptydir = tuple(_label(pod) for pod in pods if any("emptyDir" in v for v in pod["spec"].get("volumes") or []))
    if check:
        return Drained(bool(asked or cordon_patch(node)), asked, emptydir)
    changed = _change(kube, name, cordon_patch)
    try:
        _run_drain(kube, name, seconds, force)
    except KubeError as exc:
        left = _still_there(kube, name, exc)
        if force:
            return Drained(True, asked, emptydir, left)
        raise NotDrained(f"{left}. {_give_back(kube, name)}") from exc
    return Drained(changed or bool(asked), asked, emptydir)


def uncordon(kube: Kubectl, name: str, check: bool = False) -> bool:
    """Let a node take pods again that a run has cordoned. False where there is nothing to do."""
    if check:
        node = _node(kube, name)
        return node is not None and uncordon_patch(node) is not None
    return _change(kube, name, uncordon_patch)


def _run_drain(kube: Kubectl, name: str, seconds: int, force: bool) -> None:
    words = ["drain", name, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={seconds}s"]
    words += ["--force", "--disable-eviction"] if force else []
    # Its own limit, so that an API server that does not answer meanwhile ends it too.
    Kubectl(kube.kubectl, kube.kubeconfig, timeout=seconds + 15).run(words)


def _still_there(kube: Kubectl, name: str, why: KubeError) -> str:
    try:
        names = [_label(pod) for pod in _pods(kube, name)]
    except KubeError:
        names = []  # kubectl names some of them.
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"{f'still on it: {shown}. ' if shown else ''}kubectl says: {_short(str(why))}"


def _short(said: str) -> str:
    """kubectl repeats a refusal every five seconds; its last words sum up."""
    lines = [line for line in said.splitlines() if line.startswith("error")]
    return "; ".join(lines[-2:] or said.splitlines()[-1:]).rstrip(".")


def _give_back(kube: Kubectl, name: str) -> str:
    try:
        given = _change(kube, name, uncordon_patch)
    except KubeError as exc:
        return f"The node stays cordoned, since that could not be undone: {exc}"
    return "The node takes pods again" if given else "The node stays cordoned, as it was before"


def _change(kube: Kubectl, name: str, patch_of: Callable[[Mapping[str, Any]], dict[str, Any] | None]) -> bool:
    for tries in range(_TRIES):
        node = _node(kube, name)
        patch = patch_of(node) if node is not None else None
        if patch is None:
            return False
        try:
            kube.run(["patch", "node", name, "--type=merge", f"--patch={json.dumps(patch)}"])
            return True
        except KubeError as exc:
            # Its kubelet has reported in between, for example.
            if "the object has been modified" not in str(exc) or tries == _TRIES - 1:
                raise
            time.sleep(0.2)
    return False


def _node(kube: Kubectl, name: str) -> dict[str, Any] | None:
    return next(iter(kube.get(["node", name])), None)


def _pods(kube: Kubectl, name: str) -> list[dict[str, Any]]:
    found = kube.get(["pods", "--all-namespaces", f"--field-selector=spec.nodeName={name}"])
    return [pod for pod in found if evictable(pod)]


def _label(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
