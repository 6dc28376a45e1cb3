# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP over a socket: answers as BMCs send them, cut at any place, and what must not be taken for an answer."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import wire as module
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.wire import Malformed, Unsendable, Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: W/\"1\"\r\nContent-Length: 7\r\n\r\n{'a':1}"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
    b"5\r\nhello\r\n7;ext=1\r\n, world\r\n0\r\nTrailer: x\r\n\r\n"
)
WHOLE = {
    "length": (OK, 200, b"{'a':1}", True),
    "chunks": (CHUNKED, 200, b"hello, world", True),
    "no content": (b"HTTP/1.1 204 No Content\r\nOData-Version: 4.0\r\n\r\n", 204, b"", True),
    "empty": (b"HTTP/1.1 202 Accepted\r\nLocation: /t\r\nContent-Length: 0\r\n\r\n", 202, b"", True),
    "closes": (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nab", 200, b"ab", False),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", 200, b"ab", False),
    "old but kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab", 200, b"ab", True),
    "no reason": (b"HTTP/1.1 503\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\nab", 503, b"ab", True),
}
# Where http.client takes another view, or none.
ODD = {
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"{'a':1}", True),
    "bare newlines": (OK.replace(b"\r\n", b"\n"), 200, b"{'a':1}", True),
    "empty lines before": (b"\r\n" + OK, 200, b"{'a':1}", True),
    "a line without a colon": (OK.replace(b"ETag", b"nonsense\r\nETag"), 200, b"{'a':1}", True),
    "twice the same length": (OK.replace(b"h: 7", b"h: 7, 7"), 200, b"{'a':1}", True),
    "bytes that are no ASCII": (OK.replace(b"OK", b"\xe4\xff").replace(b'W/"1"', b"\xff"), 200, b"{'a':1}", True),
    "a body that must not be": (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}", 204, b"", False),
    "length and chunks": (CHUNKED.replace(b"X-A: b", b"Content-Length: 3"), 200, b"hello, world", True),
}


@pytest.fixture
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    wire.deadline = time.monotonic() + 5
    yield wire, theirs
    ours.close()
    theirs.close()


def answer(pair: tuple[Wire, socket.socket], *pieces: bytes, end: bool = False) -> tuple[int, dict[str, str], bytes]:
    wire, theirs = pair

    def talk() -> None:
        for piece in pieces:
            theirs.sendall(piece)
            time.sleep(0.002 if len(pieces) > 1 else 0)
        if end:
            theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        return wire.receive()
    finally:
        thread.join()


class Cut:
    """A socket that gives what there is in pieces of a size, then ends."""

    def __init__(self, data: bytes, size: int) -> None:
        self.stream, self.size = io.BytesIO(data), size

    def settimeout(self, _seconds: float) -> None:
        pass

    def recv(self, size: int) -> bytes:
        return self.stream.read(min(size, self.size))

    def recv_into(self, view: Any) -> int:
        piece = self.recv(len(view))
        view[: len(piece)] = piece
        return len(piece)


def parsed(data: bytes, size: int) -> tuple[Wire, tuple[int, dict[str, str], bytes]]:
    wire = Wire(Cut(data, size))  # type: ignore[arg-type]
    wire.deadline = time.monotonic() + 60
    return wire, wire.receive()


@pytest.mark.parametrize("name", [*WHOLE, *ODD])
def test_answers_in_pieces_of_any_size(name: str) -> None:
    data, status, body, reusable = {**WHOLE, **ODD}[name]
    for size in (*range(1, 40), 1 << 20):
        wire, found = parsed(data, size)
        assert (found[0], found[2]) == (status, body), size
        if name != "a body that must not be" or size > len(data):  # else it is still to come
            assert wire.reusable is reusable, size


@pytest.mark.parametrize("name", list(WHOLE))
def test_half_an_answer_is_an_error(name: str) -> None:
    data, _status, body, _reusable = WHOLE[name]
    enough = len(data) - len(b"Trailer: x\r\n\r\n") if name == "chunks" else len(data)
    for length in range(enough):
        with pytest.raises(Malformed, match=r"ended|closed"):
            parsed(data[:length], 1 << 20)
    assert parsed(data[:enough], 1 << 20)[1][2] == body


