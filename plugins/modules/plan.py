#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Difference between a site's model and its devices
version_added: 0.1.0
description:
  - Reads BMCs, servers (over SSH) and the Kubernetes API of a whole site in one process, many connections side by side,
    and compares what it finds with the site model. Changes nothing.
  - A server that can't be read is reported as a problem and left alone. Unreadable is never taken for absent.
  - Runs once for all hosts of the play. With C(--limit) it reads only those servers.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
    details: In check mode the result is C(changed) when a run would change anything.
  diff_mode:
    support: full
options:
  site_dir:
    description: Directory with the site's SSH keys, C(known_hosts) and C(kubeconfig), see M(kiban.baremetal.site_keys).
    type: path
    required: true
  image_manifest:
    description: The file C(manifest.json) that the playbook C(kiban.baremetal.image) writes.
    type: path
    required: true
  kubectl:
    description: Path of C(kubectl) on the control host.
    type: path
    required: true
  bundle_manifest:
    description:
      - The file C(manifest.json) of the bundle, for the version of the container runtime.
      - Without it that version is not compared.
    type: path
  path:
    description:
      - File to write the plan to as JSON, also in check mode.
      - C(plugins/plugin_utils/_site/plan.schema.json) describes it.
    type: path
  force:
    description:
      - Servers that may be disrupted although the decision about disruptions refuses it, and installed although a cable
        of theirs is not where the model has it.
      - The plan then has a notice that says what is accepted.
    type: list
    elements: str
    default: []
  waves:
    description: The RV(waves) of an earlier plan of this run. Needed with O(wave).
    type: list
    elements: list
    default: []
  wave:
    description:
      - Servers of one of O(waves), whose turn it is. Only these are planned, with what is true now, and objects of the
        cluster are not compared.
      - All of them are left alone where a server of the wave before is not in order, which is read too.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - Seconds until every server of O(wave) has to be one that may be disrupted. Who is refused then is left alone.
      - Pods of the wave before may need a while until they are ready elsewhere, for example.
    type: int
    default: 300
  switches:
    description:
      - Results of M(kiban.baremetal.switch_config) in check mode, by the name of the switch.
      - What differs is told, and what they hear by LLDP is compared with the model's cables. A result that failed, or
        that is none, says that the switch can't be read.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Compare the site with its model
  kiban.baremetal.plan:
    site_dir: "{{ kiban_site_dir }}"
    image_manifest: "{{ kiban_work }}/image/manifest.json"
    kubectl: "{{ kiban_work }}/bundle/bin/kubectl"
  register: __site_plan
"""

RETURN = r"""
version:
  description: Version of the schema of the keys up to RV(summary), which are those of O(path).
  type: int
  returned: success
site:
  description: Name of the site.
  type: str
  returned: success
servers:
  description: The servers that were compared. One that is in none of the lists below is in order.
  type: list
  elements: str
  returned: success
changes:
  description: What a run would change, in the order in which it would act.
  type: list
  elements: dict
  returned: success
  contains:
    server:
      description: Name of the server; V((cluster\)) for stage C(services), which is of none.
      type: str
    stage:
      description:
        - Stage of the run, one of C(drain), C(hardware), C(os), C(host), C(disks), C(control_plane), C(pools),
          C(services), C(join), C(labels).
      type: str
    action:
      description: How the stage acts on this server.
      type: str
    what:
      description: What differs.
      type: str
    before:
      description: What was read.
      type: str
    after:
      description: What the model says.
      type: str
    disruption:
      description: V(none), V(reboot), V(drain), or V(data) when a system disk may be written.
      type: str
problems:
  description: Servers that are left alone, each with the reason.
  type: list
  elements: dict
  returned: success
waves:
  description:
    - Servers that the run disrupts, in the groups in which it does so one after another. Empty where all may go at
      once.
    - RV(changes) has all of them, RV(todo) and RV(hosts) those that go first.
  type: list
  elements: list
  returned: success
  sample: [[node1, node2], [node3]]
notices:
  description: Differences that are mended only when the model asks for it.
  type: list
  elements: dict
  returned: success
hosts:
  description:
    - Servers with anything to do, with their groups C(todo) and C(todo_<stage>); C(todo_waits) where they go later.
  type: list
  elements: dict
  returned: success
node_labels:
  description: Node name to the labels that it should have, for nodes that lack labels, taints or their range of pods.
  type: dict
  returned: success
node_ranges:
  description:
    - Node name to the range of its pods, for the same nodes. Empty where the network driver does not read it there.
  type: dict
  returned: success
node_taints:
  description: Node name to the taints that it should have, for nodes that lack any.
  type: dict
  returned: success
uncordon:
  description: Nodes that take pods again at the end, since this run drains them or one that did not end has.
  type: list
  elements: str
  returned: success
lines:
  description: The plan for a person, by server and stage. Servers with the same changes are one group.
  type: list
  elements: str
  returned: success
summary:
  description: The plan in one sentence.
  type: str
  returned: success
todo:
  description: Server names by stage.
  type: dict
  returned: success
data_mounts:
  description: Where the claimed data disks of each server that answered are mounted.
  type: dict
  returned: success
  sample: {node1: [/var/lib/kiban/local/DATA-NODE1-1, /var/lib/kiban/local/DATA-NODE1-2]}
cluster:
  description: Whether the Kubernetes API answered.
  type: dict
  returned: success
"""
