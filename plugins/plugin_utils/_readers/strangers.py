# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks for BMCs where a site may have some that its model does not know."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.addresses import expand
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.errors import BmcError
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.options import Options
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.transport import Lost, Transport

from .._site.model import Site

__all__ = ["elsewhere", "find_bmcs"]

_AT_ONCE = 256
_SECONDS = 2.0


def elsewhere(site: Site) -> list[str]:
    """Addresses at which a BMC would be one that the model does not know."""
    known = {server.bmc.address.rpartition("://")[2].rstrip("/") for server in site.servers}
    return [address for address in expand(site.discover) if address not in known]


def find_bmcs(addresses: Collection[str]) -> dict[str, str]:
    """Those of the addresses (with C(:port) if need be) at which a BMC answers, each with what it says it is.

    Asks for the service root, which a Redfish service shows to anybody (DSP0266, 13.3.4.1). So nobody's password is
    sent, and the certificate need not be verified: nothing is believed but that something is there.
    """
    if not addresses:
        return {}
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(addresses))) as pool:
        found = dict(zip(addresses, pool.map(_ask, addresses), strict=True))
    return {address: said for address, said in found.items() if said}


def _ask(address: str) -> str:
    transport = Transport(Options(address, "", "", validate_certs=False, connect_timeout=_SECONDS))
    # Without Host an HTTP/1.1 server has to answer 400 (RFC 9112, 3.2).
    headers = {"Host": transport.address, "Accept": "application/json"}
    try:
        root = transport.exchange("GET", "/redfish/v1/", headers, None, time.monotonic() + _SECONDS).loose
    except (BmcError, Lost):
        return ""
    finally:
        transport.drop()
    if not isinstance(root, dict) or "RedfishVersion" not in root:
        return ""
    said = [str(root[key]) for key in ("Vendor", "Product") if root.get(key)]
    said += [f"UUID {root['UUID']}"] if root.get("UUID") else []
    return ", ".join(said) or "it does not say of which vendor"
