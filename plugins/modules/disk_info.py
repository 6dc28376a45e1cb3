#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_info
short_description: Disks of a host and everything that is on them
version_added: 0.1.0
description:
  - Returns a record for each whole block device of the host, with its identity and every signature that is on it.
  - Loop, RAM and compressed RAM devices, CD and floppy drives, device mapper and software RAID volumes are left out;
    they show up as holders of the disks that they are made of.
  - Works without C(udevd), as in a small ramdisk. Needs C(wipefs) and C(blkid), and Linux.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
  - kiban.baremetal.attributes.info
options:
  serial_number:
    description: Only the disk with this serial number; it is an error if there is none, or more than one.
    type: str
  smartctl:
    description:
      - Also runs C(smartctl) of smartmontools on each disk, which must be installed. It knows temperature, hours and
        counters of SATA and SAS disks that are null without it.
    type: bool
    default: false
seealso:
  - module: kiban.baremetal.disk_claim
  - module: kiban.baremetal.image_write
"""

EXAMPLES = r"""
- name: Read the disks
  kiban.baremetal.disk_info:
  register: __disks

- name: Show those that hold nothing
  ansible.builtin.debug:
    msg: "{{ __disks.disks | rejectattr('signatures') | rejectattr('partitions') | map(attribute='path') }}"
"""

RETURN = r"""
disks:
  description: One record for each disk, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Kernel name. Names change between boots; use the serial number.
      type: str
      sample: vda
    path:
      description: Device node.
      type: str
      sample: /dev/vda
    paths:
      description:
        - The paths to a disk of a storage server, each with transport (V(iscsi), V(tcp), V(rdma) or V(fc)), target,
          portal, state and the kernel's name of the path. A disk that dm-multipath has put together of several local
          paths has these. Empty for any other disk.
      type: list
      elements: dict
    by_path:
      description: Stable link by the place that the disk is plugged in, if C(udevd) runs.
      type: str
    enclosure:
      description: Logical identifier of the enclosure that the disk is in, if that speaks SCSI Enclosure Services.
      type: str
      sample: "0x500304801f3c5abf"
    slot:
      description: Number or name of the enclosure's bay, for NVMe of the PCI slot; null where nothing states it.
      type: str
      sample: "5"
    health:
      description:
        - What the disk says of itself, with status (V(ok), V(warning) or V(failing)), problems (phrases),
          temperature_celsius, power_on_hours, wear_percent (of the writes that it is made for; may be more than 100)
          and media_errors; null each where the disk does not say.
        - Null where the disk cannot be asked, such as a virtual one or one behind a RAID controller.
      type: dict
    serial_number:
      description: Serial number, the same as the BMC reports.
      type: str
    wwn:
      description: World-wide name as the kernel states it, beginning with C(naa.), C(eui.) or C(t10.).
      type: str
    model:
      description: Model name.
      type: str
    capacity_bytes:
      description: Size in bytes.
      type: int
    protocol:
      description:
        - One of V(VirtIO), V(SCSI), V(SATA), V(SAS), V(NVMe), V(iSCSI), V(NVMeOverFabrics); null if it is none of
          them.
      type: str
    media_type:
      description: V(SSD) or V(HDD); null where the kernel does not know.
      type: str
    logical_block_bytes:
      description: Smallest unit of access in bytes.
      type: int
    physical_block_bytes:
      description:
        - Smallest unit in bytes that the disk writes without reading first; null where the kernel does not state it.
        - It is V(4096) beside V(logical_block_bytes=512) on a disk that emulates small sectors (512e).
      type: int
    removable:
      description: Whether the medium can be taken out.
      type: bool
    read_only:
      description: Whether the kernel refuses writes.
      type: bool
    discard:
      description: Whether the disk can be told to forget blocks.
      type: bool
    write_zeroes:
      description: Whether the disk can zero blocks by itself.
      type: bool
    holders:
      description: Kernel names of volumes that are made of this disk or a partition of it.
      type: list
      elements: str
    mounts:
      description: Mount points of the disk and its partitions; V([swap]) for swap space.
      type: list
      elements: str
    partitions:
      description: Partitions, with number, name, label, uuid, start_bytes, size_bytes and signatures.
      type: list
      elements: dict
    signatures:
      description:
        - Signatures on the disk outside its partitions, each with type, offset (bytes), label, uuid and usage.
        - The type V(unknown) stands for content in the first or last MiB that no tool knows, V(unreadable) for a disk
          that cannot be read. A disk without signatures and partitions is blank.
      type: list
      elements: dict
    kiban:
      description:
        - What this collection has put on the disk, with purpose (V(system) or V(data)), complete, image_id, token,
          site, uuid of the partition.
        - A disk with V(complete=false) is being written, or the run that did so was killed.
      type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_health, _disks, _smartctl


def main() -> None:
    module = AnsibleModule(
        argument_spec={"serial_number": {"type": "str"}, "smartctl": {"type": "bool", "default": False}},
        supports_check_mode=True,
    )
    serial_number = module.params["serial_number"]
    try:
        disks = _disks.list_disks()
        if serial_number is not None:
            disks = [_disks.select_disk(disks, serial_number)]
        for disk in disks:
            disk["health"] = _disk_health.health(disk["path"], disk["protocol"])
            if module.params["smartctl"]:
                disk["health"] = _smartctl.with_smartctl(disk)
    except _disks.DiskError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, disks=disks)


if __name__ == "__main__":
    main()
