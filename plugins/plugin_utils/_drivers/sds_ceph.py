# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage driver C(ceph): a Ceph cluster on servers of the site; a volume is a directory of its CephFS.

The daemons are services of the servers, from the packages of the node image, and no pods: they serve before the kubelet
starts and without the API server, so that a rack whose power was cut comes up by itself.
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import uuid
from typing import Any

from ...module_utils._ceph import FILESYSTEM
from .._site.model import Server, Site
from .sds import MAKES_DIRECTORIES, PROVISIONER_RULES, Capabilities, Parts, api_server, rule, storage_class

__all__ = [
    "CAPABILITIES",
    "CONFIG",
    "MOUNT",
    "SECRET",
    "ceph_conf",
    "devices",
    "fsid",
    "holders",
    "manifests",
    "monitors",
    "node_files",
    "services",
    "told_by",
]

CONFIG = "/etc/ceph/ceph.conf"
SECRET = f"/etc/ceph/{FILESYSTEM}.secret"
MOUNT = "/var/lib/kiban/ceph"
"""Where every server of the site has the file system."""
_UNIT = "var-lib-kiban-ceph"
_UNITS = "/etc/systemd/system"
_NAMESPACE = "kiban-ceph"
_NAME = "ceph-provisioner"
_PARTS = Parts("kiban-ceph", _NAMESPACE)
_SITES = uuid.UUID("0f5a3c1c-7f0e-5d8e-9a55-6b6962616e00")
_MONITOR_MEMORY = 512 << 20
"""Bytes that a monitor tries to keep to, a quarter of Ceph's own value."""
_OSD_MEMORY = 1 << 30
"""Bytes that an OSD tries to keep to; Ceph takes no less than 896 MiB, and an idle OSD needs a tenth of it."""

# Debian 13's Python modules of the manager cannot be loaded (bcrypt is not made for several interpreters in a process).
# Trying takes 200 MiB. What counts here, the states of placement groups, is in the manager itself.
# The names are those in /usr/share/ceph/mgr of Ceph 18.2.7.
_MODULES = (
    "alerts balancer crash devicehealth influx insights iostat localpool mirroring nfs orchestrator osd_perf_query "
    "osd_support pg_autoscaler progress prometheus rbd_support restful selftest snap_schedule stats status telegraf "
    "telemetry test_orchestrator volumes zabbix"
)

CAPABILITIES = Capabilities(
    driver="ceph",
    storage_class="kiban-ceph",
    provisioner="ceph.kiban.baremetal",
    access_modes=("ReadWriteOnce", "ReadWriteMany"),
    moves=True,
    size_enforced=True,
    capacity_told=False,
    expansion=True,
    snapshots=False,
    workload=("deployment", _NAMESPACE, _NAME),
)


def fsid(site: Site) -> str:
    """The cluster's name for itself: one for each name of a site."""
    return str(uuid.uuid5(_SITES, site.name))


def monitors(site: Site) -> dict[str, str]:
    """Server to its address, for the servers with a monitor; each has a manager and an MDS too."""
    if not CAPABILITIES.used_by(site):
        return {}
    return {name: site.server(name).addresses["node"] for name in CAPABILITIES.chosen_by(site).monitors}


def told_by(site: Site) -> dict[str, list[str]]:
    """Servers that know about the cluster, each with the file by which the probe knows that it shall ask there."""
    return {name: [CONFIG] for name in monitors(site)}


def devices(site: Site, server: Server) -> list[str]:
    """The logical volumes of a server that OSDs are on: the one volume of each pool that the model names."""
    if not CAPABILITIES.used_by(site):
        return []
    pools = {pool.name: pool for pool in site.profiles[server.profile].storage}
    return [f"/dev/{name}/{pools[name].volumes[0].name}" for name in CAPABILITIES.chosen_by(site).osds if name in pools]


def holders(site: Site) -> list[str]:
    """The servers with OSDs, which volumes are on."""
    return [server.name for server in site.servers if devices(site, server)]


def services(site: Site, server: Server) -> list[str]:
    """Units that run on a server, but for its OSDs: their numbers are known to the cluster alone."""
    if not CAPABILITIES.used_by(site):
        return []
    daemons = [f"ceph-{kind}@{server.name}.service" for kind in ("mon", "mgr", "mds")]
    return [f"{_UNIT}.automount", *(daemons if server.name in monitors(site) else [])]


