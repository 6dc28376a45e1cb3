#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_wait
short_description: Waits until objects of a Kubernetes cluster are in a state
version_added: 0.1.0
description:
  - Reads objects again and again until a predicate holds for them, and returns them. Without a predicate it reads them
    once.
  - When the time is over it fails, and says what it saw last, with the events of the objects.
  - An API server that does not answer meanwhile ends nothing; it is asked again until the time is over.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
  - kiban.baremetal.kube
attributes:
  check_mode:
    support: full
    details:
      - Nothing is waited for in check mode and the result has no objects, as what is waited for was not made. Without a
        predicate the objects are read in check mode too.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
options:
  kind:
    description: Kind of the objects, as kubectl takes it (V(node), V(pod), V(deployment.apps)).
    type: str
    required: true
    version_added: 0.1.0
  names:
    description: Names of the objects. Without names and O(selector) all objects of the kind are meant.
    type: list
    elements: str
    aliases: [name]
    default: []
    version_added: 0.1.0
  namespace:
    description: Namespace of the objects. The kubeconfig's namespace where it is absent.
    type: str
    version_added: 0.1.0
  selector:
    description: Label selector.
    type: str
    version_added: 0.1.0
  predicate:
    description:
      - What must hold. With O(names), each of them must exist (but for V(deleted)).
      - V(node_ready) and V(node_not_ready) look at the node's condition; a silent node is not ready.
      - V(deployment_available) and V(daemonset_ready) mean the newest form of all replicas, and no old ones left.
      - V(pods_ready) means pods that serve and are not being deleted, O(count) of them.
      - V(pod_phase) compares with O(phase). V(pvc_bound) means claims that have their volume. V(has_address) means
        Services of type LoadBalancer that were given an address. V(deleted) means that none is left.
    type: str
    choices:
      - daemonset_ready
      - deleted
      - deployment_available
      - exists
      - has_address
      - node_not_ready
      - node_ready
      - pod_phase
      - pods_ready
      - pvc_bound
    version_added: 0.1.0
  count:
    description: With V(pods_ready), how many. Without it all that there are, and at least one.
    type: int
    version_added: 0.1.0
  one_per_node:
    description: With V(pods_ready), whether each must be on a node of its own.
    type: bool
    default: false
    version_added: 0.1.0
  not_on:
    description: With V(pods_ready), names of nodes whose pods do not count, whatever their last known state.
    type: list
    elements: str
    default: []
    version_added: 0.1.0
  phase:
    description: With V(pod_phase), which.
    type: str
    default: Running
    version_added: 0.1.0
  timeout:
    description: Seconds until what is waited for must be there.
    type: float
    default: 120
    version_added: 0.1.0
  interval:
    description: Seconds between two looks.
    type: float
    default: 2
    version_added: 0.1.0
"""

EXAMPLES = r"""
- name: Wait for two replicas, each on a node of its own
  kiban.baremetal.kube_wait:
    kubeconfig: /root/site/kubeconfig
    kind: pod
    namespace: shop
    selector: app=web
    predicate: pods_ready
    count: 2
    one_per_node: true
    timeout: 180
"""

RETURN = r"""
objects:
  description: The objects as last read, without the values of Secrets. Empty where the time was over.
  type: list
  elements: dict
  returned: always
seen:
  description: The same in short.
  type: list
  elements: dict
  returned: always
  sample: [{kind: Pod, namespace: shop, name: web-7d4b9-x, node: node1, state: Ready}]
seconds:
  description: How long it took.
  type: float
  returned: always
events:
  description: The newest events of the objects, newest last.
  type: list
  elements: str
  returned: when the time was over
