# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many BMCs on loopback from one event loop in one thread.

aiohttp does HTTP, as it is fast and lets a connection be cut at any point; it is only needed for tests.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import tempfile
import threading
from asyncio import sslproto
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import http_exceptions, web

from . import pki
from .bmc import Bmc, Call
from .faults import Fault
from .messages import Reply, error_body
from .messages import message as says
from .record import Request
from .tree import encode, matches

T = TypeVar("T")
# A buffer of this size is kept for each TLS connection: 256 KiB by default, where a record has 16.
sslproto.SSLProtocol.max_size = 32 * 1024
HEADERS = {"OData-Version": "4.0", "Cache-Control": "no-store", "Content-Type": "application/json;charset=utf-8"}


class Loop:
    """An event loop in a thread of its own, with a directory for certificates."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="simulator-")
        self.directory = Path(self._directory.name)
        self._contexts: dict[bytes, ssl.SSLContext] = {}
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="simulator", daemon=True)
        self._thread.start()

    def tls(self, chain: bytes) -> ssl.SSLContext:
        """The context of a certificate, shared by all BMCs that have it."""
        if chain not in self._contexts:
            self._contexts[chain] = pki.context(self.directory, chain)
        return self._contexts[chain]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def call(self, work: Callable[[], T]) -> T:
        """Run something in the thread of the loop, so that it never meets a request half done."""
        if threading.current_thread() is self._thread:
            return work()

        async def inside() -> T:
            return work()

        return self.run(inside())

    def stop(self) -> None:
        async def rest() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(rest())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
        self._directory.cleanup()


class _Protocol(web.RequestHandler):
    """A method that nobody knows is answered as Redfish wants it; other nonsense as aiohttp does, without a log."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if isinstance(exc, http_exceptions.BadHttpMethod):
            status = 501
        if status == 500:
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=status, body=encode(error_body(says("OperationNotAllowed"))), headers=HEADERS)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> _Protocol:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class Host:
    """One BMC at one address."""

    def __init__(self, loop: Loop, bmc: Bmc, tls: ssl.SSLContext | None, latency: float) -> None:
        self.loop = loop
        self.bmc = bmc
        self.tls = tls
        self.latency = latency
        self.requests: list[Request] = []
        self.connections = 0
        self._numbers: dict[int, int] = {}
        self._uses: dict[int, int] = {}
        self.keep_record = True
        self._server = _Server(self._handle, access_log=None, keepalive_timeout=600, loop=loop.loop)
        self._listener: asyncio.Server | None = None
        self._address = ("127.0.0.1", 0)
        self._down = 0
        self._returning: asyncio.Task[None] | None = None
        bmc.on_restart = self._restart
        bmc.serve_certificate = self._new_certificate

    async def start(self, address: str, port: int) -> int:
        self._address = (address, port)
        await self._listen()
        assert self._listener is not None
        port = self._listener.sockets[0].getsockname()[1]
        self._address = (address, port)
        return port

    async def stop(self) -> None:
        self._down += 1
        self.refuse()
        await self._server.shutdown(0)

    # -- reachable or not

    def refuse(self) -> None:
        """Take no connections, and cut those that are open."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self._server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await self.loop.loop.create_server(
                self._protocol, *self._address, ssl=self.tls, reuse_address=True, backlog=128
            )

    async def _listen_on(self, sock: socket.socket) -> None:
        self._listener = await self.loop.loop.create_server(self._protocol, sock=sock, ssl=self.tls, backlog=128)

    def _restart(self, seconds: float) -> None:
        self._down += 1
        self.refuse()
        self._returning = self.loop.loop.create_task(self._come_back(seconds, self._down))

    async def _come_back(self, seconds: float, number: int) -> None:
        clock = self.bmc.clock
        until = clock.moment() + seconds
        while clock.now() < until and number == self._down:
            await asyncio.sleep(min(0.05, (until - clock.now()) / clock.speed) if clock.speed else 0.01)
        if number == self._down:
            await self._listen()

    def _new_certificate(self, chain: bytes) -> None:
        """From now on this certificate is served; the old context may belong to other BMCs too."""
        if self.tls is not None and self._listener is not None:
            self.tls = pki.context(self.loop.directory, chain)
            sockets = [sock.dup() for sock in self._listener.sockets]
            self._listener.close()
            self._listener = None
            self._returning = self.loop.loop.create_task(self._listen_on(sockets[0]))

    # -- requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        data = await request.content.read() if request.body_exists else b""
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(request.method, request.path_qs, headers, data, self._numbers[id(request.protocol)])
        record = Request.of(call)
        if self.keep_record:
            self.requests.append(record)
        if self._worn_out(call.connection):
            self._cut(request)
            return web.Response()
        fault = self.bmc.fault_for(call)
        if self.latency:
            await asyncio.sleep(self.latency)
        if fault is None:
            reply = self.bmc.answer(call)
            record.done = reply.status < 400
            return self._response(record, reply, call)
        return await self._faulty(request, call, record, fault)

    async def _faulty(self, request: web.BaseRequest, call: Call, record: Request, fault: Fault) -> web.StreamResponse:
        record.fault = fault
        reply: Reply | None = None
        if fault.does_the_work:
            reply = self.bmc.answer(call)
            record.done = reply.status < 400
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.refuse is not None:
            self.bmc.restart(fault.refuse, partial=0.0)
            return web.Response()
        reply = fault.reply(self.bmc) or reply or Reply(500, error_body(says("InternalError")))
        if fault.change is not None:
            reply = fault.changed(reply)
        if fault.drop in ("before", "after"):
            self._cut(request)
            return web.Response()
        response = self._response(record, reply, call)
        if fault.drop != "half":
            return response
        record.status = None
        body = response.body if isinstance(response.body, bytes) else b""
        part = web.StreamResponse(status=response.status, headers=response.headers)
        part.content_length = max(len(body), 2)
        await part.prepare(request)
        await part.write(body[: len(body) // 2])
        self._cut(request)
        return part

    def _response(self, record: Request, reply: Reply, call: Call) -> web.Response:
        headers = {**HEADERS, **reply.headers}
        body = reply.body
        if body is not None and not isinstance(body, bytes):
            body = encode(body)
        if body is None:
            del headers["Content-Type"]
        record.status = reply.status
        record.answer = body
        if reply.status in (204, 304):
            body = None
        if body and any(matches(pattern, call.uri) for pattern in self.bmc.profile.gzip_always):
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        return web.Response(status=reply.status, body=body, headers=headers)

    def _worn_out(self, connection: int) -> bool:
        """Whether this connection was used as often as the BMC allows."""
        most = self.bmc.profile.connection_requests
        if most is None:
            return False
        self._uses[connection] = self._uses.get(connection, 0) + 1
        return self._uses[connection] > most

    def _cut(self, request: web.BaseRequest) -> None:
        if request.transport is not None:
            request.transport.abort()

    def _protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection, which gets a number from 1."""
        protocol = self._server()
        self.connections += 1
        self._numbers[id(protocol)] = self.connections
        return protocol
