# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Runs on control-plane servers: Python 3.9, standard library.

"""Has the address of the cluster's API server on this server as long as the API server of this server is ready.

FRR announces the address while it is there. Arguments: the address, the server's own, the port, and the API's CA.
"""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
import subprocess
import sys
import time
from typing import Any

INTERVAL = 1.0
TIMEOUT = 10.0
# Without an answer, or not ready, in a row. Nobody listens at the port: at once.
MISSES = 3


class Api:
    """The API server of this server, asked over one connection."""

    def __init__(self, host: str, port: int, ca: str) -> None:
        self.host, self.port, self.ca = host, port, ca
        self.connection: http.client.HTTPSConnection | None = None
        self.said = ""

    def ready(self) -> bool | None:
        """Whether it is; none: nobody listens, or the cluster has no CA yet."""
        try:
            if self.connection is None:
                context = ssl.create_default_context(cafile=self.ca)
                self.connection = http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT, context=context)
            self.connection.request("GET", "/readyz")
            answer = self.connection.getresponse()
            answer.read()
            self._say(f"answers with HTTP {answer.status}")
            return answer.status == 200
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            self._say(str(exc) or type(exc).__name__)
            return None if isinstance(exc, (ConnectionRefusedError, FileNotFoundError)) else False

    def _say(self, what: str) -> None:
        if what != self.said:
            print(f"https://{self.host}:{self.port}/readyz: {what}", flush=True)
        self.said = what

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def is_here(address: str) -> bool:
    """Only an address of this machine can be bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.bind((address, 0))
        except OSError:
            return False
    return True


def put(address: str, wanted: bool) -> None:
    """The address on the loopback. Its scope keeps it from being the source of what this server sends."""
    if is_here(address) == wanted:
        return
    where = [f"{address}/32", "dev", "lo"]
    change = ["add", *where, "scope", "link"] if wanted else ["delete", *where]
    done = subprocess.run(["ip", "address", *change], capture_output=True, text=True, check=False)
    word = "announced" if wanted else "withdrawn"
    print(f"{address} {word}" if done.returncode == 0 else f"{address} not {word}: {done.stderr.strip()}", flush=True)


def main(argv: list[str]) -> None:
    address, own, port, ca = argv
    api, misses = Api(own, int(port), ca), 0
    try:
        while True:
            ready = api.ready()
            misses = 0 if ready else misses + 1
            if ready or ready is None or misses >= MISSES:
                put(address, bool(ready))
            time.sleep(INTERVAL)
    finally:
        put(address, False)


def _end(*_args: Any) -> None:
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    main(sys.argv[1:])
