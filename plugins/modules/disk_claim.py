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
  wipe_method:
    description:
      - How a disk that is named in O(wipe) is wiped before it is made anew. Whether each disk offers it is found out
        before the first write; one that does not is refused.
      - V(signatures) writes zeros to both ends, where every tool looks. What is between them stays.
      - V(discard) tells the disk to forget all blocks. Fails if a sample of them still holds what it held.
      - V(overwrite) writes zeros to all of the disk and reads them back, which takes hours on a large one.
      - V(nvme_format) has an NVMe disk erase its user data, by its key where it has one. V(nvme_sanitize) also erases
        what the disk keeps in reserve. Refused where that would reach other namespaces.
      - V(ata_secure_erase) has a SATA disk erase itself. Needs C(hdparm).
    type: str
    choices: [signatures, discard, overwrite, nvme_format, nvme_sanitize, ata_secure_erase]
    default: signatures
  wipe_log:
    description:
      - A file on the host that gets a line of JSON for each disk that was wiped, the same as in RV(wiped). Its
        directory must be there.
    type: path
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

- name: Claim a disk that came from elsewhere, and keep proof that its data are gone
  kiban.baremetal.disk_claim:
    site: lab
    disks: [DATA-NODE1-3]
    wipe: [DATA-NODE1-3]
    wipe_method: overwrite
    wipe_log: /var/log/kiban-wiped.jsonl

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
wiped:
  description:
    - A record of each disk that was wiped, with serial_number, model, wwn, path, protocol, capacity_bytes, method,
      detail (the command), started and finished (UTC), bytes (how many were asked to go) and verified (what was read
      back).
    - Empty in check mode.
  returned: always
  type: list
  elements: dict
  sample:
    - serial_number: DATA-NODE1-3
      model: QEMU HARDDISK
      wwn: null
      path: /dev/sda
      protocol: SATA
      capacity_bytes: 100663296
      method: overwrite
      detail: zeros
      started: "2026-01-31T09:00:00Z"
      finished: "2026-01-31T09:00:02Z"
      bytes: 100663296
      verified: all 100663296 bytes but our mark in the first 512 read back as zeros
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

import os
from collections.abc import Callable, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_claim, _disk_wipe, _disks

HOST = _disk_claim.Host()
# A process that outlived its killed run is waited for this long (seconds).
PATIENCE = 600.0


class Failure(Exception):
    """The end, with what is known."""

    def __init__(
        self,
        message: str,
        refused: Sequence[str] = (),
        done: Sequence[str] = (),
        wiped: Sequence[dict[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.refused = list(refused)
        self.done = list(done)
        self.wiped = list(wiped)


def decide(params: dict[str, Any], disks: Sequence[str]) -> tuple[list[_disk_claim.Claim], list[str]]:
    records = _disks.list_disks()
    where, method = params["mount_base"], params["wipe_method"]
    return _disk_claim.decide(records, disks, params["wipe"], params["site"], where, HOST, method)


def apply(
    params: dict[str, Any],
    step: _disk_claim.Claim | _disk_claim.Release,
    wiped: Callable[[dict[str, Any]], None],
) -> None:
    if isinstance(step, _disk_claim.Release):
        step.apply(HOST)
        return
    with _disks.locked(step.record["path"], PATIENCE):
        # Once more, now that nobody else of us can write: a run that was thought dead may just have ended.
        again, refused = decide(params, [step.serial])
        if refused:
            raise _disk_claim.ClaimError(refused[0])
        again[0].apply(HOST, wiped)


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    steps: list[_disk_claim.Claim] | list[_disk_claim.Release]
    if params["state"] == "present":
        log = params["wipe_log"]
        if log and not os.access(os.path.dirname(os.path.abspath(log)), os.W_OK):
            raise Failure(f"Nothing was touched. wipe_log {log} cannot be written: its directory must be there")
        steps, refused = decide(params, params["disks"])
        if refused:
            raise Failure("Nothing was touched. " + ". ".join(refused), refused)
    else:
        steps = _disk_claim.decide_release(params["disks"], params["mount_base"], HOST)
    done: list[str] = []
    records: list[dict[str, Any]] = []

    def wiped(record: dict[str, Any]) -> None:
        records.append(record)
        if params["wipe_log"]:
            _disk_wipe.write_log(params["wipe_log"], record)

    for step in steps if not check_mode else []:
        try:
            if step.changed:
                apply(params, step, wiped)
                done.append(f"{step.serial}: {step.words()}")
        except (_disks.DiskError, _disk_claim.ClaimError, _disk_wipe.WipeError, OSError) as exc:
            raise Failure(
                f"disk {step.serial}, while doing: {step.words()}: {exc}. "
                f"Done before: {'; '.join(done) or 'nothing'}. Run again when the cause is mended",
                done=done,
                wiped=records,
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
        "wiped": records,
        "diff": {"before": "", "after": "".join(f"{step.serial}: {step.words()}\n" for step in steps if step.changed)},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "disks": {"type": "list", "elements": "str", "required": True},
            "wipe": {"type": "list", "elements": "str", "default": []},
            "wipe_method": {"type": "str", "choices": list(_disk_wipe.METHODS), "default": "signatures"},
            "wipe_log": {"type": "path"},
            "site": {"type": "str"},
            "mount_base": {"type": "path", "default": "/var/lib/kiban/local"},
        },
        required_if=[("state", "present", ["site"])],
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except Failure as exc:
        module.fail_json(msg=str(exc), refused=exc.refused, done=exc.done, wiped=exc.wiped)
    except (_disks.DiskError, OSError) as exc:
        module.fail_json(msg=str(exc), refused=[], done=[], wiped=[])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
