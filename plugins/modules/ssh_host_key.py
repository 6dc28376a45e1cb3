#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ssh_host_key
short_description: SSH host key of an installed system
version_added: 0.1.0
description:
  - Makes the ed25519 host key of a system under O(root) when it is absent, and returns its public half.
    The private key is made where it is used and never leaves that disk.
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
  root:
    description: Root of the system, for example the mount point of a disk that was just written.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: Have a host key in the new system
  kiban.baremetal.ssh_host_key:
    root: /run/kiban/root
"""

RETURN = r"""
public_key:
  description: Public host key in OpenSSH format. Empty in check mode when there is none yet.
  type: str
  returned: success
"""

import os
import subprocess

from ansible.module_utils.basic import AnsibleModule

KEY = "etc/ssh/ssh_host_ed25519_key"


def ensure(root: str, check_mode: bool) -> tuple[bool, str]:
    key = os.path.join(root, KEY)
    changed = not (os.path.exists(key) and os.path.exists(f"{key}.pub"))
    if changed and not check_mode:
        tmp = f"{key}.new"
        for leftover in (tmp, f"{tmp}.pub"):
            if os.path.exists(leftover):
                os.unlink(leftover)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kiban host key", "-f", tmp],
            check=True,
            capture_output=True,
        )
        os.replace(f"{tmp}.pub", f"{key}.pub")
        os.replace(tmp, key)
    if not os.path.exists(f"{key}.pub"):
        return changed, ""
    with open(f"{key}.pub", encoding="utf-8") as handle:
        return changed, handle.read().strip()


def main() -> None:
    module = AnsibleModule(argument_spec={"root": {"type": "path", "default": "/"}}, supports_check_mode=True)
    try:
        changed, public_key = ensure(module.params["root"], module.check_mode)
    except (OSError, subprocess.CalledProcessError) as exc:
        module.fail_json(msg=f"can't make the SSH host key under {module.params['root']}: {exc}")
    else:
        module.exit_json(changed=changed, public_key=public_key)


if __name__ == "__main__":
    main()
