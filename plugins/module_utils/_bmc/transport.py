# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""One kept-alive HTTP connection to one BMC: TLS that is verified, and a deadline that holds for the whole exchange.

It sends a request once. The only exception is a connection that the BMC had closed before anything was sent on it.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import hmac
import io
import json
import os
import select
import socket
import ssl
import threading
import time
import typing as t

from .errors import BmcBadAnswer, BmcOptionError, BmcTlsError, BmcUnreachable
from .options import Endpoint, Options
from .wire import MAX_BODY, Malformed, Unsendable, Wire

__all__ = ("Answer", "Lost", "Transport")


class Lost(Exception):
    """The connection broke, or time ran out, after the request had begun to leave. Never reaches a user as it is."""

    def __init__(self, reason: str, timed_out: bool) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back. Header names are in lower case."""

    address: str
    request: str
    status: int
    headers: t.Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def etag(self) -> str | None:
        return self.headers.get("etag") or None

    @functools.cached_property
    def loose(self) -> t.Any:
        """The JSON body, or None where there is none that can be read. For error bodies."""
        try:
            return json.loads(self.body.decode("utf-8", "replace")) if self.body.strip() else None
        except (ValueError, RecursionError):
            return None

    @property
    def json(self) -> dict[str, t.Any]:
        """The JSON object of a resource."""
        if isinstance(self.loose, dict):
            return self.loose
        kind = self.headers.get("content-type", "no content type")
        raise BmcBadAnswer(
            self.address,
            f"the answer to {self.request} is not a JSON object (HTTP {self.status}, {kind}, {len(self.body)} bytes)",
            hint=(
                "Check that a Redfish service listens on this address and port; a BMC that is still starting may do"
                " this"
            ),
            request=self.request,
        )


class Transport:
    """Not for use by several threads at once: one BMC, one connection, one request at a time."""

    def __init__(self, options: Options) -> None:
        self.endpoint = Endpoint.parse(options)
        self.address = self.endpoint.name
        self.requests = 0
        self.connections = 0
        self._options = options
        self._fingerprint = self._normalised_fingerprint(options.fingerprint)
        self._wire: Wire | None = None

    def exchange(
        self,
        method: str,
        path: str,
        headers: t.Mapping[str, str],
        body: bytes | t.Iterator[bytes] | None,
        deadline: float,
    ) -> Answer:
        """Send one request and read its answer until `deadline` (time.monotonic())."""
        if self._wire is not None and self._peer_closed():
            self.drop()
        wire = self._wire or self._connect(deadline)
        wire.deadline = deadline
        request = f"{method} {path}"
        self.requests += 1
        try:
            wire.send(method, path, headers, body)
            status, found, data = wire.receive()
        except Unsendable as exc:
            self.requests -= 1
            raise BmcBadAnswer(
                self.address,
                f"{request} was not sent: the value of {exc}, which the BMC gave, cannot be sent in a header",
                hint="This is a defect of the BMC; newer firmware may help",
                request=request,
            ) from exc
        except (OSError, Malformed) as exc:
            self.drop()
            timed_out = isinstance(exc, (socket.timeout, TimeoutError))
            raise Lost("no answer in time" if timed_out else _reason(exc), timed_out) from exc
        if not wire.reusable:
            self.drop()
        if found.get("content-encoding", "").lower() == "gzip":
            data = self._gunzip(data, request)
        return Answer(self.address, request, status, found, data)

    def peer_fingerprint(self, deadline: float) -> str | None:
        """SHA-256 of the certificate that the BMC presents; None without TLS. Connects, and sends nothing."""
        sock = (self._wire or self._connect(deadline)).sock
        if not isinstance(sock, ssl.SSLSocket):
            return None
        return hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()

    def pin(self, fingerprint: str) -> None:
        """From now on exactly this certificate is accepted."""
        self.drop()
        self._fingerprint = fingerprint

    def drop(self) -> None:
        """Close the connection; the next request opens another."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.sock.close()

    # -- below: opening a connection

    def _connect(self, deadline: float) -> Wire:
        host, port = self.endpoint.host, self.endpoint.port
        context = self._context() if self.endpoint.tls else None
        allowed = max(0.05, min(self._options.connect_timeout, deadline - time.monotonic()))
        try:
            raw = socket.create_connection((host, port), timeout=allowed)
        except socket.gaierror as exc:
            raise BmcUnreachable(
                self.address,
                f"its name does not resolve ({exc.strerror or exc})",
                hint="Check the address and the name service",
            ) from exc
        except OSError as exc:
            if isinstance(exc, (socket.timeout, TimeoutError)):
                why = f"no TCP connection to port {port} within {allowed:.0f} s"
            else:
                why = f"no TCP connection to port {port}: {_reason(exc)}"
            hint = (
                "Check that the BMC has power, that the address is right and that this host may reach the BMC network"
            )
            raise BmcUnreachable(self.address, why, hint=hint) from exc
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = raw if context is None else self._handshake(raw, context, deadline)
        except BaseException:
            raw.close()
            raise
        self.connections += 1
        self._wire = Wire(sock)
        return self._wire

    def _context(self) -> ssl.SSLContext:
        options = self._options
        verify = options.validate_certs and not self._fingerprint
        ca_path = os.path.expanduser(options.ca_path) if options.ca_path and verify else None
        try:
            return _tls_context(verify, ca_path, os.stat(ca_path).st_mtime_ns if ca_path else 0)
        except (OSError, ssl.SSLError) as exc:
            raise BmcOptionError(
                self.address,
                f"the CA file {ca_path} cannot be used: {_reason(exc)}",
                hint="Give a readable file with PEM certificates as ca_path",
            ) from exc

    def _handshake(self, raw: socket.socket, context: ssl.SSLContext, deadline: float) -> ssl.SSLSocket:
        raw.settimeout(max(0.05, deadline - time.monotonic()))
        try:
            sock = context.wrap_socket(raw, server_hostname=self.endpoint.host)
        except ssl.SSLCertVerificationError as exc:
            seen = self._presented(deadline)
            what = f" It presented a certificate with SHA-256 fingerprint {seen}." if seen else ""
            raise BmcTlsError(
                self.address,
                f"its certificate is not trusted: {exc.verify_message}.{what}",
                hint=(
                    "Give the CA of the BMCs as ca_path, or, after comparing it with what the BMC's own console shows, "
                    "this fingerprint. The password was not sent"
                ),
            ) from exc
        except (socket.timeout, TimeoutError) as exc:
            raise BmcUnreachable(
                self.address,
                "the TLS handshake was not answered in time",
                hint=(
                    "The BMC accepts connections but does not speak: it may be overloaded or starting; a BMC reset"
                    " helps if it stays so"
                ),
            ) from exc
        except (OSError, ValueError) as exc:
            raise BmcTlsError(
                self.address,
                f"the TLS handshake failed: {_reason(exc)}",
                hint="Check that this port speaks TLS 1.2 or newer",
            ) from exc
        if self._fingerprint:
            seen = hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()
            if not hmac.compare_digest(seen, self._fingerprint):
                sock.close()
                raise BmcTlsError(
                    self.address,
                    f"its certificate has the SHA-256 fingerprint {seen}, not the pinned {self._fingerprint}",
                    hint=(
                        "If the certificate of this BMC was renewed, pin the new fingerprint; otherwise somebody may be"
                        " in between. The password was not sent"
                    ),
                )
        return sock

    def _presented(self, deadline: float) -> str | None:
        """Fingerprint of a certificate that was refused, to show it. Nothing is sent over that connection."""
        try:
            allowed = max(0.05, min(3.0, deadline - time.monotonic()))
            with socket.create_connection((self.endpoint.host, self.endpoint.port), timeout=allowed) as raw:  # noqa: SIM117
                with _tls_context(False, None, 0).wrap_socket(raw, server_hostname=self.endpoint.host) as sock:
                    return hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()
        except (OSError, ValueError):
            return None

    def _normalised_fingerprint(self, given: str | None) -> str | None:
        if not given or not given.strip():
            return None
        value = given.strip().lower().replace(":", "").replace(" ", "")
        value = value[len("sha256") :].lstrip("=") if value.startswith("sha256") else value
        if len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise BmcOptionError(
                self.address,
                "the fingerprint is not a SHA-256 fingerprint (64 hexadecimal digits, with or without colons)",
                hint="openssl x509 -noout -fingerprint -sha256 -in bmc.pem prints it",
            )
        return value

    def _peer_closed(self) -> bool:
        """Readable though nothing was asked: the BMC has closed an idle connection (or sent rubbish)."""
        if self._wire is None:
            raise AssertionError
        sock = self._wire.sock
        try:
            if isinstance(sock, ssl.SSLSocket) and sock.pending():
                return True
            poll = select.poll()
            poll.register(sock, select.POLLIN | select.POLLHUP | select.POLLERR)
            events = poll.poll(0)
        except (OSError, ValueError):
            return True
        if not events:
            return False
        # TLS 1.3 session tickets also make it readable; only an end or real data means that it is unusable.
        try:
            sock.setblocking(False)
            return sock.recv(1) is not None
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True

    def _gunzip(self, data: bytes, request: str) -> bytes:
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                plain = stream.read(MAX_BODY + 1)
        except (OSError, EOFError, ValueError) as exc:
            raise BmcBadAnswer(
                self.address, f"the compressed answer to {request} cannot be read: {exc}", request=request
            ) from exc
        if len(plain) > MAX_BODY:
            raise BmcBadAnswer(self.address, f"the answer to {request} is too large", request=request)
        return plain


_context_lock = threading.Lock()


def _tls_context(verify: bool, ca_path: str | None, mtime: int) -> ssl.SSLContext:
    with _context_lock:
        return _cached_context(verify, ca_path, mtime)


@functools.lru_cache(maxsize=64)
def _cached_context(verify: bool, ca_path: str | None, mtime: int) -> ssl.SSLContext:
    """Loading CAs costs more than a request, so all BMCs of a process share contexts. `mtime` notices a new CA file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_path:
        context.load_verify_locations(cafile=ca_path)
    else:
        context.load_default_certs()
    return context


def _reason(exc: BaseException) -> str:
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or str(exc)).replace("_", " ").lower()
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror.lower()
    return str(exc) or type(exc).__name__
