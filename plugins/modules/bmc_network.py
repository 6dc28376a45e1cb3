#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_network
short_description: Set address, names and protocols of a BMC itself
version_added: 0.1.0
description:
  - Compares what is given with what the BMC has, and writes what differs. What is not given is left as it is.
  - When the address changes, the BMC is looked for at the new one, with the same certificate rules, before the module
    ends. Inventories have to name the new address from then on.
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
  interface:
    description:
      - Id of the interface. Needed where the BMC has several that are enabled; the one to the host does not count.
    type: str
    version_added: 0.1.0
  dhcp:
    description:
      - Whether the IPv4 address comes from DHCP.
    type: bool
    version_added: 0.1.0
  ip_address:
    description:
      - Fixed IPv4 address of the BMC.
    type: str
    version_added: 0.1.0
  netmask:
    description:
      - Netmask of O(ip_address), such as V(255.255.255.0).
    type: str
    version_added: 0.1.0
  gateway:
    description:
      - Default gateway.
    type: str
    version_added: 0.1.0
  dns_servers:
    description:
      - Name servers, in order.
    type: list
    elements: str
    version_added: 0.1.0
  hostname:
    description:
      - Host name of the BMC.
    type: str
    version_added: 0.1.0
  vlan:
    description:
      - VLAN of the interface; V(0) for none.
    type: int
    version_added: 0.1.0
  ntp_servers:
    description:
      - Time servers, in order. An empty list switches NTP off.
    type: list
    elements: str
    version_added: 0.1.0
  protocols:
    description:
      - Protocols to switch on (V(true)) or off, by their Redfish names in lower case, such as V(ssh) and V(ipmi).
    type: dict
    version_added: 0.1.0
  wait_timeout:
    description:
      - Seconds until the BMC must show the settings.
    type: int
    default: 180
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Time servers, and no IPMI over the network
  kiban.baremetal.bmc_network:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    ntp_servers: [192.0.2.3, 192.0.2.4]
    protocols: {ipmi: false}
  delegate_to: localhost

- name: A fixed address
  kiban.baremetal.bmc_network:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    dhcp: false
    ip_address: 192.0.2.121
    netmask: 255.255.255.0
    gateway: 192.0.2.1
  delegate_to: localhost
"""

RETURN = r"""
network:
  description: The settings after the module ran, all that can be set. In check mode, as they are now.
  type: dict
  returned: success
  contains:
    dhcp:
      description: Whether the IPv4 address comes from DHCP.
      type: bool
      returned: always
    address:
      description: IPv4 address.
      type: str
      returned: always
    netmask:
      description: Its netmask.
      type: str
      returned: always
    gateway:
      description: Default gateway.
      type: str
      returned: always
    dns_servers:
      description: Name servers.
      type: list
      elements: str
      returned: always
    hostname:
      description: Host name.
      type: str
      returned: always
    vlan:
      description: VLAN, 0 for none, null where the interface has none.
      type: int
      returned: always
    ntp_servers:
      description: Time servers, empty where NTP is off.
      type: list
      elements: str
      returned: always
    protocols:
      description: Protocols, by name in lower case, and whether they are on.
      type: dict
      returned: always
  sample:
    dhcp: false
    address: 192.0.2.21
    netmask: 255.255.255.0
    gateway: 192.0.2.1
    dns_servers: [192.0.2.2]
    hostname: node1-bmc
    vlan: 0
    ntp_servers: [192.0.2.3]
    protocols: {https: true, ipmi: false, ssh: true}
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
    kind: uncertain
    address: 192.0.2.21
    message: "it took the address 192.0.2.121, but does not answer there"
    hint: "Look whether it answers at 192.0.2.121 or still at 192.0.2.21; name the one as address"
    request: ""
    status: null
    messages: []
    done: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, connected, fail
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.write import reporting

_NAMES = ("dhcp", "netmask", "gateway", "dns_servers", "hostname", "vlan", "ntp_servers", "protocols")


def run(bmc: Bmc, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    network = bmc.network(params["interface"])
    wanted = {"address": params["ip_address"], **{name: params[name] for name in _NAMES}}
    plan = network.plan(wanted)
    with reporting([]) as done:
        if plan.change.changed and not check_mode:
            network.apply(plan, params["wait_timeout"])
            done.append("changed the network of the BMC")
        return {"changed": plan.change.changed, "diff": plan.change.diff(), "network": network.read()}


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            interface={"type": "str"},
            dhcp={"type": "bool"},
            ip_address={"type": "str"},
            netmask={"type": "str"},
            gateway={"type": "str"},
            dns_servers={"type": "list", "elements": "str"},
            hostname={"type": "str"},
            vlan={"type": "int"},
            ntp_servers={"type": "list", "elements": "str"},
            protocols={"type": "dict"},
            wait_timeout={"type": "int", "default": 180},
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
