# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage driver C(iscsi): a volume is a LUN of a storage server of the site, over its portals."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from typing import Any

from .._site.model import Server, Site
from .sds import NODE_ROOT, PROVISIONER_RULES, Capabilities, Parts, api_server, rule, storage_class

__all__ = ["CAPABILITIES", "holders", "initiator", "manifests", "node_files", "portals"]

_NAMESPACE = "kiban-iscsi"
_NAME = "iscsi-provisioner"
_PARTS = Parts("kiban-iscsi", _NAMESPACE)

CAPABILITIES = Capabilities(
    driver="iscsi",
    storage_class="kiban-iscsi",
    provisioner="iscsi.kiban.baremetal",
    access_modes=("ReadWriteOnce",),
    moves=True,
    size_enforced=True,
    capacity_told=False,
    expansion=False,
    snapshots=False,
    workload=("deployment", _NAMESPACE, _NAME),
    # Which volume group holds a volume is not in the volume.
    room_told_by="",
)


def portals(site: Site) -> list[str]:
    """Where the storage server listens: as the site says, else the standard port of its node address."""
    sds = CAPABILITIES.chosen_by(site)
    return list(sds.portals) or [f"{site.server(str(sds.server)).addresses['node']}:3260"]


def holders(site: Site) -> list[str]:
    """The server that volumes are on."""
    return [str(CAPABILITIES.chosen_by(site).server)]


def initiator(site: Site, server: Server) -> str:
    """How a server is called by iSCSI, in the form of Debian's package."""
    return f"iqn.1993-08.org.debian:01:{server.name}.{site.domain}"


def node_files(site: Site, server: Server) -> dict[str, str]:
    """What a server has for it, path to content; nothing where the site does not use the driver.

    The name is there before the system starts for the first time, so iscsid knows no other.
    """
    if not CAPABILITIES.used_by(site):
        return {}
    return {
        "/etc/iscsi/initiatorname.iscsi": f"InitiatorName={initiator(site, server)}\n",
        "/etc/multipath.conf": _MULTIPATH,
    }


# Without any path writers wait, as NFS clients do: a file system that gets an error is read-only until its pod ends.
_MULTIPATH = """\
defaults {
    user_friendly_names no
    # A disk with one path, such as a local one, is left alone.
    find_multipaths yes
    polling_interval 5
}
overrides {
    no_path_retry queue
    fast_io_fail_tmo 5
}
blacklist {
    # NVMe has multipath of its own in the kernel.
    devnode "^nvme"
    protocol "scsi:ata"
    protocol "scsi:usb"
}
"""


def manifests(
    site: Site, image: str, pull_policy: str = "IfNotPresent", default_class: bool = True, api_port: int = 6443
) -> list[dict[str, Any]]:
    """Every object of the driver. C(image) is the reference by which nodes know the provisioner."""
    # A password of CHAP for each volume, which the kubelet of a node reads that mounts it.
    own = [rule("", ["secrets"], ["get", "create", "delete"])]
    return [
        # It runs the storage server's own LVM and tells its LIO what to offer, on the server's root.
        _PARTS.own_namespace("privileged"),
        *_PARTS.rights(_NAME, PROVISIONER_RULES, own),
        _deployment(site, image, api_port, pull_policy),
        storage_class(_PARTS, CAPABILITIES, default_class, volumeBindingMode="Immediate"),
    ]


def _deployment(site: Site, image: str, api_port: int, pull_policy: str) -> dict[str, Any]:
    sds, (its_container, its_pod) = CAPABILITIES.chosen_by(site), NODE_ROOT
    container = {
        **its_container,
        "image": image,
        "imagePullPolicy": pull_policy,
        "args": [
            "iscsi",
            f"--volume-group={sds.volume_group}",
            f"--namespace={_NAMESPACE}",
            f"--portals={','.join(portals(site))}",
            f"--initiators={','.join(sorted(initiator(site, server) for server in site.servers))}",
            "--root=/node",
        ],
        "env": api_server(site.cluster.endpoint, api_port),
    }
    return _PARTS.provisioner(_NAME, container, {**its_pod, "nodeSelector": {"kubernetes.io/hostname": sds.server}})
