#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site_keys
short_description: SSH keys of a site on the control host
version_added: 0.1.0
description:
  - Makes what a control host needs to reach the servers of one site over SSH with verified host keys.
    A certificate authority that signs the servers' host keys, a key pair to log in with, and a C(known_hosts)
    file that trusts that authority and nothing else.
  - What exists is kept. The private keys stay in files that only their owner can read and are never returned.
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
      - Directory of the site's state. Made with mode 0700 when absent.
      - The keys are C(ssh/ca) and C(ssh/id_ed25519) below it, each with its C(.pub).
    type: path
    required: true
  comment:
    description: Comment of the keys, for example the name of the site.
    type: str
    default: kiban
"""

EXAMPLES = r"""
- name: Have the SSH keys of the site
  kiban.baremetal.site_keys:
    path: ~/.cache/kiban/sites/lab
    comment: lab
"""

RETURN = r"""
authorized_key:
  description: Public key that servers let in, in OpenSSH format.
  type: str
  returned: success
  sample: ssh-ed25519 AAAA... kiban lab
ca_public_key:
  description: Public key of the authority that signs host keys, in OpenSSH format.
  type: str
  returned: success
  sample: ssh-ed25519 AAAA... kiban lab CA
"""

import os
import secrets
import subprocess

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._files import write_whole


def make_key(path: str, comment: str) -> None:
    """Write a key pair so that a kill leaves either no key or a whole one: the public half is moved first."""
    tmp = f"{path}.new.{os.getpid()}"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", tmp], check=True, capture_output=True
    )
    os.replace(f"{tmp}.pub", f"{path}.pub")
    os.replace(tmp, path)


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read().strip()
    except FileNotFoundError:
        return ""


def ensure(path: str, comment: str, check_mode: bool) -> dict[str, object]:
    changed = False
    ssh_dir = os.path.join(path, "ssh")
    keys = {"ca": f"kiban {comment} CA", "id_ed25519": f"kiban {comment}"}
    for name, text in keys.items():
        key = os.path.join(ssh_dir, name)
        if os.path.exists(key) and os.path.exists(f"{key}.pub"):
            continue
        changed = True
        if not check_mode:
            os.makedirs(ssh_dir, mode=0o700, exist_ok=True)
            os.chmod(path, 0o700)
            make_key(key, text)
    token = os.path.join(ssh_dir, "media_token")
    if not os.path.exists(token):
        changed = True
        if not check_mode:
            write_whole(token, secrets.token_hex(16))
    ca_public = read(os.path.join(ssh_dir, "ca.pub"))
    known_hosts = os.path.join(path, "known_hosts")
    wanted = f"@cert-authority * {ca_public}"
    if read(known_hosts) != wanted:
        changed = True
        if not check_mode:
            write_whole(known_hosts, wanted + "\n", mode=0o644)
    return {
        "changed": changed,
        "authorized_key": read(os.path.join(ssh_dir, "id_ed25519.pub")),
        "ca_public_key": ca_public,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "comment": {"type": "str", "default": "kiban"}},
        supports_check_mode=True,
    )
    try:
        result = ensure(module.params["path"], module.params["comment"], module.check_mode)
    except subprocess.CalledProcessError as exc:
        module.fail_json(msg=f"ssh-keygen failed: {exc.stderr.decode(errors='replace').strip()}")
    except OSError as exc:
        module.fail_json(
            msg=f"can't keep the site's SSH keys in {module.params['path']}: {exc}. "
            "Give a directory on a file system with room that you may write to, and have ssh-keygen installed."
        )
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