def ceph_conf(site: Site, server: Server) -> str:
    """The one configuration file of all daemons and clients of a server. See ceph.conf(5) of Ceph 18."""
    address = server.addresses["node"]
    found: dict[str, dict[str, Any]] = {
        "global": {
            "fsid": fsid(site),
            "mon_host": " ".join(f"[v2:{place}:3300/0]" for _name, place in sorted(monitors(site).items())),
            "public_addr": address,
            "ms_bind_msgr1": "false",
            "auth_cluster_required": "cephx",
            "auth_service_required": "cephx",
            "auth_client_required": "cephx",
            "log_to_file": "false",
            "log_to_stderr": "true",
        },
        "mon": {
            "auth_allow_insecure_global_id_reclaim": "false",
            "mon_cluster_log_to_file": "false",
            "mon_memory_target": _MONITOR_MEMORY,
        },
        "mgr": {"mgr_disabled_modules": _MODULES},
        "mds": {"mds_cache_memory_limit": 256 << 20, "mds_join_fs": FILESYSTEM},
        "osd": {
            # The name of the server and not what its kernel calls it: a volume's copies are on different servers.
            "crush_location": f"root=default rack={server.rack} host={server.name}",
            "osd_memory_target": _OSD_MEMORY,
        },
    }
    return "\n".join(
        "\n".join([f"[{part}]", *(f"{key} = {value}" for key, value in values.items())]) + "\n"
        for part, values in found.items()
    )


def node_files(site: Site, server: Server) -> dict[str, str]:
    """What a server has for it, path to content; nothing where the site does not use the driver. No secrets."""
    if not CAPABILITIES.used_by(site):
        return {}
    never = "# Its module of the manager is not loaded.\n[Unit]\nConditionPathExists=/nowhere\n"
    # A device that comes late, or a quorum, is waited for as long as it takes.
    again = "[Unit]\nStartLimitIntervalSec=0\n"
    hosts = ",".join(f"{place}:3300" for _name, place in sorted(monitors(site).items()))
    return {
        CONFIG: ceph_conf(site, server),
        f"{_UNITS}/ceph-crash.service.d/kiban.conf": never,
        **{f"{_UNITS}/ceph-{kind}@.service.d/kiban.conf": again for kind in ("mon", "mgr", "mds")},
        f"{_UNITS}/ceph-osd@.service.d/kiban.conf": again
        + "[Service]\nExecStartPre=+/bin/chown ceph:ceph /var/lib/ceph/osd/ceph-%i/block\n",
        # By its first use: a server whose cluster is not there yet starts all the same, and nothing is ever written to
        # the directory below.
        f"{_UNITS}/{_UNIT}.automount": "[Unit]\nDescription=Volumes in Ceph\nStartLimitIntervalSec=0\n"
        f"[Automount]\nWhere={MOUNT}\n[Install]\nWantedBy=multi-user.target\n",
        f"{_UNITS}/{_UNIT}.mount": "[Unit]\nDescription=Volumes in Ceph\nAfter=network-online.target ceph.target\n"
        "StartLimitIntervalSec=0\n"
        f"[Mount]\nWhat={hosts}:/\nWhere={MOUNT}\nType=ceph\n"
        f"Options=name={FILESYSTEM},secretfile={SECRET},fs={FILESYSTEM},ms_mode=prefer-crc,noatime,_netdev\n",
    }


def manifests(
    site: Site, image: str, pull_policy: str = "IfNotPresent", default_class: bool = True, api_port: int = 6443
) -> list[dict[str, Any]]:
    """Every object of the driver. C(image) is the reference by which nodes know the provisioner."""
    cluster = [*PROVISIONER_RULES, rule("", ["persistentvolumeclaims/status"], ["patch"])]
    return [
        # Its pod sees the servers' own mount, which only this level allows.
        _PARTS.own_namespace("privileged"),
        *_PARTS.rights(_NAME, cluster, []),
        _deployment(image, site.cluster.endpoint, api_port, pull_policy),
        storage_class(_PARTS, CAPABILITIES, default_class, volumeBindingMode="Immediate"),
    ]


def _deployment(image: str, api_host: str, api_port: int, pull_policy: str) -> dict[str, Any]:
    its_container, its_pod = MAKES_DIRECTORIES
    container = {
        **its_container,
        "image": image,
        "imagePullPolicy": pull_policy,
        "args": ["ceph", f"--export={MOUNT}", "--root=/export"],
        "env": api_server(api_host, api_port),
        "volumeMounts": [{"name": "volumes", "mountPath": "/export", "mountPropagation": "HostToContainer"}],
    }
    pod = {**its_pod, "volumes": [{"name": "volumes", "hostPath": {"path": MOUNT, "type": "Directory"}}]}
    return _PARTS.provisioner(_NAME, container, pod)
