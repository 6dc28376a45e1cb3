#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_files
short_description: Set of files under one root
version_added: 0.1.0
description:
  - Lays down a set of small files at once, in the running system or in a mounted one that has not booted yet.
  - Each file is replaced in one step, so that a killed run never leaves a half-written file.
  - Symbolic links on the way to a file are followed as the system under O(root) would see them; nothing outside of it
    is touched.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
  - kiban.baremetal.files
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The content of a file with O(files[].secret=true) is never shown.
options:
  root:
    description: Directory that O(files[].path) and O(absent) are relative to, for example a mounted system.
    type: path
    default: /
  absent:
    description:
      - Absolute paths inside O(root) that shall not exist. Only files and links are removed, never directories.
    type: list
    elements: str
    default: []
seealso:
  - module: kiban.baremetal.node_root
"""

EXAMPLES = r"""
- name: Make the installed system this server
  kiban.baremetal.node_files:
    root: /run/kiban/root
    files:
      - path: /etc/hostname
        content: "node1\n"
      - path: /etc/ssh/ssh_host_ed25519_key
        content: "{{ __host_key }}"
        mode: '0600'
        secret: true
    absent:
      - /etc/ssh/ssh_host_rsa_key
"""

RETURN = r"""
changed_paths:
  description: Paths that were changed or, in check mode, would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/hostname]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils import _node_files


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "files": {"type": "list", "elements": "dict", "default": [], "options": _node_files.OPTIONS},
            "absent": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
        # Keeps the parameters, and with them secret content, out of the system log.
        no_log=True,
    )
    params = module.params
    module.no_log_values.update(_node_files.secrets(params["files"]))
    try:
        wanted = _node_files.wanted_files(params["files"], params["absent"])
        changes = _node_files.differences(params["root"], wanted)
        if not module.check_mode:
            _node_files.write_all(changes)
    except (_node_files.FilesError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(
        changed=bool(changes),
        changed_paths=[change.wanted.path for change in changes],
        diff=_node_files.shown(changes),
    )


if __name__ == "__main__":
    main()
