# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""A Site as plain data, for Ansible variables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .model import BlockStorage, Network, Pool, Profile, RaidVolume, Server, Site, Switch

__all__ = ["server_vars", "site_vars", "switch_vars"]


def site_vars(site: Site) -> dict[str, Any]:
    """The normal form of a site file: ranges expanded, every default written out.

    `load_site` makes the same Site of it.
    """
    return {
        "site": {"name": site.name, "domain": site.domain, "ntp": list(site.ntp), "dns": list(site.dns)},
        "networks": {name: _network(network) for name, network in site.networks.items()},
        "deploy": asdict(site.deploy),
        "limits": {**asdict(site.limits), "max_unavailable": dict(site.limits.max_unavailable)},
        "discover": list(site.discover),
        "profiles": {name: _profile(profile) for name, profile in site.profiles.items()},
        "racks": [
            {
                **asdict(rack),
                "switches": [_switch(switch) for switch in site.switches if switch.rack == rack.name],
                "servers": [_server(server) for server in site.servers if server.rack == rack.name],
            }
            for rack in site.racks
        ],
        "fabric": asdict(site.fabric),
        "cluster": {
            "kubernetes": site.cluster.kubernetes,
            "endpoint": site.cluster.endpoint,
            "endpoint_by": site.cluster.endpoint_by,
            "sdn": asdict(site.cluster.sdn),
            "load_balancer": {"driver": site.cluster.load_balancer, "pools": list(site.cluster.pools)},
            "ingress": asdict(site.cluster.ingress),
            "sds": [{key: _plain(value) for key, value in asdict(sds).items()} for sds in site.cluster.sds],
            "extra_args": {part: dict(values) for part, values in site.cluster.extra_args.items()},
        },
    }


def server_vars(site: Site, server: Server) -> dict[str, Any]:
    """Everything about one server, with its profile and its pod range."""
    profile = {"name": server.profile, **_profile(site.profiles[server.profile])}
    return {
        **_server(server),
        "rack": server.rack,
        "profile": profile,
        "pod_cidr": server.pod_cidr,
        "pod_cidr6": server.pod_cidr6,
    }


def switch_vars(switch: Switch) -> dict[str, Any]:
    """Everything about one switch."""
    return {**_switch(switch), "rack": switch.rack}


def _network(network: Network) -> dict[str, Any]:
    plain = asdict(network)
    del plain["name"]
    return plain


def _profile(profile: Profile) -> dict[str, Any]:
    disks = {purpose: asdict(selector) for purpose, selector in profile.disks.items()}
    for selector in disks.values():
        if selector["wipe_method"] is None:
            del selector["wipe_method"]
    storage = {pool.name: _pool(pool) for pool in profile.storage}
    return {
        **({"storage": storage} if storage else {}),
        **({"bios": dict(profile.bios)} if profile.bios else {}),
        **({"volumes": {one.name: _volume(one) for one in profile.volumes}} if profile.volumes else {}),
        **({"block_storage": _block_storage(profile.block_storage)} if profile.block_storage else {}),
        "expect": list(profile.expect),
        "firmware": [asdict(baseline) for baseline in profile.firmware],
        "disks": {"data": None, **disks},
        "network": {"mode": profile.network.mode, "members": list(profile.network.members)},
        "serial": profile.serial,
        "power_on_watts": profile.power_on_watts,
    }


def _block_storage(remote: BlockStorage) -> dict[str, Any]:
    return {
        "iscsi": {
            one.name: {"target": one.target, "portals": list(one.portals), "chap": one.chap} for one in remote.iscsi
        },
        "nvme_of": {one.name: {"subsystem": one.target, "portals": list(one.portals)} for one in remote.nvme_of},
        "multipath": [dict(device) for device in remote.multipath],
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _pool(pool: Pool) -> dict[str, Any]:
    plain = asdict(pool)
    del plain["name"]
    plain["volumes"] = {volume.pop("name"): volume for volume in plain["volumes"]}
    if not isinstance(pool.luks, bool):
        tpm2 = {"pcr_ids": list(pool.luks.pcr_ids), "pcr_bank": pool.luks.pcr_bank} if pool.luks.pcr_ids else None
        tang = [asdict(server) for server in pool.luks.tang]
        plain["luks"] = {"tang": tang, "tpm2": tpm2, "threshold": pool.luks.threshold}
    return plain


def _volume(volume: RaidVolume) -> dict[str, Any]:
    return {"raid_type": volume.raid_type, "drives": list(volume.drives), "controller": volume.controller}


def _server(server: Server) -> dict[str, Any]:
    return {
        "name": server.name,
        "roles": list(server.roles),
        "profile": server.profile,
        "bmc": asdict(server.bmc),
        "addresses": dict(server.addresses),
        "unit": server.unit,
        "cables": dict(server.cables),
        "labels": dict(server.labels),
        "taints": [dict(taint) for taint in server.taints],
        "wipe": list(server.wipe),
        "reinstall": server.reinstall,
    }


def _switch(switch: Switch) -> dict[str, Any]:
    plain = {**asdict(switch), "addresses": dict(switch.addresses), "cables": dict(switch.cables)}
    del plain["rack"]
    return plain
