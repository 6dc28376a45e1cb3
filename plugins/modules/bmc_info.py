#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_info
short_description: Read the hardware of a server through its BMC
version_added: 0.1.0
description:
  - Returns one normalised record of a server, the same for BMCs of all makers. What a BMC does not tell is null.
  - Empty sockets, slots and bays are left out.
  - Reads collections by C($expand) where the BMC offers it and answers truthfully, so that a server takes a dozen
    requests.
extends_documentation_fragment:
  - kiban.baremetal.bmc
  - kiban.baremetal.attributes
  - kiban.baremetal.attributes.info
  - kiban.baremetal.attributes.actiongroup_bmc
options:
  subset:
    description:
      - Parts to read. A part that is not read is null in the record.
      - V(lldp) is a part of V(ports) and costs requests of its own, often one for each network adapter.
      - V(sensors) is read only where it is named.
      - With O(driver=ipmi) the BMC tells of V(system), V(boot), V(manager) and V(sensors); all else is null.
    type: list
    elements: str
    choices: [system, processors, memory, ports, lldp, storage, firmware, boot, manager, sensors]
    default: [system, processors, memory, ports, lldp, storage, firmware, boot, manager]
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Read the hardware of a server
  kiban.baremetal.bmc_info:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    ca_path: /etc/kiban/bmc-ca.pem
  delegate_to: localhost
  register: bmc

- name: Show the serial numbers of its NVMe drives
  ansible.builtin.debug:
    msg: "{{ bmc.hardware.storage.drives | selectattr('protocol', 'eq', 'NVMe') | map(attribute='serial_number') }}"

- name: Read only what a boot needs
  kiban.baremetal.bmc_info:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    subset: [system, boot]
  delegate_to: localhost

- name: Read the sensors of a server whose BMC has no Redfish
  kiban.baremetal.bmc_info:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    driver: ipmi
    subset: [system, sensors]
  delegate_to: localhost
