# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage driver C(nfs): a volume is a directory of an NFS export, which the kubelet mounts where its pods run."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from typing import Any

from .._site.model import Server, Site
from .sds import MAKES_DIRECTORIES, PROVISIONER_RULES, Capabilities, Parts, api_server, storage_class

__all__ = ["CAPABILITIES", "EXPORTS", "address", "exports", "holders", "manifests", "node_files"]

_NAMESPACE = "kiban-nfs"
_NAME = "nfs-provisioner"
_PARTS = Parts("kiban-nfs", _NAMESPACE)

CAPABILITIES = Capabilities(
    driver="nfs",
    storage_class="kiban-nfs",
    provisioner="nfs.kiban.baremetal",
    access_modes=("ReadWriteOnce", "ReadWriteMany"),
    moves=True,
    size_enforced=False,
    capacity_told=False,
    expansion=False,
    snapshots=False,
    workload=("deployment", _NAMESPACE, _NAME),
    room_told_by="server",
)


def address(site: Site) -> str:
    """Where nodes mount from: the node address of a server of the site, or the filer as it is named."""
    server = CAPABILITIES.chosen_by(site).server or ""
    return next((known.addresses["node"] for known in site.servers if known.name == server), server)


def exports(site: Site, server: Server) -> bool:
    """The volumes are on this server of the site."""
    return CAPABILITIES.used_by(site) and CAPABILITIES.chosen_by(site).server == server.name


def holders(site: Site) -> list[str]:
    """The server of the site that volumes are on; none with somebody's filer."""
    return [server.name for server in site.servers if exports(site, server)]


EXPORTS = "/etc/exports.d/kiban.exports"
_UNITS = "/etc/systemd/system"


def node_files(site: Site, server: Server) -> dict[str, str]:
    """What a server has for it, path to content; nothing where the site does not use the driver.

    The one node image has an NFS server, which starts by itself only where there is an export of ours. NFS 4 needs no
    portmapper, so none listens.
    """
    if not CAPABILITIES.used_by(site):
        return {}
    files = {
        f"{_UNITS}/nfs-server.service.d/kiban.conf": f"[Unit]\nConditionPathExists={EXPORTS}\n",
        **{
            f"{_UNITS}/{unit}.d/kiban.conf": "# NFS 4 does not need it.\n[Unit]\nConditionPathExists=/nowhere\n"
            for unit in ("rpcbind.service", "rpcbind.socket", "rpc-statd.service", "rpc-statd-notify.service")
        },
    }
    if exports(site, server):
        files["/etc/nfs.conf.d/kiban.conf"] = "[nfsd]\nvers3=n\nvers4=y\n"
        files[EXPORTS] = _exports(site, str(CAPABILITIES.chosen_by(site).export))
    return files


def _exports(site: Site, export: str) -> str:
    """One directory, to the servers of the site. See exports(5).

    C(mountpoint) keeps it from being served while nothing is mounted there. Root of a node stays root: pods have users
    of their own, and the provisioner removes what belongs to them.
    """
    options = "rw,sync,no_subtree_check,no_root_squash,mountpoint"
    clients = sorted(server.addresses["node"] for server in site.servers)
    return f"{export} " + " ".join(f"{client}({options})" for client in clients) + "\n"


def manifests(
    site: Site, image: str, pull_policy: str = "IfNotPresent", default_class: bool = True, api_port: int = 6443
) -> list[dict[str, Any]]:
    """Every object of the driver. C(image) is the reference by which nodes know the provisioner."""
    sds, server = CAPABILITIES.chosen_by(site), address(site)
    # NFS has no level of Pod Security below this one: volumes of the type nfs are not among those of "restricted".
    return [
        _PARTS.own_namespace("baseline"),
        *_PARTS.rights(_NAME, PROVISIONER_RULES, []),
        _deployment(server, str(sds.export), image, site.cluster.endpoint, api_port, pull_policy),
        storage_class(
            _PARTS, CAPABILITIES, default_class, volumeBindingMode="Immediate", mountOptions=list(sds.mount_options)
        ),
    ]


def _deployment(server: str, export: str, image: str, api_host: str, api_port: int, pull_policy: str) -> dict[str, Any]:
    its_container, its_pod = MAKES_DIRECTORIES
    container = {
        **its_container,
        "image": image,
        "imagePullPolicy": pull_policy,
        "args": ["nfs", f"--server={server}", f"--export={export}"],
        "env": api_server(api_host, api_port),
        "volumeMounts": [{"name": "export", "mountPath": "/export"}],
    }
    pod = {**its_pod, "volumes": [{"name": "export", "nfs": {"server": server, "path": export}}]}
    return _PARTS.provisioner(_NAME, container, pod)
