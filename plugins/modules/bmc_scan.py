#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bmc_scan
short_description: Read the hardware of many servers through their BMCs
version_added: 0.1.0
description:
  - Reads in one process what M(kiban.baremetal.bmc_info) reads of one server, hundreds of BMCs side by side, each over
    one connection with one request at a time.
  - What to read is named by address, network or range (O(addresses)), by inventory host (O(hosts)), or one by one with
    its own options (O(targets)).
  - One BMC that cannot be read does not hinder the others. It has a C(failure) with the reason instead of C(hardware),
    and the module does not fail; RV(summary) tells how many there are.
  - Names of O(hosts) are resolved on the control host. Everything else happens where the task runs, which must reach
    the BMC network; it needs to run once (C(run_once) or a play on V(localhost)).
extends_documentation_fragment:
  - kiban.baremetal.bmc
  - kiban.baremetal.attributes
  - kiban.baremetal.attributes.info
  - kiban.baremetal.attributes.actiongroup_bmc
options:
  addresses:
    description:
      - Addresses of BMCs; names and URLs as in O(address), networks (V(192.0.2.0/24)), ranges
        (V(192.0.2.11-192.0.2.40) or V(192.0.2.11-40)), each with a port or a range of ports if need be
        (V(192.0.2.0/24:8443), V([2001:db8::/120]:8443)). Commas separate as well as items of the list.
      - An address that a host or target has is read once, under its name.
      - At most 65536 addresses. Of a network, the network and broadcast addresses are left out.
    type: list
    elements: str
    default: []
    version_added: 0.1.0
  hosts:
    description:
      - Inventory hosts whose BMCs are read, such as C(groups['servers']). Their addresses are those of the site model,
        the account is in the host's variables C(kiban_bmc_username) and C(kiban_bmc_password), or O(username) and
        O(password).
    type: list
    elements: str
    default: []
    version_added: 0.1.0
  targets:
    description:
      - BMCs with options of their own. What one leaves out is taken from the option of the same name of this task.
    type: list
    elements: dict
    default: []
    version_added: 0.1.0
    suboptions:
      name:
        description: Name that the result gets, such as that of a server.
        type: str
      address:
        description: As O(address).
        type: str
        required: true
      username:
        description: As O(username).
        type: str
      password:
        description: As O(password).
        type: str
      validate_certs:
        description: As O(validate_certs).
        type: bool
      ca_path:
        description: As O(ca_path).
        type: path
      fingerprint:
        description: As O(fingerprint).
        type: str
      timeout:
        description: As O(timeout).
        type: float
      driver:
        description: As O(driver).
        type: str
        choices: [redfish, ipmi]
  address:
    description:
      - One more address, read only where neither O(addresses) nor O(hosts) nor O(targets) name any. So this module can
        live with defaults of the action group.
    type: str
    required: false
    version_added: 0.1.0
  username:
    description: Account on BMCs that name no other.
    type: str
    required: false
    version_added: 0.1.0
  password:
    description: Password of O(username). It is tried once on each BMC.
    type: str
    required: false
    version_added: 0.1.0
  connect_timeout:
    description: Seconds until an address that does not answer counts as unreachable.
    type: float
    default: 5
    version_added: 0.1.0
  at_once:
    description:
      - How many BMCs are read side by side. Fewer are, where the limit of open files is lower.
      - Memory grows with it, by about 0.2 MB each.
    type: int
    default: 500
    version_added: 0.1.0
  subset:
    description: Parts to read, as in M(kiban.baremetal.bmc_info).
    type: list
    elements: str
    choices: [system, processors, memory, ports, lldp, storage, firmware, boot, manager, sensors]
    default: [system, processors, memory, ports, lldp, storage, firmware, boot, manager]
    version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
seealso:
  - module: kiban.baremetal.bmc_info
"""

EXAMPLES = r"""
- name: Read whatever answers in the BMC network
  kiban.baremetal.bmc_scan:
    addresses: [192.0.2.0/24, 198.51.100.10-40]
    username: kiban
    password: "{{ kiban_bmc_password }}"
    ca_path: /etc/kiban/bmc-ca.pem
  delegate_to: localhost
  run_once: true
  register: scan

- name: Tell which BMCs could not be read, and why
  ansible.builtin.debug:
    msg: "{{ item.address }}: {{ item.failure.message }}"
  loop: "{{ scan.bmcs | selectattr('failure') | rejectattr('failure.kind', 'eq', 'unreachable') }}"
  loop_control: {label: "{{ item.address }}"}

- name: Read the servers of the site
  kiban.baremetal.bmc_scan:
    hosts: "{{ groups['servers'] }}"
    subset: [system, memory]
  delegate_to: localhost
  run_once: true
  register: scan

- name: Remember what belongs to each of them
  ansible.builtin.set_fact:
    hardware: "{{ (scan.bmcs | selectattr('name', 'eq', inventory_hostname) | first).hardware }}"
