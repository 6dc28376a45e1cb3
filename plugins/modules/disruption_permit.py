#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disruption_permit
short_description: Asks whether a server may be disrupted now, and holds it for this run
version_added: 0.1.0
description:
  - Asks the one decision that M(kiban.baremetal.plan) asks too, with what is true now. A refusal fails and gives every
    reason.
  - Takes a lease on the server, which ends with the run. What a run holds counts as out of service when it asks about
    the next server.
  - Runs on the control host, for a server of an inventory that M(kiban.baremetal.plan) works with.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
    details:
      - Asks in check mode too, but takes no lease.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
options:
  name:
    description: Name of the server. The host of the task where it is absent.
    type: str
  level:
    description:
      - What would become of it. V(reboot) takes it out of service for a while, and its pods are lost with it, so the
        PodDisruptionBudgets must allow for all of them at once. With V(drain) its pods are evicted before, as
        M(kiban.baremetal.node_drain) does it, so each budget must allow for one. V(data) is as V(drain), and takes what
        it has on its disks besides. With V(disk) it serves on, and only loses what some of its disks hold.
      - V(none) only refuses a server that another run has, and reads nothing else.
    type: str
    choices: [none, disk, reboot, drain, data]
    required: true
  site_dir:
    description: Directory of the site on the control host, which has the C(kubeconfig), the keys and the leases.
    type: path
    required: true
  kubectl:
    description: The kubectl to run. The bundle has one in its C(bin) directory.
    type: path
    default: kubectl
  force:
    description: Names of servers whose loss is accepted. The reasons are told in a warning then.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Ask whether the server may be restarted now
  kiban.baremetal.disruption_permit:
    level: reboot
    site_dir: "{{ kiban_site_dir }}"
    kubectl: "{{ kiban_work }}/bundle/bin/kubectl"
    force: "{{ kiban_force | default([]) }}"
"""

RETURN = r"""
reasons:
  description: Every reason why not. Empty where the server may be disrupted.
  type: list
  elements: str
  returned: always
"""
