# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of kiban.baremetal.node_drain: runs on the control host, and holds the servers that it drains."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..module_utils._kubectl import Kubectl, KubeError
from ..plugin_utils._play import lease_errors
from ..plugin_utils._runs.drain import Drained, NotDrained, drain, uncordon
from ..plugin_utils._runs.leases import take_lease


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _unused, args = self.validate_argument_spec(
            {
                "state": {"type": "str", "choices": ["drained", "uncordoned"], "required": True},
                "names": {"type": "list", "elements": "str"},
                "site_dir": {"type": "path", "required": True},
                "kubectl": {"type": "path", "default": "kubectl"},
                "timeout": {"type": "int", "default": 300},
                "force": {"type": "list", "elements": "str", "default": []},
            }
        )
        names = args["names"] if args["names"] is not None else [task_vars["inventory_hostname"]]
        kube = Kubectl(args["kubectl"], os.path.join(args["site_dir"], "kubeconfig"))
        if args["state"] == "uncordoned":
            return {**result, **self._uncordon(kube, names)}
        done = {name: self._drain(kube, name, args) for name in names}
        warnings = [
            f"{name}: is disrupted by force although it is not drained: {one.left}"
            for name, one in done.items()
            if one.left
        ]
        warnings += [
            f"{name}: what these pods had in emptyDir volumes is gone: {', '.join(one.emptydir)}"
            for name, one in done.items()
            if one.emptydir and not self._task.check_mode
        ]
        return {
            **result,
            "changed": any(one.changed for one in done.values()),
            "pods": {name: list(one.pods) for name, one in done.items()},
            "emptydir": {name: list(one.emptydir) for name, one in done.items()},
            "warnings": warnings,
            "diff": [
                {"header": f"pods of {name}", "before": "".join(f"{pod}\n" for pod in one.pods), "after": ""}
                for name, one in done.items()
                if one.changed
            ],
        }

    def _drain(self, kube: Kubectl, name: str, args: dict[str, Any]) -> Drained:
        if not self._task.check_mode:
            with lease_errors(name):
                # Of the run, not of this process, which ends with the task.
                take_lease(args["site_dir"], name, os.getppid())
        try:
            return drain(kube, name, args["timeout"], name in args["force"], self._task.check_mode)
        except NotDrained as exc:
            raise AnsibleActionFail(
                f"{name}: was not drained within {args['timeout']} s (limits.drain_timeout), and nothing else was "
                f"done to the server: {exc}. Make room for these pods elsewhere, mend them or delete them, and run "
                f"again; or accept that they are lost with -e kiban_force={name}"
            ) from exc
        except KubeError as exc:
            raise AnsibleActionFail(f"{name}: was not drained, and nothing else was done to the server: {exc}") from exc

    def _uncordon(self, kube: Kubectl, names: list[str]) -> dict[str, Any]:
        done: list[str] = []
        try:
            for name in names:
                if uncordon(kube, name, self._task.check_mode):
                    done.append(name)
        except KubeError as exc:
            before = f" Done before: {', '.join(done)}." if done else ""
            raise AnsibleActionFail(f"{name}: stays cordoned: {exc}.{before} The next run tries it again") from exc
        diff = [{"header": f"node {name}", "before": "cordoned\n", "after": "takes pods\n"} for name in done]
        return {"changed": bool(done), "nodes": done, "diff": diff}
