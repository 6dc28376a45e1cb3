# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""From the data of a site file to a Site, or to everything that is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import netaddr  # type: ignore[import-untyped, unused-ignore]

from .check_fabric import check_fabric
from .check_ingress import check_ingress
from .check_limits import check_limits
from .check_networks import check_networks
from .check_servers import check_cluster, check_profiles, check_servers
from .check_storage import check_storage
from .draft import Draft, Entry, addresses_of, cables_of, read_entries
from .ipam import address6, pod_range
from .model import (
    BlockStorage,
    Bmc,
    Bond,
    Cache,
    Cluster,
    Deploy,
    DiskSelector,
    Fabric,
    FirmwareBaseline,
    Ingress,
    Limits,
    Network,
    Network6,
    Pool,
    Problem,
    Profile,
    Rack,
    RaidVolume,
    Sdn,
    Sdn6,
    Sds,
    Server,
    Site,
    SiteError,
    Switch,
    Target,
    Volume,
)
from .plain import NotPlain, plain
from .shape import check_shape, fill_defaults
from .to_vars import site_vars

__all__ = ["load_site", "load_text", "site_text"]

_SDS_LISTS = ("mount_options", "monitors", "osds", "portals")

_KNOWN: dict[str, Site] = {}
"""The last sites of this process, by text. Ansible runs each task in a fork of it, which has them at once."""


def load_site(data: Any, resolve_path: Callable[[str], str] | None = None) -> Site:
    """The site that the data describe.

    `resolve_path` is given each path of a file in the data and returns what to use, for example with `~` expanded.
    Raises SiteError with all problems at once.
    """
    try:
        data = plain(data)
    except NotPlain as error:
        raise SiteError([error.problem]) from error
    if resolve_path is None:
        return load_text(json.dumps(data))
    return _load(data, resolve_path)


def load_text(text: str) -> Site:
    """The site of a text that C(site_text) has made; SiteError for any other that is no site."""
    text = str.__str__(text)  # Ansible's own kind of text would have another hash.
    site = _KNOWN.get(text)
    if site is None:
        try:
            data = json.loads(text)
        except ValueError as error:
            raise SiteError([Problem("(file)", f"is not JSON: {error}")]) from error
        site = _load(data, lambda path: path)
        _keep(text, site)
    return site


def site_text(site: Site) -> str:
    """The normal form of a site as JSON. C(load_text) gives the same object back, here and in forks of this process."""
    text = json.dumps(site_vars(site))
    _keep(text, site)
    return text


def _keep(text: str, site: Site) -> None:
    while len(_KNOWN) > 1:
        del _KNOWN[next(iter(_KNOWN))]
    _KNOWN[text] = site


def _load(data: Any, resolve_path: Callable[[str], str]) -> Site:
    problems, pruned = check_shape(data)
    servers_whole = not any(problem.path.startswith(("racks", "(file)")) for problem in problems)
    told = frozenset(problem.path for problem in problems)
    draft = Draft(pruned, _names(data, "networks") | {"bmc", "node"}, _names(data, "profiles"), servers_whole, told)
    problems += _check_meaning(draft)
    if problems:
        raise SiteError(problems)
    return _build(fill_defaults(data), resolve_path)


def _check_meaning(draft: Draft) -> list[Problem]:
    read_entries(draft)
    check_profiles(draft)
    check_storage(draft)
    check_networks(draft)
    check_servers(draft)
    check_cluster(draft)
    check_ingress(draft)
    check_fabric(draft)
    check_limits(draft)
    return draft.problems


def _names(data: Any, key: str) -> frozenset[str]:
    """Names that are declared, be their content right or wrong."""
    part = data.get(key) if isinstance(data, dict) else None
    return frozenset(part) if isinstance(part, dict) else frozenset()


def _build(data: dict[str, Any], resolve_path: Callable[[str], str]) -> Site:
    networks = {name: _network(name, raw) for name, raw in data["networks"].items()}
    deploy = data["deploy"]
    sdn = _sdn(data["cluster"]["sdn"])
    draft = Draft(data, frozenset(), frozenset())
    read_entries(draft)
    servers = tuple(
        server
        for entry in draft.entries
        for server in _servers(entry, data["bmc_defaults"], networks["node"], sdn, resolve_path)
    )
    site, limits = data["site"], data["limits"]
    return Site(
        name=site["name"],
        domain=site["domain"],
        ntp=tuple(site["ntp"]),
        dns=tuple(site["dns"]),
        networks=networks,
        deploy=Deploy(deploy["address"], deploy["bmc_address"] or deploy["address"], deploy["port"]),
        limits=Limits(**{**limits, "max_unavailable": {"workers": "10%", **limits["max_unavailable"]}}),
        discover=tuple(data["discover"]),
        profiles={name: _profile(name, raw) for name, raw in data["profiles"].items()},
        racks=tuple(Rack(rack["name"], rack["power_on_watts"]) for rack in data["racks"]),
        switches=tuple(Switch(rack=rack["name"], **switch) for rack in data["racks"] for switch in rack["switches"]),
        fabric=Fabric(**data["fabric"]),
        servers=servers,
        cluster=_cluster(data["cluster"], sdn, servers),
    )


def _network(name: str, raw: dict[str, Any]) -> Network:
    six = raw["ipv6"]
    if six is None:
        return Network(name=name, **raw)
    gateway = str(netaddr.IPAddress(six["gateway"])) if six["gateway"] else None
    found = Network(**{**raw, "name": name, "ipv6": Network6(_written(six["cidr"]), gateway)})
    if gateway is None and found.gateway:
        # Here, so that everybody reads it in one place.
        found = replace(found, ipv6=Network6(_written(six["cidr"]), address6(found, found.gateway)))
    return found


