# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers with the address that it is asked from, on a port, until it is asked for /end or so many seconds are over.

After /end it goes on until nobody has asked for a second: who asks twice is answered twice.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answer(BaseHTTPRequestHandler):
    ended = False

    def do_GET(self) -> None:
        body = self.client_address[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        Answer.ended = Answer.ended or self.path == "/end"

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(HTTPServer):
    timeout = 1
    quiet = False

    def handle_timeout(self) -> None:
        self.quiet = True


server = Server(("", int(sys.argv[1])), Answer)
deadline = time.monotonic() + float(sys.argv[2])
while not (Answer.ended and server.quiet) and time.monotonic() < deadline:
    server.quiet = False
    server.handle_request()
