# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""HTTP/1.1 (RFC 9112) over one socket: a request out, its answer in, until a deadline.

C(http.client) takes its header fields apart with the email package, which was a third of the time of a scan. Here only
what a client of BMCs needs is read, and odd answers are either understood or an error, never half an answer.
"""

from __future__ import annotations

import re
import socket
import time
import typing as t

__all__ = ("MAX_BODY", "Malformed", "Unsendable", "Wire")

MAX_BODY = 64 * 1024 * 1024
_MAX_HEAD = 64 * 1024
_PIECE = 16384  # as much as a TLS record holds
_STATUS = re.compile(r"HTTP/1\.(\d) +(\d{3})(?: |$)")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(r"[ -~\x80-\xff]*")


class Malformed(Exception):
    """What came is not an answer, or not all of it."""


class Unsendable(Exception):
    """A header field would break the request."""


class Wire:
    """One connection. `deadline` (time.monotonic()) holds for all that is sent and received."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline = 0.0
        # Whether another request may be sent after the last answer.
        self.reusable = True
        self._ahead = bytearray()  # received, not yet used

    def send(
        self, method: str, path: str, headers: t.Mapping[str, str], body: bytes | t.Iterator[bytes] | None
    ) -> None:
        """`headers` has the Content-Length of a body that comes in pieces."""
        lines = [f"{method} {path} HTTP/1.1"]
        for name, value in headers.items():
            if not _FIELD.fullmatch(value):
                raise Unsendable(name)
            lines.append(f"{name}: {value}")
        if "Accept-Encoding" not in headers:
            lines.append("Accept-Encoding: identity")
        if isinstance(body, bytes) or (body is None and method not in ("GET", "DELETE")):
            lines.append(f"Content-Length: {len(body or b'')}")
        lines.append("\r\n")
        head = "\r\n".join(lines).encode("latin-1")
        # In one packet: a BMC that reads the head by itself may wait for the rest.
        self._send(head + body if isinstance(body, bytes) else head)
        if body is not None and not isinstance(body, bytes):
            for piece in body:
                self._send(piece)

    def receive(self) -> tuple[int, dict[str, str], bytes]:
        """Status, header fields (names in lower case, the last of several counts) and body."""
        status, minor = 100, 1
        headers: dict[str, str] = {}
        while status < 200:  # 100 Continue and the like announce an answer
            status, minor, headers = self._head()
        persistent = headers.get("connection", "").lower()
        self.reusable = "close" not in persistent and (minor > 0 or "keep-alive" in persistent)
        data = self._body(status, headers)
        if self._ahead:  # such as a body that a 204 must not have
            self.reusable = False
        return status, headers, data

    # -- below: the parts of an answer

    def _head(self) -> tuple[int, int, dict[str, str]]:
        searched = 0
        while True:
            while self._ahead[:1] in (b"\r", b"\n"):  # left over from the answer before
                del self._ahead[:1]
            end = _END_OF_HEAD.search(self._ahead, max(0, searched - 3))
            if end is not None:
                break
            searched = len(self._ahead)
            if searched > _MAX_HEAD:
                raise Malformed(f"the head of the answer is larger than {_MAX_HEAD // 1024} KiB")
            if not self._more():
                where = "answer ended in its head" if searched else "BMC closed the connection without an answer"
                raise Malformed(f"the {where}")
        lines = self._ahead[: end.start()].decode("latin-1").split("\n")
        del self._ahead[: end.end()]
        status = _STATUS.match(lines[0].rstrip())
        if status is None:
            raise Malformed(f"what it answers is not HTTP/1.1: {lines[0].strip()[:60]!r}")
        headers: dict[str, str] = {}
        name = ""
        for line in lines[1:]:
            if line[:1] in (" ", "\t") and name:  # the field goes on, as it might in HTTP before 2014
                headers[name] += f" {line.strip()}"
                continue
            field, colon, value = line.partition(":")
            if colon:
                name = field.strip().lower()
                headers[name] = value.strip()
        return int(status[2]), int(status[1]), headers

    def _body(self, status: int, headers: t.Mapping[str, str]) -> bytes:
        if status in (204, 304):
            return b""
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._chunks()
        lengths = {length.strip() for length in headers.get("content-length", "").split(",")}
        length = lengths.pop()
        if lengths or not length.isdecimal():
            # The end of the connection is the end of the body.
            self.reusable = False
            while self._more():
                self._limit(len(self._ahead))
            data = bytes(self._ahead)
            self._ahead.clear()
            return data
        self._limit(int(length))
        return self._exactly(int(length))

    def _exactly(self, size: int) -> bytes:
        have = min(len(self._ahead), size)
        data = bytearray(size)
        data[:have] = self._ahead[:have]
        del self._ahead[:have]
        view = memoryview(data)
        while have < size:
            self._arm()
            count = self.sock.recv_into(view[have:])
            if not count:
                raise Malformed(f"the answer ended after {have} of {size} bytes")
            have += count
        return bytes(data)

    def _chunks(self) -> bytes:
        data = bytearray()
        while True:
            size = self._line().split(b";")[0].strip()
            if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", size):
                raise Malformed(f"the answer comes in chunks, one of which has the size {bytes(size[:20])!r}")
            if int(size, 16) == 0:
                break
            self._limit(len(data) + int(size, 16))
            data += self._exactly(int(size, 16))
            if self._line():
                raise Malformed("the answer comes in chunks, one of which is longer than it says")
        while self._line(last=True):  # trailers
            pass
        return bytes(data)

    def _line(self, last: bool = False) -> bytes:
        while b"\n" not in self._ahead:
            if len(self._ahead) > _MAX_HEAD:
                raise Malformed("the answer comes in chunks, one of which has no size")
            if not self._more():
                if last:  # nothing of the body is missing
                    self.reusable = False
                    return b""
                raise Malformed("the answer ended between two chunks")
        line, _newline, rest = bytes(self._ahead).partition(b"\n")
        self._ahead[:] = rest
        return line.strip()

    # -- the socket

    def _limit(self, size: int) -> None:
        if size > MAX_BODY:
            raise Malformed(f"the answer is larger than {MAX_BODY // 1024 // 1024} MiB")

    def _more(self) -> bool:
        self._arm()
        piece = self.sock.recv(_PIECE)
        self._ahead += piece
        return bool(piece)

    def _send(self, data: bytes) -> None:
        self._arm()
        self.sock.sendall(data)

    def _arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("deadline")
        self.sock.settimeout(left)
