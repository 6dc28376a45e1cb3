# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads BMCs: power state and inserted media, few requests a BMC."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcError, Options, connect

from .._site.state import BmcState

__all__ = ["bmc_options", "read_bmc"]


def bmc_options(server: Mapping[str, Any], hostvars: Mapping[str, Any]) -> Options:
    """Connection options of one server: the model's, the secrets from Ansible variables."""
    bmc = server["bmc"]
    missing = [name for name in ("kiban_bmc_username", "kiban_bmc_password") if not hostvars.get(name)]
    if missing:
        raise AnsibleActionFail(
            f"{server['name']}: {' and '.join(missing)} not set. "
            "Set them in group_vars, from Ansible Vault or the environment"
        )
    return Options(
        address=bmc["address"],
        username=hostvars["kiban_bmc_username"],
        password=hostvars["kiban_bmc_password"],
        validate_certs=bmc.get("validate_certs", True),
        ca_path=bmc.get("ca_path") or hostvars.get("kiban_bmc_ca_path"),
        fingerprint=bmc.get("fingerprint"),
        timeout=bmc.get("timeout") or 30,
    )


def read_bmc(options: Options) -> BmcState:
    """Never raises for a BMC's fault: what failed is in C(error)."""
    try:
        with connect(options) as bmc:
            status = bmc.status()
    except BmcError as exc:
        return BmcState(error=str(exc))
    return BmcState(power=status["power_state"], uuid=status["uuid"], media=tuple(status["media"]))