def _sdn(raw: dict[str, Any]) -> Sdn:
    six = raw["ipv6"]
    if six is None:
        return Sdn(**raw)
    return Sdn(**{**raw, "ipv6": Sdn6(_written(six["pods"]), _written(six["services"]), six["node_prefix"])})


def _written(prefix: str) -> str:
    """As everybody else writes an IPv6 network (RFC 5952)."""
    return str(netaddr.IPNetwork(prefix))


def _profile(name: str, raw: dict[str, Any]) -> Profile:
    disks = {purpose: DiskSelector(**selector) for purpose, selector in raw["disks"].items() if selector}
    bond = Bond(raw["network"]["mode"], tuple(raw["network"]["members"]))
    firmware = tuple(FirmwareBaseline(**baseline) for baseline in raw["firmware"])
    storage = tuple(_pool(pool, values) for pool, values in raw["storage"].items())
    return Profile(
        name=name,
        expect=tuple(raw["expect"]),
        firmware=firmware,
        disks=disks,
        network=bond,
        serial=raw["serial"],
        power_on_watts=raw["power_on_watts"],
        storage=storage,
        bios=raw["bios"],
        volumes=tuple(
            RaidVolume(volume, values["raid_type"], tuple(values["drives"]), values["controller"])
            for volume, values in raw["volumes"].items()
        ),
        block_storage=_block_storage(raw["block_storage"]) if raw["block_storage"] else None,
    )


def _block_storage(raw: dict[str, Any]) -> BlockStorage:
    iscsi = (Target(name, each["target"], tuple(each["portals"]), each["chap"]) for name, each in raw["iscsi"].items())
    nvme_of = (Target(name, each["subsystem"], tuple(each["portals"])) for name, each in raw["nvme_of"].items())
    return BlockStorage(tuple(iscsi), tuple(nvme_of), tuple(raw["multipath"]))


def _pool(name: str, raw: dict[str, Any]) -> Pool:
    # Most sites have no pools: they need not pay for this.
    from ...module_utils._clevis import stated
    from .storage import cached_volume

    volumes = tuple(Volume(name=volume, **values) for volume, values in raw["volumes"].items())
    cache = Cache(**{**raw["cache"], "volume": cached_volume(raw)}) if raw["cache"] else None
    luks = stated(raw["luks"]) if isinstance(raw["luks"], dict) else raw["luks"]
    return Pool(**{**raw, "name": name, "volumes": volumes, "luks": luks, "cache": cache})


def _cluster(raw: dict[str, Any], sdn: Sdn, servers: tuple[Server, ...]) -> Cluster:
    first = next(server for server in servers if "control_plane" in server.roles)
    return Cluster(
        kubernetes=raw["kubernetes"],
        endpoint=raw["endpoint"] or first.addresses["node"],
        endpoint_by=raw["endpoint_by"],
        sdn=sdn,
        load_balancer=raw["load_balancer"]["driver"],
        pools=tuple(_written(pool) if ":" in pool else pool for pool in raw["load_balancer"]["pools"]),
        ingress=Ingress(**raw["ingress"]),
        sds=tuple(Sds(**{**sds, **{key: tuple(sds[key]) for key in _SDS_LISTS}}) for sds in raw["sds"]),
        extra_args=raw["extra_args"],
    )


def _servers(
    entry: Entry, bmc_defaults: dict[str, Any], node: Network, sdn: Sdn, resolve_path: Callable[[str], str]
) -> Iterator[Server]:
    raw, count = entry.raw, len(entry.names)
    bmc_raw = entry.bmc()
    # The schema fills no defaults in here, so that a server's own option wins, also where it says null.
    written = {**bmc_defaults, **bmc_raw}
    bmcs = addresses_of(bmc_raw["address"], count)
    addresses = {name: addresses_of(first, count) for name, first in raw["addresses"].items()}
    cables = {port: cables_of(far, count) for port, far in raw["cables"].items()}
    for place, name in enumerate(entry.names):
        own = {network: counted[place] for network, counted in addresses.items()}
        yield Server(
            name=name,
            rack=entry.rack,
            unit=None if raw["unit"] is None else raw["unit"] + place,
            roles=tuple(raw["roles"]),
            profile=raw["profile"],
            bmc=_bmc(bmcs[place], written, resolve_path),
            addresses=own,
            cables={port: counted[place] for port, counted in cables.items()},
            pod_cidr=pod_range(own["node"], node.cidr, sdn.pods, sdn.node_prefix),
            pod_cidr6=pod_range(own["node"], node.cidr, sdn.ipv6.pods, sdn.ipv6.node_prefix) if sdn.ipv6 else None,
            labels=raw["labels"],
            taints=tuple(raw["taints"]),
            wipe=tuple(raw["wipe"]),
            reinstall=raw["reinstall"],
        )


def _bmc(address: str, raw: dict[str, Any], resolve_path: Callable[[str], str]) -> Bmc:
    fingerprint = raw.get("fingerprint")
    return Bmc(
        address=address,
        driver=raw["driver"],
        validate_certs=raw["validate_certs"],
        ca_path=resolve_path(raw["ca_path"]) if raw["ca_path"] else None,
        fingerprint=fingerprint.replace(":", "").lower() if fingerprint else None,
        timeout=raw["timeout"],
    )
