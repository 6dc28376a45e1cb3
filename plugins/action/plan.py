# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of kiban.baremetal.plan: reads a whole site in one process and compares it with its model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._probe.program import LOCAL
from ..plugin_utils._readers import each
from ..plugin_utils._readers.bmcs import bmc_options, read_bmcs
from ..plugin_utils._readers.cluster import read_cluster
from ..plugin_utils._readers.hosts import SshAccess, read_host
from ..plugin_utils._site.load import load_site
from ..plugin_utils._site.model import Site, SiteError
from ..plugin_utils._site.plan import Intent, Plan, make_plan
from ..plugin_utils._site.render import digests, node_files
from ..plugin_utils._site.state import HostState, SiteState

_AT_ONCE = 100


class ActionModule(ActionBase):
    BYPASS_HOST_LOOP = True
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _unused, args = self.validate_argument_spec(
            {
                "site_dir": {"type": "path", "required": True},
                "image_manifest": {"type": "path", "required": True},
                "kubectl": {"type": "path", "required": True},
                "authorized_key": {"type": "str", "required": True, "no_log": False},
            }
        )
        hostvars = task_vars["hostvars"]
        names = [name for name in task_vars["ansible_play_hosts_all"] if "kiban_server" in hostvars[name]]
        if not names:
            raise AnsibleActionFail(
                "no server of the site is among the hosts of this run: look at --limit and the inventory"
            )
        try:
            site = load_site(hostvars[names[0]]["kiban_site"])
        except SiteError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        intent = _intent(site, args)
        state = _read(site, intent, args, {name: hostvars[name] for name in names})
        plan = make_plan(site, intent, state)
        return self._result(plan, state)

    def _result(self, plan: Plan, state: SiteState) -> dict[str, Any]:
        result = plan.to_dict()
        result["lines"] = lines(plan)
        result["hosts"] = todo_hosts(plan)
        result["data_mounts"] = {
            name: [f"{LOCAL}{serial}" for serial in host.local_mounts]
            for name, host in state.hosts.items()
            if host.where == "node"
        }
        result["cluster"] = {
            "known": state.cluster.known,
            "reachable": state.cluster.reachable,
            "error": state.cluster.error,
        }
        # The plan itself changes nothing. In check mode it stands for all that the run would do.
        result["changed"] = bool(plan.changes) and self._task.check_mode
        if self._task.diff:
            result["diff"] = [
                {
                    "before_header": f"{change.server} {change.what}",
                    "after_header": f"{change.server} {change.what}",
                    "before": change.before + "\n",
                    "after": change.after + "\n",
                }
                for change in plan.changes
            ]
        return result


def lines(plan: Plan) -> list[str]:
    """What a person reads: a line a change, equal ones of many servers folded, then problems and the sum."""
    folded: dict[tuple[str, ...], list[str]] = {}
    for change in plan.changes:
        key = (change.stage, change.what, change.before, change.after, change.disruption)
        folded.setdefault(key, []).append(change.server)
    text = [
        f"{stage}: {_names(servers)}: {what}: {before} -> {after}"
        + (f" [{disruption}]" if disruption != "none" else "")
        for (stage, what, before, after, disruption), servers in folded.items()
    ]
    text += [f"notice: {notice.server}: {notice.message}" for notice in plan.notices]
    text += [f"problem: {problem.server}: {problem.message}" for problem in plan.problems]
    return [*text, plan.summary]


def _names(servers: list[str], limit: int = 6) -> str:
    shown = ", ".join(servers[:limit])
    return shown if len(servers) <= limit else f"{shown} and {len(servers) - limit} more"


def todo_hosts(plan: Plan) -> list[dict[str, Any]]:
    """One entry a server that has anything to do: its groups, and the action of each stage."""
    todo: dict[str, dict[str, str]] = {}
    for change in plan.changes:
        todo.setdefault(change.server, {})[change.stage] = change.action
    return [
        {"name": name, "groups": [f"todo_{stage}" for stage in stages], "todo": stages} for name, stages in todo.items()
    ]


def _intent(site: Site, args: Mapping[str, Any]) -> Intent:
    path = args["image_manifest"]
    if not os.path.exists(path):
        raise AnsibleActionFail(
            f"there is no node image yet: {path} is missing. Run the playbook kiban.baremetal.image first"
        )
    with open(path, encoding="utf-8") as handle:
        image_id = json.load(handle)["node"]["id"]
    files = {server.name: digests(node_files(site, server, args["authorized_key"])) for server in site.servers}
    return Intent(image_id=image_id, files=files, media_prefix=_media_prefix(site, args["site_dir"]))


def _media_prefix(site: Site, site_dir: str) -> str:
    """How the addresses of the media begin that this site inserts into BMCs; empty before there are any."""
    try:
        with open(os.path.join(site_dir, "ssh", "media_token"), encoding="ascii") as handle:
            return f"http://{site.deploy.bmc_address}:{site.deploy.port}/{handle.read().strip()}/"
    except FileNotFoundError:
        return ""


def _read(site: Site, intent: Intent, args: Mapping[str, Any], hostvars: Mapping[str, Mapping[str, Any]]) -> SiteState:
    access = SshAccess(args["site_dir"])
    addresses = {name: site.server(name).addresses["node"] for name in hostvars}
    # Templates are resolved here, in one thread: Ansible's variables are not made for many.
    options = {name: bmc_options(hostvars[name]["kiban_server"], hostvars[name]) for name in addresses}

    def host(name: str) -> HostState:
        return read_host(access, name, addresses[name], sorted(intent.files[name]))

    with ThreadPoolExecutor(max_workers=3) as pool:
        hosts = pool.submit(each, addresses, host, _AT_ONCE)
        bmcs = pool.submit(read_bmcs, options)
        cluster = pool.submit(read_cluster, args["kubectl"], os.path.join(args["site_dir"], "kubeconfig"))
        return SiteState(bmcs=bmcs.result(), hosts=hosts.result(), cluster=cluster.result())
