#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verify_result
short_description: Result file of a verification, check by check
version_added: 0.1.0
description:
  - Keeps the result of a verification in a JSON file, on disk after each step, so that a run that was cut off leaves a
    result too.
  - The result is ok only where every check that was announced at the start has passed. A check that did not run, or did
    not finish, has failed.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
    details:
      - Nothing is written in check mode.
  diff_mode:
    support: none
options:
  path:
    description: The result file.
    type: path
    required: true
    version_added: 0.1.0
  state:
    description:
      - V(started) begins a new result and drops an old one.
      - V(running), V(passed), V(failed) are the states of one O(check). V(running) again goes on with a check whose
        time counts from the first time, and leaves one alone that has failed.
      - V(finished) ends the result, and fails unless every check has passed.
    type: str
    required: true
    choices: [started, running, passed, failed, finished]
    version_added: 0.1.0
  site:
    description: Name of the site.
    type: str
    version_added: 0.1.0
  kubernetes:
    description: The declared Kubernetes version.
    type: str
    version_added: 0.1.0
  checks:
    description: Names of all checks that have to pass.
    type: list
    elements: str
    version_added: 0.1.0
  check:
    description: Name of the check.
    type: str
    version_added: 0.1.0
  detail:
    description: What was shown, or what is wrong, in a sentence.
    type: str
    default: ""
    version_added: 0.1.0
  figures:
    description: What was measured.
    type: dict
    default: {}
    version_added: 0.1.0
"""

EXAMPLES = r"""
- name: Begin
  kiban.baremetal.verify_result:
    path: /root/site/verify.json
    state: started
    site: lab
    kubernetes: v1.36.3
    checks: [nodes, web]

- name: Record
  kiban.baremetal.verify_result:
    path: /root/site/verify.json
    state: passed
    check: nodes
    detail: three nodes are Ready
"""

RETURN = r"""
failed_checks:
  description: Names of the checks that have ended without passing.
  type: list
  elements: str
  returned: always
result:
  description: The result so far, as it is in the file.
  type: dict
  returned: always
unproved:
  description: Names of the checks that have failed, or were begun and did not finish.
  type: list
  elements: str
  returned: always
"""

import json
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._files import NotWritten, write_whole
from ansible_collections.kiban.baremetal.plugins.module_utils._verify_result import (
    ResultError,
    begin,
    conclude,
    end,
    failed_checks,
    start,
    unproved_checks,
)


def read(path: str) -> dict:
    try:
        with open(path, encoding="utf-8") as handle:
            return dict(json.load(handle))
    except (OSError, ValueError) as exc:
        raise ResultError(f"there is no result to go on with at {path}: {exc}") from exc


def advance(params: dict, now: float) -> dict:
    state = params["state"]
    if state == "started":
        return start(params["site"], params["kubernetes"], params["checks"], now)
    result = read(params["path"])
    if state == "running":
        return begin(result, params["check"], now)
    if state == "finished":
        return conclude(result, now)
    return end(result, params["check"], state == "passed", params["detail"], params["figures"], now)


def report(result: dict) -> str:
    wrong = [f"{check['name']}: {check['detail']}" for check in result["checks"] if not check["ok"]]
    return f"{len(wrong)} of {len(result['checks'])} checks failed. " + " | ".join(wrong)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "required": True,
                "choices": ["started", "running", "passed", "failed", "finished"],
            },
            "site": {"type": "str"},
            "kubernetes": {"type": "str"},
            "checks": {"type": "list", "elements": "str"},
            "check": {"type": "str"},
            "detail": {"type": "str", "default": ""},
            "figures": {"type": "dict", "default": {}},
        },
        required_if=[
            ("state", "started", ("site", "kubernetes", "checks")),
            ("state", "running", ("check",)),
            ("state", "passed", ("check",)),
            ("state", "failed", ("check",)),
        ],
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=False, result={}, failed_checks=[], unproved=[])
    try:
        result = advance(params, time.time())
        write_whole(params["path"], json.dumps(result, indent=2) + "\n", mode=0o644)
    except ResultError as exc:
        module.fail_json(msg=str(exc))
    except NotWritten as exc:
        module.fail_json(msg=str(exc))
    returned = {"result": result, "failed_checks": failed_checks(result), "unproved": unproved_checks(result)}
    if params["state"] == "finished" and not result["ok"]:
        module.fail_json(msg=report(result), **returned)
    module.exit_json(changed=False, **returned)


if __name__ == "__main__":
    main()
