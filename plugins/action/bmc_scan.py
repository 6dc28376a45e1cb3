# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of kiban.baremetal.bmc_scan: turns inventory hosts into targets; the module does the rest."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._readers.bmcs import bmc_target


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        args = dict(self._task.args)
        hosts = args.pop("hosts", None) or []
        names = [hosts] if isinstance(hosts, str) else hosts
        args["targets"] = [*(args.get("targets") or []), *(_target(name, task_vars["hostvars"]) for name in names)]
        return {**result, **self._execute_module("kiban.baremetal.bmc_scan", module_args=args, task_vars=task_vars)}


def _target(name: str, hostvars: Any) -> dict[str, Any]:
    if name not in hostvars:
        raise AnsibleActionFail(f"the inventory has no host {name}: look at hosts of this task")
    variables = hostvars[name]
    if "kiban_server" not in variables:
        raise AnsibleActionFail(
            f"{name} is not a server of a site model, so its BMC is not known. Name its address in addresses or targets"
        )
    return {"name": name, **bmc_target(variables["kiban_server"], variables)}
