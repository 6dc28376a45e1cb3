#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_switch
short_description: Bridge and ports of the virtual top-of-rack switch
version_added: 0.1.0
description:
  - Keeps one Open vSwitch bridge with the given ports.
  - A port whose interface was deleted and made again is taken out and put back, because the switch would go on reading
    from the interface that is gone.
options:
  database:
    description: UNIX socket of the switch's own C(ovsdb-server).
    type: path
    required: true
  bridge:
    description: Name of the bridge.
    type: str
    required: true
  datapath_type:
    description: Kind of datapath; V(netdev) is the one in user space.
    type: str
    choices: [netdev, system]
    default: netdev
  netns:
    description: Network namespace where the interfaces of the ports are.
    type: str
    required: true
  exclusive:
    description: Whether ports that are not listed are removed.
    type: bool
    default: true
  ports:
    description: Ports of the bridge.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Interface of the port.
        type: str
        required: true
      tag:
        description: VLAN of an access port.
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
- name: A switch with two access ports
  kiban.baremetal.lab_switch:
    database: /var/tmp/rack/ovs/db.sock
    bridge: br-tor
    netns: kiban-tor
    ports:
      - {name: tap0, tag: 20}
      - {name: tap1, tag: 20}
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one sentence each.
  returned: always
  type: list
  elements: str
  sample: ["add port tap0 in VLAN 20"]
"""

import json
import typing as t
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._lab import LabError, run


@dataclass
class Port:
    """A port as it is: its VLAN, and the index that its interface had when it was added."""

    tag: int | None
    index: str


class Switch:
    def __init__(self, database: str) -> None:
        self.call = ["ovs-vsctl", f"--db=unix:{database}", "--timeout=20"]

    def table(self, name: str, columns: str) -> list[dict[str, t.Any]]:
        out = json.loads(run([*self.call, "--format=json", f"--columns={columns}", "list", name]))
        return [dict(zip(out["headings"], row)) for row in out["data"]]

    def read(self, bridge: str) -> tuple[str | None, dict[str, Port]]:
        found = [row for row in self.table("Bridge", "name,datapath_type,ports") if row["name"] == bridge]
        if not found:
            return None, {}
        # A set of one element comes as the element itself.
        value = found[0]["ports"]
        members = {item[1] for item in (value[1] if value[0] == "set" else [value])}
        ports = {}
        for row in self.table("Port", "_uuid,name,tag,external_ids"):
            if row["_uuid"][1] in members and row["name"] != bridge:
                tag = row["tag"] if isinstance(row["tag"], int) else None
                ports[row["name"]] = Port(tag, dict(row["external_ids"][1]).get("ifindex", ""))
        return found[0]["datapath_type"], ports

    def apply(self, steps: list[tuple[str, list[str]]]) -> None:
        # Removals first, on their own: a port that is removed and added in one transaction counts as unchanged.
        for removals in (True, False):
            argv = []
            for _what, arguments in steps:
                if (arguments[0] == "del-port") == removals:
                    argv += ["--", *arguments]
            if argv:
                run([*self.call, *argv])


def indexes(netns: str) -> dict[str, str]:
    """Index of each interface of a namespace."""
    found = json.loads(run(["ip", "-n", netns, "-json", "link", "show"]) or "[]")
    return {item["ifname"]: str(item["ifindex"]) for item in found if item}


def plan(
    bridge: str,
    datapath: str,
    wanted: dict[str, int],
    has: str | None,
    ports: dict[str, Port],
    index: dict[str, str],
    exclusive: bool = True,
) -> list[tuple[str, list[str]]]:
    """Steps (sentence, arguments of ovs-vsctl) from the ports that are there to those that are wanted."""
    steps: list[tuple[str, list[str]]] = []
    setting = ["set", "bridge", bridge, f"datapath_type={datapath}"]
    if has is None:
        steps.append((f"add bridge {bridge}", ["add-br", bridge, "--", *setting]))
    elif has != datapath:
        steps.append((f"set the datapath of {bridge} to {datapath}", setting))
    for name in sorted(set(ports).difference(wanted)) if exclusive else ():
        steps.append((f"remove port {name}", ["del-port", bridge, name]))
    for name, tag in wanted.items():
        here = index.get(name, "")
        add = ["add-port", bridge, name, f"tag={tag}", f"external_ids:ifindex={here}"]
        if name not in ports:
            steps.append((f"add port {name} in VLAN {tag}", add))
        elif ports[name].index != here:
            steps.append((f"take port {name} out: its interface was made anew", ["del-port", bridge, name]))
            steps.append((f"add port {name} in VLAN {tag}", add))
        elif ports[name].tag != tag:
            steps.append((f"move port {name} to VLAN {tag}", ["set", "port", name, f"tag={tag}"]))
    return steps


def main() -> None:
    port = {"name": {"type": "str", "required": True}, "tag": {"type": "int", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "database": {"type": "path", "required": True},
            "bridge": {"type": "str", "required": True},
            "datapath_type": {"type": "str", "choices": ["netdev", "system"], "default": "netdev"},
            "netns": {"type": "str", "required": True},
            "exclusive": {"type": "bool", "default": True},
            "ports": {"type": "list", "elements": "dict", "required": True, "options": port},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = {item["name"]: item["tag"] for item in params["ports"]}
    switch = Switch(params["database"])
    try:
        try:
            index = indexes(params["netns"])
            has, ports = switch.read(params["bridge"])
        except LabError:
            if not module.check_mode:
                raise
            index, has, ports = {}, None, {}
        steps = plan(params["bridge"], params["datapath_type"], wanted, has, ports, index, params["exclusive"])
        if not module.check_mode:
            switch.apply(steps)
        broken = [] if module.check_mode else switch.table("Interface", "name,error")
        for row in broken:
            if row["name"] in wanted and isinstance(row["error"], str) and row["error"]:
                raise LabError(f"port {row['name']} of {params['bridge']} does not work: {row['error']}")
    except LabError as problem:
        module.fail_json(msg=str(problem))
    actions = [what for what, _arguments in steps]
    module.exit_json(
        changed=bool(actions),
        actions=actions,
        diff={"before": "", "after": "".join(f"{action}\n" for action in actions)},
    )


if __name__ == "__main__":
    main()
