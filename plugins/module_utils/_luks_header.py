# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

# A part of the probe too: Python 3.9, standard library.

"""The header of a LUKS2 container, as far as it is not secret. Pure."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["luks_header"]


def luks_header(raw: bytes) -> dict[str, Any]:
    """The JSON area of a LUKS2 header; empty where there is none. The LUKS2 On-Disk Format 1.1, 2.1, has its place."""
    if raw[:8] != b"LUKS\xba\xbe\x00\x02":
        return {}
    try:
        area = json.loads(raw[4096 : int.from_bytes(raw[8:16], "big")].split(b"\0", 1)[0])
    except ValueError:
        return {}
    return area if isinstance(area, dict) and {"keyslots", "tokens"} <= set(area) else {}
