#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_info
short_description: What the virtual rack is doing
version_added: 0.1.0
description:
  - Tells for each server of the lab its power state, the end of its console and the end of its BMC's log, and for each
    daemon whether it runs.
  - It also answers when parts of the lab are broken or missing, because that is when it is asked.
options:
  uri:
    description: URI of the lab's libvirt daemon.
    type: str
    required: true
  directory:
    description: Directory of the lab.
    type: path
    required: true
  servers:
    description: Names of the servers.
    type: list
    elements: str
    required: true
  lines:
    description: How many lines of a console or a log are shown.
    type: int
    default: 20
extends_documentation_fragment:
  - kiban.baremetal.attributes
  - kiban.baremetal.attributes.info
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Look at the rack
  kiban.baremetal.lab_info:
    uri: qemu+unix:///system?socket=/var/tmp/rack/libvirt/run/libvirt/libvirt-sock
    directory: /var/tmp/rack
    servers: [cp1, node1, node2]
"""

RETURN = r"""
servers:
  description: Servers by name.
  returned: always
  type: dict
  contains:
    power:
      description: V(on), V(off), V(undefined), or V(unknown) when libvirt does not answer.
      type: str
      sample: "on"
    console:
      description: Last lines of the serial console, without control characters.
      type: list
      elements: str
    bmc_log:
      description: Last lines of the BMC's log.
      type: list
      elements: str
daemons:
  description: Process id of each daemon, 0 for one that does not run, with the last lines of its log.
  returned: always
  type: dict
  contains:
    pid:
      description: Process id.
      type: int
      sample: 4711
    log:
      description: Last lines of its log.
      type: list
      elements: str
"""

import os
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._lab import LabError, run
from ansible_collections.kiban.baremetal.plugins.module_utils._lab_process import Supervisor

# Escape sequences of a terminal, and other control characters but line ends and tabs.
CONTROL = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()=>][A-Z0-9]?|[\x00-\x08\x0b-\x1f\x7f]")


def tail(path: str, lines: int) -> list[str]:
    """Last lines of a file, as a person can read them."""
    try:
        with open(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 400 * lines))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    cleaned = (CONTROL.sub("", line).rstrip() for line in text.split("\n"))
    return [line for line in cleaned if line][-lines:]


def power(uri: str, names: list[str]) -> dict[str, str]:
    call = ["timeout", "20", "virsh", "-q", "-c", uri, "list", "--name"]
    try:
        defined, running = run([*call, "--all"]).split(), run(call).split()
    except LabError:
        return dict.fromkeys(names, "unknown")
    return {name: "on" if name in running else "off" if name in defined else "undefined" for name in names}


def look(params: dict[str, t.Any]) -> dict[str, t.Any]:
    directory, lines = params["directory"], params["lines"]
    states = power(params["uri"], params["servers"])
    supervisor = Supervisor(os.path.join(directory, "run"), os.path.join(directory, "log"))
    return {
        "servers": {
            name: {
                "power": states[name],
                "console": tail(os.path.join(directory, "console", f"{name}.log"), lines),
                "bmc_log": tail(os.path.join(directory, "log", f"bmc-{name}.log"), lines),
            }
            for name in params["servers"]
        },
        "daemons": {
            name: {
                "pid": supervisor.pid(name) or 0,
                "log": tail(os.path.join(directory, "log", f"{name}.log"), lines),
            }
            for name in sorted(supervisor.names())
        },
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "uri": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "servers": {"type": "list", "elements": "str", "required": True},
            "lines": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **look(module.params))


if __name__ == "__main__":
    main()
