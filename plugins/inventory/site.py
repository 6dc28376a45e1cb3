# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: site
short_description: The site model as an inventory
version_added: 0.1.0
author:
  - The kiban.baremetal contributors (@kiban)
description:
  - Reads one file that describes a site (networks, profiles, racks with their servers, the cluster) and makes its
    servers the hosts of the inventory.
  - The name of the file must end in C(site.yml) or C(site.yaml). Its keys are described in C(docs/site-model.md);
    a JSON Schema for editors is C(plugins/plugin_utils/_site/site.schema.json).
  - A file with anything wrong in it is refused as a whole, with every problem by the path of its key.
  - Groups are C(servers), C(control_plane), C(workers), and C(rack_<name>) and C(profile_<name>), there with hyphens
    as underscores.
  - The switches of the file are hosts too, in C(switches) and C(switches_<os>). They have C(ansible_host), their
    management address, and C(kiban_switch). How to log in to them belongs in the variables of these groups.
  - Each host has C(ansible_host), its node address, and C(kiban_server), everything about the server in resolved form.
  - Group C(all) has C(kiban_site), the whole model in normal form, C(kiban_site_json), the same as one text for this
    collection's filters, C(kiban_work), the work directory, and C(kiban_site_dir), the directory of this site in it.
  - Group C(servers) has the variables for SSH. Host keys are always checked, against the known hosts of the site only,
    under the name of the server.
  - Texts of the file are data. They are never evaluated as templates.
notes:
  - Secrets do not belong in the file. User and password of the BMCs are the variables C(kiban_bmc_username) and
    C(kiban_bmc_password), from Ansible Vault or the environment.
requirements:
  - netaddr
  - jmespath
  - jsonschema
options:
  plugin:
    description: Name of this plugin; the first key of the file.
    type: str
    required: true
    choices: [kiban.baremetal.site]
  work_dir:
    description:
      - Directory on the control host for images, keys and all else that is made.
      - It belongs to the control host and not to the site, so it is not a key of the file.
    type: path
    default: ~/.cache/kiban
    env:
      - name: KIBAN_WORK
    ini:
      - section: kiban
        key: work_dir
"""

EXAMPLES = r"""
# inventories/small/site.yml
---
plugin: kiban.baremetal.site
site: {name: small, domain: small.example.net}
networks:
  bmc: {cidr: 192.0.2.0/24}
  node: {cidr: 198.51.100.0/24, gateway: 198.51.100.1}
deploy: {address: 198.51.100.2, bmc_address: 192.0.2.2}
profiles:
  compute:
    disks:
      system: {select: "media_type == 'SSD'"}
racks:
  - name: a01
    servers:
      - {name: cp1, roles: [control_plane], profile: compute, bmc: 192.0.2.11, addresses: {node: 198.51.100.11}}
      - {name: "node[01:32]", roles: [worker], profile: compute, bmc: 192.0.2.21, addresses: {node: 198.51.100.21}}
cluster:
  kubernetes: v1.36.3
  sdn: {driver: bgp, pods: 10.244.0.0/16, services: 10.96.0.0/16}
