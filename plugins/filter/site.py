# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that render what a server gets from the site model. The work is done in plugin_utils/_site."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._site.kubeadm import init_config, join_config
from ..plugin_utils._site.load import load_site
from ..plugin_utils._site.model import Server, Site, SiteError
from ..plugin_utils._site.render import node_files


def _server(data: Mapping[str, Any], name: str) -> tuple[Site, Server]:
    try:
        site = load_site(data)
        return site, site.server(name)
    except SiteError as exc:
        raise AnsibleFilterError(f"not a site model: {exc}") from exc
    except KeyError as exc:
        raise AnsibleFilterError(f"the site has no server '{name}'") from exc


def kubeadm_init_config(data: Mapping[str, Any], name: str, image_tags: Mapping[str, str] | None = None) -> str:
    site, server = _server(data, name)
    return init_config(site, server, image_tags or {})


def kubeadm_join_config(data: Mapping[str, Any], name: str, token: str) -> str:
    _site, server = _server(data, name)
    return join_config(server, token)


def server_files(data: Mapping[str, Any], name: str, authorized_key: str) -> list[dict[str, str]]:
    files = node_files(*_server(data, name), authorized_key)
    return [{"path": path, "content": content, "mode": _mode(path)} for path, content in files.items()]


def _mode(path: str) -> str:
    if path.startswith("/root/.ssh/"):
        return "0600"
    return "0444" if path == "/etc/machine-id" else "0644"


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "kubeadm_init_config": kubeadm_init_config,
            "kubeadm_join_config": kubeadm_join_config,
            "server_files": server_files,
        }
