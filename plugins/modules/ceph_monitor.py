#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_monitor
short_description: Monitor of a Ceph cluster on this server
version_added: 0.1.0
description:
  - Makes the store of a monitor from the names and addresses of all, and the keys of the manager and the MDS beside it.
    It starts nothing.
  - A monitor that is there is kept; one of another cluster is refused. A store that a killed run left half made is made
    again. A monitor that is made anew on a server that lost its own takes over what the others know.
  - Needs Debian's C(ceph-mon) on the server, and C(/etc/ceph/ceph.conf).
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
  name:
    description: Name of the monitor, which is the server's.
    type: str
    required: true
  fsid:
    description: The cluster's name for itself, a UUID.
    type: str
    required: true
  monitors:
    description: Name to address of every monitor of the cluster, this one too.
    type: dict
    required: true
  keys:
    description: Entity to secret, as M(kiban.baremetal.ceph_keys) made them.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Have the monitor
  kiban.baremetal.ceph_monitor:
    name: node1
    fsid: 0ec7c4e2-2b50-5a3c-8f0e-2f7d0a0f3c11
    monitors: {node1: 198.51.100.21, node2: 198.51.100.22, node3: 198.51.100.23}
    keys: "{{ lookup('ansible.builtin.file', kiban_site_dir ~ '/ceph/keys.json') | from_json }}"
  no_log: true
"""

RETURN = r"""
made:
  description: What was made or, in check mode, would be.
  returned: success
  type: list
  elements: str
  sample: [monitor node1, key of mgr.node1]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._ceph import CephError, on_this_server
from ansible_collections.kiban.baremetal.plugins.module_utils._ceph_monitor import ensure_monitor


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "fsid": {"type": "str", "required": True},
            "monitors": {"type": "dict", "required": True},
            "keys": {"type": "dict", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        made = ensure_monitor(
            on_this_server(module),
            params["name"],
            params["fsid"],
            params["monitors"],
            params["keys"],
            module.check_mode,
        )
    except (CephError, OSError) as exc:
        module.fail_json(msg=str(exc))
    except KeyError as exc:
        module.fail_json(msg=f"there is no key of {exc}: the module ceph_keys makes it")
    else:
        module.exit_json(changed=bool(made), made=made)


if __name__ == "__main__":
    main()
