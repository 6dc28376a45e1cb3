# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes to disks for some seconds, each block with its number, and reads all back: writer SECONDS DEVICE...

Prints for each device how many blocks, the longest that one took in seconds, errors, and blocks that are not as
written. Past the first 64 MiB alone, so a blank disk stays blank for those who look at its ends.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
import time
from typing import Any

FIRST, BLOCK, BLOCKS = 64 << 20, 4096, 8192


def write(device: str, seconds: float, said: dict[str, Any]) -> None:
    block = mmap.mmap(-1, BLOCK)
    handle = os.open(device, os.O_RDWR | os.O_DIRECT)
    last: dict[int, int] = {}
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        place = number % BLOCKS
        block[:8] = number.to_bytes(8, "big")
        began = time.monotonic()
        try:
            os.pwrite(handle, block, FIRST + place * BLOCK)
            os.fsync(handle)
            last[place] = number
        except OSError as exc:
            said["errors"].append(str(exc))
            break
        said["longest"] = max(said["longest"], time.monotonic() - began)
        number += 1
        time.sleep(0.02)
    said["blocks"] = number
    for place, written in last.items():
        os.preadv(handle, [block], FIRST + place * BLOCK)
        said["wrong"] += int.from_bytes(block[:8], "big") != written
    os.close(handle)


def main() -> None:
    seconds, devices = float(sys.argv[1]), sys.argv[2:]
    said: dict[str, Any] = {device: {"errors": [], "longest": 0.0, "wrong": 0, "blocks": 0} for device in devices}
    threads = [threading.Thread(target=write, args=(device, seconds, said[device])) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(said))


if __name__ == "__main__":
    main()
