#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_firmware
short_description: Bring firmware of a server to a version through its BMC
version_added: 0.1.0
description:
  - Updates the components whose version in the firmware inventory of the BMC is not the wanted one.
  - The BMC fetches an image by its URL (SimpleUpdate), or gets a file from here pushed.
  - Firmware that is applied at a reset is staged first, all of it, and applied by one restart where O(restart) allows
    one. Without a restart such a component keeps its version, so another run stages it again.
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
  updates:
    description:
      - Components and their versions.
    type: list
    elements: dict
    required: true
    version_added: 0.1.0
    suboptions:
      component:
        description:
          - Id or name of the entry in the firmware inventory, or a shell pattern that fits one only, as for Ids that
            hold a version.
        type: str
        required: true
        version_added: 0.1.0
      version:
        description:
          - Version that the inventory has to show in the end.
        type: str
        required: true
        version_added: 0.1.0
      image:
        description:
          - URL of the image, as the BMC reaches it. A user name and a password in it are not shown in results.
        type: str
        version_added: 0.1.0
      path:
        description:
          - File of the image, on the host where the module runs. Pushed to the BMC.
        type: path
        version_added: 0.1.0
      targets:
        description:
          - URIs of what shall be updated, where the BMC does not find that out from the image.
        type: list
        elements: str
        default: []
        version_added: 0.1.0
  apply:
    description:
      - When the BMC shall apply it. What it does not offer is refused. Left to the BMC where this is absent.
    type: str
    choices: [immediate, on_reset]
    version_added: 0.1.0
  restart:
    description:
      - Whether the server is restarted, once, where firmware waits for a reset.
      - V(graceful) asks the operating system, V(forced) does not. A server that is off is switched on.
    type: str
    choices: [never, graceful, forced]
    default: never
    version_added: 0.1.0
  wait_timeout:
    description:
      - Seconds until all versions are there, transfers and a restart included.
    type: int
    default: 3600
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: BIOS and BMC of a server, in one restart
  kiban.baremetal.bmc_firmware:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    updates:
      - component: Installed-*__BIOS.Setup.1-1
        version: 1.15.2
        image: https://192.0.2.2/firmware/BIOS_1.15.2.exe
      - component: Installed-*__iDRAC.Embedded.1-1
        version: 7.10.50.00
        path: /srv/firmware/iDRAC_7.10.50.00.exe
    restart: graceful
  delegate_to: localhost
"""

RETURN = r"""
firmware:
  description: Versions of the components after the module ran. In check mode, as they are now.
  type: dict
  returned: success
  sample: {BIOS: 1.15.2}
pending:
  description: Components that get their version at the next reset of the server.
  type: list
  elements: str
  returned: success
  sample: []
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
    message: "firmware cannot be pushed to it"
    hint: "Give a URL as image, which it fetches itself"
    request: ""
    status: null
    messages: []
    done: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, connected, fail
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.firmware import Update
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.write import reporting


def run(bmc: Bmc, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    updates = [
        Update(item["component"], item["version"], item["image"], item["path"], tuple(item["targets"]))
        for item in params["updates"]
    ]
    plan = bmc.firmware.plan(updates, params["apply"])
    firmware, pending = plan.change.before["firmware"], []
    if plan.change.changed and not check_mode:
        restart = None if params["restart"] == "never" else params["restart"]
        pending = bmc.firmware.apply(plan, params["apply"], restart, params["wait_timeout"])
        with reporting([f"brought {item.component} to {item.version}" for item in plan.updates]):
            firmware = bmc.firmware.versions(updates)
    return {"changed": plan.change.changed, "diff": plan.change.diff(), "firmware": firmware, "pending": pending}


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            updates={
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "component": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "image": {"type": "str"},
                    "path": {"type": "path"},
                    "targets": {"type": "list", "elements": "str", "default": []},
                },
                "required_one_of": [("image", "path")],
                "mutually_exclusive": [("image", "path")],
            },
            apply={"type": "str", "choices": ["immediate", "on_reset"]},
            restart={"type": "str", "default": "never", "choices": ["never", "graceful", "forced"]},
            wait_timeout={"type": "int", "default": 3600},
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
