#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: switch_info
short_description: Ports, neighbours and BGP sessions of a switch that runs Linux
version_added: 0.1.0
description:
  - Reads what a switch with Open vSwitch and FRR has and sees. Nothing is changed.
  - Neighbours are those that C(lldpd) heard.
extends_documentation_fragment:
  - kiban.baremetal.attributes
  - kiban.baremetal.switch
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
seealso:
  - module: kiban.baremetal.switch_config
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Read the switch
  kiban.baremetal.switch_info:
  register: read
"""

RETURN = r"""
tables:
  description: Ports and VLANs of Open vSwitch as O(kiban.baremetal.switch_config#module:tables).
  returned: always
  type: dict
text:
  description: Running configuration of FRR.
  returned: always
  type: str
ports:
  description: State of each network interface, by name.
  returned: always
  type: dict
  sample: {"swp1": {"mac": "52:54:00:aa:bb:01", "mtu": 1500, "up": true}}
neighbors:
  description: What LLDP heard, one entry for each neighbour; none where C(lldpd) does not run.
  returned: always
  type: list
  elements: dict
  sample: [{"port": "swp1", "device": "node1", "device_port": "eno1", "mac": "52:54:00:aa:bb:01"}]
bgp:
  description: BGP sessions by peer.
  returned: always
  type: dict
  sample: {"198.51.100.21": {"asn": 4200000021, "state": "Established", "prefixes": 1}}
"""

import json
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._lldp import neighbors_of
from ansible_collections.kiban.baremetal.plugins.module_utils._switch_linux import Switch, SwitchError, run


def ports() -> dict[str, t.Any]:
    found = json.loads(run(["ip", "-json", "link", "show"]) or "[]")
    return {
        item["ifname"]: {"mac": item.get("address"), "mtu": item["mtu"], "up": "LOWER_UP" in item["flags"]}
        for item in found
        if item
    }


def sessions(switch: Switch) -> dict[str, t.Any]:
    peers = switch.show("bgp ipv4 unicast summary").get("peers", {})
    return {
        peer: {"asn": told["remoteAs"], "state": told["state"], "prefixes": told.get("pfxRcd", 0)}
        for peer, told in peers.items()
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "database": {"type": "path", "default": "/run/openvswitch/db.sock"},
            "bridge": {"type": "str", "default": "br0"},
            "frr_run_dir": {"type": "path", "default": "/run/frr"},
            "state_dir": {"type": "path", "default": "/run/kiban-switch"},
            "lldp_socket": {"type": "path", "default": "/run/lldpd.socket"},
        },
        supports_check_mode=True,
    )
    params = module.params
    switch = Switch(params["database"], params["bridge"], "system", params["frr_run_dir"])
    try:
        result = {
            "tables": switch.tables([]),
            "text": switch.frr(),
            "ports": ports(),
            "neighbors": neighbors_of(params["lldp_socket"], module.run_command),
            "bgp": sessions(switch),
        }
    except SwitchError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
