#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_erase
short_description: Erase drives of a server for good, through its BMC
version_added: 0.1.0
description:
  - Starts the secure erase of the drives that are named, all at once, and waits for the end of each.
  - Only drives named by their serial number are touched. A drive that is part of a volume is refused. Where one of them
    cannot be erased, none is.
  - "A BMC does not tell whether a drive is empty, so each run erases: like a restart, this is always a change. A drive
    that is being erased already is only waited for, so that a run that was cut off can be repeated."
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
      - V(erased) is all there is. It has to be written down, since what is on the drives is lost.
    type: str
    choices: [erased]
    required: true
    version_added: 0.1.0
  drives:
    description:
      - Serial numbers of the drives.
    type: list
    elements: str
    required: true
    version_added: 0.1.0
  method:
    description:
      - How, in the words of Redfish. Left to the BMC where this is absent; a BMC that offers no choice refuses it.
    type: str
    choices: [BlockErase, CryptographicErase, Overwrite]
    version_added: 0.1.0
  wait_timeout:
    description:
      - Seconds until all drives must be erased. Overwriting a large disk takes a day.
    type: int
    default: 14400
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Erase the disks of a server that leaves the site
  kiban.baremetal.bmc_erase:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    state: erased
    drives: [S6EVNX0T100001, S6EVNX0T100002]
  delegate_to: localhost
"""

RETURN = r"""
drives:
  description: Serial numbers of the drives that were erased, or would be in check mode.
  type: list
  elements: str
  returned: success
  sample: [S6EVNX0T100001, S6EVNX0T100002]
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
    message: "the drive S6EVNX0T100001 is part of the volume system"
    hint: "Delete the volume first, with bmc_volume and state absent"
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
    plan = bmc.drives.plan(params["drives"], params["method"])
    if not check_mode:
        bmc.drives.erase(plan, params["wait_timeout"])
    drives = [item.serial_number for item in plan]
    change = Change({"erased": []}, {"erased": drives})
    return {"changed": change.changed, "diff": change.diff(), "drives": drives}


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            state={"type": "str", "required": True, "choices": ["erased"]},
            drives={"type": "list", "elements": "str", "required": True},
            method={"type": "str", "choices": ["BlockErase", "CryptographicErase", "Overwrite"]},
            wait_timeout={"type": "int", "default": 14400},
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
