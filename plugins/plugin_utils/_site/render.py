# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that make an installed node image one particular server. Pure: the same model gives the same bytes."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import hashlib
import uuid

from .._drivers.masquerade import masquerade_files
from .._drivers.sdn_drivers import DRIVERS
from .._drivers.sds_ceph import node_files as ceph_files
from .._drivers.sds_iscsi import node_files as iscsi_files
from .._drivers.sds_nfs import node_files as nfs_files
from .._endpoint.files import endpoint_files
from .model import Server, Site

__all__ = ["digests", "file_mode", "machine_id", "node_files"]

_NAMESPACE = uuid.UUID("5f0f5f3a-3f0b-5e0e-9d6a-6b6962616e00")
_CNI_CONFIG = "/etc/cni/net.d/10-kiban.conflist"


def machine_id(site: Site, server: Server) -> str:
    """Stable identity of a server for systemd, see machine-id(5)."""
    return uuid.uuid5(_NAMESPACE, f"{site.name}/{server.name}").hex


def node_files(site: Site, server: Server, authorized_key: str) -> dict[str, str]:
    """Path to content. Nothing in it is secret."""
    address, network = server.addresses["node"], DRIVERS[site.cluster.sdn.driver]
    hosts = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    hosts.append(f"{address} {server.name}.{site.domain} {server.name}")
    files = {
        "/etc/hostname": f"{server.name}\n",
        "/etc/hosts": "\n".join(hosts) + "\n",
        "/etc/machine-id": f"{machine_id(site, server)}\n",
        "/etc/resolv.conf": "".join(f"nameserver {resolver}\n" for resolver in site.dns) + f"search {site.domain}\n",
        "/root/.ssh/authorized_keys": f"{authorized_key}\n",
        _CNI_CONFIG: network.cni_config(site, server),
        **network.networkd_files(site, server),
        **network.router_files(site, server),
        **masquerade_files(site, server),
        **endpoint_files(site, server),
        **iscsi_files(site, server),
        **nfs_files(site, server),
        **ceph_files(site, server),
    }
    if site.ntp:
        files["/etc/systemd/timesyncd.conf.d/kiban.conf"] = f"[Time]\nNTP={' '.join(site.ntp)}\n"
    return files


def file_mode(path: str) -> str:
    """The mode that such a file has, in octal digits."""
    if path.startswith("/root/.ssh/"):
        return "0600"
    return "0444" if path == "/etc/machine-id" else "0644"


def digests(files: dict[str, str]) -> dict[str, str]:
    """Path to sha256 and mode, for comparing with what a server has."""
    return {
        path: f"{hashlib.sha256(content.encode()).hexdigest()} {file_mode(path)}" for path, content in files.items()
    }
