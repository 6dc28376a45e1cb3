# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of kiban.baremetal.plan: reads a whole site in one process and compares it with its model."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._drivers import cluster, sds_ceph, traefik
from ..plugin_utils._fabric.wiring import wiring
from ..plugin_utils._play import site_of_play, write_result
from ..plugin_utils._probe.program import LOCAL
from ..plugin_utils._readers.bmcs import asked_of_bmcs, bmc_options, read_bmcs, read_ports
from ..plugin_utils._readers.cluster import read_cluster, read_objects, with_pods
from ..plugin_utils._readers.hosts import SshAccess, read_hosts
from ..plugin_utils._readers.strangers import elsewhere, find_bmcs
from ..plugin_utils._runs.leases import read_leases
from ..plugin_utils._site.changes import Intent
from ..plugin_utils._site.kubelet import kubelet_config
from ..plugin_utils._site.model import Site
from ..plugin_utils._site.plan import Plan, asks, installs, make_plan, unfinished
from ..plugin_utils._site.render import digests, node_files
from ..plugin_utils._site.state import SiteState, SwitchState
from ..plugin_utils._site.todo import todo_hosts, todo_nodes, wave_before

_AT_ONCE = 100
_PAUSE = 5.0


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
                "bundle_manifest": {"type": "path"},
                "path": {"type": "path"},
                "force": {"type": "list", "elements": "str", "default": []},
                "waves": {"type": "list", "elements": "list", "default": []},
                "wave": {"type": "list", "elements": "str", "default": []},
                "timeout": {"type": "int", "default": 300},
                "switches": {"type": "dict", "default": {}},
            }
        )
        site, names = site_of_play(task_vars)
        hostvars = task_vars["hostvars"]
        intent = _intent(site, args)

        def look(names: Collection[str]) -> tuple[Plan, SiteState]:
            state = _read(site, intent, args, {name: hostvars[name] for name in names})
            state = _with_cables(site, intent, args["force"], hostvars, state)
            state = _read_more(site, intent, args, state)
            return make_plan(site, intent, state, args["force"]), state

        if not args["wave"]:
            plan, state = look(names)
        else:
            plan, state = _when_allowed(look, args["wave"], wave_before(args["waves"], args["wave"]), args["timeout"])
        return self._result(site, plan, intent, state, args)

    def _result(
        self, site: Site, plan: Plan, intent: Intent, state: SiteState, args: Mapping[str, Any]
    ) -> dict[str, Any]:
        result = plan.to_dict()
        if args["path"]:
            write_result(args["path"], result)
        result["lines"] = plan.lines
        result["hosts"] = todo_hosts(plan, intent, state)
        result.update(todo_nodes(site, plan))
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


