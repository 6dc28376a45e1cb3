# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Checks of meaning: profiles, names, roles and the cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import netaddr  # type: ignore[import-untyped, unused-ignore]

from .draft import Draft, Entry
from .expressions import ExpressionError, check_expression, check_selector
from .ipam import hosts
from .shape import nearest, schema

__all__ = ["check_cluster", "check_profiles", "check_servers", "group_name"]

# Groups and hosts with these names exist already, or mean something to Ansible.
_RESERVED = frozenset(("all", "localhost", "servers", "ungrouped", "workers"))


def group_name(kind: str, name: str) -> str:
    """Name of the Ansible group of a rack or a profile."""
    return f"{kind}_{name.replace('-', '_')}"


def check_profiles(draft: Draft) -> None:
    for name, profile in draft.part("profiles").items():
        path = f"profiles.{name}"
        for number, text in enumerate(profile.get("expect") or []):
            _expression(draft, f"{path}.expect[{number}]", text, check_expression)
        for number, baseline in enumerate(profile.get("firmware") or []):
            if (baseline.get("version") is None) == (baseline.get("minimum") is None):
                where = f"{path}.firmware[{number}]"
                draft.problem(where, "needs either version or minimum", "version is exact, minimum is the oldest")
        _drives(draft, f"{path}.volumes", profile.get("volumes") or {})
        for purpose, selector in (profile.get("disks") or {}).items():
            _expression(draft, f"{path}.disks.{purpose}.select", (selector or {}).get("select"), check_selector)
    _same_group(draft, "profile", [(f"profiles.{name}", name) for name in draft.part("profiles")])


def _drives(draft: Draft, path: str, volumes: dict[str, Any]) -> None:
    seen: dict[tuple[str | None, str], str] = {}
    for name, volume in volumes.items():
        for drive in (volume or {}).get("drives") or ():
            other = seen.setdefault((volume.get("controller"), drive), name)
            if other != name:
                draft.problem(f"{path}.{name}.drives", f"the drive {drive} is in the volume {other} too", "one of them")


def _expression(draft: Draft, path: str, text: str | None, check: Callable[[str], object]) -> None:
    if not text:
        return
    try:
        check(text)
    except ExpressionError as error:
        draft.problem(path, f'"{text.strip()}" {error.message}', error.hint)


