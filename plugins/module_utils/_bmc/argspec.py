# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""What all bmc_* modules have in common: their options, and how they end."""

from __future__ import annotations

import contextlib
import typing as t

from .client import Bmc, connect
from .errors import BmcError
from .options import DRIVERS, Options

__all__ = ("bmc_argument_spec", "connected", "fail")


def bmc_argument_spec(**own: dict[str, t.Any]) -> dict[str, t.Any]:
    """The options of doc fragment kiban.baremetal.bmc, and those of the module."""
    return {
        "address": {"type": "str", "required": True},
        "username": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "validate_certs": {"type": "bool", "default": True},
        "ca_path": {"type": "path"},
        "fingerprint": {"type": "str"},
        "timeout": {"type": "float", "default": 30},
        "driver": {"type": "str", "choices": list(DRIVERS), "default": "redfish"},
        "quirks_path": {"type": "path"},
        **own,
    }


@contextlib.contextmanager
def connected(module: t.Any, options: Options | None = None) -> t.Iterator[Bmc]:
    """The BMC that the module's options name; closed at the end, and what was unusual becomes a warning."""
    bmc = connect(options or Options.from_params(module.params))
    try:
        with bmc:
            yield bmc
    finally:
        for note in bmc.notes:
            module.warn(f"BMC {bmc.address}: {note}")


def fail(module: t.Any, exc: BmcError) -> t.NoReturn:
    """End the module with the error; what was already done counts as changed."""
    module.fail_json(msg=str(exc), failure=exc.as_dict(), changed=bool(exc.done))
    raise AssertionError("fail_json returned")
