# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the BMCs of inventory hosts: power state and inserted media; firmware and BIOS where somebody asks for them."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Bmc, BmcError, Options
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.scan import scan

from .._site.state import Bios, BmcState

__all__ = ["bmc_options", "bmc_target", "read_bmcs"]


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


def read_bmcs(options: Mapping[str, Options], more: Mapping[str, Collection[str]] | None = None) -> dict[str, BmcState]:
    """Never raises for a BMC's fault: what failed is in C(error).

    C(more) says of whom also C(firmware) or C(bios) is read: each costs requests, so nobody else is asked for it.
    """
    kinds: dict[frozenset[str], dict[str, Options]] = {}
    for name, one in options.items():
        kinds.setdefault(frozenset((more or {}).get(name, ())), {})[name] = one
    found = {name: one for kind, some in kinds.items() for name, one in scan(some, partial(_read, kind)).items()}
    return {name: BmcState(error=str(one.error)) if one.value is None else one.value for name, one in found.items()}


def _read(kind: Collection[str], bmc: Bmc) -> BmcState:
    status = bmc.status()
    return BmcState(
        power=status["power_state"],
        uuid=status["uuid"],
        media=tuple(status["media"]),
        firmware=tuple(bmc.hardware(["firmware"])["firmware"] or ()) if "firmware" in kind else None,
        bios=_bios(bmc) if "bios" in kind else None,
    )


def _bios(bmc: Bmc) -> Bios:
    try:
        found = bmc.bios.read()
    except BmcError as exc:
        return Bios(error=str(exc))
    return Bios(found.current, found.pending)
