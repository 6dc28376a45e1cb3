#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_power
short_description: Switch a server on or off, or restart it, through its BMC
version_added: 0.1.0
description:
  - Brings the server behind a BMC to a power state and waits until the BMC shows that state.
  - Nothing is sent where the server is in that state already. O(state=restarted) always restarts.
  - Only reset types that the BMC says it offers are used. A graceful request never turns into a forced one by itself.
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
      - V(on) and V(off) are reached once and kept.
      - V(restarted) restarts a server that is on, and switches on one that is off.
    type: str
    choices: ["on", "off", restarted]
    required: true
    version_added: 0.1.0
  method:
    description:
      - V(graceful) asks the operating system to shut down or to restart.
      - V(forced) cuts the power, or resets, at once. Unsaved data is lost. It is the only way where no operating
        system listens.
      - A forced restart is a cold start, which changes of the boot device need.
    type: str
    choices: [graceful, forced]
    default: graceful
    version_added: 0.1.0
  wait_timeout:
    description:
      - Seconds until the server must show the state, all steps together. The module fails when it does not.
    type: int
    default: 300
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Switch the server on
  kiban.baremetal.bmc_power:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    ca_path: /etc/kiban/bmc-ca.pem
    state: "on"
  delegate_to: localhost

- name: Cold start, so that a new boot device is used
  kiban.baremetal.bmc_power:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    ca_path: /etc/kiban/bmc-ca.pem
    state: restarted
    method: forced
  delegate_to: localhost
"""

RETURN = r"""
power_state:
  description: State that the BMC showed last. In check mode, the state now.
  type: str
  returned: success
  sample: "on"
resets:
  description: Redfish reset types that were sent, or would be sent in check mode. Empty where nothing had to be done.
  type: list
  elements: str
  returned: success
  sample: [ForceRestart]
requests:
  description: HTTP requests that were sent to the BMC.
  type: int
  returned: success
  sample: 7
failure:
  description: What went wrong, for playbooks that branch on it.
  type: dict
  returned: when the BMC or the way to it is the reason of the failure
  contains: &failure
    kind:
      description:
        - One of V(option), V(unreachable), V(tls), V(auth), V(unsupported), V(refused), V(not_found), V(busy),
          V(timeout), V(uncertain), V(task_failed), V(bad_answer).
      type: str
      returned: always
    address:
      description: The BMC.
      type: str
      returned: always
    message:
      description: What is wrong.
      type: str
      returned: always
    hint:
      description: What to do about it.
      type: str
      returned: always
    request:
      description: The request that failed, empty where none was sent.
      type: str
      returned: always
    status:
      description: HTTP status of the BMC's answer, null where there was none.
      type: int
      returned: always
    messages:
      description: Messages of the BMC, most severe first.
      type: list
      elements: raw
      returned: always
    done:
      description: What had been changed before the failure.
      type: list
      elements: str
      returned: always
  sample:
    kind: timeout
    address: 192.0.2.21
    message: the server is still on and not off after 300 s
    hint: Its operating system did not shut down. Use method forced if losing unsaved data is acceptable
    request: ""
    status: null
    messages: []
    done: [reset GracefulShutdown was sent]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, connected, fail
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.change import Change


def run(bmc: Bmc, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    before = now = bmc.power.read()
    steps = bmc.power.plan(params["state"], params["method"], now)
    resets = [step.reset for step in steps if step.reset]
    after = "on" if params["state"] == "restarted" else params["state"]
    if steps and not check_mode:
        now, resets = bmc.power.apply(steps, params["wait_timeout"])
    change = Change(
        {"power_state": before, "resets": []},
        {"power_state": after if resets else before, "resets": resets},
    )
    return {"changed": change.changed, "diff": change.diff(), "power_state": now, "resets": resets}


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            state={"type": "str", "required": True, "choices": ["on", "off", "restarted"]},
            method={"type": "str", "default": "graceful", "choices": ["graceful", "forced"]},
            wait_timeout={"type": "int", "default": 300},
        ),
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
