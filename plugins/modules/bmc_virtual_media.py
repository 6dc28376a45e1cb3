#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_virtual_media
short_description: Insert an image into the virtual drive of a BMC, or eject it
version_added: 0.1.0
description:
  - Makes a BMC show an image to its server as if it were a CD in a drive, or takes it out again.
  - The BMC fetches the image itself, from its own network, while the server reads it. Keep it served for as long as
    it is inserted.
  - An image with the same URL that is inserted already is left alone. Another one is ejected first.
  - Uses the drives of the system or of its manager, and actions or PATCH, whichever the BMC has.
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
      - V(inserted) makes O(image) the only image in the virtual drives of this kind.
      - V(ejected) empties these drives, or with O(image) only the one that holds this image.
    type: str
    choices: [inserted, ejected]
    default: inserted
    version_added: 0.1.0
  image:
    description:
      - URL of the image as the BMC reaches it. Required with O(state=inserted).
      - A user name and a password in the URL are not shown in results.
    type: str
    version_added: 0.1.0
  device:
    description:
      - Kind of the virtual drive.
    type: str
    choices: [cd]
    default: cd
    version_added: 0.1.0
  wait_timeout:
    description:
      - Seconds until the BMC must show the image as inserted or ejected. Some BMCs fetch all of it before they
        answer.
    type: int
    default: 180
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Insert the deploy ramdisk
  kiban.baremetal.bmc_virtual_media:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    image: http://192.0.2.2:8080/ramdisk/node1.iso
  delegate_to: localhost

- name: Take it out again
  kiban.baremetal.bmc_virtual_media:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    state: ejected
  delegate_to: localhost
"""

RETURN = r"""
images:
  description: Images in the virtual drives of this kind after the module ran. In check mode, as they are now.
  type: list
  elements: str
  returned: success
  sample: ["http://192.0.2.2:8080/ramdisk/node1.iso"]
actions:
  description: What was done, or would be done in check mode.
  type: list
  elements: str
  returned: success
  sample: ["inserted http://192.0.2.2:8080/ramdisk/node1.iso in Cd"]
requests:
  description: HTTP requests that were sent to the BMC.
  type: int
  returned: success
  sample: 8
failure:
  description: What went wrong, as M(kiban.baremetal.bmc_power) describes.
  type: dict
  returned: when the BMC or the way to it is the reason of the failure
  sample:
    kind: refused
    address: 192.0.2.21
    message: "POST /redfish/v1/Managers/1/VirtualMedia/2/Actions/... was refused with HTTP 400: no such file"
    hint: "Check that the BMC itself can reach http://192.0.2.2:8080/ramdisk/node1.iso"
    request: POST /redfish/v1/Managers/1/VirtualMedia/2/Actions/...
    status: 400
    messages: []
    done: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, connected, fail
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.change import Change
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.message import hide_credentials


def run(bmc: Bmc, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    plan = bmc.media.plan(params["state"], params["image"], params["device"])
    change = Change({"images": _shown(plan.before)}, {"images": _shown(plan.after)})
    result = {"changed": change.changed, "diff": change.diff(), "images": _shown(plan.before), "actions": plan.actions}
    if change.changed and not check_mode:
        result["actions"] = bmc.media.apply(plan, params["wait_timeout"])
        result["images"] = _shown(plan.after)
    return result


def _shown(images: list[str]) -> list[str]:
    return [hide_credentials(image) for image in images]


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            state={"type": "str", "default": "inserted", "choices": ["inserted", "ejected"]},
            image={"type": "str"},
            device={"type": "str", "default": "cd", "choices": ["cd"]},
            wait_timeout={"type": "int", "default": 180},
        ),
        required_if=[("state", "inserted", ("image",))],
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
