#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_bios
short_description: Set BIOS attributes of a server through its BMC
version_added: 0.1.0
description:
  - Compares the wanted attributes with those in force and with those that wait for a reset, and writes only what the
    BMC does not have yet.
  - An attribute that shall keep its value while another one waits for the reset is written too, so that the waiting
    value does not come into force.
  - Values are checked against the BMC's attribute registry, where it has one, before anything is sent.
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
      - V(present) gives O(attributes) their values.
      - V(absent) takes back all changes that wait for a reset. Not every BMC allows that once it has made a job of
        them; the module fails and says so.
    type: str
    choices: [present, absent]
    default: present
    version_added: 0.1.0
  attributes:
    description:
      - Names and values as the BIOS of this server has them. The result of the module shows them all, so leave this
        empty to see them.
      - Quote words such as V("on") and V("yes").
    type: dict
    default: {}
    version_added: 0.1.0
  apply:
    description:
      - When the BMC shall apply them. What it does not offer is refused.
      - V(on_reset) is at the next reset, V(immediate) at once, which few BMCs offer for the BIOS.
      - V(at_window_start) is at O(window_start), with a reset where one is needed; V(on_reset_in_window) is at the
        first reset between O(window_start) and O(window_duration) seconds later.
    type: str
    choices: [on_reset, immediate, at_window_start, on_reset_in_window]
    default: on_reset
    version_added: 0.1.0
  window_start:
    description:
      - Start of the maintenance window, as C(2030-01-31T22:00:00+00:00).
    type: str
    version_added: 0.1.0
  window_duration:
    description:
      - Length of the maintenance window in seconds.
    type: int
    default: 3600
    version_added: 0.1.0
  restart:
    description:
      - Whether the server is restarted where values wait for a reset. The module then ends when they are in force.
      - V(graceful) asks the operating system, V(forced) does not. A server that is off is switched on.
      - Only with O(apply=on_reset).
    type: str
    choices: [never, graceful, forced]
    default: never
    version_added: 0.1.0
  wait_timeout:
    description:
      - Seconds until the BMC must show the values, a restart included.
    type: int
    default: 900
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Set attributes, to be used from the next start on
  kiban.baremetal.bmc_bios:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    attributes:
      ProcVirtualization: Enabled
      SysProfile: PerfOptimized
  delegate_to: localhost

- name: Set them now, with a restart
  kiban.baremetal.bmc_bios:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    attributes:
      ProcVirtualization: Enabled
    restart: forced
  delegate_to: localhost
"""

RETURN = r"""
attributes:
  description: All attributes in force after the module ran. In check mode, as they are now.
  type: dict
  returned: success
  sample: {ProcVirtualization: Enabled}
pending:
  description: Attributes that will have another value after the next reset, with that value.
  type: dict
  returned: success
  sample: {SysProfile: PerfOptimized}
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
    kind: option
    address: 192.0.2.21
    message: its BIOS has no attribute ProcVirtualisation
    hint: Did you mean ProcVirtualization
    request: ""
    status: null
    messages: []
    done: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, connected, fail


def run(bmc: Bmc, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    window = (params["window_start"], params["window_duration"]) if params["window_start"] else None
    plan = bmc.bios.plan(
        params["attributes"] if params["state"] == "present" else None,
        params["apply"],
        None if params["restart"] == "never" else params["restart"],
        window,
    )
    changes = plan.change.changed and not check_mode
    state = bmc.bios.apply(plan, params["wait_timeout"]) if changes else bmc.bios.read()
    return {
        "changed": plan.change.changed,
        "diff": plan.change.diff(),
        "attributes": state.current,
        "pending": state.pending,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            state={"type": "str", "default": "present", "choices": ["present", "absent"]},
            attributes={"type": "dict", "default": {}},
            apply={
                "type": "str",
                "default": "on_reset",
                "choices": ["on_reset", "immediate", "at_window_start", "on_reset_in_window"],
            },
            window_start={"type": "str"},
            window_duration={"type": "int", "default": 3600},
            restart={"type": "str", "default": "never", "choices": ["never", "graceful", "forced"]},
            wait_timeout={"type": "int", "default": 900},
        ),
        required_if=[
            ("apply", "at_window_start", ("window_start",)),
            ("apply", "on_reset_in_window", ("window_start",)),
        ],
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
