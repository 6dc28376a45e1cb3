# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""BMCs over Redfish, with nothing but the standard library. See docs/bmc.md."""

from __future__ import annotations

from .client import Bmc, connect
from .errors import (
    BmcAuthError,
    BmcBadAnswer,
    BmcBusy,
    BmcDenied,
    BmcError,
    BmcNotFound,
    BmcOptionError,
    BmcRefused,
    BmcTaskFailed,
    BmcTimeout,
    BmcTlsError,
    BmcUncertain,
    BmcUnreachable,
    BmcUnsupported,
)
from .options import Options

__all__ = (
    "Bmc",
    "BmcAuthError",
    "BmcBadAnswer",
    "BmcBusy",
    "BmcDenied",
    "BmcError",
    "BmcNotFound",
    "BmcOptionError",
    "BmcRefused",
    "BmcTaskFailed",
    "BmcTimeout",
    "BmcTlsError",
    "BmcUncertain",
    "BmcUnreachable",
    "BmcUnsupported",
    "Options",
    "connect",
)
