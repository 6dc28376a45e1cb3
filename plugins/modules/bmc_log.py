#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_log
short_description: Read, follow or clear a log of a BMC
version_added: 0.1.0
description:
  - Reads a log of the system or its BMC in one form for all makers, from a point on, or waits for an entry.
  - Clears a log where it has entries. An entry that only says that the log was cleared does not count.
extends_documentation_fragment:
  - kiban.baremetal.bmc
  - kiban.baremetal.attributes
  - kiban.baremetal.attributes.actiongroup_bmc
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  state:
    description:
      - V(read) reads and never changes anything. V(cleared) empties the log.
    type: str
    choices: [read, cleared]
    default: read
    version_added: 0.1.0
  log:
    description:
      - Id of the log, or the end of its URI where several share an Id, such as V(Systems/1/LogServices/Log1).
      - The system event log where this is absent, else the first log that the BMC has.
    type: str
    version_added: 0.1.0
  since:
    description:
      - Only entries after this. Either RV(cursor) of an earlier result, or a date such as C(2030-01-31T22:00:00+00:00).
    type: str
    version_added: 0.1.0
  pattern:
    description:
      - Only entries whose message has a match for this regular expression.
    type: str
    version_added: 0.1.0
  follow:
    description:
      - Seconds to wait until there is an entry as O(since) and O(pattern) say. The module fails when there is none.
        V(0) does not wait.
    type: int
    default: 0
    version_added: 0.1.0
  limit:
    description:
      - At most so many entries are returned, the newest.
    type: int
    default: 200
    version_added: 0.1.0
  wait_timeout:
    description:
      - Seconds until the log must be empty.
    type: int
    default: 60
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: What the server has complained about
  kiban.baremetal.bmc_log:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    pattern: "(?i)fail|error"
  register: log
  delegate_to: localhost

- name: Wait for what it says next
  kiban.baremetal.bmc_log:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    since: "{{ log.cursor }}"
    pattern: System boot
    follow: 600
  delegate_to: localhost

- name: Begin with an empty log
  kiban.baremetal.bmc_log:
    address: 192.0.2.21
    username: kiban
    password: "{{ kiban_bmc_password }}"
    state: cleared
  delegate_to: localhost
"""

RETURN = r"""
log:
  description: URI of the log.
  type: str
  returned: success
  sample: /redfish/v1/Managers/1/LogServices/Sel
entries:
  description: The entries, oldest first. Empty with O(state=cleared).
  type: list
  elements: dict
  returned: success
  contains:
    id:
      description: Its Id in the log.
      type: str
      returned: always
    created:
      description: When it was made, as the BMC says; null where it does not.
      type: str
      returned: always
    severity:
      description: V(ok), V(warning) or V(critical); null where the BMC does not tell.
      type: str
      returned: always
    message:
      description: What it says.
      type: str
      returned: always
    message_id:
      description: Id of the message in its registry, null where there is none.
      type: str
      returned: always
    sensor_type:
      description: Kind of the sensor, null where there is none.
      type: str
      returned: always
    origin:
      description: URI of what it is about, null where the BMC does not tell.
      type: str
      returned: always
  sample:
    - id: "12"
      created: "2030-01-31T22:00:00Z"
      severity: critical
      message: Power supply 1 lost its input
      message_id: PSU0003
      sensor_type: Power Supply
      origin: null
cursor:
  description: Value for O(since) to read on from here. Null where the log has no entry.
  type: str
  returned: success
  sample: "2030-01-31T22:00:00Z#12"
requests:
  description: HTTP requests that were sent to the BMC.
  type: int
  returned: success
  sample: 9
failure:
  description: What went wrong, as M(kiban.baremetal.bmc_power) describes.
  type: dict
  returned: when the BMC or the way to it is the reason of the failure
  sample:
    kind: unsupported
    address: 192.0.2.21
    message: "its log FaultList cannot be cleared"
    hint: "Another of its logs may be meant"
    request: ""
    status: null
    messages: []
    done: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, connected, fail
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.change import Change
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.log import cursor


def run(bmc: Bmc, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    log = bmc.logs.choose(params["log"])
    result: dict[str, t.Any] = {"log": log["@odata.id"], "changed": False}
    if params["state"] == "cleared":
        clear = bmc.logs.is_clear(log)
        change = Change({"clear": clear}, {"clear": True})
        if change.changed:
            bmc.logs.clearable(log)
        if change.changed and not check_mode:
            bmc.logs.clear(log, params["wait_timeout"])
        return {**result, "changed": change.changed, "diff": change.diff(), "entries": [], "cursor": params["since"]}
    since, pattern = params["since"], params["pattern"]
    if params["follow"]:
        entries = bmc.logs.follow(log, since, pattern, params["follow"])
    else:
        entries = bmc.logs.read(log, since, pattern)
    entries = entries[-params["limit"] :]
    return {**result, "entries": entries, "cursor": cursor(entries, since)}


def main() -> None:
    module = AnsibleModule(
        argument_spec=bmc_argument_spec(
            state={"type": "str", "default": "read", "choices": ["read", "cleared"]},
            log={"type": "str"},
            since={"type": "str"},
            pattern={"type": "str"},
            follow={"type": "int", "default": 0},
            limit={"type": "int", "default": 200},
            wait_timeout={"type": "int", "default": 60},
        ),
        supports_check_mode=True,
    )
    try:
        with connected(module) as bmc:
            result = run(bmc, module.params, module.check_mode)
    except BmcError as exc:
        fail(module, exc)
    module.exit_json(requests=bmc.requests, **result)


if __name__ == "__main__":
    main()