"""

RETURN = r"""
hardware:
  description:
    - The record of the server. Every key is always there.
    - A health is V(OK), V(Warning) or V(Critical) as the BMC says.
  type: dict
  returned: success
  contains:
    system:
      description: The server as a whole.
      type: dict
      returned: always
      contains:
        manufacturer:
          description: Who made it.
          type: str
          returned: always
        model:
          description: Model name.
          type: str
          returned: always
        sku:
          description: Stock keeping unit; with some makers the service tag.
          type: str
          returned: always
        serial_number:
          description: Serial number.
          type: str
          returned: always
        uuid:
          description: UUID in lower case. The same as SMBIOS shows to the operating system, with most makers.
          type: str
          returned: always
        asset_tag:
          description: Asset tag that the owner set.
          type: str
          returned: always
        hostname:
          description: Host name that the operating system told the BMC.
          type: str
          returned: always
        bios_version:
          description: Version of the BIOS.
          type: str
          returned: always
        power_state:
          description: V(on), V(off), V(powering_on), V(powering_off) or V(paused).
          type: str
          returned: always
        health:
          description: Health of the server.
          type: str
          returned: always
    processors:
      description: Processors that are there, accelerators included.
      type: list
      elements: dict
      returned: always
      contains:
        id:
          description: Name on this BMC.
          type: str
          returned: always
        socket:
          description: Socket or slot.
          type: str
          returned: always
        type:
          description: V(CPU), V(GPU), V(FPGA), V(Accelerator), ... as in Redfish.
          type: str
          returned: always
        manufacturer:
          description: Who made it.
          type: str
          returned: always
        model:
          description: Model name.
          type: str
          returned: always
        cores:
          description: Number of cores.
          type: int
          returned: always
        threads:
          description: Number of threads.
          type: int
          returned: always
        max_speed_mhz:
          description: Highest clock in MHz.
          type: int
          returned: always
        serial_number:
          description: Serial number.
          type: str
          returned: always
        health:
          description: Health of the processor.
          type: str
          returned: always
    memory:
      description: Memory of the server.
      type: dict
      returned: always
      contains:
        total_mib:
          description: Total in MiB as the server sums it up, else the sum of its modules.
          type: int
          returned: always
        dimms:
          description: Memory modules that are there.
          type: list
          elements: dict
          returned: always
          contains:
            id:
              description: Name on this BMC.
              type: str
              returned: always
            location:
              description: Label of the slot.
              type: str
              returned: always
            manufacturer:
              description: Who made it.
              type: str
              returned: always
            part_number:
              description: Part number.
              type: str
              returned: always
            serial_number:
              description: Serial number.
              type: str
              returned: always
            type:
              description: Kind such as V(DDR5).
              type: str
              returned: always
            capacity_mib:
              description: Capacity in MiB.
              type: int
              returned: always
            speed_mhz:
              description: Speed at which it runs, in MHz or MT/s as the BMC counts.
              type: int
              returned: always
            health:
              description: Health of the module.
              type: str
              returned: always
    ports:
      description:
        - Network interfaces of the server, completed by what its adapters say of the port with the same address.
        - Where the system lists no interfaces, the ports of its adapters.
      type: list
      elements: dict
      returned: always
      contains:
        id:
          description: Name on this BMC.
          type: str
          returned: always
        name:
          description: Name for people.
          type: str
          returned: always
        mac:
          description: MAC address, six pairs in lower case with colons.
          type: str
          returned: always
        speed_mbps:
          description: Speed of the link in Mbit/s. Some BMCs say 0 where there is no link.
          type: int
          returned: always
        link:
          description: V(up) or V(down).
          type: str
          returned: always
        lldp:
          description: The neighbour that the port hears, null where none is heard or the BMC does not tell.
          type: dict
          returned: always
          contains:
            chassis_id:
              description: Chassis of the neighbour.
              type: str
              returned: always
            port_id:
              description: Port of the neighbour.
              type: str
              returned: always
            system_name:
              description: Name of the neighbour.
              type: str
              returned: always
        health:
          description: Health of the port.
          type: str
          returned: always
    storage:
      description: Storage of the server.
      type: dict
      returned: always
      contains:
        controllers:
          description: Storage controllers.
          type: list
          elements: dict
          returned: always
          contains:
            id:
              description: Name on this BMC; of several controllers of one subsystem, with their own number.
              type: str
              returned: always
            storage:
              description: Name of the subsystem that it serves, as in C(controller) of drives and volumes.
              type: str
              returned: always
            name:
              description: Name for people.
              type: str
              returned: always
            manufacturer:
              description: Who made it.
              type: str
              returned: always
            model:
              description: Model name.
              type: str
              returned: always
            serial_number:
              description: Serial number.
              type: str
              returned: always
            firmware_version:
              description: Version of its firmware.
              type: str
              returned: always
            protocols:
              description: Protocols that its drives may speak, as in Redfish.
              type: list
              elements: str
              returned: always
            health:
              description: Health of the controller.
              type: str
              returned: always
        drives:
          description: Drives that are there.
          type: list
          elements: dict
          returned: always
          contains:
            id:
              description: Name on this BMC. Not always unique; the serial number is.
              type: str
              returned: always
            name:
              description: Name for people.
              type: str
              returned: always
            serial_number:
              description: Serial number.
              type: str
              returned: always
            manufacturer:
              description: Who made it.
              type: str
              returned: always
            model:
              description: Model name.
              type: str
              returned: always
            revision:
              description: Version of its firmware.
              type: str
              returned: always
            capacity_bytes:
              description: Capacity in bytes.
              type: int
              returned: always
            protocol:
              description: V(NVMe), V(SAS), V(SATA), V(PCIe), ... as the BMC says.
              type: str
              returned: always
            media_type:
              description: V(SSD) or V(HDD).
              type: str
              returned: always
            location:
              description: Label of the bay.
              type: str
              returned: always
            health:
              description: Health of the drive.
              type: str
              returned: always
            failure_predicted:
              description: Whether the drive says that it will fail.
              type: bool
              returned: always
            controller:
              description: C(storage) of its controller.
              type: str
              returned: always
        volumes:
          description: Volumes. Some BMCs list each unused drive as one, with a C(volume_type) of V(RawDevice).
          type: list
          elements: dict
          returned: always
          contains:
            id:
              description: Name on this BMC.
              type: str
              returned: always
            name:
              description: Name for people.
              type: str
              returned: always
            raid_type:
              description: V(RAID0), V(RAID1), V(RAID5), ... as in Redfish.
              type: str
              returned: always
            volume_type:
              description: Older way to tell the level, as in Redfish.
              type: str
              returned: always
            capacity_bytes:
              description: Capacity in bytes.
              type: int
              returned: always
            health:
              description: Health of the volume.
              type: str
              returned: always
            controller:
              description: C(storage) of its controller.
              type: str
              returned: always
            drives:
              description: C(id) of the drives that it is made of.
              type: list
              elements: str
              returned: always
    firmware:
      description: Firmware as the BMC lists it. Some list earlier and spare versions too; C(id) and C(state) tell.
      type: list
      elements: dict
      returned: always
      contains:
        id:
          description: Name on this BMC.
          type: str
          returned: always
        name:
          description: What it is for.
          type: str
          returned: always
        version:
          description: Version.
          type: str
          returned: always
        updateable:
          description: Whether the BMC can update it.
          type: bool
          returned: always
        state:
          description: V(Enabled), V(StandbySpare), ... as in Redfish.
          type: str
          returned: always
    boot:
      description: How the server boots.
      type: dict
      returned: always
      contains:
        mode:
          description: V(uefi) or V(legacy), as the boot override says.
          type: str
          returned: always
        order:
          description: Boot order, by the names of the BMC. Null where the BMC does not tell.
          type: list
          elements: str
          returned: always
        override:
          description: The boot override, as M(kiban.baremetal.bmc_boot) returns it. Null where there is no such thing.
          type: dict
          returned: always
    manager:
      description: The BMC itself.
      type: dict
      returned: always
      contains:
        id:
          description: Name on this BMC.
          type: str
          returned: always
        type:
          description: V(BMC), ... as in Redfish.
          type: str
          returned: always
        model:
          description: Model name.
          type: str
          returned: always
        firmware_version:
          description: Version of its firmware.
          type: str
          returned: always
        uuid:
          description: UUID in lower case.
          type: str
          returned: always
        health:
          description: Health of the BMC.
          type: str
          returned: always
    sensors:
      description: What the server measures. Only there if O(subset) names it.
      type: list
      elements: dict
      returned: when asked for
      contains:
        name:
          description: Name on this BMC.
          type: str
          returned: always
        reading:
          description: The value, null where there is none now.
          type: float
          returned: always
        unit:
          description: V(C), V(RPM), V(V), V(W), V(A), V(%), or the BMC's own word.
          type: str
          returned: always
        health:
          description: V(OK), V(Warning) or V(Critical); null where the BMC does not tell.
          type: str
          returned: always
      sample: [{name: CPU Temp, reading: 64.0, unit: C, health: OK}]
    requests:
      description: HTTP requests, or IPMI commands, that it took to read, the login included.
      type: int
      returned: always
  sample:
    system:
      manufacturer: Example
      model: M1
      sku: null
      serial_number: SN1
      uuid: 4c4c4544-0034-3010-8052-b4c04f4a4d31
      asset_tag: null
      hostname: null
      bios_version: "1.8.2"
      power_state: "on"
      health: OK
    processors: []
    memory: {total_mib: 524288, dimms: []}
    ports: []
    storage: {controllers: [], drives: [], volumes: []}
    firmware: []
    boot:
      mode: uefi
      order: [Boot0000]
      override: {target: none, enabled: null}
    manager: null
    requests: 12
requests:
  description: HTTP requests that were sent to the BMC, the logout included.
  type: int
  returned: success
  sample: 13
failure:
  description: What went wrong, as M(kiban.baremetal.bmc_power) describes.
  type: dict
  returned: when the BMC or the way to it is the reason of the failure
  sample:
    kind: unreachable
    address: 192.0.2.21
    message: no TCP connection to port 443 within 10 s
    hint: Check that the BMC has power
    request: ""
    status: null
    messages: []
    done: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, connected, fail
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.hardware import SUBSET_CHOICES, SUBSETS


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            subset={"type": "list", "elements": "str", "default": list(SUBSETS), "choices": list(SUBSET_CHOICES)},
        ),
        supports_check_mode=True,
    )
    try:
        with connected(module) as bmc:
            hardware = bmc.hardware(module.params["subset"])
    except BmcError as exc:
        fail(module, exc)
    module.exit_json(changed=False, hardware=hardware, requests=bmc.requests)


if __name__ == "__main__":
    main()
