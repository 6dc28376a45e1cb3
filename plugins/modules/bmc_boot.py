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
  - Sets the boot override of a server, its boot order, boot mode and secure boot, and reads them back. All take effect
    at the next cold start; this module starts nothing. What is not given is left as it is.
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
    version_added: 0.1.0
  enabled:
    description:
      - V(once) is for the next start only, V(continuous) for all starts to come. Not used with O(target=none).
      - Not every BMC offers V(continuous); the module fails and says so.
    type: str
    choices: [once, continuous]
    default: once
    version_added: 0.1.0
  order:
    description:
      - Boot order, by the references that the BMC has, such as V(Boot0003). Each of its entries has to be named once.
    type: list
    elements: str
    version_added: 0.1.0
  mode:
    description:
      - Boot mode. Many servers set it by a BIOS attribute instead, see M(kiban.baremetal.bmc_bios).
    type: str
    choices: [uefi, legacy]
    version_added: 0.1.0
  secure_boot:
    description:
      - Whether the firmware starts only what is signed.
    type: bool
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

- name: Network first, and only what is signed
  kiban.baremetal.bmc_boot:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    order: [Boot0003, Boot0002]
    secure_boot: true
  delegate_to: localhost
"""

RETURN = r"""
override:
  description: The boot override as the BMC shows it. In check mode, as it is now.
  type: dict
  returned: with O(target)
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
settings:
  description: What counts without an override, as it will be at the next start. In check mode, as it is now.
  type: dict
  returned: with O(order), O(mode) or O(secure_boot)
  contains:
    order:
      description: Boot order, null where the BMC does not tell.
      type: list
      elements: str
      returned: always
    mode:
      description: Boot mode in lower case, null where the BMC does not tell.
      type: str
      returned: always
    secure_boot:
      description: Whether secure boot is on, null where the BMC does not tell.
      type: bool
      returned: always
  sample: {order: [Boot0003, Boot0002], mode: uefi, secure_boot: true}
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
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.write import reporting

SETTINGS = ("order", "mode", "secure_boot")


def run(bmc: Bmc, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """All is planned before anything is written; what counts in the end is written first."""
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    result: dict[str, t.Any] = {}
    wanted = {name: params[name] for name in SETTINGS if params[name] is not None}
    if wanted:
        result["settings"] = now = bmc.boot_settings.read()
        bmc.boot_settings.check(wanted, now)
        before.update({name: now[name] for name in wanted})
        after.update(wanted)
    override = None
    if params["target"] is not None:
        override = BootState(params["target"], None if params["target"] == "none" else params["enabled"])
        found = bmc.boot.read()
        result["override"] = found.as_dict()
        before.update(found.as_dict())
        if bmc.boot.same(override, found):
            override = None
            after.update(found.as_dict())
        else:
            bmc.boot.check(override)
            after.update(override.as_dict())
    change = Change(before, after)
    if change.changed and not check_mode:
        with reporting([]) as done:
            if any(before[name] != wanted[name] for name in wanted):
                bmc.boot_settings.apply(wanted)
                done.append("set " + ", ".join(name for name in wanted if before[name] != wanted[name]))
                result["settings"] = bmc.boot_settings.read()
            if override is not None:
                result["override"] = bmc.boot.apply(override).as_dict()
    return {"changed": change.changed, "diff": change.diff(), **result}


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            target={"type": "str", "choices": ["none", "disk", "cd", "pxe", "uefi_http"]},
            enabled={"type": "str", "default": "once", "choices": ["once", "continuous"]},
            order={"type": "list", "elements": "str"},
            mode={"type": "str", "choices": ["uefi", "legacy"]},
            secure_boot={"type": "bool"},
        ),
        required_one_of=[("target", "order", "mode", "secure_boot")],
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
