#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_network
short_description: Network of a host by systemd-networkd, with a way back
version_added: 0.1.0
description:
  - Lays down files of systemd-networkd and applies them.
  - A change takes itself back after O(confirm_seconds) unless a later task confirms it with O(state=confirmed). The
    files before and the commands back lie on the host before anything is changed, so that also happens when the change
    cut the host off.
  - Links whose C(.netdev) file changed or is new are made anew, in both directions, and systemd-networkd is restarted,
    as it is for a change of its own settings. Otherwise its files are read again, which leaves links that did not
    change as they are.
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
      - V(present) writes O(files), removes O(absent) and applies that. It is refused while an earlier change waits for
        its confirmation.
      - V(confirmed) keeps the change that waits, and fails if it was taken back already.
      - V(reverted) takes the change that waits back now.
    type: str
    choices: [present, confirmed, reverted]
    default: present
  files:
    description: Files of the network, as the filter P(kiban.baremetal.server_files#filter) renders them.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path below C(/etc/systemd).
        type: str
        required: true
      content:
        description: The whole content.
        type: str
        required: true
      mode:
        description: Octal digits.
        type: str
        default: '0644'
  absent:
    description: Paths that shall not exist.
    type: list
    elements: str
    default: []
  confirm_seconds:
    description: Seconds until the change takes itself back; 1 to 3600.
    type: int
    default: 60
  state_dir:
    description:
      - Directory for what takes an unconfirmed change back.
    type: path
    default: /run/kiban-network
notes:
  - A host that restarts before the confirmation keeps the new files.
requirements:
  - systemd-networkd 247 or newer on the host
seealso:
  - module: kiban.baremetal.node_files
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Change the network
  kiban.baremetal.host_network:
    files:
      - path: /etc/systemd/network/30-bond0.network
        content: |
          [Match]
          Name=bond0

          [Network]
          Address=198.51.100.21/24
    confirm_seconds: 60

- name: Connect anew
  ansible.builtin.meta: reset_connection

- name: Keep the change, since this task reached the host
  kiban.baremetal.host_network:
    state: confirmed
"""

RETURN = r"""
changed_paths:
  description: Paths that were changed or, in check mode, would be.
  returned: when O(state=present)
  type: list
  elements: str
  sample: [/etc/systemd/network/30-bond0.network]
pending:
  description: Whether a change waits for its confirmation.
  returned: success
  type: bool
"""

import os
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils import _node_files
from ansible_collections.kiban.baremetal.plugins.module_utils._commit import Commit

PLACE = "/etc/systemd/"
RESTART = "systemctl restart systemd-networkd.service"


class NetworkError(Exception):
    """The network is not changed, or was taken back; the message is for a person."""


def device_of(content: bytes | None) -> str | None:
    """The link that a .netdev file makes."""
    found = re.search(rb"^Name=(\S+)", content or b"", re.MULTILINE)
    return found.group(1).decode() if found else None


class Change:
    """What differs, and the commands there and back."""

    def __init__(self, changes: t.Sequence[_node_files.Change]) -> None:
        self.changes = changes
        self.before = {
            change.target: _node_files.read(change.target) if os.path.isfile(change.target) else None
            for change in changes
        }
        netdevs = [change for change in changes if change.target.endswith(".netdev")]
        devices = {device_of(change.wanted.content) for change in netdevs}
        devices |= {device_of(self.before[change.target]) for change in netdevs}
        self.remade = sorted(device for device in devices if device)

    def apply(self) -> list[list[str]]:
        """A link keeps what it was made with, so it goes first."""
        settings = any("/networkd.conf" in change.target for change in self.changes)
        if not self.remade and not settings:
            return [["sh", "-c", f"networkctl reload || {RESTART}"]]
        gone = [["sh", "-c", f"ip link delete dev {device} 2>/dev/null || :"] for device in self.remade]
        return [*gone, RESTART.split()]

    def back(self, commit: Commit) -> list[list[str]]:
        """Commands that put the files back as they are now, and apply them."""
        steps: list[list[str]] = []
        for number, (path, content) in enumerate(self.before.items()):
            if content is None:
                steps.append(["rm", "-f", path])
                continue
            kept = commit.write(f"before.{number}", content.decode("utf-8", "surrogateescape"))
            os.chmod(kept, os.stat(path).st_mode & 0o777)
            # In one step: a host that restarts meanwhile has the one file or the other.
            steps += [["cp", "-p", kept, f"{path}.kiban"], ["mv", f"{path}.kiban", path]]
        return [*steps, *self.apply()]


def present(module: AnsibleModule, commit: Commit) -> dict[str, t.Any]:
    params = module.params
    if commit.pending and not module.check_mode:
        raise NetworkError("an earlier change waits for its confirmation: state confirmed or reverted first")
    if not 1 <= params["confirm_seconds"] <= 3600:
        raise NetworkError(f"confirm_seconds is {params['confirm_seconds']}: from 1 to 3600")
    files = [{**item, "link": None, "secret": False} for item in params["files"]]
    wanted = _node_files.wanted_files(files, params["absent"])
    outside = [item.path for item in wanted if not item.path.startswith(PLACE)]
    if outside:
        raise NetworkError(f"not below {PLACE}: {', '.join(outside)}")
    changes = _node_files.differences("/", wanted)
    result = {
        "changed": bool(changes),
        "changed_paths": [change.wanted.path for change in changes],
        "diff": _node_files.shown(changes),
    }
    if changes and not module.check_mode:
        change = Change(changes)
        commit.arm(change.back(commit), params["confirm_seconds"])
        try:
            _node_files.write_all(changes)
            for step in change.apply():
                code, out, err = module.run_command(step)
                if code != 0:
                    raise NetworkError(f"{' '.join(step)}: {err.strip() or out.strip() or code}")
        except (NetworkError, _node_files.FilesError, OSError) as error:
            commit.revert()
            raise NetworkError(f"the change was taken back: {error}") from error
    return {**result, "pending": commit.pending}


def confirmed(module: AnsibleModule, commit: Commit) -> dict[str, t.Any]:
    if commit.reverted or (commit.pending and not os.path.exists(os.path.join(commit.directory, "pending"))):
        raise NetworkError("the change was taken back before it was confirmed; see undo.log in " + commit.directory)
    changed = commit.pending if module.check_mode else commit.confirm()
    return {"changed": changed, "pending": commit.pending}


def reverted(module: AnsibleModule, commit: Commit) -> dict[str, t.Any]:
    changed = commit.pending if module.check_mode else commit.revert()
    return {"changed": changed, "pending": commit.pending}


def main() -> None:
    file_options = {name: dict(_node_files.OPTIONS[name]) for name in ("path", "content", "mode")}
    file_options["content"]["required"] = True
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "confirmed", "reverted"], "default": "present"},
            "files": {"type": "list", "elements": "dict", "default": [], "options": file_options},
            "absent": {"type": "list", "elements": "str", "default": []},
            "confirm_seconds": {"type": "int", "default": 60},
            "state_dir": {"type": "path", "default": "/run/kiban-network"},
        },
        supports_check_mode=True,
    )
    act = {"present": present, "confirmed": confirmed, "reverted": reverted}[module.params["state"]]
    try:
        result = act(module, Commit(module.params["state_dir"]))
    except (NetworkError, _node_files.FilesError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
