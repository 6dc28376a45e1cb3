#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_layout
short_description: md arrays, LUKS2 containers, LVM volumes and file systems on the disks of a host
version_added: 0.1.0
description:
  - Brings a host to what is wanted, with C(mdadm), C(cryptsetup), LVM and the tools of the file systems.
  - Reads the host, decides everything, and only then writes. If one pool is refused, nothing is written at all.
  - A disk that holds anything is refused unless it is named in O(wipe) or belongs to the pool already. A disk that is
    in use is always refused.
  - Grows volumes and file systems while they are mounted. Nothing is made smaller and nothing is removed.
  - A run that is killed is simply run again. Each disk records which layers on it are complete; what is not complete
    never held data and is made again.
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
  site:
    description: Name of the site that the disks belong to.
    type: str
    required: true
  pools:
    description: What is wanted, one entry a group of disks.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the pool, which is also that of its array and of its volume group.
        type: str
        required: true
      disks:
        description: Serial numbers of its disks.
        type: list
        elements: str
        required: true
      raid:
        description: Level of an md array of the disks. Without it each disk is used as it is.
        type: str
        choices: [raid0, raid1, raid5, raid6, raid10]
      metadata:
        description: Version of the md superblock; V(1.0) stands at the end of the members.
        type: str
        choices: ["1.0", "1.1", "1.2"]
        default: "1.2"
      luks:
        description:
          - Whether there is a LUKS2 container on the array, or on each disk. Its key is given in O(keys) at each run.
          - Without O(pools[].unlock) file systems in it are mounted by a run and not at boot.
        type: bool
        default: false
      unlock:
        description:
          - What opens its containers besides the key, by Clevis, at boot and without a person. Their bindings are in
            the key slots 30 and 31, which are for them alone.
          - One that does not work any more, though all its servers answer, is made again.
        type: dict
        suboptions:
          tang:
            description: Tang servers.
            type: list
            elements: dict
            default: []
            suboptions:
              url:
                description: Where the server answers.
                type: str
                required: true
              thumbprint:
                description: SHA-256 thumbprint of a key that signs its advertisement. No other key is trusted.
                type: str
                required: true
          tpm2:
            description: The TPM of the host.
            type: dict
            suboptions:
              pcr_ids:
                description: PCRs that have to be as they were when it was bound.
                type: list
                elements: int
                default: [7]
              pcr_bank:
                description: Their bank.
                type: str
                choices: [sha1, sha256, sha384]
                default: sha256
          threshold:
            description: How many of the servers and the TPM it takes.
            type: int
            default: 1
      cache:
        description:
          - Faster disks in front of one volume, dm-cache by LVM. They are in containers too if O(pools[].luks) is true.
          - It is detached and made again for another volume or more disks, and detached if it is no longer stated. A
            lost one is detached too if its mode is V(writethrough); its file systems are unmounted for that.
        type: dict
        suboptions:
          disks:
            description: Serial numbers of its disks.
            type: list
            elements: str
            required: true
          volume:
            description: Name of a volume that is not thin.
            type: str
            required: true
          mode:
            description: With V(writeback) a lost cache takes with it what was not written to the volume yet.
            type: str
            choices: [writethrough, writeback]
            default: writethrough
      filesystem:
        description: The only file system, where there are no O(pools[].volumes).
        type: str
        choices: [ext4, xfs]
      mount:
        description: Where that file system is mounted.
        type: path
      volumes:
        description: Logical volumes of a volume group.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the volume.
            type: str
            required: true
          size:
            description: Bytes, rounded up to extents. Without it all that is left, for one volume of a pool.
            type: int
          type:
            description: V(thin-pool) holds the data of V(thin) volumes.
            type: str
            choices: [linear, thin-pool, thin]
            default: linear
          thin_pool:
            description: Name of the thin pool of a V(thin) volume.
            type: str
          filesystem:
            description: File system on the volume. Without it the volume stays as it is.
            type: str
            choices: [ext4, xfs]
          mount:
            description: Where it is mounted.
            type: path
  keys:
    description: Passphrases by name of pool.
    type: dict
    default: {}
  wipe:
    description:
      - Serial numbers of disks whose content may be lost. A disk that belongs to its pool is not wiped again.
    type: list
    elements: str
    default: []
