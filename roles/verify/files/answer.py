# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers with the address that it is asked from, on a port, until it is asked for /end or so many seconds are over.

After /end it goes on until nobody has asked for a second: who asks twice is answered twice.
"""

from __future__ import annotations

import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import TCPServer


class Answer(BaseHTTPRequestHandler):
    ended = False

    def do_GET(self) -> None:
        # An IPv4 address comes as ::ffff:192.0.2.1.
        body = self.client_address[0].removeprefix("::ffff:").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        Answer.ended = Answer.ended or self.path == "/end"

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(HTTPServer):
    """For both families where the host has both."""

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    timeout = 1
    quiet = False

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # That of HTTPServer would look for the name of "::".
        TCPServer.server_bind(self)

    def handle_timeout(self) -> None:
        self.quiet = True


server = Server(("", int(sys.argv[1])), Answer)
deadline = time.monotonic() + float(sys.argv[2])
while not (Answer.ended and server.quiet) and time.monotonic() < deadline:
    server.quiet = False
    server.handle_request()
