#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: switch_config
short_description: Configuration of a switch that runs Linux, with a way back
version_added: 0.1.0
description:
  - Brings ports and VLANs of Open vSwitch and routing of FRR to what the site model says.
  - A change takes itself back after O(confirm_seconds) unless a later task confirms it with O(state=confirmed). What
    that needs lies on the switch before anything is changed, so it also happens when the change cut the switch off.
  - What the model does not know is shown and kept, unless O(exclusive). What an earlier model made is known by its
    mark, the word C(KIBAN) in its name or description, and removed.
  - The new configuration of FRR is read by FRR's own parser first, and what FRR took is compared with what was meant
    afterwards. If they differ, the change is taken back at once.
  - FRR's configuration is saved when the change is confirmed. Open vSwitch saves each change at once.
extends_documentation_fragment:
  - kiban.baremetal.attributes
  - kiban.baremetal.switch
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  state:
    description:
      - V(present) applies O(tables) and O(text). It is refused while an earlier change waits for its confirmation.
      - V(confirmed) keeps the change that waits, and fails if it was taken back already.
      - V(reverted) takes the change that waits back now.
    type: str
    choices: [present, confirmed, reverted]
    default: present
  tables:
    description: Tables V(VLAN), V(PORT), V(MEMBER) and V(LINK) as the driver C(linux) renders them.
    type: dict
    default: {}
  text:
    description: Configuration of FRR as the driver C(linux) renders it.
    type: str
    default: ''
  exclusive:
    description: Remove what the model does not know.
    type: bool
    default: false
  confirm_seconds:
    description: Seconds until the change takes itself back.
    type: int
    default: 120
  datapath_type:
    description: Datapath of the bridge when it has to be made; V(netdev) is the one in user space.
    type: str
    choices: [netdev, system]
    default: system
  frr_config:
    description: File that FRR starts with; written when the change is confirmed.
    type: path
    default: /etc/frr/frr.conf
seealso:
  - module: kiban.baremetal.switch_info
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Change the switch
  kiban.baremetal.switch_config:
    tables:
      VLAN: {"20": {name: KIBAN-node}}
      PORT: {swp1: {description: KIBAN node1 eno1, mtu: 1500, mode: access, tag: 20}}
    text: |
      interface lo
       ip address 203.0.113.1/32
      exit
    confirm_seconds: 60

- name: Keep the change, since this task reached the switch
  kiban.baremetal.switch_config:
    state: confirmed
"""

RETURN = r"""
add:
  description: Lines and fields that were added or, in check mode, would be; the way to each in one text.
  returned: when O(state=present)
  type: list
  elements: str
  sample: ["router bgp 65101 / neighbor swp49 remote-as 65001"]
remove:
  description: Lines and fields that were removed or replaced.
  returned: when O(state=present)
  type: list
  elements: str
  sample: []
foreign:
  description: What the model does not know.
  returned: when O(state=present)
  type: list
  elements: str
  sample: ["interface lo / ipv6 address 2001:db8::1/128"]
