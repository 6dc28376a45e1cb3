#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_cluster
short_description: A Ceph cluster's keys, pools and file system, and its health
version_added: 0.1.0
description:
  - Runs on a server with a monitor. Waits until the monitors have a quorum, then has in the cluster what all volumes
    need. These are keys with what they allow, a pool of data and one of metadata with three copies of everything, and
    the file system C(volumes) on them.
  - With O(state=serving), and after O(state=present), waits until the file system can be used. A cluster that can be
    used may be degraded; RV(health) says so.
  - Nothing is ever removed but OSDs whose disk is gone, and those only once Ceph says that no data needs them.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  state:
    description:
      - V(quorum) only waits until the monitors answer. V(present) has the rest, too. V(serving) only waits until the
        file system can be used.
    type: str
    choices: [quorum, present, serving]
    default: present
  keys:
    description: Entity to secret, as M(kiban.baremetal.ceph_keys) made them. Needed with O(state=present).
    type: dict
  osds:
    description:
      - Number of OSDs that the cluster is to have; from it follows into how many placement groups the data is cut.
        Needed with O(state=present).
    type: int
  present:
    description:
      - Server to the UUIDs of the OSDs on its disks, for servers that were looked at. Other OSDs of these servers that
        do not run are taken out, and forgotten once that is safe.
    type: dict
    default: {}
  timeout:
    description: Seconds until the cluster must answer, and until the file system must serve.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Have the file system
  kiban.baremetal.ceph_cluster:
    keys: "{{ lookup('ansible.builtin.file', kiban_site_dir ~ '/ceph/keys.json') | from_json }}"
    osds: 3
  run_once: true
  no_log: true

- name: See how the cluster is
  kiban.baremetal.ceph_cluster:
    state: serving
  register: __ceph
"""

RETURN = r"""
made:
  description: What was changed or, in check mode, would be.
  returned: success
  type: list
  elements: str
  sample: [pool volumes.data]
health:
  description: What Ceph says against itself, one sentence a check. Empty where it says HEALTH_OK.
  returned: success
  type: list
  elements: str
kept:
  description: Number of an OSD whose disk is gone, to why it is not forgotten yet.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._ceph import CephError, Host, on_this_server
from ansible_collections.kiban.baremetal.plugins.module_utils._ceph_cluster import (
    ensure_cluster,
    forget_osds,
    health_of,
    not_serving,
    quorum_missing,
    wait_for,
)


def run(module: AnsibleModule, host: Host) -> dict[str, object]:
    params = module.params
    made: list[str] = []
    kept: dict[int, str] = {}
    wait_for(lambda: quorum_missing(host), params["timeout"])
    if params["state"] == "present":
        made = ensure_cluster(host, params["keys"], params["osds"], module.check_mode)
        gone, kept = forget_osds(host, params["present"], module.check_mode)
        made += gone
    if params["state"] != "quorum" and not module.check_mode:
        wait_for(lambda: not_serving(host), params["timeout"])
    return {"changed": bool(made), "made": made, "kept": kept, "health": health_of(host.ceph("health", "detail"))}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["quorum", "present", "serving"], "default": "present"},
            "keys": {"type": "dict", "no_log": True},
            "osds": {"type": "int"},
            "present": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 600},
        },
        required_if=[("state", "present", ("keys", "osds"))],
        supports_check_mode=True,
    )
    try:
        result = run(module, on_this_server(module))
    except (CephError, OSError) as exc:
        module.fail_json(msg=str(exc))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