"""

RETURN = r"""
bmcs:
  description: One entry for each address, in the order in which they were named.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Inventory host or name of the target; null for an address.
      type: str
    address:
      description: Address that was asked.
      type: str
    hardware:
      description: The record, as M(kiban.baremetal.bmc_info) returns it. Null where it could not be read.
      type: dict
    failure:
      description:
        - Why it could not be read, as M(kiban.baremetal.bmc_power) describes. Null where it could.
        - A C(kind) of V(unreachable) also stands for an address at which nothing is.
      type: dict
    notes:
      description: What went other than usual without being an error.
      type: list
      elements: str
    requests:
      description: HTTP requests that were sent, login and logout included.
      type: int
    seconds:
      description: How long it took.
      type: float
  sample:
    - name: node01
      address: 192.0.2.21
      hardware: {}
      failure: null
      notes: []
      requests: 13
      seconds: 3.4
summary:
  description: Figures of the whole scan.
  type: dict
  returned: success
  contains:
    asked:
      description: Number of addresses.
      type: int
    read:
      description: Number of BMCs that were read.
      type: int
    failed:
      description: Number of failures by their kind.
      type: dict
    requests:
      description: HTTP requests that were sent.
      type: int
    seconds:
      description: Wall time.
      type: float
  sample: {asked: 254, read: 40, failed: {unreachable: 213, auth: 1}, requests: 522, seconds: 9.1}
failure:
  description: What is wrong with the options, as M(kiban.baremetal.bmc_power) describes.
  type: dict
  returned: when the addresses cannot be understood
  sample: {kind: option, address: 192.0.2.0/33, message: "not a network"}
"""

import collections
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcError, BmcOptionError, Options
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.addresses import expand
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec, fail
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.hardware import SUBSET_CHOICES, SUBSETS
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.scan import AT_ONCE, Found, scan

_OWN = ("username", "password", "validate_certs", "ca_path", "fingerprint", "timeout", "driver")


def argument_spec() -> dict[str, t.Any]:
    spec = bmc_argument_spec(
        addresses={"type": "list", "elements": "str", "default": []},
        hosts={"type": "list", "elements": "str", "default": []},
        connect_timeout={"type": "float", "default": 5},
        at_once={"type": "int", "default": AT_ONCE},
        subset={"type": "list", "elements": "str", "default": list(SUBSETS), "choices": list(SUBSET_CHOICES)},
    )
    for name in ("address", "username", "password"):
        spec[name] = {**spec[name], "required": False}
    own = {name: {key: spec[name][key] for key in ("type", "no_log", "choices") if key in spec[name]} for name in _OWN}
    own.update(name={"type": "str"}, address={"type": "str", "required": True})
    spec["targets"] = {"type": "list", "elements": "dict", "default": [], "options": own}
    return spec


def targets(params: t.Mapping[str, t.Any]) -> tuple[list[str | None], list[Options]]:
    """Names and options of all BMCs, in order."""
    named: list[dict[str, t.Any]] = list(params["targets"])
    addresses = params["addresses"] or ([params["address"]] if params["address"] and not named else [])
    taken = {target["address"] for target in named}
    named += [{"address": address} for address in expand(addresses) if address not in taken]
    if not named:
        raise BmcOptionError("", "nothing to scan", hint="Name addresses, hosts or targets")
    whole = []
    for target in named:
        own = {key: value for key, value in target.items() if value is not None}
        options = {"username": None, "password": None, **params, **own}
        whole.append(Options.from_params({**options, **{k: options[k] or "" for k in ("username", "password")}}))
    return [target.get("name") for target in named], whole


def entry(name: str | None, options: Options, found: Found[dict[str, t.Any]]) -> dict[str, t.Any]:
    return {
        "name": name,
        "address": options.address,
        "hardware": found.value,
        "failure": found.error.as_dict() if found.error else None,
        "notes": list(found.notes),
        "requests": found.requests,
        "seconds": found.seconds,
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    began = time.monotonic()
    try:
        if params["hosts"]:
            raise BmcOptionError("", "hosts can only be resolved by a task of a playbook", hint="Use targets")
        names, options = targets(params)
        found = scan(dict(enumerate(options)), lambda bmc: bmc.hardware(params["subset"]), params["at_once"])
    except BmcError as exc:
        fail(module, exc)
    summary = {
        "asked": len(found),
        "read": sum(one.error is None for one in found.values()),
        "failed": dict(collections.Counter(one.error.kind for one in found.values() if one.error)),
        "requests": sum(one.requests for one in found.values()),
        "seconds": round(time.monotonic() - began, 3),
    }
    bmcs = [entry(*both, found[number]) for number, both in enumerate(zip(names, options))]
    module.exit_json(changed=False, bmcs=bmcs, summary=summary)


if __name__ == "__main__":
    main()
