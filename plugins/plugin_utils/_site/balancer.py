# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""The session that the speaker of the load balancer has with FRR on its own server: the same on every server.

Both ends are on one address of a device without a wire. FRR refuses a neighbor at 127.0.0.1.
"""

from __future__ import annotations

__all__ = ["ASNS", "DEVICE", "FRR_ADDRESS", "FRR_ASN", "NETWORK", "NEXT_HOP", "SPEAKER_ASN"]

DEVICE = "kiban-lb"

NETWORK = "169.254.100.0/30"
"""Link-local (RFC 3927): it never leaves the server."""

FRR_ADDRESS = "169.254.100.1"

NEXT_HOP = "169.254.100.2"
"""Nobody has it. A route that names the server's own address as its next hop is dropped."""

FRR_ASN, SPEAKER_ASN = 4294967293, 4294967294
"""The last ones for private use (RFC 6996). FRR's own number differs from server to server, but the speakers have one
configuration."""

ASNS = (FRR_ASN, SPEAKER_ASN)
