#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_boot
short_description: Set what a server boots from, through its BMC
version_added: 0.1.0
description:
  - Sets the boot override of a server and reads it back. It takes effect at the next cold start; this module starts
    nothing.
  - Once the server has used an override with O(enabled=once), the BMC forgets it, and running the module again sets
    it again.
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
  target:
    description:
      - Device to boot from.
      - V(cd) is the virtual CD, so insert an image first with M(kiban.baremetal.bmc_virtual_media); some BMCs insist
        on that order.
      - V(none) removes the override, so that the boot order of the BIOS counts.
    type: str
    choices: [none, disk, cd, pxe, uefi_http]
    required: true
    version_added: 0.1.0
  enabled:
    description:
      - V(once) is for the next start only, V(continuous) for all starts to come. Not used with O(target=none).
      - Not every BMC offers V(continuous); the module fails and says so.
    type: str
    choices: [once, continuous]
    default: once
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Boot the deploy ramdisk from virtual media at the next start
  kiban.baremetal.bmc_boot:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    target: cd
  delegate_to: localhost

- name: Boot from disk from now on
  kiban.baremetal.bmc_boot:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    target: disk
    enabled: continuous
  delegate_to: localhost
"""

RETURN = r"""
override:
  description: The boot override as the BMC shows it. In check mode, as it is now.
  type: dict
  returned: success
  contains:
    target:
      description: One of the values of O(target), or another target in the BMC's own words in lower case.
      type: str
      returned: always
      sample: cd
    enabled:
      description: V(once) or V(continuous), null without an override.
      type: str
      returned: always
      sample: once
requests:
  description: HTTP requests that were sent to the BMC.
  type: int
  returned: success
  sample: 6
failure:
  description: What went wrong, as M(kiban.baremetal.bmc_power) describes.
  type: dict
  returned: when the BMC or the way to it is the reason of the failure
  sample:
    kind: unsupported
    address: 192.0.2.21
    message: "it cannot keep a boot override continuous (it offers: Once, Disabled)"
    hint: Use enabled once, before each start that needs it
    request: ""
    status: null
    messages: []
    done: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, connected, fail
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.boot import BootState
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.change import Change


def run(bmc: Bmc, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    target = params["target"]
    wanted = BootState(target, None if target == "none" else params["enabled"])
    before = bmc.boot.read()
    if bmc.boot.same(wanted, before):
        change = Change(before.as_dict(), before.as_dict())
        return {"changed": False, "diff": change.diff(), "override": before.as_dict()}
    bmc.boot.check(wanted)
    override = before if check_mode else bmc.boot.apply(wanted)
    change = Change(before.as_dict(), wanted.as_dict())
    return {"changed": change.changed, "diff": change.diff(), "override": override.as_dict()}


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            target={"type": "str", "required": True, "choices": ["none", "disk", "cd", "pxe", "uefi_http"]},
            enabled={"type": "str", "default": "once", "choices": ["once", "continuous"]},
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
