#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_servers
short_description: Servers of the virtual rack
version_added: 0.1.0
description:
  - Defines virtual servers in the lab's own libvirt daemon and makes their disks.
  - Running servers are left alone, except by O(state=blank) and O(state=absent).
options:
  state:
    description:
      - V(present) makes what is missing, and removes servers that are not listed.
      - V(blank) does that too, powers all servers off, and gives empty disks, firmware variables and BMC settings to
        those that were used.
      - V(absent) powers all servers off and removes them with their disks. It also works without the libvirt daemon.
    type: str
    choices: [present, blank, absent]
    default: present
  uri:
    description: URI of the lab's libvirt daemon.
    type: str
    required: true
  directory:
    description:
      - Directory of the lab, with C(disks), C(media), C(console), C(bmc) and C(libvirt/run) in it.
    type: path
    required: true
  netns:
    description: Network namespace of the servers. One that runs elsewhere lost its network and is powered off.
    type: str
    required: true
  kvm:
    description: Whether the machine accelerates virtual servers.
    type: bool
    default: false
  firmware:
    description: UEFI firmware code.
    type: path
    default: /usr/share/OVMF/OVMF_CODE_4M.fd
  firmware_variables:
    description: Template of the UEFI firmware's variables.
    type: path
    default: /usr/share/OVMF/OVMF_VARS_4M.fd
  emulator:
    description: QEMU.
    type: path
    default: /usr/bin/qemu-system-x86_64
  servers:
    description: The servers, as the filter P(kiban.baremetal.lab_layout#filter) makes them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the server.
        type: str
        required: true
      uuid:
        description: Its identity.
        type: str
        required: true
      bmc:
        description: Address of its BMC.
        type: str
        required: true
      cpus:
        description: Number of processors.
        type: int
        required: true
      memory_mib:
        description: Memory in MiB.
        type: int
        required: true
      disks:
        description: Disks, the first one is bootable.
        type: list
        elements: dict
        required: true
        suboptions:
          bus:
            description: How the disk is attached.
            type: str
            choices: [virtio, scsi, nvme]
            required: true
          size_gib:
            description: Size in GiB.
            type: int
            required: true
          serial:
            description: Serial number.
            type: str
            required: true
      ports:
        description: Network ports.
        type: list
        elements: dict
        required: true
        suboptions:
          mac:
            description: Hardware address.
            type: str
            required: true
          tap:
            description: Tap interface that it is wired to.
            type: str
            required: true
          mtu:
            description: Largest packet in bytes.
            type: int
            required: true
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Blank servers again
  kiban.baremetal.lab_servers:
    state: blank
    uri: qemu+unix:///system?socket=/var/tmp/rack/libvirt/run/libvirt/libvirt-sock
    directory: /var/tmp/rack
    netns: kiban-tor
    servers: "{{ rack.servers }}"
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one sentence each.
  returned: always
  type: list
  elements: str
  sample: ["define cp1"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._lab import LabError
from ansible_collections.kiban.baremetal.plugins.module_utils._lab_servers import Rack


def main() -> None:
    text = {"type": "str", "required": True}
    number = {"type": "int", "required": True}
    disk = {"bus": {**text, "choices": ["virtio", "scsi", "nvme"]}, "size_gib": number, "serial": text}
    port = {"mac": text, "tap": text, "mtu": number}
    server = {
        "name": text,
        "uuid": text,
        "bmc": text,
        "cpus": number,
        "memory_mib": number,
        "disks": {"type": "list", "elements": "dict", "required": True, "options": disk},
        "ports": {"type": "list", "elements": "dict", "required": True, "options": port},
    }
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "blank", "absent"], "default": "present"},
            "uri": text,
            "directory": {"type": "path", "required": True},
            "netns": text,
            "kvm": {"type": "bool", "default": False},
            "firmware": {"type": "path", "default": "/usr/share/OVMF/OVMF_CODE_4M.fd"},
            "firmware_variables": {"type": "path", "default": "/usr/share/OVMF/OVMF_VARS_4M.fd"},
            "emulator": {"type": "path", "default": "/usr/bin/qemu-system-x86_64"},
            "servers": {"type": "list", "elements": "dict", "default": [], "options": server},
        },
        supports_check_mode=True,
    )
    rack = Rack(module.params, module.check_mode)
    try:
        if module.params["state"] == "present":
            rack.present()
        elif module.params["state"] == "blank":
            rack.blank()
        else:
            rack.absent()
    except LabError as problem:
        module.fail_json(msg=str(problem), actions=rack.actions)
    module.exit_json(
        changed=bool(rack.actions),
        actions=rack.actions,
        diff={"before": "", "after": "".join(f"{action}\n" for action in rack.actions)},
    )


if __name__ == "__main__":
    main()
