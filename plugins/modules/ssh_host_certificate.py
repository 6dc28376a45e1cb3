#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ssh_host_certificate
short_description: SSH host certificate signed by a site's authority
version_added: 0.1.0
description:
  - Signs a server's public host key on the control host, so that clients verify the server without having seen it
    before.
  - Only the public key travels. The authority's private key stays on the control host.
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
  ca_key:
    description: Path of the authority's private key.
    type: path
    required: true
  public_key:
    description: Public host key of the server in OpenSSH format.
    type: str
    required: true
  identity:
    description: Key identity that C(sshd) logs, usually the server's name.
    type: str
    required: true
  principals:
    description: Names and addresses that the certificate is good for.
    type: list
    elements: str
    required: true
  valid_days:
    description: Days until the certificate ends, from five minutes before now on.
    type: int
    default: 1825
"""

EXAMPLES = r"""
- name: Sign the host key
  kiban.baremetal.ssh_host_certificate:
    ca_key: ~/.cache/kiban/sites/lab/ssh/ca
    public_key: "{{ __provision_host_key.public_key }}"
    identity: node1
    principals: [node1, 198.51.100.21]
  delegate_to: localhost
"""

RETURN = r"""
certificate:
  description: The host certificate in OpenSSH format. Empty in check mode.
  type: str
  returned: success
"""

import os
import subprocess
import tempfile

from ansible.module_utils.basic import AnsibleModule


def sign(ca_key: str, public_key: str, identity: str, principals: list[str], valid_days: int) -> str:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "host.pub")
        with open(path, "w", encoding="utf-8") as handle:
            handle.write(public_key.strip() + "\n")
        subprocess.run(
            ["ssh-keygen", "-q", "-h", "-s", ca_key, "-I", identity, "-n", ",".join(principals)]
            + ["-V", f"-5m:+{valid_days}d", path],
            check=True,
            capture_output=True,
        )
        with open(os.path.join(directory, "host-cert.pub"), encoding="utf-8") as handle:
            return handle.read()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ca_key": {"type": "path", "required": True, "no_log": False},
            "public_key": {"type": "str", "required": True, "no_log": False},
            "identity": {"type": "str", "required": True},
            "principals": {"type": "list", "elements": "str", "required": True},
            "valid_days": {"type": "int", "default": 1825},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, certificate="")
    try:
        certificate = sign(**module.params)
    except subprocess.CalledProcessError as exc:
        module.fail_json(
            msg="ssh-keygen could not sign the host key of "
            f"{module.params['identity']} with {module.params['ca_key']}: "
            f"{exc.stderr.decode(errors='replace').strip()}"
        )
    except OSError as exc:
        module.fail_json(msg=f"can't sign the host key of {module.params['identity']}: {exc}")
    else:
        module.exit_json(changed=False, certificate=certificate)


if __name__ == "__main__":
    main()