"""

import gc
import os
import shlex
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

try:
    from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.check_servers import group_name
    from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site, site_text
    from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Server, Site, SiteError, Switch
    from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.plain import parse
    from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.stages import STAGES
    from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import (
        server_vars,
        site_vars,
        switch_vars,
    )
except ImportError as error:
    IMPORT_ERROR: ImportError | None = error
else:
    IMPORT_ERROR = None

_ROLE_GROUPS = {"control_plane": "control_plane", "worker": "workers"}


class InventoryModule(BaseInventoryPlugin):
    """Thin: the model decides, this hands its results to Ansible."""

    NAME = "kiban.baremetal.site"

    # trusted_by_default stays False: Ansible then takes every text given below as data, not as a template.

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(("site.yml", "site.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        if IMPORT_ERROR is not None:
            message = f"The inventory plugin {self.NAME} needs a Python library that is missing: {IMPORT_ERROR}"
            raise AnsibleParserError(message) from IMPORT_ERROR
        self.set_options(direct={"plugin": self.NAME})
        site = _load(loader, path)
        work = os.path.abspath(self.get_option("work_dir"))
        self._add_groups(site, work)
        for server in site.servers:
            self._add_server(site, server, work)
        for switch in site.switches:
            self._add_switch(switch)
        # Ansible forks for each task of each host. Without this the collector of each of them walks over the whole
        # site, and so makes copies of the memory that they share.
        gc.freeze()

    def _add_groups(self, site: Site, work: str) -> None:
        self.inventory.add_group("servers")
        for group in _ROLE_GROUPS.values():
            self.inventory.add_group(group)
        # Empty until a plan names servers; they are here so that a play on one that stays empty needs no warning.
        for stage in STAGES:
            self.inventory.add_group(f"todo_{stage}")
        for group in ("todo", "todo_waits", "left_alone", "ceph_monitors", "iscsi_servers", "nfs_servers"):
            self.inventory.add_group(group)
        for group in ("switches", "switches_linux", "todo_switches"):
            self.inventory.add_group(group)
        for group in [group_name("rack", rack.name) for rack in site.racks]:
            self.inventory.add_group(group)
        for group in [group_name("profile", profile) for profile in site.profiles]:
            self.inventory.add_group(group)
        site_dir = _site_dir(site, work)
        for name, value in {
            "kiban_site": site_vars(site),
            "kiban_site_json": site_text(site),
            "kiban_work": work,
            "kiban_site_dir": site_dir,
        }.items():
            self.inventory.set_variable("all", name, value)
        for name, value in {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": os.path.join(site_dir, "ssh", "id_ed25519"),
            "ansible_python_interpreter": "/usr/bin/python3",
        }.items():
            self.inventory.set_variable("servers", name, value)

    def _add_server(self, site: Site, server: Server, work: str) -> None:
        groups = ["servers", *(_ROLE_GROUPS[role] for role in server.roles)]
        groups += [group_name("rack", server.rack), group_name("profile", server.profile)]
        groups += ["ceph_monitors" for sds in site.cluster.sds if server.name in sds.monitors]
        groups += [f"{sds.driver}_servers" for sds in site.cluster.sds if sds.server == server.name]
        self.inventory.add_host(server.name)
        for group in groups:
            self.inventory.add_child(group, server.name)
        self.inventory.set_variable(server.name, "ansible_host", server.addresses["node"])
        self.inventory.set_variable(server.name, "ansible_ssh_common_args", _ssh_args(site, server, work))
        self.inventory.set_variable(server.name, "kiban_server", server_vars(site, server))

    def _add_switch(self, switch: Switch) -> None:
        self.inventory.add_group(f"switches_{switch.os}")
        self.inventory.add_host(switch.name)
        for group in ("switches", f"switches_{switch.os}"):
            self.inventory.add_child(group, switch.name)
        self.inventory.set_variable(switch.name, "ansible_host", switch.address)
        self.inventory.set_variable(switch.name, "kiban_switch", switch_vars(switch))


def _load(loader: Any, path: str) -> Site:
    """The site of a file; AnsibleParserError with all problems."""
    directory = os.path.dirname(os.path.abspath(path))

    def resolve(name: str) -> str:
        return os.path.normpath(os.path.join(directory, os.path.expanduser(name)))

    try:
        data = parse(loader.get_text_file_contents(path))
        if isinstance(data, dict) and data.get("plugin") != InventoryModule.NAME:
            message = f"{path} is not a site file of kiban.baremetal: it must state plugin: {InventoryModule.NAME}"
            raise AnsibleParserError(message)
        return load_site(data, resolve)
    except SiteError as error:
        count = len(error.problems)
        title = f"The site file {path} has {count} problem{'s' if count > 1 else ''}:"
        lines = "\n".join(f"- {problem}" for problem in error.problems)
        raise AnsibleParserError(f"{title}\n{lines}") from None


def _site_dir(site: Site, work: str) -> str:
    return os.path.join(work, "sites", site.name)


def _ssh_args(site: Site, server: Server, work: str) -> str:
    known_hosts = os.path.join(_site_dir(site, work), "known_hosts")
    options = {
        # OpenSSH takes a blank as the start of a second file name, and % as a token.
        "UserKnownHostsFile": '"' + known_hosts.replace("%", "%%") + '"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        # Known under its name: the ramdisk and the installed system answer at one address.
        "HostKeyAlias": server.name,
        "CheckHostIP": "no",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "ControlMaster": "auto",
        "ControlPersist": "120s",
        # A server that was powered off must not leave a connection that hangs.
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
    }
    return " ".join("-o " + shlex.quote(f"{name}={value}") for name, value in options.items())
