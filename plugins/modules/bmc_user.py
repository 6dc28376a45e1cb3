#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_user
short_description: Manage an account of a BMC, and change its password
version_added: 0.1.0
description:
  - Creates, changes or deletes an account of a BMC. BMCs whose accounts are fixed slots get the first free slot filled,
    or the slot emptied.
  - A password cannot be read back. Whether it is right is found out by one login with it, and after it was set a login
    proves that it works.
  - "To change the password of the very account that is used (at the acceptance of a server: that of the factory), give
    O(name) the value of O(username), the old password as O(password) and the new one as O(account_password). The new
    one is tried first, so that the module can run again when it was changed already. A BMC that lets nothing else
    happen before the password is changed is served too."
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
      - V(present) creates the account where it is missing. V(absent) deletes it; never the one that is used to log in.
    type: str
    choices: [present, absent]
    default: present
    version_added: 0.1.0
  name:
    description:
      - Name of the account.
    type: str
    required: true
    version_added: 0.1.0
  account_password:
    description:
      - Password of the account O(name). Needed to create one.
    type: str
    version_added: 0.1.0
  role:
    description:
      - Role of the account, as the BMC names it. Needed to create one.
      - Usual are V(Administrator), V(Operator) and V(ReadOnly).
    type: str
    version_added: 0.1.0
  enabled:
    description:
      - Whether the account may be used.
    type: bool
    version_added: 0.1.0
  update_password:
    description:
      - V(if_wrong) tries one login and sets the password where it is refused. A BMC may count that try.
      - V(on_create) sets it only for a new account. V(always) sets it each time, which is always a change.
      - The password of a disabled account is not tried.
    type: str
    choices: [if_wrong, on_create, always]
    default: if_wrong
    version_added: 0.1.0
  wait_timeout:
    description:
      - Seconds until the BMC must show the account as it shall be.
    type: int
    default: 120
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Change the password that came from the factory
  kiban.baremetal.bmc_user:
    address: 192.0.2.21
    username: root
    password: "{{ factory_password }}"
    name: root
    account_password: "{{ kiban_bmc_password }}"
  delegate_to: localhost

- name: An account for monitoring
  kiban.baremetal.bmc_user:
    address: 192.0.2.21
    username: root
    password: "{{ kiban_bmc_password }}"
    name: monitoring
    account_password: "{{ monitoring_password }}"
    role: ReadOnly
  delegate_to: localhost

- name: No such account any more
  kiban.baremetal.bmc_user:
    address: 192.0.2.21
    username: root
    password: "{{ kiban_bmc_password }}"
    name: monitoring
    state: absent
  delegate_to: localhost
"""

RETURN = r"""
account:
  description:
    - The account after the module ran, null where there is none. In check mode, as it is now.
    - RV(account.password) is V(set) where the module set it, and missing otherwise.
  type: dict
  returned: success
  contains:
    name:
      description: Its name.
      type: str
      returned: always
    role:
      description: Its role.
      type: str
      returned: always
    enabled:
      description: Whether it may be used.
      type: bool
      returned: always
    password:
      description: The word V(set).
      type: str
      returned: when the password was set
  sample: {name: monitoring, role: ReadOnly, enabled: true}
requests:
  description: HTTP requests that were sent to the BMC, without those of logins that prove a password.
  type: int
  returned: success
  sample: 12
failure:
  description: What went wrong, as M(kiban.baremetal.bmc_power) describes.
  type: dict
  returned: when the BMC or the way to it is the reason of the failure
  sample:
    kind: option
    address: 192.0.2.21
    message: "it takes passwords of at most 20 characters"
    hint: ""
    request: ""
    status: null
    messages: []
    done: []
"""

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError, Options
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.account import Account, accepted
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, connected, fail


def run(bmc: Bmc, params: dict[str, t.Any], check_mode: bool, known: bool) -> dict[str, t.Any]:
    """C(known): this login has proved that the password of the account is right."""
    wanted = Account(params["name"], params["role"], params["enabled"], params["account_password"])
    own = params["name"] == params["username"]

    def set_password(found: dict[str, t.Any]) -> bool:
        if known or params["update_password"] != "if_wrong":
            return params["update_password"] == "always"
        if found.get("Enabled", True) is False:
            return bool(params["enabled"])
        # The new password of the own account was tried before the old one.
        login = dataclasses.replace(bmc.session.options, username=params["name"], password=params["account_password"])
        return own or accepted(login) is False

    plan = bmc.accounts.plan(params["state"], wanted, set_password)
    account = plan.change.before["account"]
    if plan.change.changed and not check_mode:
        bmc.accounts.apply(plan, wanted, params["wait_timeout"])
        account = plan.change.after["account"]
    return {"changed": plan.change.changed, "diff": plan.change.diff(), "account": account}


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            state={"type": "str", "default": "present", "choices": ["present", "absent"]},
            name={"type": "str", "required": True},
            account_password={"type": "str", "no_log": True},
            role={"type": "str"},
            enabled={"type": "bool"},
            update_password={
                "type": "str",
                "default": "if_wrong",
                "choices": ["if_wrong", "on_create", "always"],
                "no_log": False,
            },
            wait_timeout={"type": "int", "default": 120},
        ),
        supports_check_mode=True,
    )
    params = module.params
    options = Options.from_params(params)
    try:
        known = False
        if params["name"] == params["username"] and params["account_password"] and params["state"] == "present":
            renewed = dataclasses.replace(options, password=params["account_password"])
            known = accepted(renewed) is not False
            options = renewed if known else options
        with connected(module, options) as bmc:
            result = run(bmc, params, module.check_mode, known)
    except BmcError as exc:
        fail(module, exc)
    module.exit_json(requests=bmc.requests, **result)


if __name__ == "__main__":
    main()
