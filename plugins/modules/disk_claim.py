#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_claim
short_description: Data disks of a node, claimed for a site and mounted
version_added: 0.1.0
description:
  - Takes blank disks for local volumes. Each gets a GPT with one partition labelled C(kiban-data), an ext4 file system,
    a record of the site that it belongs to, and a mount that comes back at every boot.
  - A disk that was claimed before is recognised by what is on it, wherever it is plugged in, and only mounted.
  - All disks are decided before the first write; if one of them is refused, nothing is written to any of them.
  - A disk that holds anything is refused unless it is named in O(wipe). A disk that is in use is always refused.
  - A run that is killed is simply run again.
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
  state:
    description:
      - With V(absent) the disks are unmounted and this host forgets them. Their data and their claim stay.
    type: str
    choices: [present, absent]
    default: present
  disks:
    description: Serial numbers of the disks.
    type: list
    elements: str
    required: true
  wipe:
    description:
      - Serial numbers of disks whose content may be lost. A disk that is claimed for this site already and complete is
        not wiped again.
    type: list
    elements: str
    default: []
  site:
    description: Name of the site that the disks belong to. Required for O(state=present).
    type: str
  mount_base:
    description: Directory in which each disk is mounted, under its serial number.
    type: path
    default: /var/lib/kiban/local
notes:
  - The bare mount points are made immutable where the file system allows it, so that nothing is written to them while a
    disk is missing.
seealso:
  - module: kiban.baremetal.disk_info
"""

EXAMPLES = r"""
- name: Claim the data disks
  kiban.baremetal.disk_claim:
    site: lab
    disks: [DATA-NODE1-1, DATA-NODE1-2]

- name: Forget one before it is pulled
  kiban.baremetal.disk_claim:
    state: absent
    disks: [DATA-NODE1-2]
"""

RETURN = r"""
disks:
  description: The disks in the order of O(disks).
  returned: success
  type: list
  elements: dict
  contains:
    serial_number:
      description: Serial number of the disk.
      type: str
    path:
      description: Device node; null with O(state=absent).
      type: str
    mount:
      description: Mount point.
      type: str
    action:
      description: What was done or, in check mode, would be.
      type: str
      sample: partition, make file system, add to fstab, mount
refused:
  description: A reason for each disk that was refused.
  returned: failure
  type: list
  elements: str
done:
  description: What was done before a failure.
  returned: failure
  type: list
  elements: str
"""

from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_claim, _disks

HOST = _disk_claim.Host()
# A process that outlived its killed run is waited for this long (seconds).
PATIENCE = 600.0


class Failure(Exception):
    """The end, with what is known."""

    def __init__(self, message: str, refused: Sequence[str] = (), done: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.refused = list(refused)
        self.done = list(done)


def decide(params: dict[str, Any], disks: Sequence[str]) -> tuple[list[_disk_claim.Claim], list[str]]:
    records = _disks.list_disks()
    return _disk_claim.decide(records, disks, params["wipe"], params["site"], params["mount_base"], HOST)


def apply(params: dict[str, Any], step: _disk_claim.Claim | _disk_claim.Release) -> None:
    if isinstance(step, _disk_claim.Release):
        step.apply(HOST)
        return
    with _disks.locked(step.record["path"], PATIENCE):
        # Once more, now that nobody else of us can write: a run that was thought dead may just have ended.
        again, refused = decide(params, [step.serial])
        if refused:
            raise _disk_claim.ClaimError(refused[0])
        again[0].apply(HOST)


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    steps: list[_disk_claim.Claim] | list[_disk_claim.Release]
    if params["state"] == "present":
        steps, refused = decide(params, params["disks"])
        if refused:
            raise Failure("Nothing was touched. " + ". ".join(refused), refused)
    else:
        steps = _disk_claim.decide_release(params["disks"], params["mount_base"], HOST)
    done: list[str] = []
    for step in steps if not check_mode else []:
        try:
            if step.changed:
                apply(params, step)
                done.append(f"{step.serial}: {step.words()}")
        except (_disks.DiskError, _disk_claim.ClaimError, OSError) as exc:
            raise Failure(
                f"disk {step.serial}, while doing: {step.words()}: {exc}. "
                f"Done before: {'; '.join(done) or 'nothing'}. Run again when the cause is mended",
                done=done,
            ) from exc
    return {
        "changed": any(step.changed for step in steps),
        "disks": [
            {
                "serial_number": step.serial,
                "path": step.record["path"] if isinstance(step, _disk_claim.Claim) else None,
                "mount": step.path,
                "action": step.words(),
            }
            for step in steps
        ],
        "diff": {"before": "", "after": "".join(f"{step.serial}: {step.words()}\n" for step in steps if step.changed)},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "disks": {"type": "list", "elements": "str", "required": True},
            "wipe": {"type": "list", "elements": "str", "default": []},
            "site": {"type": "str"},
            "mount_base": {"type": "path", "default": "/var/lib/kiban/local"},
        },
        required_if=[("state", "present", ["site"])],
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except Failure as exc:
        module.fail_json(msg=str(exc), refused=exc.refused, done=exc.done)
    except (_disks.DiskError, OSError) as exc:
        module.fail_json(msg=str(exc), refused=[], done=[])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