@pytest.mark.parametrize("name", list(WHOLE))
def test_the_standard_library_says_the_same(name: str) -> None:
    class Sock:
        def makefile(self, *_args: Any) -> io.BytesIO:
            return io.BytesIO(WHOLE[name][0])

    response = http.client.HTTPResponse(Sock())  # type: ignore[arg-type]
    response.begin()
    headers = {field.lower(): value for field, value in response.getheaders()}
    wire, found = parsed(WHOLE[name][0], 16384)
    assert found == (response.status, headers, response.read())
    assert wire.reusable is not response.will_close


def test_fields() -> None:
    head = (
        b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n  b\r\nLOCATION:/x\r\nX-Empty:\r\nX-Two: 1\r\nx-two: 2\r\n"
        b"Content-Length:0\r\n\r\n"
    )
    assert parsed(head, 16384)[1][1] == {
        "x-folded": "a b",
        "location": "/x",
        "x-empty": "",
        "x-two": "2",
        "content-length": "0",
    }


@pytest.mark.parametrize("length", [None, "many", "-1", "1, 2", ""])
def test_a_body_without_a_length_ends_with_the_connection(length: str | None) -> None:
    field = "" if length is None else f"Content-Length: {length}\r\n"
    wire, found = parsed(f"HTTP/1.1 200 OK\r\n{field}\r\nabc".encode(), 2)
    assert found[2] == b"abc" and not wire.reusable


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/2 200\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 OK\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000, "head of the answer is larger"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "larger than"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", "size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n\r\n", "larger than"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "longer than it says"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 70000, "no size"),
        (b"", "without an answer"),
    ],
)
def test_what_is_no_answer(data: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        parsed(data, 16384)


def test_a_body_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BODY", 100_000)
    with pytest.raises(Malformed, match="larger than"):
        parsed(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, 16384)


def test_two_answers_over_one_connection(pair: tuple[Wire, socket.socket]) -> None:
    for _ in range(2):
        assert answer(pair, OK[:30], OK[30:])[2] == b"{'a':1}"
        assert pair[0].reusable


def test_the_deadline_holds_however_much_comes(pair: tuple[Wire, socket.socket]) -> None:
    pair[0].deadline = time.monotonic() + 0.1
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        answer(pair, *[b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 100])
    assert time.monotonic() - began < 2


def sent(pair: tuple[Wire, socket.socket], *args: Any) -> bytes:
    wire, theirs = pair
    wire.send(*args)
    return theirs.recv(65536)


def test_requests(pair: tuple[Wire, socket.socket]) -> None:
    host = {"Host": "bmc"}
    assert sent(pair, "GET", "/a?b=c", host, None) == (
        b"GET /a?b=c HTTP/1.1\r\nHost: bmc\r\nAccept-Encoding: identity\r\n\r\n"
    )
    assert sent(pair, "GET", "/", {**host, "Accept-Encoding": "gzip"}, None).endswith(b"Accept-Encoding: gzip\r\n\r\n")
    assert sent(pair, "POST", "/", host, b"{}").endswith(b"\r\nContent-Length: 2\r\n\r\n{}")
    assert sent(pair, "POST", "/", host, None).endswith(b"\r\nContent-Length: 0\r\n\r\n")
    pieces = iter([b"abc", b"de"])
    assert sent(pair, "POST", "/", {**host, "Content-Length": "5"}, pieces).endswith(b"identity\r\n\r\nabcde")


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "\x00", "\ud83d"])
def test_a_field_that_would_break_the_request_is_not_sent(pair: tuple[Wire, socket.socket], value: str) -> None:
    wire, theirs = pair
    with pytest.raises(Unsendable, match="If-Match"):
        wire.send("PATCH", "/", {"If-Match": value}, b"{}")
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
