#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_certificate
short_description: Replace the HTTPS certificate of a BMC, or have it make a request for one
version_added: 0.1.0
description:
  - Replaces the certificate where the BMC presents another one, and ends when it presents the new one.
  - Whether it does is seen from the TLS connection itself, so it is the same for all makers.
extends_documentation_fragment:
  - kiban.baremetal.bmc
  - kiban.baremetal.attributes
  - kiban.baremetal.attributes.actiongroup_bmc
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  state:
    description:
      - V(present) makes O(certificate) the one that is presented.
      - V(requested) makes the BMC generate a new key, which never leaves it, and returns the signing request for it.
        The certificate in use stays. Each run makes another key, so this is always a change.
    type: str
    choices: [present, requested]
    default: present
    version_added: 0.1.0
  certificate:
    description:
      - The certificate in PEM, the one of the BMC first. Required with O(state=present).
    type: str
    version_added: 0.1.0
  private_key:
    description:
      - Its private key in PEM, where it was not made by the BMC.
    type: str
    version_added: 0.1.0
  subject:
    description:
      - Subject of the request. Many BMCs want all of it.
    type: dict
    version_added: 0.1.0
    suboptions:
      common_name:
        description: Usually the host name of the BMC.
        type: str
        required: true
        version_added: 0.1.0
      organization:
        description: Organisation.
        type: str
        version_added: 0.1.0
      organizational_unit:
        description: Part of the organisation.
        type: str
        version_added: 0.1.0
      city:
        description: Town.
        type: str
        version_added: 0.1.0
      state_or_province:
        description: State or province.
        type: str
        version_added: 0.1.0
      country:
        description: Country, two letters.
        type: str
        version_added: 0.1.0
  alternative_names:
    description:
      - Names and addresses for which the certificate shall be valid.
    type: list
    elements: str
    default: []
    version_added: 0.1.0
  wait_timeout:
    description:
      - Seconds until the BMC must present the certificate. Some restart for it.
    type: int
    default: 300
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: A request, with a key that stays in the BMC
  kiban.baremetal.bmc_certificate:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    state: requested
    subject:
      common_name: node1-bmc.example.org
      organization: Example
      organizational_unit: Infrastructure
      city: Berlin
      state_or_province: Berlin
      country: DE
  register: request
  delegate_to: localhost

- name: The certificate that a CA has made of it
  kiban.baremetal.bmc_certificate:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    certificate: "{{ lookup('ansible.builtin.file', 'node1-bmc.pem') }}"
  delegate_to: localhost
"""

RETURN = r"""
fingerprint:
  description: SHA-256 fingerprint of the certificate that the BMC presents, as the option O(fingerprint) takes it.
  type: str
  returned: success
  sample: 4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b
csr:
  description: The certificate signing request in PEM, null in check mode.
  type: str
  returned: with O(state=requested)
  sample: "-----BEGIN CERTIFICATE REQUEST-----..."
requests:
  description: HTTP requests that were sent to the BMC.
  type: int
  returned: success
  sample: 9
failure:
  description: What went wrong, as M(kiban.baremetal.bmc_power) describes.
  type: dict
  returned: when the BMC or the way to it is the reason of the failure
  sample:
    kind: unsupported
    address: 192.0.2.21
    message: "its certificate cannot be replaced by Redfish"
    hint: "Replace it on its own page"
    request: ""
    status: null
    messages: []
    done: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, connected, fail
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.change import Change


def run(bmc: Bmc, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    if params["state"] == "requested":
        bmc.certificates.check_request()
        change = Change({"request": "none"}, {"request": "made for a new key"})
        csr = None
        fingerprint = bmc.certificates.presented()
        if not check_mode:
            csr = bmc.certificates.request(params["subject"], params["alternative_names"], params["wait_timeout"])
        return {"changed": True, "diff": change.diff(), "csr": csr, "fingerprint": fingerprint}
    change = bmc.certificates.plan(params["certificate"])
    if change.changed and not check_mode:
        bmc.certificates.replace(params["certificate"], params["private_key"], params["wait_timeout"])
    shown = change.before if check_mode else change.after
    return {"changed": change.changed, "diff": change.diff(), "fingerprint": shown["fingerprint"]}


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            state={"type": "str", "default": "present", "choices": ["present", "requested"]},
            certificate={"type": "str"},
            private_key={"type": "str", "no_log": True},
            subject={
                "type": "dict",
                "options": {
                    "common_name": {"type": "str", "required": True},
                    "organization": {"type": "str"},
                    "organizational_unit": {"type": "str"},
                    "city": {"type": "str"},
                    "state_or_province": {"type": "str"},
                    "country": {"type": "str"},
                },
            },
            alternative_names={"type": "list", "elements": "str", "default": []},
            wait_timeout={"type": "int", "default": 300},
        ),
        required_if=[("state", "present", ("certificate",)), ("state", "requested", ("subject",))],
        supports_check_mode=True,
    )
    try:
        with connected(module) as bmc:
            result = run(bmc, module.params, module.check_mode)
    except BmcError as exc:
        fail(module, exc)
    module.exit_json(requests=bmc.requests, **result)


if __name__ == "__main__":
    main()