def _same_group(draft: Draft, kind: str, names: list[tuple[str, str]]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for path, name in names:
        earlier = seen.setdefault(group_name(kind, name), (path, name))
        if earlier[0] == path:
            continue
        if earlier[1] == name:
            draft.problem(path, f"the name '{name}' is used twice", f"see {earlier[0]}")
        else:
            message = f"'{name}' and '{earlier[1]}' give the same group {group_name(kind, name)}"
            draft.problem(path, message, "hyphens become underscores in group names: choose another name")


def check_servers(draft: Draft) -> None:
    racks = [
        (f"racks[{i}].name", rack["name"]) for i, rack in enumerate(draft.part("racks")) if rack and "name" in rack
    ]
    _same_group(draft, "rack", racks)
    seen: dict[str, Entry] = {}
    for entry in draft.entries:
        _names(draft, entry, seen)
        profile = entry.raw.get("profile")
        if profile is not None and profile not in draft.declared_profiles:
            hint = nearest(profile, draft.declared_profiles)
            draft.problem(entry.key("profile"), f"there is no profile '{profile}'", hint)
        if entry.bmc().get("fingerprint") and len(entry.names) > 1:
            message = f"one fingerprint cannot be that of {len(entry.names)} BMCs"
            draft.problem(entry.key("bmc", "fingerprint"), message, "a separate entry for each server, or `ca_path`")
        _taints(draft, entry)
    _control_plane(draft)


def _names(draft: Draft, entry: Entry, seen: dict[str, Entry]) -> None:
    label = schema()["$defs"]["label"]
    path, twice = entry.key("name"), []
    for name in entry.names:
        if "\n" in name or not re.match(label["pattern"], name):
            hint = "the domain stands in site.domain" if "." in name else "for example node1 or node[01:32]"
            draft.problem(path, f"{name!r} is not {label['title']}", hint)
            return
        if name in _RESERVED:
            draft.problem(path, f"'{name}' has a meaning of its own for Ansible", "choose another name")
        if seen.setdefault(name, entry) is not entry:
            twice.append(name)
    if twice:
        more = f" (and {len(twice) - 1} more names)" if len(twice) > 1 else ""
        draft.problem(path, f"the name '{twice[0]}' is used twice{more}", f"see {seen[twice[0]].key('name')}")


def _taints(draft: Draft, entry: Entry) -> None:
    seen = set()
    for number, taint in enumerate(entry.raw.get("taints") or []):
        if not taint or "key" not in taint or "effect" not in taint:
            continue
        if (taint["key"], taint["effect"]) in seen:
            message = f"a taint {taint['key']}:{taint['effect']} is there already"
            draft.problem(entry.key("taints", number), message, "each key and effect once")
        seen.add((taint["key"], taint["effect"]))


def _control_plane(draft: Draft) -> None:
    """This version knows one control-plane server."""
    found = list(_control_plane_names(draft))
    if len(found) > 1:
        entry = found[1][0]
        names = ", ".join(name for _entry, name in found[:5]) + (", ..." if len(found) > 5 else "")
        message = f"{len(found)} servers have the role control_plane ({names}); more than one is not supported yet"
        draft.problem(entry.key("roles"), message, "leave the role to one server")
    # Where a name or a role could not be read, nobody knows whether one was meant.
    if not found and draft.servers_whole and all(entry.names for entry in draft.entries):
        draft.problem("racks", "no server has the role control_plane", "give it to one server: roles: [control_plane]")


def _control_plane_names(draft: Draft) -> Iterator[tuple[Entry, str]]:
    for entry in draft.entries:
        if "control_plane" in entry.roles():
            for name in entry.names:
                yield entry, name


def _announced_endpoint(draft: Draft, endpoint: str | None) -> None:
    """An address of nobody, announced by servers that speak BGP with their switches."""
    path, node = "cluster.endpoint", draft.networks.get("node")
    if endpoint is None:
        draft.problem(path, "missing", "with endpoint_by bgp an address of the network node that nobody has")
    elif node is not None:
        first, last = hosts(node)
        owner = next((claim.owner for claim in draft.claims if claim.address == endpoint), None)
        if not first <= netaddr.IPAddress(endpoint) <= last:
            draft.problem(path, f"{endpoint} is outside networks.node ({node})", f"from {first} to {last}")
        elif owner:
            draft.problem(path, f"{endpoint} is the address of {owner}", "with endpoint_by bgp one that nobody has")
    for entry, name in _control_plane_names(draft):
        network = draft.part("profiles", entry.raw.get("profile", "")).get("network") or {}
        if network.get("mode") != "bgp":
            message = f"the control-plane server {name} has no routed links to announce the address by"
            draft.problem("cluster.endpoint_by", message, "network.mode bgp in its profile, or endpoint_by server")


def check_cluster(draft: Draft) -> None:
    cluster = draft.part("cluster")
    endpoint, servers = cluster.get("endpoint"), list(_control_plane_names(draft))
    if cluster.get("endpoint_by") == "bgp":
        _announced_endpoint(draft, endpoint)
    elif endpoint and len(servers) == 1:
        entry, name = servers[0]
        addresses = {key: value for key, value in (entry.raw.get("addresses") or {}).items() if key != "bmc"}
        if addresses and endpoint not in addresses.values():
            owner = next((claim.owner for claim in draft.claims if claim.address == endpoint), None)
            message = f"{endpoint} is not an address of the control-plane server {name}"
            message += f" but of {owner}" if owner else ""
            draft.problem("cluster.endpoint", message, "one of: " + ", ".join(addresses.values()))
    seen = set()
    for number, sds in enumerate(cluster.get("sds") or []):
        driver = (sds or {}).get("driver")
        if driver in seen:
            draft.problem(f"cluster.sds[{number}].driver", f"the driver '{driver}' is used twice", "each driver once")
        seen.add(driver or None)
        _sds_options(draft, f"cluster.sds[{number}]", sds or {})


# Keys of a storage driver beside `driver`: with an example those that it needs, without one those that it may have.
_SDS_KEYS: dict[str, dict[str, str | None]] = {
    "ceph": {"monitors": "[node1, node2, node3]", "osds": "[osd1]"},
    "iscsi": {"server": "node3", "volume_group": "data", "portals": None},
    "local": {},
    "lvm": {"volume_group": "data"},
    "nfs": {"server": "node3", "export": "/srv/volumes", "mount_options": None},
}


def _sds_options(draft: Draft, path: str, sds: dict[str, Any]) -> None:
    driver = sds.get("driver")
    if driver not in _SDS_KEYS:
        return
    keys = _SDS_KEYS[driver]
    for key, example in keys.items():
        if example and not sds.get(key) and f"{path}.{key}" not in draft.told:
            draft.problem(f"{path}.{key}", f"the driver '{driver}' needs it", f"for example {key}: {example}")
    for key in sorted(key for key, value in sds.items() if value and key != "driver" and key not in keys):
        takes = "it takes " + ", ".join(keys) if keys else "it takes no options"
        draft.problem(f"{path}.{key}", f"the driver '{driver}' does not take it", takes)
    if "volume_group" in keys and sds.get("volume_group"):
        _volume_group(draft, f"{path}.volume_group", sds["volume_group"])
    if check := _SDS_CHECKS.get(driver):
        check(draft, path, sds)


def _known(draft: Draft, path: str, wanted: list[str]) -> None:
    names = {name for entry in draft.entries for name in entry.names}
    for name in wanted:
        if name not in names:
            draft.problem(path, f"'{name}' is no server of the site", nearest(name, names))


def _iscsi(draft: Draft, path: str, sds: dict[str, Any]) -> None:
    _known(draft, f"{path}.server", [sds["server"]] if sds.get("server") else [])
    used = {entry.raw.get("profile") for entry in draft.entries}
    for name, raw in draft.part("profiles").items():
        if name in used and ((raw or {}).get("block_storage") or {}).get("iscsi"):
            draft.problem(
                f"profiles.{name}.block_storage.iscsi",
                "not with the storage driver 'iscsi': each has a multipath.conf of its own for the server",
                "disks of storage servers by nvme_of, or another storage driver",
            )


def _ceph(draft: Draft, path: str, sds: dict[str, Any]) -> None:
    monitors = sds.get("monitors") or []
    _known(draft, f"{path}.monitors", monitors)
    if len(monitors) not in (0, 1, 3, 5):
        draft.problem(
            f"{path}.monitors",
            f"{len(monitors)} monitors survive no more losses than one less",
            "three or five of them",
        )
    used = {entry.raw.get("profile") for entry in draft.entries}
    for osd in sds.get("osds") or []:
        pools = {
            name: (raw or {}).get("storage", {}).get(osd) or {}
            for name, raw in draft.part("profiles").items()
            if name in used and osd in ((raw or {}).get("storage") or {})
        }
        if not pools:
            draft.problem(f"{path}.osds", f"no profile of a server has a pool '{osd}' under storage")
        for profile, pool in pools.items():
            volumes = pool.get("volumes") or {}
            plain = [name for name, volume in volumes.items() if not (volume or {}).get("filesystem")]
            if pool.get("count") != 1 or len(volumes) != 1 or not plain:
                draft.problem(
                    f"profiles.{profile}.storage.{osd}",
                    "an OSD is a pool of one disk with one volume and no file system",
                    "count: 1, volumes: {block: {}}",
                )


def _volume_group(draft: Draft, path: str, name: str) -> None:
    used = {entry.raw.get("profile") for entry in draft.entries}
    pools = {
        pool: (raw or {}).get("filesystem")
        for profile, values in draft.part("profiles").items()
        if profile in used
        for pool, raw in ((values or {}).get("storage") or {}).items()
    }
    if name not in pools:
        draft.problem(path, f"no profile of a server has a pool '{name}' under storage", nearest(name, pools))
    elif pools[name]:
        draft.problem(
            path, f"the pool '{name}' is one file system", "leave its filesystem out: it is a volume group then"
        )


_SDS_CHECKS: dict[str, Callable[[Draft, str, dict[str, Any]], None]] = {"ceph": _ceph, "iscsi": _iscsi}
"""What a storage driver has checked of its own."""
