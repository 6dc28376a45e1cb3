#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bootstrap_token
short_description: Short-lived token that lets one server join a Kubernetes cluster
version_added: 0.1.0
description:
  - Makes a bootstrap token of its own for one joining server through the Kubernetes API. The cluster's token cleaner
    removes it when it ends, see U(https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/).
  - The token is handed to C(kubectl) on standard input and never on a command line.
  - Register the result with C(no_log), for it holds the token.
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
  kubeconfig:
    description: Path of a kubeconfig with the right to make secrets in C(kube-system).
    type: path
    required: true
  kubectl:
    description: Path of C(kubectl).
    type: path
    default: kubectl
  description:
    description: Stored with the token, for example the name of the server that it is for.
    type: str
    required: true
  ttl:
    description: Seconds until the token ends.
    type: int
    default: 1800
"""

EXAMPLES = r"""
- name: Make a token for this server
  kiban.baremetal.bootstrap_token:
    kubeconfig: ~/.cache/kiban/sites/lab/kubeconfig
    description: "{{ inventory_hostname }}"
  delegate_to: localhost
  no_log: true
  register: __node_token
"""

RETURN = r"""
token:
  description: The token. Empty in check mode.
  type: str
  returned: success
discovery:
  description: A kubeconfig without credentials, which holds the API server's address and its certificate authority.
  type: str
  returned: success
"""

import json
import os
import re
import secrets
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule


def secret(token_id: str, token_secret: str, description: str, expires: float) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{token_id}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": token_id,
            "token-secret": token_secret,
            "description": f"kiban.baremetal: {description}",
            "expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires)),
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        },
    }


def discovery(kubeconfig: str) -> str:
    """The cluster part of a kubeconfig, as JSON (which is YAML): address and authority, no credentials."""
    with open(kubeconfig, encoding="utf-8") as handle:
        text = handle.read()
    fields = {}
    for key in ("certificate-authority-data", "server"):
        found = re.search(rf"^\s*{key}:\s*(\S+)\s*$", text, re.MULTILINE)
        if not found:
            raise ValueError(f"{kubeconfig} has no '{key}'")
        fields[key] = found.group(1)
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "", "cluster": fields}],
            "contexts": [],
            "users": [],
            "current-context": "",
        }
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path", "required": True},
            "kubectl": {"type": "path", "default": "kubectl"},
            "description": {"type": "str", "required": True},
            "ttl": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=True, token="", discovery="")
    if not os.path.exists(params["kubeconfig"]):
        module.fail_json(msg=f"no kubeconfig at {params['kubeconfig']}: initialise the control plane first")
    token_id, token_secret = secrets.token_hex(3), secrets.token_hex(8)
    manifest = json.dumps(secret(token_id, token_secret, params["description"], time.time() + params["ttl"]))
    command = [params["kubectl"], "--kubeconfig", params["kubeconfig"], "--request-timeout=60s", "create", "-f", "-"]
    try:
        subprocess.run(command, input=manifest, capture_output=True, text=True, check=True)
        result = {"token": f"{token_id}.{token_secret}", "discovery": discovery(params["kubeconfig"])}
    except subprocess.CalledProcessError as exc:
        module.fail_json(msg=f"the API server refused a bootstrap token: {exc.stderr.strip()}")
    except (OSError, ValueError) as exc:
        module.fail_json(msg=f"can't make a bootstrap token: {exc}")
    else:
        module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
