# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Daemons of the virtual rack and the files that they read."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "daemons",
    "database",
    "files",
    "libvirt_uri",
    "only_switch_daemons",
    "router_files",
    "switch_daemons",
    "switch_files",
]

BMC_PORT = 443
OVS_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
FRR_DIRECTORY = "/usr/lib/frr"
# libvirt has one place for its state. The lab's daemon sees directories of the lab there instead, so that a libvirt
# of the machine is never touched.
_LIBVIRT_PLACES = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
    "run": "/run",
    "passwd": "/etc/passwd",
    "group": "/etc/group",
}
# libvirt does not start without these names, although nothing runs under them here; on Debian 12 only a package that
# would start a libvirt of the machine's own makes them.
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nlibvirt-qemu:x:0:0::/:/usr/sbin/nologin\n"
_GROUP = "root:x:0:\nlibvirt-qemu:x:0:\nlibvirt:x:0:\nkvm:x:0:\n"
_QEMU_CONF = """# QEMU runs as root without confinement, so that it starts in a tenth of the time.
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = "logd"
"""
_LIBVIRTD_CONF = """unix_sock_rw_perms = "0700"
unix_sock_ro_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_level = 3
log_outputs = "3:stderr"
"""


def libvirt_uri(directory: str) -> str:
    return f"qemu+unix:///system?socket={directory}/libvirt/run/libvirt/libvirt-sock"


def files(
    directory: str,
    servers: Sequence[Mapping[str, Any]],
    routers: Mapping[str, str],
    settings: Mapping[str, Any],
) -> list[dict[str, str]]:
    """Configuration files as path and content. None of them holds a secret. `routers` are FRR's."""
    bmcs = {
        "directory": directory,
        "uri": libvirt_uri(directory),
        "port": BMC_PORT,
        "firmware": settings["firmware"],
        "firmware_variables": settings["firmware_variables"],
        "bmcs": {
            server["name"]: {"address": server["bmc"], "uuid": server["uuid"], "disks": server["disks"]}
            for server in servers
        },
    }
    contents = {
        "bmc/bmcs.json": json.dumps(bmcs, indent=2, sort_keys=True) + "\n",
        **routers,
        # Without this libvirt asks the firmware of the machine, or a machine id that may not be there.
        "libvirt/etc/libvirtd.conf": f'{_LIBVIRTD_CONF}host_uuid = "{uuid.uuid5(uuid.NAMESPACE_URL, directory)}"\n',
        "libvirt/etc/qemu.conf": _QEMU_CONF,
        "libvirt/group": _GROUP,
        "libvirt/passwd": _PASSWD,
        "libvirt/etc/virtlogd.conf": 'log_outputs = "3:stderr"\n',
    }
    return [{"path": f"{directory}/{path}", "content": content, "mode": "0600"} for path, content in contents.items()]


def router_files(
    place: str, name: str, settings: Mapping[str, Any], routes: Sequence[Mapping[str, str]] = ()
) -> dict[str, str]:
    """What FRR starts with, below the lab's directory."""
    words = (("ipv6" if ":" in route["to"] else "ip", route) for route in routes)
    static = "".join(f"{word} route {route['to']} {route['via']}\n" for word, route in words)
    return {
        **{f"{place}frr/etc/{daemon}.conf": f"hostname {name}\n" for daemon in settings["router_daemons"]},
        f"{place}frr/etc/staticd.conf": f"hostname {name}\n{static}",
    }


