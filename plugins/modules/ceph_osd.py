#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_osd
short_description: OSDs of a Ceph cluster on devices of this server
version_added: 0.1.0
description:
  - Makes a BlueStore OSD on each device that is blank, and finds those that are there by the label on the device, also
    on a server whose system was installed anew. It starts nothing.
  - Safe by default. A device that holds anything else, or an OSD of another cluster, is refused, and nothing is written
    to it. An OSD whose making was cut off is made again with the same number.
  - Needs Debian's C(ceph-osd) on the server, C(/etc/ceph/ceph.conf), and monitors that answer.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  state:
    description:
      - V(released) is for the time before a lost disk is replaced. It lets go of logical volumes whose disk is gone,
        and stops the service of their OSD, so that the volumes can be made again on another disk. It changes nothing of
        volumes whose disk is there.
    type: str
    choices: [present, released]
    default: present
  fsid:
    description: The cluster's name for itself, a UUID. Needed with O(state=present).
    type: str
  devices:
    description: Block devices, by names that stay, such as C(/dev/osd1/block) of a volume group.
    type: list
    elements: path
    required: true
  key:
    description: Secret of the entity C(client.bootstrap-osd). Needed with O(state=present).
    type: str
"""

EXAMPLES = r"""
- name: Have the OSD
  kiban.baremetal.ceph_osd:
    fsid: 0ec7c4e2-2b50-5a3c-8f0e-2f7d0a0f3c11
    devices: [/dev/osd1/block]
    key: "{{ __keys['client.bootstrap-osd'] }}"
"""

RETURN = r"""
osds:
  description: The OSDs of the devices.
  returned: success
  type: list
  elements: dict
  contains:
    device:
      description: The device.
      type: str
    id:
      description: Number of the OSD; none for one that check mode would make.
      type: int
    uuid:
      description: Its UUID.
      type: str
uuids:
  description: The UUIDs of the same OSDs.
  returned: success
  type: list
  elements: str
released:
  description: Devices whose disk is gone and that were let go of.
  returned: O(state=released)
  type: list
  elements: str
replaced:
  description: Numbers of OSDs that were on these devices before, on disks that are gone. Their services must go.
  returned: success
  type: list
  elements: int
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._ceph import CephError, keyring, on_this_server
from ansible_collections.kiban.baremetal.plugins.module_utils._ceph_osd import BOOTSTRAP, ensure_osd, release_lost


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "released"], "default": "present"},
            "fsid": {"type": "str"},
            "devices": {"type": "list", "elements": "path", "required": True},
            "key": {"type": "str", "no_log": True},
        },
        required_if=[("state", "present", ("fsid", "key"))],
        supports_check_mode=True,
    )
    host, params = on_this_server(module), module.params
    try:
        if params["state"] == "released":
            lost = [device for device in params["devices"] if release_lost(host, device, module.check_mode)]
            module.exit_json(changed=bool(lost), released=lost, osds=[], uuids=[], replaced=[])
        text = keyring({"client.bootstrap-osd": params["key"]}, with_caps=False)
        changed = bool(params["devices"]) and host.write(BOOTSTRAP, text, module.check_mode, daemons=False)
        osds = [ensure_osd(host, params["fsid"], device, module.check_mode) for device in params["devices"]]
    except (CephError, OSError) as exc:
        module.fail_json(msg=str(exc))
    else:
        module.exit_json(
            changed=changed or any(osd.changed for osd in osds),
            osds=[{"device": osd.device, "id": osd.id, "uuid": osd.uuid} for osd in osds],
            uuids=[osd.uuid for osd in osds],
            replaced=[number for osd in osds for number in osd.replaced],
        )


if __name__ == "__main__":
    main()
