# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of kiban.baremetal.disruption_permit: asks the one decision about one server, and holds the server."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._drivers import sds_ceph
from ..plugin_utils._play import lease_errors
from ..plugin_utils._readers.cluster import read_cluster, with_pods
from ..plugin_utils._readers.hosts import SshAccess, read_hosts
from ..plugin_utils._runs.leases import asking, read_leases, take_lease
from ..plugin_utils._site.disruption import refusals
from ..plugin_utils._site.load import load_text
from ..plugin_utils._site.model import Site, SiteError
from ..plugin_utils._site.service import depended_on, service_of
from ..plugin_utils._site.state import SiteState


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _unused, args = self.validate_argument_spec(
            {
                "name": {"type": "str"},
                "level": {"type": "str", "choices": ["none", "disk", "reboot", "drain", "data"], "required": True},
                "site_dir": {"type": "path", "required": True},
                "kubectl": {"type": "path", "default": "kubectl"},
                "force": {"type": "list", "elements": "str", "default": []},
            }
        )
        name = args["name"] or task_vars["inventory_hostname"]
        site = site_of(task_vars["hostvars"], name)
        state = read_state(site, name, args) if args["level"] != "none" else SiteState()
        with lease_errors(name), asking(args["site_dir"]):
            reasons = decide(site, state, name, args["level"], args["site_dir"], os.getppid())
            if reasons and name not in args["force"]:
                raise AnsibleActionFail(
                    f"{name}: must not be disrupted now, left alone: {'; '.join(reasons)}. Run again when that is "
                    f"over, or accept the loss with -e kiban_force={name}",
                    result={"reasons": list(reasons)},
                )
            if not self._task.check_mode:
                take_lease(args["site_dir"], name, os.getppid())
        warnings = [f"{name}: is disrupted by force, although {'; '.join(reasons)}"] if reasons else []
        return {**result, "changed": False, "reasons": list(reasons), "warnings": warnings}


def site_of(hostvars: Mapping[str, Any], name: str) -> Site:
    """The site of a server, which need not be among the hosts of the play."""
    if name not in hostvars or "kiban_site_json" not in hostvars[name]:
        raise AnsibleActionFail(f"{name} is no server of a site: look at the inventory")
    try:
        return load_text(hostvars[name]["kiban_site_json"])
    except SiteError as exc:
        raise AnsibleActionFail(str(exc)) from exc


def read_state(site: Site, name: str, args: Mapping[str, Any]) -> SiteState:
    """What the decision needs of this server, of the control plane, of Ceph and of the cluster."""
    kubeconfig = os.path.join(args["site_dir"], "kubeconfig")
    cluster = read_cluster(args["kubectl"], kubeconfig)
    if cluster.reachable and args["level"] != "disk":
        cluster = with_pods(cluster, args["kubectl"], kubeconfig, [name])
    # Of Ceph those tell that have its configuration.
    ceph = sds_ceph.told_by(site)
    servers = [site.server(name), *site.with_role("control_plane"), *map(site.server, ceph)]
    asked = {server.name: server.addresses["node"] for server in servers}
    hosts = read_hosts(SshAccess(args["site_dir"]), asked, ceph, len(asked))
    return SiteState(hosts={name: hosts.pop(name)}, others=hosts, cluster=cluster)


def decide(site: Site, state: SiteState, name: str, level: str, site_dir: str, run: int) -> Collection[str]:
    """Why not now. What this run holds already counts as taken."""
    service = service_of(site, replace(state, leases=read_leases(site_dir, run)))
    serves = level != "none" and depended_on(site.server(name), state)
    # How they are disrupted is not noted: as if their pods were lost with them.
    taken = dict.fromkeys(read_leases(site_dir, run, mine=True).keys() - {name}, "reboot")
    return refusals(site, service, name, level if serves else "none", taken)
