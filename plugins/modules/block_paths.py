#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: block_paths
short_description: Paths from a host to disks of storage servers, by iSCSI and NVMe over TCP
version_added: 0.1.0
description:
  - Brings up the paths that are missing. For iSCSI it keeps the records of open-iscsi, so that the host logs in at boot
    by itself; NVMe over TCP is connected by the kernel.
  - Passwords go into the records, which only root can read, and never into a command line or the output.
  - Paths that are there and not asked for are left alone, as something may be mounted behind them.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  initiator:
    description: Name (IQN) of this host for iSCSI, by which targets know it. Without it the name is left alone.
    type: str
  host_nqn:
    description: Name (NQN) of this host for NVMe over fabrics. Needed for O(nvme_of).
    type: str
  host_id:
    description: UUID of this host for NVMe over fabrics. Needed for O(nvme_of).
    type: str
  iscsi:
    description: Targets of iSCSI.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the storage server is called in messages.
        type: str
        required: true
      target:
        description: Its name (IQN).
        type: str
        required: true
      portals:
        description:
          - Addresses of its portals, each C(address) or C(address:port); an IPv6 address stands in brackets. Port
            3260 where none is given.
        type: list
        elements: str
        required: true
      chap:
        description:
          - CHAP, with C(username) and C(password) of this host, and C(username_in) and C(password_in) of the target
            where that has to prove itself too. Keep them in a vault.
        type: dict
        default: {}
  nvme_of:
    description: Subsystems of NVMe over TCP.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the storage server is called in messages.
        type: str
        required: true
      subsystem:
        description: Its name (NQN).
        type: str
        required: true
      portals:
        description: As of O(iscsi[].portals); port 4420 where none is given.
        type: list
        elements: str
        required: true
  timeout:
    description: Seconds until paths must be there.
    type: int
    default: 60
notes:
  - Needs the Debian package C(open-iscsi) for O(iscsi), and a kernel with C(nvme-tcp) for O(nvme_of).
  - "Not done: discovery, iSNS, CHAP of NVMe over fabrics, NVMe over RDMA, logging out."
seealso:
  - module: kiban.baremetal.disk_info
  - module: kiban.baremetal.disk_claim
"""

EXAMPLES = r"""
- name: Two paths to a storage server
  kiban.baremetal.block_paths:
    initiator: iqn.1993-08.org.debian:01:node1.example.net
    iscsi:
      - name: array1
        target: iqn.2003-01.org.linux-iscsi.filer:array1
        portals: [192.0.2.10, 198.51.100.10]
        chap:
          username: node1
          password: "{{ vault_chap_node1 }}"
"""

RETURN = r"""
steps:
  description: What was done or, in check mode, would be.
  returned: success
  type: list
  elements: str
  sample: ["array1: log in to iqn.2003-01.org.linux-iscsi.filer:array1 at 192.0.2.10:3260"]
sessions:
  description: All paths of this host over a network, each with transport, target, portal and state.
  returned: success
  type: list
  elements: dict
done:
  description: What was done before a failure.
  returned: failure
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils import _block_paths, _disks
from ansible_collections.kiban.baremetal.plugins.module_utils._block_paths import Wanted


def wanted(params: Mapping[str, Any]) -> list[Wanted]:
    """One for each target at each portal."""
    found = []
    for kind, key in (("iscsi", "target"), ("nvme_of", "subsystem")):
        for one in params[kind]:
            for portal in one["portals"]:
                transport = "iscsi" if kind == "iscsi" else "tcp"
                address, port = _block_paths.split_portal(portal, transport)
                single, chap = len(one["portals"]) == 1, one.get("chap") or {}
                found.append(Wanted(one["name"], transport, one[key], address, port, single, chap))
    return found


def problems(params: Mapping[str, Any], paths: Sequence[Wanted]) -> list[str]:
    """What contradicts itself."""
    places = [f"{path.target} at {path.portal}" for path in paths]
    found = [f"{place} is there twice" for place in sorted(set(places)) if places.count(place) > 1]
    if params["nvme_of"] and not (params["host_nqn"] and params["host_id"]):
        found.append("nvme_of needs host_nqn and host_id")
    for one in params["iscsi"]:
        chap = one.get("chap") or {}
        for user, password in (("username", "password"), ("username_in", "password_in")):
            if bool(chap.get(user)) != bool(chap.get(password)):
                found.append(f"chap of {one['name']} needs {user} and {password} together")
        if unknown := sorted(set(chap) - {"username", "password", "username_in", "password_in"}):
            found.append(f"chap of {one['name']} has unknown keys: {', '.join(unknown)}")
        if any("\n" in str(value) for value in chap.values()):
            found.append(f"chap of {one['name']} has a line break in it")
    return found


def main() -> None:
    common = {"name": {"type": "str", "required": True}}
    common["portals"] = {"type": "list", "elements": "str", "required": True}
    iscsi = {**common, "target": {"type": "str", "required": True}}
    iscsi["chap"] = {"type": "dict", "default": {}, "no_log": True}
    nvme = {**common, "subsystem": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "initiator": {"type": "str"},
            "host_nqn": {"type": "str"},
            "host_id": {"type": "str"},
            "iscsi": {"type": "list", "elements": "dict", "default": [], "options": iscsi},
            "nvme_of": {"type": "list", "elements": "dict", "default": [], "options": nvme},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params, host = module.params, _block_paths.Host()
    done: list[str] = []
    paths = wanted(params)
    if wrong := problems(params, paths):
        module.fail_json(msg=f"Nothing was touched. {'. '.join(wrong)}", done=done)
    initiator = params["initiator"] if params["iscsi"] else None
    steps = _block_paths.decide(paths, initiator, host)
    if not module.check_mode:
        try:
            for step in steps:
                _block_paths.apply(step, initiator, (params["host_nqn"], params["host_id"]), host)
                done.append(step.words)
            _block_paths.wait(paths, host, params["timeout"])
        except (_block_paths.PathError, _disks.DiskError, OSError) as exc:
            module.fail_json(msg=f"{exc}. Done before: {'; '.join(done) or 'nothing'}", done=done)
    words = [step.words for step in steps]
    diff = {"before": "", "after": "".join(f"{word}\n" for word in words)}
    module.exit_json(changed=bool(steps), steps=words, sessions=host.sessions(), diff=diff)


if __name__ == "__main__":
    main()
