# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of BGP as MetalLB's speaker has (its mode "native"): it calls, announces addresses and keeps the session up.

python bgp_speaker.py PEER OWN_ASN PEER_ASN ADDRESS...   prints "up" when the session is there. RFC 4271, RFC 6793.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time

MARKER = b"\xff" * 16
OPEN, UPDATE, NOTIFICATION, KEEPALIVE = 1, 2, 3, 4
AS_TRANS = 23456


def message(kind: int, body: bytes = b"") -> bytes:
    return MARKER + struct.pack("!HB", 19 + len(body), kind) + body


def opening(asn: int, router: str) -> bytes:
    capabilities = struct.pack("!BBHBB", 1, 4, 1, 0, 1) + struct.pack("!BBI", 65, 4, asn)
    options = struct.pack("!BB", 2, len(capabilities)) + capabilities
    number = asn if asn < 65536 else AS_TRANS
    return message(
        OPEN, struct.pack("!BHH", 4, number, 90) + socket.inet_aton(router) + bytes([len(options)]) + options
    )


def announcement(address: str, asn: int, next_hop: str) -> bytes:
    attributes = struct.pack("!BBBB", 0x40, 1, 1, 0)
    attributes += struct.pack("!BBBBBI", 0x40, 2, 6, 2, 1, asn)
    attributes += struct.pack("!BBB", 0x40, 3, 4) + socket.inet_aton(next_hop)
    prefix = bytes([32]) + socket.inet_aton(address)
    return message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes + prefix)


def receive(stream: socket.socket) -> tuple[int, bytes]:
    def exactly(count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = stream.recv(count - len(found))
            if not part:
                raise SystemExit("the peer has closed the session")
            found += part
        return found

    length, kind = struct.unpack("!HB", exactly(19)[16:])
    return kind, exactly(length - 19)


def main() -> None:
    peer, own, theirs, *addresses = sys.argv[1:]
    stream = socket.create_connection((peer, 179), timeout=30)
    stream.settimeout(None)
    here = stream.getsockname()[0]
    stream.sendall(opening(int(own), here))
    kind, body = receive(stream)
    if kind != OPEN or struct.pack("!BBI", 65, 4, int(theirs)) not in body:
        raise SystemExit(f"no OPEN of AS {theirs} but {kind}: {body.hex()}")
    stream.sendall(message(KEEPALIVE))
    if receive(stream)[0] != KEEPALIVE:
        raise SystemExit("the peer does not agree")
    for address in addresses:
        stream.sendall(announcement(address, int(own), here))
    print("up", flush=True)

    def keep() -> None:
        while True:
            time.sleep(20)
            stream.sendall(message(KEEPALIVE))

    threading.Thread(target=keep, daemon=True).start()
    while True:
        kind, body = receive(stream)
        if kind == NOTIFICATION:
            raise SystemExit(f"the peer says {body.hex()}")
        if kind == UPDATE and len(body) > 4:
            print(f"heard {body.hex()}", flush=True)


if __name__ == "__main__":
    main()
