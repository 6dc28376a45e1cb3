# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks while a node is lost, and says afterwards, as one line of JSON, who answered and when.

watch.py SECONDS LIMIT LOST OTHER [BALANCED]: addresses with ports. LOST is of the node that goes; a connection to OTHER
is held all the time; BALANCED is asked by a new connection each time, ten times a second. It ends so many seconds after
the last answer of LOST, and after LIMIT seconds at the latest.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time

SECONDS, LIMIT, LOST, OTHER = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]
BALANCED = sys.argv[5] if len(sys.argv) > 5 else ""
END = time.monotonic() + LIMIT
answered: dict[str, float] = {}


def over() -> bool:
    return time.monotonic() > min(END, answered.get(LOST, END) + SECONDS)


def ask(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/hostname")
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200
    except (OSError, http.client.HTTPException):
        return False


def once(target: str, timeout: float, note: list[tuple[float, bool]]) -> None:
    """One request on a connection of its own; noted with the moment when it began."""
    began, connection = time.time(), http.client.HTTPConnection(target, timeout=timeout)
    ok = ask(connection)
    note.append((began, ok))
    if ok:
        answered[target] = time.monotonic()
    connection.close()


def every(target: str, timeout: float, interval: float, note: list[tuple[float, bool]]) -> None:
    """One request after another at a steady pace, however long the one before takes."""
    asking: list[threading.Thread] = []
    while not over():
        asking.append(threading.Thread(target=once, args=(target, timeout, note)))
        asking[-1].start()
        time.sleep(interval)
    for thread in asking:
        thread.join()


def hold(target: str, note: list[tuple[float, bool]]) -> None:
    """One connection, never made anew."""
    connection = http.client.HTTPConnection(target, timeout=15)
    note.append((time.time(), ask(connection)))
    connection.auto_open = 0
    while not over():
        time.sleep(0.2)
        note.append((time.time(), ask(connection)))
    connection.close()


def figures(note: list[tuple[float, bool]]) -> dict[str, object]:
    good = sorted(at for at, ok in note if ok)
    bad = sorted(at for at, ok in note if not ok)
    gap = max((good[place] - good[place - 1] for place in range(1, len(good))), default=0.0)
    return {
        "requests": len(note),
        "lost": len(bad),
        "longest_gap_ms": round(gap * 1000),
        "first_lost": bad[0] if bad else None,
        "last_lost": bad[-1] if bad else None,
        "last_ok": good[-1] if good else None,
    }


notes: dict[str, list[tuple[float, bool]]] = {"lost": [], "held": [], "other": [], "balanced": []}
threads = [
    threading.Thread(target=every, args=(LOST, 0.5, 0.1, notes["lost"])),
    threading.Thread(target=hold, args=(OTHER, notes["held"])),
    threading.Thread(target=every, args=(OTHER, 10, 0.2, notes["other"])),
]
if BALANCED:
    threads.append(threading.Thread(target=every, args=(BALANCED, 1, 0.1, notes["balanced"])))
for one in threads:
    one.start()
for one in threads:
    one.join()
print(json.dumps({name: figures(note) for name, note in notes.items() if note}))
