# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends over TCP from one server to another: by the servers' own addresses, and by those of a pod on each, in turns.

throughput.py sink SPACES PORT SECONDS HOST POD: takes what comes to both addresses of this server, until one sender is
through or so many seconds are over, and tells it how much came.

throughput.py send SPACES PORT SECONDS HOST POD TO_HOST TO_POD: sends for so many seconds each, and says as one line of
JSON what the other end has taken.

A pod's sockets are made in its own network namespace: the one in the folder SPACES that has the pod's address.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import json
import os
import select
import socket
import sys
import time

ROLE, SPACES, PORT, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
HOST, POD = sys.argv[5:7]
# Whatever grows or shrinks during the run weighs on both alike.
ROUNDS = ("host", "pod", "pod", "host")
OWN = "/proc/self/ns/net"
CHUNK = 256 * 1024
# Without any progress.
PATIENCE = 30


def enter(space: int) -> bool:
    """Go into a network namespace. Python 3.12 has os.setns, servers may have an older one."""
    return ctypes.CDLL(None).setns(space, 0x40000000) == 0


def bound(address: str, port: int, spaces: list[str]) -> socket.socket:
    """A socket at an address, in the first of the namespaces that has it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    own = os.open(OWN, os.O_RDONLY)
    try:
        for path in spaces:
            space = os.open(path, os.O_RDONLY)
            try:
                made = socket.socket(family) if enter(space) else None
            finally:
                os.close(space)
                enter(own)
            if made is None:
                continue
            try:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind((address, port))
                made.settimeout(PATIENCE)
                return made
            except OSError as exc:
                made.close()
                if exc.errno != errno.EADDRNOTAVAIL:
                    raise
    finally:
        os.close(own)
    sys.exit(f"{address} is in none of the network namespaces {', '.join(spaces) or f'of {SPACES}: there are none'}")


def at(which: str, address: str, port: int = 0) -> socket.socket:
    return bound(address, port, [OWN] if which == "host" else sorted(glob.glob(f"{SPACES}/*")))


def take(connection: socket.socket) -> None:
    room, count = bytearray(CHUNK), 0
    connection.settimeout(PATIENCE)
    while True:
        got = connection.recv_into(room)
        if not got:
            break
        count += got
    connection.sendall(str(count).encode())


def sink() -> None:
    doors = [at("host", HOST, PORT), at("pod", POD, PORT)]
    for door in doors:
        door.listen(8)
    end, left = time.monotonic() + SECONDS, len(ROUNDS)
    while left and time.monotonic() < end:
        for door in select.select(doors, [], [], 1)[0]:
            connection, _sender = door.accept()
            with connection:
                take(connection)
            left -= 1


def reached(which: str, source: str, target: str) -> socket.socket:
    """A connection; the other end may have only just been told to begin."""
    end = time.monotonic() + PATIENCE
    while True:
        connection = at(which, source)
        try:
            connection.connect((target, PORT))
            return connection
        except ConnectionRefusedError:
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def send(which: str, source: str, target: str) -> dict[str, object]:
    data, sent = memoryview(bytes(CHUNK)), 0
    with reached(which, source, target) as connection:
        began = time.monotonic()
        while time.monotonic() - began < SECONDS:
            sent += connection.send(data)
        segment = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        connection.shutdown(socket.SHUT_WR)
        told = b""
        while True:
            part = connection.recv(64)
            if not part:
                break
            told += part
        seconds = time.monotonic() - began
    return {"which": which, "sent": sent, "bytes": int(told or 0), "seconds": seconds, "segment": segment}


def main() -> None:
    if ROLE == "sink":
        sink()
        return
    ways, told = {"host": (HOST, sys.argv[7]), "pod": (POD, sys.argv[8])}, []
    for which in ROUNDS:
        source, target = ways[which]
        try:
            told.append(send(which, source, target))
        except OSError as exc:
            sys.exit(f"from {source} to {target}, port {PORT}: {exc}")
    print(json.dumps(told))


main()