def switch_files(directory: str, name: str, netns: str, settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """Of one switch of the model: what its daemons start with, and a way into it for playbooks."""
    place = f"switches/{name}/"
    contents = {
        **router_files(place, name, settings),
        # Playbooks change and save FRR's configuration themselves.
        f"{place}lldpd/lab.conf": f"configure system hostname {name}\nconfigure lldp tx-interval 5\n"
        "configure lldp portidsubtype ifname\n",
    }
    found = [{"path": f"{directory}/{path}", "content": content, "mode": "0644"} for path, content in contents.items()]
    way = f'#!/bin/sh\nexec ip netns exec {netns} /usr/bin/python3 "$@"\n'
    return [*found, {"path": f"{directory}/python-{name}", "content": way, "mode": "0755"}]


def switch_daemons(directory: str, name: str, netns: str, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of one switch of the model: Open vSwitch, FRR and lldpd."""
    place = f"{directory}/switches/{name}"
    # lldpcli gives its rights up before it looks for the socket and for the configuration, so neither can be below a
    # directory of root's.
    socket, config = f"/run/{netns}.lldp", f"{place}/lldpd"
    return [
        *_switch(place, netns, f"{name}-"),
        *_router(place, netns, settings["router_daemons"], f"{name}-"),
        {
            "name": f"{name}-lldpd",
            "netns": netns,
            # lldpd changes its own arguments, by which a daemon is known.
            "argv": ["/usr/bin/timeout", "0", "/usr/sbin/lldpd", "-d", "-u", socket, "-I", "swp*"],
            "binds": [{"source": config, "target": "/etc/lldpd.d"}],
            "before": [
                ["/usr/bin/chmod", "0755", config],
                ["/usr/bin/mkdir", "-p", "/run/lldpd"],
                ["/usr/bin/rm", "-f", socket],
            ],
            "files": [f"{config}/lab.conf"],
            "ready_unix": socket,
        },
    ]


def database(directory: str, name: str = "") -> str:
    """Socket of a switch's Open vSwitch database; without a name of the only switch."""
    return f"{directory}/switches/{name}/ovs/db.sock" if name else f"{directory}/ovs/db.sock"


def daemons(
    directory: str,
    spaces: Mapping[str, str],
    servers: Sequence[Mapping[str, Any]],
    switches: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The daemons in the order in which they start, as the module lab_processes takes them; `switches` are theirs."""
    return [
        *map(dict, switches),
        _libvirt(directory, spaces["tor"], "virtlogd", "virtlogd-sock", []),
        _libvirt(directory, spaces["tor"], "libvirtd", "libvirt-sock", ["virtlogd"]),
        *(_bmc(directory, spaces["bmc"], server) for server in servers),
    ]


def only_switch_daemons(directory: str, netns: str, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*_switch(directory, netns), *_router(directory, netns, settings["router_daemons"])]


def _switch(directory: str, netns: str, prefix: str = "") -> list[dict[str, Any]]:
    ovs = f"{directory}/ovs"
    # The database is made anew with its server: the module lab_switch fills it, and nothing else may be in it.
    database = [
        ["/usr/bin/mkdir", "-p", ovs],
        ["/usr/bin/rm", "-f", f"{ovs}/conf.db", f"{ovs}/.conf.db.~lock~"],
        ["/usr/bin/ovsdb-tool", "create", f"{ovs}/conf.db", OVS_SCHEMA],
    ]
    places = {f"OVS_{name}DIR": ovs for name in ("RUN", "LOG", "DB", "SYSCONF")}
    common = {"netns": netns, "env": places}
    return [
        {
            **common,
            "name": f"{prefix}ovsdb-server",
            "argv": [
                "/usr/sbin/ovsdb-server",
                f"{ovs}/conf.db",
                f"--remote=punix:{ovs}/db.sock",
                f"--unixctl={ovs}/ovsdb-server.ctl",
                "-vconsole:warn",
            ],
            "before": database,
            "ready_unix": f"{ovs}/db.sock",
        },
        {
            **common,
            "name": f"{prefix}ovs-vswitchd",
            "argv": [
                "/usr/sbin/ovs-vswitchd",
                f"unix:{ovs}/db.sock",
                "--disable-system",
                f"--unixctl={ovs}/ovs-vswitchd.ctl",
                "-vconsole:warn",
            ],
            "requires": [f"{prefix}ovsdb-server"],
            "ready_unix": f"{ovs}/ovs-vswitchd.ctl",
        },
    ]


def _router(directory: str, netns: str, names: Sequence[str], prefix: str = "") -> list[dict[str, Any]]:
    frr = f"{directory}/frr"
    started: list[str] = []
    found = []
    for name in names:
        found.append(
            {
                "name": f"{prefix}{name}",
                "netns": netns,
                "argv": [f"{FRR_DIRECTORY}/{name}", "-u", "root", "-g", "frrvty", "-P", "0", "--log", "stdout"],
                # Not all of FRR's daemons can be told where their files are: each sees the lab's in the usual places.
                "binds": [{"source": f"{frr}/etc", "target": "/etc/frr"}, {"source": f"{frr}/run", "target": "/run"}],
                "before": [["/usr/bin/mkdir", "-p", f"{frr}/run/frr"]],
                # mgmtd, where there is one, reads the static routes in place of staticd.
                "files": [f"{frr}/etc/{item}.conf" for item in dict.fromkeys((name, "staticd"))],
                "requires": list(started),
                "ready_unix": f"{frr}/run/frr/{name}.vty",
            }
        )
        # Each daemon talks to the ones before it: zebra, and mgmtd.
        if name in ("mgmtd", "zebra"):
            started.append(f"{prefix}{name}")
    return found


def _libvirt(directory: str, netns: str, name: str, socket: str, requires: list[str]) -> dict[str, Any]:
    libvirt = f"{directory}/libvirt"
    return {
        "name": name,
        "netns": netns,
        "argv": [f"/usr/sbin/{name}", "-f", f"/etc/libvirt/{name}.conf"],
        "binds": [{"source": f"{libvirt}/{source}", "target": target} for source, target in _LIBVIRT_PLACES.items()],
        "files": [f"{libvirt}/{item}" for item in (f"etc/{name}.conf", "etc/qemu.conf", "passwd", "group")],
        "requires": requires,
        "ready_unix": f"{libvirt}/run/libvirt/{socket}",
    }


def _bmc(directory: str, netns: str, server: Mapping[str, Any]) -> dict[str, Any]:
    name = server["name"]
    tls = f"{directory}/tls/{name}"
    return {
        "name": f"bmc-{name}",
        "netns": netns,
        "argv": [f"{directory}/venv/bin/python", f"{directory}/bmc/bmc.py", f"{directory}/bmc/bmcs.json", name],
        "files": [f"{directory}/bmc/bmcs.json", f"{directory}/bmc/bmc.py", f"{tls}.pem", f"{tls}.key"],
        # The emulator keeps its connections to libvirtd and does not notice when they end.
        "requires": ["libvirtd"],
        "ready_tcp": f"{server['bmc']}:{BMC_PORT}",
    }
