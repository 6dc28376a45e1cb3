# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# The part of the probe that waits for other processes. It runs on the servers: Python 3.9, standard library.

from __future__ import annotations

import os
import select
import time


def read_until(reader: int, seconds: float) -> tuple[bytes, bool]:
    """What comes through a pipe, and whether that is all: its other end was closed before the time was over."""
    text, end = b"", time.monotonic() + seconds
    while select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]:
        part = os.read(reader, 65536)
        if not part:
            return text, True
        text += part
    return text, False
