# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the BMCs of inventory hosts: power state, inserted media and firmware, few requests a BMC."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.scan import scan

from .._site.state import BmcState

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


def read_bmcs(options: Mapping[str, Options], with_firmware: Collection[str] = ()) -> dict[str, BmcState]:
    """Never raises for a BMC's fault: what failed is in C(error). Firmware costs requests: only of those named."""
    found = scan({name: one for name, one in options.items() if name not in with_firmware}, lambda bmc: bmc.status())
    found |= scan(
        {name: one for name, one in options.items() if name in with_firmware},
        lambda bmc: {**bmc.status(), "firmware": bmc.hardware(["firmware"])["firmware"]},
    )
    return {
        name: BmcState(error=str(one.error)) if one.value is None else _state(one.value) for name, one in found.items()
    }


def _state(read: Mapping[str, Any]) -> BmcState:
    firmware = read.get("firmware")
    return BmcState(
        power=read["power_state"],
        uuid=read["uuid"],
        media=tuple(read["media"]),
        firmware=None if firmware is None else tuple(firmware),
    )