notes:
  - Needs the Debian packages C(mdadm), C(lvm2), C(cryptsetup-bin), C(xfsprogs), C(thin-provisioning-tools),
    C(clevis-luks) and C(clevis-tpm2) for what of them is asked for.
  - "Not done: reshaping of an array."
seealso:
  - module: kiban.baremetal.disk_claim
  - module: kiban.baremetal.disk_info
"""

EXAMPLES = r"""
- name: Two mirrored disks, encrypted, with two volumes
  kiban.baremetal.disk_layout:
    site: lab
    pools:
      - name: fast
        disks: [S4YPNX0R700101, S4YPNX0R700102]
        raid: raid1
        luks: true
        volumes:
          - {name: etcd, size: 21474836480, filesystem: ext4, mount: /var/lib/etcd}
          - {name: data, filesystem: xfs, mount: /srv/data}
    keys:
      fast: "{{ vault_luks_fast }}"
"""

RETURN = r"""
steps:
  description: What was done or, in check mode, would be. Behind a container that is closed nothing is known yet.
  returned: success
  type: list
  elements: str
  sample: ["fast: extend /dev/fast/etcd", "fast: grow ext4 on /dev/fast/etcd"]
wipes:
  description: Serial numbers of disks whose content would be lost, which O(wipe) allows.
  returned: success, in check mode
  type: list
  elements: str
refused:
  description: A reason for each pool that was refused.
  returned: failure
  type: list
  elements: str
done:
  description: What was done before a failure.
  returned: failure
  type: list
  elements: str
"""

import contextlib
import uuid
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils import (
    _clevis,
    _disks,
    _layout,
    _layout_apply,
    _layout_plan,
    _layout_read,
    _layout_tools,
)

# A process that outlived its killed run is waited for this long (seconds).
PATIENCE = 600.0
# Each round does all steps up to one that brings more to light. No layout has more layers than this.
ROUNDS = 16


class Failure(Exception):
    """The end, with what is known."""

    def __init__(self, message: str, refused: Sequence[str] = (), done: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.refused = list(refused)
        self.done = list(done)


def wanted(raw: dict[str, Any]) -> _layout.Pool:
    """A pool of the module's parameters."""
    volumes = tuple(_layout.Volume(**volume) for volume in raw["volumes"])
    cache = raw.get("cache")
    return _layout.Pool(
        raw["name"],
        tuple(raw["disks"]),
        raw["raid"],
        raw["metadata"],
        raw["luks"],
        volumes,
        raw["filesystem"],
        raw["mount"],
        _layout.Cache(tuple(cache["disks"]), cache["volume"], cache["mode"]) if cache else None,
        _clevis.stated(raw["unlock"]) if raw.get("unlock") else None,
    )


def decide(params: dict[str, Any], pools: Sequence[_layout.Pool], new_id: str) -> list[_layout.Step]:
    facts = _layout_read.read_facts(pools, params["keys"])
    steps, refused = _layout_plan.decide(pools, params["site"], params["wipe"], facts, new_id)
    if refused:
        raise Failure(". ".join(refused), refused)
    return steps


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    pools, new_id = [wanted(raw) for raw in params["pools"]], str(uuid.uuid4())
    if problems := _layout.problems(pools, params["keys"]):
        raise Failure("Nothing was touched. " + ". ".join(problems), problems)
    done: list[str] = []
    if check_mode:
        with _named(done):
            if waiting := _layout_read.suspended(pools):
                raise Failure(f"a killed run left {', '.join(waiting)} suspended; a run without check mode resumes it")
            steps = decide(params, pools, new_id)
            wipes = [step.target for step in steps if step.kind == "partition" and step.args["wipes"]]
            return {**_result([str(step) for step in steps]), "wipes": wipes}
    with contextlib.ExitStack() as stack, _named(done):
        records = _disks.list_disks()
        serials = {serial for pool in pools for serial in pool.all_disks}
        mine = [record for record in records if record["serial_number"] in serials]
        for record in sorted(mine, key=lambda each: str(each["path"])):
            stack.enter_context(_disks.locked(record["path"], PATIENCE))
            # A table that a killed run wrote and did not get to announce.
            if [part["label"] for part in record["partitions"]] == [_layout_read.LABEL]:
                _disks.show_partitions(record)
        for name in _layout_read.suspended(pools):
            _layout_tools.run("dmsetup", "resume", name)
            done.append(f"resume {name}, which a killed run left suspended")
        before: list[_layout.Step] = []
        for _round in range(ROUNDS):
            steps = decide(params, pools, new_id)
            if not steps:
                return _result(done)
            if steps == before:
                raise Failure(f"this has to be done again right after it was done: {steps[0]}")
            for step in steps:
                try:
                    _layout_apply.apply(step, params["keys"])
                except (_disks.DiskError, _layout_tools.LayoutError, OSError) as exc:
                    raise Failure(f"{step}: {exc}") from exc
                done.append(str(step))
            before = steps
        raise Failure(f"there is no end after {ROUNDS} rounds")


