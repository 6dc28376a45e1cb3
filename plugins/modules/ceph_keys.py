#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_keys
short_description: Keys of a site's Ceph cluster on the control host
version_added: 0.1.0
description:
  - Makes the secrets of cephx that a Ceph cluster and its clients begin with, once, and keeps them in one file that
    only its owner can read. They are never returned; the other modules of Ceph are given what a server needs.
  - What exists is kept. Who lost the file and still has the cluster can read them there, with C(ceph auth ls).
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
  path:
    description:
      - The file, JSON from the entity to its secret. Its directory is made with mode 0700 when absent.
    type: path
    required: true
  monitors:
    description: Names of the servers with a monitor, each of which has a manager and an MDS too.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Have the keys of the Ceph cluster
  kiban.baremetal.ceph_keys:
    path: "{{ kiban_site_dir }}/ceph/keys.json"
    monitors: "{{ groups.ceph_monitors }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
made:
  description: Entities that got a secret now. The secrets themselves are in the file alone.
  returned: success
  type: list
  elements: str
  sample: [client.admin, mon.]
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._ceph import entities, new_key
from ansible_collections.kiban.baremetal.plugins.module_utils._files import write_whole


def ensure(path: str, monitors: list[str], check_mode: bool) -> list[str]:
    """The entities that have no secret yet, each given one."""
    try:
        with open(path, encoding="utf-8") as handle:
            keys = json.load(handle)
    except FileNotFoundError:
        keys = {}
    made = [entity for entity in entities(monitors) if entity not in keys]
    if made and not check_mode:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_whole(path, json.dumps({**keys, **{entity: new_key() for entity in made}}, indent=1) + "\n")
    return made


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            # A path, and no secret.
            "path": {"type": "path", "required": True, "no_log": False},
            "monitors": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        made = ensure(module.params["path"], module.params["monitors"], module.check_mode)
    except ValueError:
        module.fail_json(msg=f"{module.params['path']} is no JSON, so no key of the Ceph cluster is known: mend it")
    except OSError as exc:
        module.fail_json(msg=f"the keys of the Ceph cluster can't be kept: {exc}")
    else:
        module.exit_json(changed=bool(made), made=made)


if __name__ == "__main__":
    main()
