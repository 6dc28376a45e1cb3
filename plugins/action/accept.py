# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of kiban.baremetal.accept: reads the BMCs of a site and says which servers are what they should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.scan import Found, scan

from ..plugin_utils._contract import AREAS, ContractError, find_python, held_against
from ..plugin_utils._play import site_of_play, write_result
from ..plugin_utils._readers.bmcs import bmc_options
from ..plugin_utils._site.fit import Difference, differences
from ..plugin_utils._site.model import Site

# What a site run uses of a BMC.
REQUIRED = ("inventory", "power", "boot", "virtual_media")
_HOW = "python3 -m venv DIRECTORY, then DIRECTORY/bin/pip install --require-hashes --no-deps -r requirements-accept.txt"


class ActionModule(ActionBase):
    BYPASS_HOST_LOOP = True
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _unused, args = self.validate_argument_spec(
            {
                "path": {"type": "path"},
                "contract": {"type": "bool", "default": True},
                "areas": {"type": "list", "elements": "str", "default": list(REQUIRED), "choices": list(AREAS)},
                "python": {"type": "path"},
            }
        )
        site, names = site_of_play(task_vars)
        hostvars = task_vars["hostvars"]
        options = {name: bmc_options(hostvars[name]["kiban_server"], hostvars[name]) for name in names}
        hardware = scan(options, lambda bmc: bmc.hardware())
        readable = {name: options[name] for name, one in hardware.items() if one.value is not None}
        contract, skipped = _contract(readable, args)
        servers = {name: _server(site, name, hardware[name], contract.get(name, {}), args["areas"]) for name in names}
        result = {
            "version": 1,
            "site": site.name,
            "fits": all(server["fits"] for server in servers.values()),
            "contract_skipped": skipped,
            "servers": servers,
        }
        if args["path"]:
            write_result(args["path"], result)
        return {**result, "changed": False, "lines": list(_lines(result))}


def _contract(options: Mapping[str, Options], args: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], str | None]:
    """Results by server, and the reason where none were asked for."""
    if not args["contract"]:
        return {}, "it was not asked for"
    python = find_python([args["python"]] if args["python"] else [])
    if python is None:
        named = f"{args['python']} nor Ansible's Python has" if args["python"] else "Ansible's Python does not have"
        return {}, f"{'neither ' if args['python'] else ''}{named} redfish_interop_validator. Install it: {_HOW}"
    asked = {name: one for name, one in options.items() if one.driver == "redfish"}
    try:
        return held_against(python, asked) if asked else {}, None
    except ContractError as exc:
        raise AnsibleActionFail(str(exc)) from exc


def _server(
    site: Site, name: str, found: Found[dict[str, Any]], contract: Mapping[str, Any], required: list[str]
) -> dict[str, Any]:
    profile = site.profiles[site.server(name).profile]
    if found.value is None:
        unread = [Difference("unread", "BMC", None, None, str(found.error))]
    else:
        unread = differences(profile, found.value)
    if "failure" in contract:
        unread.append(Difference("contract", "all", None, None, f"not checked: {contract['failure']['message']}"))
    areas = contract.get("areas", {})
    for area in required:
        for problem in areas.get(area, {}).get("problems", []):
            message = f"the BMC does not give {area}: {problem['kind']}{problem['property']}: {problem['message']}"
            unread.append(Difference("contract", area, None, None, message))
    system = (found.value or {}).get("system") or {}
    return {
        "fits": not unread,
        "profile": profile.name,
        "differences": [asdict(one) for one in unread],
        "areas": areas or None,
        "system": {key: system.get(key) for key in ("manufacturer", "model", "serial_number", "bios_version")},
    }


def _lines(result: Mapping[str, Any]) -> Any:
    """For a person: what differs, server by server, then the sum."""
    servers = result["servers"]
    for name, server in servers.items():
        if server["fits"]:
            lacking = [area for area, one in (server["areas"] or {}).items() if not one["fits"]]
            yield f"{name}: fits" + (f"; not needed and not there: {', '.join(lacking)}" if lacking else "")
        else:
            yield f"{name}: does not fit profile {server['profile']}"
            yield from (f"  {one['message']}" for one in server["differences"])
    if result["contract_skipped"]:
        yield f"The contract was not checked: {result['contract_skipped']}"
    good = sum(server["fits"] for server in servers.values())
    yield f"{good} of {len(servers)} servers fit."