neighbors:
  description: What LLDP hears, as RV(kiban.baremetal.switch_info#module:neighbors); none where C(lldpd) does not run.
  returned: when O(state=present), in check mode
  type: list
  elements: dict
pending:
  description: Whether a change waits for its confirmation.
  returned: success
  type: bool
"""

import os
import shlex

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._commit import Commit
from ansible_collections.kiban.baremetal.plugins.module_utils._lldp import neighbors_of
from ansible_collections.kiban.baremetal.plugins.module_utils._switch_lines import (
    FRR,
    OVS,
    Difference,
    commands,
    difference,
    fixed,
    paths,
    shown,
    tables_of,
    tables_paths,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._switch_linux import (
    Switch,
    SwitchError,
    ovs_steps,
    run,
)

EMPTY: dict = {"VLAN": {}, "PORT": {}, "MEMBER": {}, "LINK": {}}


class Change:
    """The difference of the whole switch, and the commands there and back."""

    def __init__(self, switch: Switch, params: dict) -> None:
        self.switch, self.datapath = switch, params["datapath_type"]
        self.wanted = {**EMPTY, **params["tables"]}
        self.exists = switch.has_bridge()
        tables = tables_paths(self.wanted, OVS)
        self.tables = difference(tables, self.read_tables(), OVS, params["exclusive"])
        self.lines = difference(paths(params["text"], FRR), self.read_lines(), FRR, params["exclusive"])

    def read_tables(self) -> list:
        return tables_paths(self.switch.tables(self.wanted["LINK"]), OVS)

    def read_lines(self) -> list:
        return paths(self.switch.frr(), FRR)

    @property
    def parts(self) -> tuple:
        return (self.tables, self.lines)

    def needed(self) -> bool:
        return not self.exists or any(part.add or part.remove for part in self.parts)

    def ovs(self, before: Difference, after: Difference) -> list:
        """Commands from the tables `before` of one difference to the tables `after` of another."""
        old, new = {**EMPTY, **tables_of(before.before)}, {**EMPTY, **tables_of(after.after)}
        steps = ovs_steps(self.switch.bridge, old, new)
        found = []
        # Removals in a transaction of their own: a port that is removed and added in one counts as unchanged.
        for removals in (True, False):
            words = [word for step in steps if (step[0] == "del-port") == removals for word in ("--", *step)]
            found += [[*self.switch.vsctl, *words]] if words else []
        links = new["LINK"].items()
        found += [["ip", "link", "set", "dev", name, "mtu", str(entry["mtu"]), "up"] for name, entry in links]
        ports = [item for name, entry in new["PORT"].items() for item in entry.get("members", [name])]
        return found + [["ip", "link", "set", "dev", name, "up"] for name in ports]

    def there(self, commit: Commit) -> list:
        steps = []
        if not self.exists:
            kind = f"datapath_type={self.datapath}"
            bridge = self.switch.bridge
            steps.append([*self.switch.vsctl, "add-br", bridge, "--", "set", "bridge", bridge, kind])
        steps += self.ovs(self.tables, self.tables)
        return [*steps, *self._frr(commit, "frr.do", self.lines)]

    def back(self, commit: Commit) -> list:
        """The same as a difference from what will be there to what was, where nothing counts as foreign."""
        tables = difference(self.tables.before, self.tables.after, OVS, exclusive=True)
        lines = difference(self.lines.before, self.lines.after, FRR, exclusive=True)
        steps = self._frr(commit, "frr.undo", lines)
        if not self.exists:
            return [*steps, [*self.switch.vsctl, "--if-exists", "del-br", self.switch.bridge]]
        return [*steps, *self.ovs(tables, tables)]

    def _frr(self, commit: Commit, name: str, change: Difference) -> list:
        typed = commands(change, FRR)
        if not typed:
            return []
        path = commit.write(name, typed)
        self.switch.check_frr(path)
        return [[*self.switch.vtysh, "-f", path]]

    def missed(self) -> list:
        """What the switch did not take."""
        lines = set(self.read_lines())
        missed: list = []
        for part, dialect, there in ((self.tables, OVS, set(self.read_tables())), (self.lines, FRR, lines)):
            meant = {path for path in part.after if not fixed(path, dialect)}
            missed += [f"lacks {path}" for path in readable(meant - there)]
        return missed + [f"still has {path}" for path in readable(lines & set(self.lines.remove))]


def readable(found: object) -> list:
    return [" / ".join(path) for path in sorted(found)]  # type: ignore[call-overload]


def present(module: AnsibleModule, switch: Switch, commit: Commit) -> dict:
    if commit.pending and not module.check_mode:
        raise SwitchError("an earlier change waits for its confirmation: state confirmed or reverted first")
    change = Change(switch, module.params)
    result = {
        "changed": change.needed(),
        "diff": [
            {**shown(part), "before_header": name, "after_header": name}
            for name, part in zip(("Open vSwitch", "FRR"), change.parts)
        ],
        **{
            name: readable([path for part in change.parts for path in getattr(part, name)])
            for name in ("add", "remove", "foreign")
        },
    }
    if change.needed() and not module.check_mode:
        # Written and checked before the timer runs.
        there, back = change.there(commit), change.back(commit)
        commit.arm(back, module.params["confirm_seconds"])
        try:
            for step in there:
                run(step)
            missed = change.missed()
        except SwitchError as error:
            missed = [str(error)]
        if missed:
            commit.revert()
            raise SwitchError("the change was taken back, because the switch did not take it: " + "; ".join(missed))
    if module.check_mode:
        # Whoever asks what differs asks about the cables too, and is here already.
        result["neighbors"] = neighbors_of(module.params["lldp_socket"], module.run_command)
    return {**result, "pending": commit.pending}


def confirmed(module: AnsibleModule, switch: Switch, commit: Commit) -> dict:
    if commit.reverted or (commit.pending and not os.path.exists(os.path.join(commit.directory, "pending"))):
        raise SwitchError("the change was taken back before it was confirmed; see undo.log in " + commit.directory)
    if module.check_mode or not commit.confirm():
        return {"changed": commit.pending, "pending": commit.pending}
    path = module.params["frr_config"]
    text = "\n".join(line for line in switch.frr().splitlines() if not line.startswith(("Building", "Current")))
    mode = f"umask 027; cat > {shlex.quote(path)}.new && mv {shlex.quote(path)}.new {shlex.quote(path)}"
    module.run_command(["/bin/sh", "-c", mode], data=text + "\n", check_rc=True)
    module.set_owner_if_different(path, "frr" if _is_user("frr") else None, False)
    return {"changed": True, "pending": False}


def _is_user(name: str) -> bool:
    with open("/etc/passwd", encoding="utf-8") as stream:
        return any(line.startswith(f"{name}:") for line in stream)


def reverted(module: AnsibleModule, switch: Switch, commit: Commit) -> dict:
    changed = commit.pending if module.check_mode else commit.revert()
    return {"changed": changed, "pending": commit.pending}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "confirmed", "reverted"], "default": "present"},
            "tables": {"type": "dict", "default": {}},
            "text": {"type": "str", "default": ""},
            "exclusive": {"type": "bool", "default": False},
            "confirm_seconds": {"type": "int", "default": 120},
            "database": {"type": "path", "default": "/run/openvswitch/db.sock"},
            "bridge": {"type": "str", "default": "br0"},
            "datapath_type": {"type": "str", "choices": ["netdev", "system"], "default": "system"},
            "frr_run_dir": {"type": "path", "default": "/run/frr"},
            "frr_config": {"type": "path", "default": "/etc/frr/frr.conf"},
            "state_dir": {"type": "path", "default": "/run/kiban-switch"},
            "lldp_socket": {"type": "path", "default": "/run/lldpd.socket"},
        },
        supports_check_mode=True,
    )
    params = module.params
    switch = Switch(params["database"], params["bridge"], params["datapath_type"], params["frr_run_dir"])
    commit = Commit(params["state_dir"])
    act = {"present": present, "confirmed": confirmed, "reverted": reverted}[params["state"]]
    try:
        result = act(module, switch, commit)
    except SwitchError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
