#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_processes
short_description: Daemons of the virtual rack
version_added: 0.1.0
description:
  - Keeps a list of daemons running without asking the machine's init system, each in a network namespace that it
    chooses.
  - A daemon is known by a record that holds its process id, start time and arguments. Only a process that agrees with
    all three is ever stopped.
  - A daemon is started again when it is gone, when its call or one of its files changed, when its network namespace was
    made anew, or when a daemon that it requires was started again.
options:
  state:
    description:
      - V(started) runs exactly the daemons of O(processes), in this order, and stops recorded ones that are not listed.
      - V(stopped) stops all recorded daemons, youngest first.
    type: str
    choices: [started, stopped]
    default: started
  run_dir:
    description: Directory of the records.
    type: path
    required: true
  log_dir:
    description: Directory of the logs, one C(<name>.log) a daemon.
    type: path
    required: true
  stop_timeout:
    description: Seconds that a daemon gets to end before it is killed.
    type: float
    default: 10
  processes:
    description: The daemons, in the order in which they start.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the daemon.
        type: str
        required: true
      argv:
        description: Program (absolute path) and arguments. It must stay in the foreground. Never put a secret here.
        type: list
        elements: str
        required: true
      netns:
        description: Network namespace to run in.
        type: str
      env:
        description: Environment variables in addition to a minimal environment.
        type: dict
        default: {}
      binds:
        description: Directories or files to lay over others, for this daemon only.
        type: list
        elements: dict
        default: []
        suboptions:
          source:
            description: Directory, made if it is missing, or file that the daemon sees.
            type: path
            required: true
          target:
            description: Place where it sees it.
            type: path
            required: true
      before:
        description: Commands to run each time before the daemon starts.
        type: list
        elements: list
        default: []
      files:
        description: Files whose content decides whether the daemon has to be started again.
        type: list
        elements: path
        default: []
      requires:
        description: Names of daemons that this one depends on.
        type: list
        elements: str
        default: []
      ready_unix:
        description: The daemon is ready when this UNIX socket accepts a connection.
        type: path
      ready_tcp:
        description: The daemon is ready when this C(address:port) accepts a connection in its network namespace.
        type: str
      timeout:
        description: Seconds to wait until the daemon is ready.
        type: float
        default: 30
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
- name: A daemon in a network namespace
  kiban.baremetal.lab_processes:
    run_dir: /var/tmp/rack/run
    log_dir: /var/tmp/rack/log
    processes:
      - name: web
        argv: [/usr/bin/python3, -m, http.server, --bind, 192.0.2.2, "8080"]
        netns: kiban-control
        ready_tcp: 192.0.2.2:8080

- name: No daemon any more
  kiban.baremetal.lab_processes:
    state: stopped
    run_dir: /var/tmp/rack/run
    log_dir: /var/tmp/rack/log
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one sentence each.
  returned: always
  type: list
  elements: str
  sample: ["start libvirtd: not running"]
pids:
  description: Process ids of the daemons that run, by name.
  returned: always
  type: dict
  sample: {libvirtd: 4711}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._lab import LabError
from ansible_collections.kiban.baremetal.plugins.module_utils._lab_process import Spec, Supervisor


def specs(processes: list[dict[str, t.Any]]) -> list[Spec]:
    known = []
    for item in processes:
        values = dict(item, binds=[(bind["source"], bind["target"]) for bind in item["binds"]])
        values["env"] = {str(key): str(value) for key, value in item["env"].items()}
        values["before"] = [[str(word) for word in command] for command in item["before"]]
        known.append(Spec(**values))
    return known


def stop_all(supervisor: Supervisor, keep: list[str], check: bool) -> list[str]:
    actions = []
    for name in supervisor.names():
        if name in keep:
            continue
        running = supervisor.pid(name) is not None
        if not check:
            supervisor.stop(name)
        actions.append(f"stop {name}" if running else f"forget {name}: not running")
    return actions


def start_all(supervisor: Supervisor, wanted: list[Spec], check: bool) -> list[str]:
    actions = stop_all(supervisor, [spec.name for spec in wanted], check)
    started: set[str] = set()
    for spec in wanted:
        reason = supervisor.why_not_running(spec)
        if reason is None and started.intersection(spec.requires):
            reason = "a daemon it depends on starts again"
        if reason is None and not supervisor.ready(spec):
            reason = "does not answer"
        if reason is None:
            continue
        started.add(spec.name)
        actions.append(f"start {spec.name}: {reason}")
        if not check:
            supervisor.start(spec)
    return actions


def main() -> None:
    text = {"type": "str"}
    process = {
        "name": {"type": "str", "required": True},
        "argv": {"type": "list", "elements": "str", "required": True},
        "netns": text,
        "env": {"type": "dict", "default": {}},
        "binds": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "source": {"type": "path", "required": True},
                "target": {"type": "path", "required": True},
            },
        },
        "before": {"type": "list", "elements": "list", "default": []},
        "files": {"type": "list", "elements": "path", "default": []},
        "requires": {"type": "list", "elements": "str", "default": []},
        "ready_unix": {"type": "path"},
        "ready_tcp": text,
        "timeout": {"type": "float", "default": 30},
    }
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
            "run_dir": {"type": "path", "required": True},
            "log_dir": {"type": "path", "required": True},
            "stop_timeout": {"type": "float", "default": 10},
            "processes": {"type": "list", "elements": "dict", "default": [], "options": process},
        },
        supports_check_mode=True,
    )
    params = module.params
    supervisor = Supervisor(params["run_dir"], params["log_dir"], params["stop_timeout"])
    try:
        if params["state"] == "stopped":
            actions = stop_all(supervisor, [], module.check_mode)
        else:
            actions = start_all(supervisor, specs(params["processes"]), module.check_mode)
    except LabError as problem:
        module.fail_json(msg=str(problem))
    pids = {name: supervisor.pid(name) for name in supervisor.names()}
    module.exit_json(
        changed=bool(actions),
        actions=actions,
        pids=pids,
        diff={"before": "", "after": "".join(f"{action}\n" for action in actions)},
    )


if __name__ == "__main__":
    main()
