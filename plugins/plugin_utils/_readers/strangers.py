# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks for BMCs where a site may have some that its model does not know."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

__all__ = ["find_bmcs"]

_AT_ONCE = 256
_SECONDS = 2.0
_PORT = 443


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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, _colon, port = address.partition(":") if address.count(":") == 1 else (address, "", "")
    connection = http.client.HTTPSConnection(host.strip("[]"), int(port or _PORT), timeout=_SECONDS, context=context)
    try:
        connection.request("GET", "/redfish/v1/", headers={"Accept": "application/json"})
        root = json.loads(connection.getresponse().read(1 << 20))
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    if not isinstance(root, dict) or "RedfishVersion" not in root:
        return ""
    said = [str(root[key]) for key in ("Vendor", "Product") if root.get(key)]
    said += [f"UUID {root['UUID']}"] if root.get("UUID") else []
    return ", ".join(said) or "it does not say of which vendor"
