#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_volume
short_description: Create, keep or delete a RAID volume of a server through its BMC
version_added: 0.1.0
description:
  - Creates a volume with what the controller says that it takes, and keeps one that is there.
  - A volume that is there with other drives or another RAID type is left as it is and the module fails. A volume is
    deleted, with all data on it, only with O(state=absent).
  - A volume is found by its name, else by its drives, since some controllers name volumes themselves.
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
      - V(present) creates the volume where it is missing. V(absent) deletes it.
    type: str
    choices: [present, absent]
    default: present
    version_added: 0.1.0
  name:
    description:
      - Name of the volume. Some controllers take 15 characters only.
    type: str
    required: true
    version_added: 0.1.0
  controller:
    description:
      - Id or name of the controller. Needed where the server has several that have volumes.
    type: str
    version_added: 0.1.0
  raid_type:
    description:
      - RAID type as Redfish names it. Required with O(state=present).
    type: str
    choices: [None, RAID0, RAID1, RAID5, RAID6, RAID10, RAID50, RAID60]
    version_added: 0.1.0
  drives:
    description:
      - Drives of the volume, by Id or serial number. Required with O(state=present).
      - With O(state=absent), a volume of other drives is not deleted but makes the module fail.
    type: list
    elements: str
    default: []
    version_added: 0.1.0
  capacity_bytes:
    description:
      - Size of the volume in bytes. All that the drives give where this is absent.
    type: int
    version_added: 0.1.0
  strip_size_bytes:
    description:
      - Size of a strip in bytes; set at the creation only.
    type: int
    version_added: 0.1.0
  read_cache_policy:
    description:
      - Redfish name of the read cache policy, such as V(ReadAhead).
    type: str
    version_added: 0.1.0
  write_cache_policy:
    description:
      - Redfish name of the write cache policy, such as V(ProtectedWriteBack).
    type: str
    version_added: 0.1.0
  restart:
    description:
      - Whether the server is restarted where the controller works only at a reset. The module then ends when the
        volume is there, or gone.
      - V(graceful) asks the operating system, V(forced) does not. A server that is off is switched on.
    type: str
    choices: [never, graceful, forced]
    default: never
    version_added: 0.1.0
  wait_timeout:
    description:
      - Seconds until the volume must be there, or gone, a restart included.
    type: int
    default: 900
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: A mirror for the operating system
  kiban.baremetal.bmc_volume:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    controller: DE00A000
    name: system
    raid_type: RAID1
    drives: [S6EVNX0T100001, S6EVNX0T100002]
  delegate_to: localhost

- name: Delete it, and all that is on it
  kiban.baremetal.bmc_volume:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    controller: DE00A000
    name: system
    state: absent
  delegate_to: localhost
"""

RETURN = r"""
volume:
  description: The volume after the module ran, null where there is none. In check mode, as it is now.
  type: dict
  returned: success
  contains:
    name:
      description: Its name.
      type: str
      returned: always
    raid_type:
      description: RAID type as Redfish names it.
      type: str
      returned: always
    drives:
      description: Ids of its drives.
      type: list
      elements: str
      returned: always
    capacity_bytes:
      description: Its size in bytes.
      type: int
      returned: always
    strip_size_bytes:
      description: Size of a strip in bytes, null where the BMC does not tell.
      type: int
      returned: always
    read_cache_policy:
      description: Read cache policy, null where the BMC does not tell.
      type: str
      returned: always
    write_cache_policy:
      description: Write cache policy, null where the BMC does not tell.
      type: str
      returned: always
  sample:
    name: system
    raid_type: RAID1
    drives: ["2", "3"]
    capacity_bytes: 1599774654464
    strip_size_bytes: 262144
    read_cache_policy: null
    write_cache_policy: null
pending:
  description: Whether the controller does it at the next reset of the server.
  type: bool
  returned: success
  sample: false
requests:
  description: HTTP requests that were sent to the BMC.
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
    message: the volume system is there with raid_type RAID0, not RAID1; it is left as it is
    hint: A volume is never replaced by itself. Delete it with state absent where its data may be lost
    request: ""
    status: null
    messages: []
    done: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, connected, fail
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.volume import Volume


def run(bmc: Bmc, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    volumes = bmc.volumes(params["controller"])
    own = ("name", "raid_type", "capacity_bytes", "strip_size_bytes", "read_cache_policy", "write_cache_policy")
    wanted = Volume(drives=tuple(params["drives"]), **{name: params[name] for name in own})
    plan = volumes.plan(params["state"], wanted, None if params["restart"] == "never" else params["restart"])
    found, pending = plan.found, False
    if plan.change.changed and not check_mode:
        found, pending = volumes.apply(plan, wanted, params["wait_timeout"])
    return {
        "changed": plan.change.changed,
        "diff": plan.change.diff(),
        "volume": found.as_dict() if found else None,
        "pending": pending,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            state={"type": "str", "default": "present", "choices": ["present", "absent"]},
            name={"type": "str", "required": True},
            controller={"type": "str"},
            raid_type={
                "type": "str",
                "choices": ["None", "RAID0", "RAID1", "RAID5", "RAID6", "RAID10", "RAID50", "RAID60"],
            },
            drives={"type": "list", "elements": "str", "default": []},
            capacity_bytes={"type": "int"},
            strip_size_bytes={"type": "int"},
            read_cache_policy={"type": "str"},
            write_cache_policy={"type": "str"},
            restart={"type": "str", "default": "never", "choices": ["never", "graceful", "forced"]},
            wait_timeout={"type": "int", "default": 900},
        ),
        required_if=[("state", "present", ("raid_type", "drives"))],
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
