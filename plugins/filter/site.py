# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that render what a server gets from the site model. The work is done in plugin_utils/_site."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._filters import check_libraries, image_references

try:
    from ..plugin_utils._drivers import cluster, traefik
    from ..plugin_utils._play import site_of_input
    from ..plugin_utils._site.ipam import address6
    from ..plugin_utils._site.kubeadm import init_config, join_config, join_patches, patches
    from ..plugin_utils._site.model import Server, Site
    from ..plugin_utils._site.render import file_mode, node_files
except ImportError as error:
    IMPORT_ERROR: ImportError | None = error
else:
    IMPORT_ERROR = None


def _site(data: Mapping[str, Any] | str) -> Site:
    check_libraries(IMPORT_ERROR)
    return site_of_input(data)


def _server(data: Mapping[str, Any] | str, name: str) -> tuple[Site, Server]:
    site = _site(data)
    return site, _find(site, name)


def _find(site: Site, name: str) -> Server:
    try:
        return site.server(name)
    except KeyError as exc:
        raise AnsibleFilterError(f"the site has no server '{name}'") from exc


def kubeadm_init_config(data: Mapping[str, Any] | str, name: str, image_tags: Mapping[str, str] | None = None) -> str:
    site, server = _server(data, name)
    return init_config(site, server, image_tags or {})


def kubeadm_join_config(data: Mapping[str, Any] | str, name: str, token: str) -> str:
    site, server = _server(data, name)
    return join_config(site, server, token)


def kubeadm_patches(data: Mapping[str, Any] | str, name: str) -> dict[str, str]:
    site, server = _server(data, name)
    return patches(site) if "control_plane" in server.roles else join_patches(site)


def server_files(data: Mapping[str, Any] | str, name: str, authorized_key: str) -> list[dict[str, str]]:
    files = node_files(*_server(data, name), authorized_key)
    return [{"path": path, "content": content, "mode": file_mode(path)} for path, content in files.items()]


def image_tags(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The tags of the bundle's images that kubeadm would choose by itself, and perhaps differently."""
    return {name: reference.rsplit(":", 1)[1] for name, reference in image_references(manifest, _TAGGED).items()}


def cluster_manifests(
    data: Mapping[str, Any] | str, manifest: Mapping[str, Any], definitions: str = ""
) -> list[dict[str, Any]]:
    site = _site(data)
    return cluster.manifests(
        site, image_references(manifest, cluster.images_of(site)), traefik.definitions(definitions)
    )


def unwanted_manifests(data: Mapping[str, Any] | str) -> list[dict[str, Any]]:
    return cluster.unwanted(_site(data))


def _address6(data: Mapping[str, Any] | str, address: str) -> str:
    for network in _site(data).networks.values():
        if address and ipaddress.ip_address(address) in ipaddress.ip_network(network.cidr):
            return address6(network, address) or ""
    return ""


def site_artifacts(data: Mapping[str, Any] | str) -> list[str]:
    """Optional artifacts of the bundle that a site needs; of no site none."""
    return cluster.artifacts(_site(data)) if data else []


def sdn_capabilities(data: Mapping[str, Any] | str) -> dict[str, Any]:
    sdn = _site(data).cluster.sdn
    return {"overlay": sdn.hidden, "masquerade": sdn.masquerades, "policies": sdn.policy_engine or ""}


def node_label_manifests(
    labels: Mapping[str, Mapping[str, str]], names: list[str], ranges: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Node objects with nothing but their labels and ranges, for a server-side apply that leaves all else alone."""
    ranged = {name: {"spec": {"podCIDR": pods, "podCIDRs": [pods]}} for name, pods in (ranges or {}).items()}
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": dict(labels[name])},
            **ranged.get(name, {}),
        }
        for name in names
    ]


_TAGGED = ("coredns", "etcd")


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "address6": _address6,
            "cluster_manifests": cluster_manifests,
            "image_tags": image_tags,
            "kubeadm_init_config": kubeadm_init_config,
            "kubeadm_join_config": kubeadm_join_config,
            "kubeadm_patches": kubeadm_patches,
            "node_label_manifests": node_label_manifests,
            "sdn_capabilities": sdn_capabilities,
            "server_files": server_files,
            "site_artifacts": site_artifacts,
            "unwanted_manifests": unwanted_manifests,
        }