"""

import time
from collections.abc import Iterator

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._kube_state import (
    PREDICATES,
    Verdict,
    Want,
    describe,
    relevant_events,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._kubectl import (
    Kubectl,
    KubeError,
    kube_argument_spec,
    mask_object,
)

# One look must not outlast the interval by much: the next one may find the API server awake.
LOOK_TIMEOUT = 15


def clock(total: float, interval: float) -> Iterator[float]:
    """Yields the seconds since the start, at once and then every interval, and once more when the time is over."""
    start = time.monotonic()
    yield 0.0
    while time.monotonic() - start < total:
        time.sleep(max(0.0, min(interval, start + total - time.monotonic())))
        yield time.monotonic() - start


class TimeOver(Exception):
    """The predicate did not hold in time."""


class Waiter:
    def __init__(self, kube: Kubectl, params: dict) -> None:
        self.kube = kube
        self.params = params
        self.objects: list[dict] = []
        self.seconds = 0.0
        self.events: list[str] = []

    def look(self) -> list[dict]:
        params = self.params
        args = [params["kind"], *params["names"]]
        if params["selector"]:
            args.append(f"--selector={params['selector']}")
        return self.kube.get(args, params["namespace"])

    def wait(self) -> None:
        params = self.params
        holds = PREDICATES[params["predicate"]]
        want = Want(
            names=tuple(params["names"]),
            count=params["count"],
            one_per_node=params["one_per_node"],
            not_on=tuple(params["not_on"]),
            phase=params["phase"],
        )
        verdict, error = Verdict(False, "it was never seen"), ""
        start = time.monotonic()
        for _spent in clock(params["timeout"], params["interval"]):
            try:
                self.objects = self.look()
            except KubeError as exc:
                error = str(exc)
                continue
            finally:
                self.seconds = time.monotonic() - start
            verdict, error = holds(self.objects, want), ""
            if verdict.done:
                return
        self.events = self.look_at_events()
        raise TimeOver(f"{verdict.reason}. The last look failed: {error}" if error else verdict.reason)

    def look_at_events(self) -> list[str]:
        names = [obj["metadata"]["name"] for obj in self.objects] or self.params["names"]
        try:
            return relevant_events(self.kube.get(["events"], self.params["namespace"]), names)
        except KubeError:
            return []

    def result(self) -> dict:
        return {
            "changed": False,
            "objects": [mask_object(obj) for obj in self.objects],
            "seen": [describe(obj) for obj in self.objects],
            "seconds": round(self.seconds, 1),
        }


class NoWait(Waiter):
    """The twin for check mode."""

    def wait(self) -> None:
        return


class ReadOnce(Waiter):
    """The twin for no predicate; the API server has the whole time-out to answer."""

    def wait(self) -> None:
        self.kube.timeout = self.params["timeout"]
        self.objects = self.look()


def waiter_for(params: dict, check_mode: bool) -> type[Waiter]:
    if not params["predicate"]:
        return ReadOnce
    return NoWait if check_mode else Waiter


def subject(params: dict) -> str:
    which = " ".join(params["names"]) or params["selector"] or "(all)"
    return f"{params['kind']} {which}" + (f" in {params['namespace']}" if params["namespace"] else "")


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            kube_argument_spec(),
            kind={"type": "str", "required": True},
            names={"type": "list", "elements": "str", "default": [], "aliases": ["name"]},
            namespace={"type": "str"},
            selector={"type": "str"},
            predicate={"type": "str", "choices": sorted(PREDICATES)},
            count={"type": "int"},
            one_per_node={"type": "bool", "default": False},
            not_on={"type": "list", "elements": "str", "default": []},
            phase={"type": "str", "default": "Running"},
            timeout={"type": "float", "default": 120},
            interval={"type": "float", "default": 2},
        ),
        mutually_exclusive=[("names", "selector")],
        supports_check_mode=True,
    )
    params = module.params
    kube = Kubectl(params["kubectl"], params["kubeconfig"], timeout=min(params["timeout"], LOOK_TIMEOUT))
    waiter = waiter_for(params, module.check_mode)(kube, params)
    try:
        waiter.wait()
    except KubeError as exc:
        module.fail_json(msg=f"{subject(params)} cannot be read: {exc}")
    except TimeOver as exc:
        message = f"{subject(params)}: {params['predicate']} did not hold within {params['timeout']:g} s: {exc}"
        warnings = [event for event in waiter.events if event.startswith("Warning")]
        if waiter.events:
            message += " | newest events: " + " | ".join((warnings or waiter.events)[-3:])
        # The objects themselves would bury the message.
        result = {**waiter.result(), "objects": []}
        module.fail_json(msg=message, events=waiter.events, **result)
    module.exit_json(**waiter.result())


if __name__ == "__main__":
    main()