def _when_allowed(
    look: Callable[[Collection[str]], tuple[Plan, SiteState]], wave: Collection[str], last: Sequence[str], seconds: int
) -> tuple[Plan, SiteState]:
    """The plan of a wave, as soon as nobody of it is refused, or as it is when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        plan, state = look([*last, *wave])
        missing = unfinished(plan, state, last)
        plan = plan.of_wave(wave, missing)
        # What is missing of the wave before is no matter of time: that wave has been waited for.
        if missing or not plan.problems or time.monotonic() > deadline:
            return plan, state
        time.sleep(_PAUSE)


def _intent(site: Site, args: Mapping[str, Any]) -> Intent:
    path = args["image_manifest"]
    if not os.path.exists(path):
        raise AnsibleActionFail(
            f"there is no node image yet: {path} is missing. Run the playbook kiban.baremetal.image first"
        )
    with open(path, encoding="utf-8") as handle:
        image_id = json.load(handle)["node"]["id"]
    key = _authorized_key(args["site_dir"])
    files = {server.name: digests(node_files(site, server, key)) for server in site.servers}
    bundle = _bundle(args["bundle_manifest"])
    return Intent(
        image_id=image_id,
        files=files,
        media_prefix=_media_prefix(site, args["site_dir"]),
        kubelet_config=kubelet_config(site),
        # Empty where there is no bundle any more.
        runtime=next((str(entry["version"]) for entry in bundle if entry["name"] == "containerd"), ""),
        objects=cluster.comparable(
            site,
            {entry["name"]: entry["reference"] for entry in bundle if entry["kind"] == "image"},
            _definitions(args["bundle_manifest"], bundle),
        ),
    )


def _authorized_key(site_dir: str) -> str:
    """The public key that servers let in; empty before there is one, when no server can be read."""
    try:
        with open(SshAccess(site_dir).key + ".pub", encoding="ascii") as handle:
            return handle.read().strip()
    except FileNotFoundError:
        return ""


def _bundle(path: str | None) -> list[dict[str, Any]]:
    if not path or not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as handle:
        artifacts: list[dict[str, Any]] = json.load(handle)["artifacts"]
    return artifacts


def _definitions(path: str, bundle: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The kinds of the Gateway API, where the bundle has them."""
    file = next((entry["file"] for entry in bundle if entry["name"] == traefik.DEFINITIONS), None)
    if file is None:
        return []
    with open(os.path.join(os.path.dirname(path), file), encoding="utf-8") as handle:
        return traefik.definitions(handle.read())


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

    with ThreadPoolExecutor(max_workers=5) as pool:
        hosts = pool.submit(read_hosts, access, addresses, intent.files, _AT_ONCE, site.with_layouts)
        bmcs = pool.submit(read_bmcs, options, asked_of_bmcs(site))
        kubeconfig = os.path.join(args["site_dir"], "kubeconfig")
        cluster = pool.submit(read_cluster, args["kubectl"], kubeconfig)
        # A wave is about its servers only: what belongs to none of them the run has compared already.
        there = None if args["wave"] else pool.submit(read_objects, args["kubectl"], kubeconfig, intent.objects)
        whole = not args["wave"] and len(addresses) == len(site.servers)
        strangers = pool.submit(find_bmcs, elsewhere(site) if whole else [])
        leases = read_leases(args["site_dir"], os.getppid())
        known = replace(cluster.result(), objects=there.result() if there else None)
        return SiteState(
            bmcs=bmcs.result(),
            hosts=hosts.result(),
            cluster=known,
            leases=leases,
            strangers=strangers.result(),
            switches={name: SwitchState.from_result(found) for name, found in args["switches"].items()},
        )


def _with_cables(
    site: Site, intent: Intent, force: Collection[str], hostvars: Mapping[str, Mapping[str, Any]], state: SiteState
) -> SiteState:
    """What is heard of cables. Only BMCs whose server would be installed are asked."""
    names = installs(site, intent, state)
    hosts = {name: host.neighbors for name, host in state.hosts.items()}
    switches = {name: switch.neighbors for name, switch in state.switches.items()}
    if not (names or any(hosts.values()) or any(switches.values())):
        return state
    ports = read_ports({name: bmc_options(hostvars[name]["kiban_server"], hostvars[name]) for name in names})
    return replace(state, wiring=wiring(site, ports, hosts, switches, force))


def _read_more(site: Site, intent: Intent, args: Mapping[str, Any], state: SiteState) -> SiteState:
    """What only matters when a server that somebody depends on would be disrupted: its pods, etcd and Ceph."""
    disrupted = [name for name, level in asks(site, intent, state) if level != "none"]
    if not disrupted or not state.cluster.reachable:
        return state
    access = SshAccess(args["site_dir"])
    kubeconfig = os.path.join(args["site_dir"], "kubeconfig")
    ceph = sds_ceph.told_by(site)
    others = {
        server.name: server.addresses["node"]
        for server in site.servers
        if ("control_plane" in server.roles or server.name in ceph)
        and server.name not in state.hosts
        and server.name in state.cluster.nodes
    }
    return replace(
        state,
        others=read_hosts(access, others, ceph, _AT_ONCE),
        cluster=with_pods(state.cluster, args["kubectl"], kubeconfig, disrupted),
    )