@contextlib.contextmanager
def _named(done: list[str]) -> Any:
    """Adds to a failure what was done before."""
    try:
        yield
    except (_disks.DiskError, _layout_tools.LayoutError, Failure, OSError) as exc:
        refused = exc.refused if isinstance(exc, Failure) else []
        before = f"Done before: {'; '.join(done)}" if done else "Nothing was touched"
        raise Failure(f"{exc}. {before}. Run again when the cause is mended", refused, done) from exc


def _result(steps: Sequence[str]) -> dict[str, Any]:
    return {
        "changed": bool(steps),
        "steps": list(steps),
        "diff": {"before": "", "after": "".join(f"{step}\n" for step in steps)},
    }


_KINDS = {"type": "str", "choices": ["ext4", "xfs"]}
_VOLUME = {
    "name": {"type": "str", "required": True},
    "size": {"type": "int"},
    "type": {"type": "str", "choices": ["linear", "thin-pool", "thin"], "default": "linear"},
    "thin_pool": {"type": "str"},
    "filesystem": _KINDS,
    "mount": {"type": "path"},
}
_TANG = {"url": {"type": "str", "required": True}, "thumbprint": {"type": "str", "required": True}}
_TPM2 = {
    "pcr_ids": {"type": "list", "elements": "int", "default": [7]},
    "pcr_bank": {"type": "str", "choices": ["sha1", "sha256", "sha384"], "default": "sha256"},
}
_UNLOCK = {
    "tang": {"type": "list", "elements": "dict", "default": [], "options": _TANG},
    "tpm2": {"type": "dict", "options": _TPM2},
    "threshold": {"type": "int", "default": 1},
}
_CACHE = {
    "disks": {"type": "list", "elements": "str", "required": True},
    "volume": {"type": "str", "required": True},
    "mode": {"type": "str", "choices": ["writethrough", "writeback"], "default": "writethrough"},
}
_POOL = {
    "name": {"type": "str", "required": True},
    "disks": {"type": "list", "elements": "str", "required": True},
    "raid": {"type": "str", "choices": ["raid0", "raid1", "raid5", "raid6", "raid10"]},
    "metadata": {"type": "str", "choices": ["1.0", "1.1", "1.2"], "default": "1.2"},
    "luks": {"type": "bool", "default": False},
    "unlock": {"type": "dict", "options": _UNLOCK},
    "cache": {"type": "dict", "options": _CACHE},
    "filesystem": _KINDS,
    "mount": {"type": "path"},
    "volumes": {"type": "list", "elements": "dict", "default": [], "options": _VOLUME},
}
ARGUMENTS = {
    "site": {"type": "str", "required": True},
    "pools": {"type": "list", "elements": "dict", "required": True, "options": _POOL},
    "keys": {"type": "dict", "default": {}, "no_log": True},
    "wipe": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except Failure as exc:
        module.fail_json(msg=str(exc), refused=exc.refused, done=exc.done)
    except (_disks.DiskError, OSError) as exc:
        module.fail_json(msg=str(exc), refused=[], done=[])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
