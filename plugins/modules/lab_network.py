#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_network
short_description: Network namespaces and links of the virtual rack
version_added: 0.1.0
description:
  - Makes network namespaces, the links between them, their addresses and their routes from one data structure.
  - Turns checksum and segmentation offloads off on every link, because packets cross a switch in user space.
  - Nothing is made in the network namespace of the machine itself.
options:
  state:
    description:
      - V(absent) deletes the namespaces, and with them everything inside.
    type: str
    choices: [present, absent]
    default: present
  namespaces:
    description: Network namespaces.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the namespace.
        type: str
        required: true
      sysctl:
        description: Kernel settings inside of it, for example C(net.ipv4.ip_forward).
        type: dict
        default: {}
  links:
    description: Links. One with two ends is a pair of virtual Ethernet interfaces, one with one end a persistent tap.
    type: list
    elements: dict
    default: []
    suboptions:
      mtu:
        description: Largest packet in bytes.
        type: int
        default: 1500
      ends:
        description: One or two interfaces.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: Name of the interface, at most 15 characters.
            type: str
            required: true
          netns:
            description: Namespace of the interface.
            type: str
            required: true
          addresses:
            description: Its addresses with prefix length; others are removed.
            type: list
            elements: str
            default: []
          keep_addresses:
            description: Other addresses are left alone, as on the ports of a switch that is configured by itself.
            type: bool
            default: false
  bridges:
    description:
      - Bridges that join ends of links. They hand LLDP on, so that a bridge of two is a cable.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the bridge, at most 15 characters.
        type: str
        required: true
      netns:
        description: Namespace of the bridge and its members.
        type: str
        required: true
      members:
        description: Interfaces that are plugged into it.
        type: list
        elements: str
        required: true
  routes:
    description: Static routes.
    type: list
    elements: dict
    default: []
    suboptions:
      netns:
        description: Namespace of the route.
        type: str
        required: true
      to:
        description: Destination network, or V(default).
        type: str
        required: true
      via:
        description: Address of the gateway.
        type: str
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
- name: Two namespaces and a link between them
  kiban.baremetal.lab_network:
    namespaces:
      - {name: left}
      - {name: right}
    links:
      - ends:
          - {name: eth0, netns: left, addresses: [192.0.2.1/24]}
          - {name: eth0, netns: right, addresses: [192.0.2.2/24]}
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one sentence each.
  returned: always
  type: list
  elements: str
  sample: ["add namespace left"]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._lab import LabError
from ansible_collections.kiban.baremetal.plugins.module_utils._lab_network import (
    Bridge,
    End,
    Link,
    Namespace,
    Network,
    Route,
)


def network(params: dict[str, t.Any], check: bool) -> Network:
    namespaces = [
        Namespace(item["name"], {key: str(value) for key, value in item["sysctl"].items()})
        for item in params["namespaces"]
    ]
    links = [Link([End(**end) for end in item["ends"]], item["mtu"]) for item in params["links"]]
    bridges = [Bridge(**item) for item in params["bridges"]]
    return Network(namespaces, links, [Route(**item) for item in params["routes"]], check, bridges)


def main() -> None:
    name = {"type": "str", "required": True}
    strings = {"type": "list", "elements": "str", "default": []}
    end = {"name": name, "netns": name, "addresses": strings, "keep_addresses": {"type": "bool", "default": False}}
    link = {
        "mtu": {"type": "int", "default": 1500},
        "ends": {"type": "list", "elements": "dict", "required": True, "options": end},
    }
    namespace = {"name": name, "sysctl": {"type": "dict", "default": {}}}
    route = {"netns": name, "to": name, "via": name}
    bridge = {"name": name, "netns": name, "members": {"type": "list", "elements": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "namespaces": {"type": "list", "elements": "dict", "required": True, "options": namespace},
            "links": {"type": "list", "elements": "dict", "default": [], "options": link},
            "bridges": {"type": "list", "elements": "dict", "default": [], "options": bridge},
            "routes": {"type": "list", "elements": "dict", "default": [], "options": route},
        },
        supports_check_mode=True,
    )
    wanted = network(module.params, module.check_mode)
    try:
        if module.params["state"] == "present":
            wanted.present()
        else:
            wanted.absent()
    except LabError as problem:
        module.fail_json(msg=str(problem), actions=wanted.actions)
    module.exit_json(
        changed=bool(wanted.actions),
        actions=wanted.actions,
        diff={"before": "", "after": "".join(f"{action}\n" for action in wanted.actions)},
    )


if __name__ == "__main__":
    main()
