#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: accept
short_description: Whether the servers of a site are what their profiles say
version_added: 0.1.0
description:
  - Reads the BMCs of a site in one process and holds each server against the C(expect) expressions and the C(firmware)
    baseline of its profile. Changes nothing.
  - Holds each BMC against the contract of this collection, one interoperability profile of the DMTF for each feature
    area, by the DMTF's own C(redfish_interop_validator). It is a program of the control host with a lock file of its
    own; where it is not there, RV(contract_skipped) says so.
  - Runs once for all hosts of the play and does not fail for servers that do not fit. RV(fits) tells; the playbook
    C(kiban.baremetal.accept) fails then.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  path:
    description: File to write the result to as JSON, all return values but RV(lines).
    type: path
    version_added: 0.1.0
  contract:
    description: Whether BMCs are held against the contract.
    type: bool
    default: true
    version_added: 0.1.0
  areas:
    description:
      - Feature areas that a BMC must have. All areas are checked and in the result; only these count in RV(fits).
      - The default is what a site run uses.
    type: list
    elements: str
    choices:
      [accounts, bios, boot, certificates, erase, firmware, inventory, logs, network, power, virtual_media, volumes]
    default: [inventory, power, boot, virtual_media]
    version_added: 0.1.0
  python:
    description:
      - Python that has C(redfish_interop_validator). That of Ansible is tried where this one does not have it.
    type: path
    version_added: 0.1.0
seealso:
  - module: kiban.baremetal.bmc_scan
"""

EXAMPLES = r"""
- name: Hold the servers against their profiles
  kiban.baremetal.accept:
    python: /opt/kiban-accept/bin/python
    areas: [inventory, power, boot, virtual_media, bios]
    path: accept.json
  register: accept

- name: Show what differs
  ansible.builtin.debug:
    msg: "{{ accept.lines }}"
  run_once: true
"""

RETURN = r"""
version:
  description: Version of the form of this result.
  type: int
  returned: success
  sample: 1
site:
  description: Name of the site.
  type: str
  returned: success
  sample: tokyo-1
fits:
  description: Whether all servers fit.
  type: bool
  returned: success
contract_skipped:
  description: Why the contract was not checked, null where it was.
  type: str
  returned: success
servers:
  description: The result of each server, by name.
  type: dict
  returned: success
  contains:
    fits:
      description: Whether nothing differs.
      type: bool
    profile:
      description: Name of its profile.
      type: str
    differences:
      description:
        - What differs. C(kind) is V(expect), V(firmware), V(contract) or V(unread); C(what) is the expression, the
          component or the area; C(expected) and C(found) are null where there is no value; C(message) is a sentence.
      type: list
      elements: dict
    areas:
      description:
        - By feature area, whether the BMC C(fits), how many requirements it C(passed), and its C(problems) by C(kind)
          of resource and C(property), with a C(message), the first C(uri) and the C(count). Null where it was not
          checked.
      type: dict
    system:
      description: Manufacturer, model, serial_number and bios_version; null where the BMC does not tell.
      type: dict
  sample:
    node1:
      fits: false
      profile: compute
      differences:
        - kind: expect
          what: memory.total_mib >= `262144`
          expected: "true"
          found: 131072 >= 262144
          message: "memory.total_mib >= `262144` is not true: 131072 >= 262144"
      areas:
        power: {fits: true, passed: 8, warned: 0, problems: []}
      system: {manufacturer: Example, model: M1, serial_number: SN1, bios_version: 2.19.1}
lines:
  description: The same for a person.
  type: list
  elements: str
  returned: success
"""
