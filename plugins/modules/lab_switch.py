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
  - Keeps one Open vSwitch bridge with exactly the given ports, in one transaction.
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
  ports:
    description: Ports of the bridge. Ports that are not listed are removed.
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kiban.baremetal.plugins.module_utils._lab import LabError, run


class Switch:
    def __init__(self, database: str) -> None:
        self.call = ["ovs-vsctl", f"--db=unix:{database}", "--timeout=20"]

    def table(self, name: str, columns: str) -> list[dict[str, t.Any]]:
        """Rows of a table; an OVSDB set of one element comes as the element itself."""
        out = json.loads(run([*self.call, "--format=json", f"--columns={columns}", "list", name]))
        return [dict(zip(out["headings"], row)) for row in out["data"]]

    def read(self, bridge: str) -> tuple[str | None, dict[str, int | None]]:
        found = [row for row in self.table("Bridge", "name,datapath_type,ports") if row["name"] == bridge]
        if not found:
            return None, {}
        value = found[0]["ports"]
        members = {item[1] for item in (value[1] if value[0] == "set" else [value])}
        ports = {
            row["name"]: row["tag"] if isinstance(row["tag"], int) else None
            for row in self.table("Port", "_uuid,name,tag")
            if row["_uuid"][1] in members and row["name"] != bridge
        }
        return found[0]["datapath_type"], ports


def plan(
    bridge: str, datapath: str, wanted: dict[str, int], has: str | None, ports: dict[str, int | None]
) -> list[tuple[str, list[str]]]:
    """Steps (sentence, arguments of ovs-vsctl) from the ports that are there to those that are wanted."""
    steps: list[tuple[str, list[str]]] = []
    if has is None:
        add = ["add-br", bridge, "--", "set", "bridge", bridge, f"datapath_type={datapath}"]
        steps.append((f"add bridge {bridge}", add))
    elif has != datapath:
        steps.append(
            (f"set the datapath of {bridge} to {datapath}", ["set", "bridge", bridge, f"datapath_type={datapath}"])
        )
    for name in sorted(set(ports).difference(wanted)):
        steps.append((f"remove port {name}", ["del-port", bridge, name]))
    for name, tag in wanted.items():
        if name not in ports:
            steps.append((f"add port {name} in VLAN {tag}", ["add-port", bridge, name, f"tag={tag}"]))
        elif ports[name] != tag:
            steps.append((f"move port {name} to VLAN {tag}", ["set", "port", name, f"tag={tag}"]))
    return steps


def main() -> None:
    port = {"name": {"type": "str", "required": True}, "tag": {"type": "int", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "database": {"type": "path", "required": True},
            "bridge": {"type": "str", "required": True},
            "datapath_type": {"type": "str", "choices": ["netdev", "system"], "default": "netdev"},
            "ports": {"type": "list", "elements": "dict", "required": True, "options": port},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = {item["name"]: item["tag"] for item in params["ports"]}
    switch = Switch(params["database"])
    try:
        try:
            has, ports = switch.read(params["bridge"])
        except LabError:
            if not module.check_mode:
                raise
            has, ports = None, {}
        steps = plan(params["bridge"], params["datapath_type"], wanted, has, ports)
        if steps and not module.check_mode:
            argv = list(switch.call)
            for _what, arguments in steps:
                argv += ["--", *arguments]
            run(argv)
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
