#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_drain
short_description: Takes the pods off a node before its server is disrupted, and lets it take pods again
version_added: 0.1.0
description:
  - V(drained) cordons a node and evicts its pods with C(kubectl drain), which respects PodDisruptionBudgets. Pods of
    DaemonSets and static pods stay. A node that a run has cordoned bears the annotation C(kiban.baremetal/drained).
  - V(uncordoned) lets nodes take pods again that bear this annotation. A node that a person has cordoned stays so.
  - A name that is no node of the cluster is no error, there is nothing to do then.
  - Takes a lease on the server that it drains, which ends with the run. A server that another run has is refused.
  - Runs on the control host.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  state:
    description:
      - V(drained) fails when pods are still there after O(timeout), or at once for pods that nothing would make again.
        Then the node takes pods again, if it did before.
    type: str
    choices: [drained, uncordoned]
    required: true
  names:
    description: Names of the nodes, one after the other. The host of the task where it is absent.
    type: list
    elements: str
  site_dir:
    description: Directory of the site on the control host, which has the C(kubeconfig) and the leases.
    type: path
    required: true
  kubectl:
    description: The kubectl to run. The bundle has one in its C(bin) directory.
    type: path
    default: kubectl
  timeout:
    description: Seconds within which the pods must have left.
    type: int
    default: 300
  force:
    description:
      - Names of nodes whose pods may be lost. They are deleted without asking PodDisruptionBudgets, also those that
        nothing would make again. Pods that stay for all that are told in a warning.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Drain the node
  kiban.baremetal.node_drain:
    state: drained
    site_dir: "{{ kiban_site_dir }}"
    kubectl: "{{ kiban_work }}/bundle/bin/kubectl"
    timeout: "{{ kiban_site.limits.drain_timeout }}"

- name: Let the node take pods again
  kiban.baremetal.node_drain:
    state: uncordoned
    site_dir: "{{ kiban_site_dir }}"
    kubectl: "{{ kiban_work }}/bundle/bin/kubectl"
"""

RETURN = r"""
pods:
  description: Node name to the pods that were evicted or, in check mode, would be.
  type: dict
  returned: with O(state=drained)
  sample: {node1: [shop/web-7d4b9-x]}
emptydir:
  description: Node name to those of RV(pods) whose emptyDir volumes ended with them.
  type: dict
  returned: with O(state=drained)
nodes:
  description: Nodes that take pods again.
  type: list
  elements: str
  returned: with O(state=uncordoned)
"""
