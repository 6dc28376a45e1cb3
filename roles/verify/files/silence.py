# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes TCP connections to some addresses, ten times a second each, and says as one line of JSON when none was made.

silence.py SECONDS LIMIT NAME=ADDRESS:PORT...: ends so many seconds after the last connection that failed, and after
LIMIT seconds at the latest. A connection has 0.9 s: less than the kernel waits before it asks a second time.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time

SECONDS, END = float(sys.argv[1]), time.monotonic() + float(sys.argv[2])
TARGETS = dict(argument.split("=", 1) for argument in sys.argv[3:])
# Losses with less between them than this are one silence.
APART = 3.0
notes: dict[str, list[tuple[float, bool]]] = {name: [] for name in TARGETS}
failed: list[float] = []


def once(name: str) -> None:
    address, _colon, port = TARGETS[name].rpartition(":")
    began = time.time()
    try:
        socket.create_connection((address, int(port)), timeout=0.9).close()
        notes[name].append((began, True))
    except OSError:
        failed.append(time.monotonic())
        notes[name].append((began, False))


def over() -> bool:
    return time.monotonic() > min(END, (failed[-1] if failed else END) + SECONDS)


def every(name: str) -> None:
    asking: list[threading.Thread] = []
    while not over():
        asking.append(threading.Thread(target=once, args=(name,)))
        asking[-1].start()
        time.sleep(0.1)
    for thread in asking:
        thread.join()


def figures(note: list[tuple[float, bool]]) -> dict[str, object]:
    bad = sorted(at for at, ok in note if not ok)
    spans: list[list[float]] = []
    for at in bad:
        if spans and at - spans[-1][1] < APART:
            spans[-1][1] = at
        else:
            spans.append([at, at])
    return {
        "requests": len(note),
        "lost": len(bad),
        "silent_seconds": round(max((last - first for first, last in spans), default=0.0), 1),
        "ended_well": all(ok for _at, ok in sorted(note)[-20:]),
    }


threads = [threading.Thread(target=every, args=(name,)) for name in TARGETS]
for one in threads:
    one.start()
for one in threads:
    one.join()
print(json.dumps({name: figures(note) for name, note in notes.items()}))
