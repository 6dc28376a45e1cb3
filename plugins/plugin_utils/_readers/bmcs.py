# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the BMCs of inventory hosts: power state and inserted media; more where it is asked for."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError, Options
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.scan import scan
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.volume import Volume

from .._site.model import RaidVolume, Site
from .._site.state import Bios, BmcState, Raid

__all__ = ["Asked", "asked_of_bmcs", "bmc_options", "bmc_target", "read_bmcs", "read_ports"]


def bmc_target(server: Mapping[str, Any], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """How to reach the BMC of one server: what the model says, the secrets from Ansible variables."""
    bmc = server["bmc"]
    target = {
        "address": bmc["address"],
        "username": hostvars.get("kiban_bmc_username"),
        "password": hostvars.get("kiban_bmc_password"),
        "validate_certs": bmc.get("validate_certs", True),
        "ca_path": bmc.get("ca_path") or hostvars.get("kiban_bmc_ca_path"),
        "fingerprint": bmc.get("fingerprint"),
        "timeout": bmc.get("timeout") or 30,
        "driver": bmc.get("driver"),
        "quirks_path": hostvars.get("kiban_bmc_quirks_path"),
    }
    return {key: value for key, value in target.items() if value is not None and value != ""}


def bmc_options(server: Mapping[str, Any], hostvars: Mapping[str, Any]) -> Options:
    """The same, for a server that can't do without."""
    target = bmc_target(server, hostvars)
    missing = [f"kiban_bmc_{key}" for key in ("username", "password") if key not in target]
    if missing:
        raise AnsibleActionFail(
            f"{server['name']}: {' and '.join(missing)} not set. "
            "Set them in group_vars, from Ansible Vault or the environment"
        )
    return Options.from_params(target)


@dataclass(frozen=True)
class Asked:
    """What a BMC is asked besides its status. Each costs requests."""

    firmware: bool = False
    bios: bool = False
    volumes: tuple[RaidVolume, ...] = ()


def asked_of_bmcs(site: Site) -> dict[str, Asked]:
    """What BMCs are asked besides what every plan needs: only what the profile of the server says something about."""
    asked = {
        name: Asked(firmware=bool(profile.firmware), bios=bool(profile.bios), volumes=profile.volumes)
        for name, profile in site.profiles.items()
    }
    return {server.name: asked[server.profile] for server in site.servers}


def read_bmcs(options: Mapping[str, Options], more: Mapping[str, Asked] | None = None) -> dict[str, BmcState]:
    """Never raises for a BMC's fault: what failed is in C(error). C(more): of whom more than the status is read."""
    kinds: dict[Asked, dict[str, Options]] = {}
    for name, one in options.items():
        kinds.setdefault((more or {}).get(name, Asked()), {})[name] = one
    found = {name: one for asked, some in kinds.items() for name, one in scan(some, partial(_read, asked)).items()}
    return {name: BmcState(error=str(one.error)) if one.value is None else one.value for name, one in found.items()}


def read_ports(options: Mapping[str, Options]) -> dict[str, Sequence[Mapping[str, Any]] | str]:
    """The network ports of servers and what they hear by LLDP, or why they can't be read."""
    found = scan(options, lambda bmc: bmc.hardware(["ports", "lldp"])["ports"])
    return {name: str(one.error) if one.error else one.value or () for name, one in found.items()}


def _read(asked: Asked, bmc: Bmc) -> BmcState:
    status = bmc.status()
    return BmcState(
        power=status["power_state"],
        uuid=status["uuid"],
        media=tuple(status["media"]),
        firmware=tuple(bmc.hardware(["firmware"])["firmware"] or ()) if asked.firmware else None,
        bios=_bios(bmc) if asked.bios else None,
        raid=_raid(bmc, asked.volumes) if asked.volumes else None,
    )


def _bios(bmc: Bmc) -> Bios:
    try:
        found = bmc.bios.read()
    except BmcError as exc:
        return Bios(error=str(exc))
    return Bios(found.current, found.pending)


def _raid(bmc: Bmc, wanted: Collection[RaidVolume]) -> Raid:
    """By the decision of the module bmc_volume, which sends nothing that changes something."""
    missing, wrong, known = [], {}, set()
    there: dict[str, str] = {}
    for one in wanted:
        try:
            controller = bmc.volumes(one.controller)
            there |= {str(volume.uri): str(volume.name) for volume in controller.read()}
            plan = controller.plan("present", Volume(one.name, one.raid_type, one.drives))
        except BmcError as exc:
            wrong[one.name] = str(exc)
            continue
        if plan.found is None:
            missing.append(one.name)
        else:
            known.add(str(plan.found.uri))
    # One that is there in another form is told with its reason.
    foreign = tuple(sorted(name for uri, name in there.items() if uri not in known and name not in wrong))
    return Raid(tuple(missing), wrong, foreign)
