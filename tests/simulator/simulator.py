# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests use: one BMC (`Simulator`) or many (`Fleet`)."""

from __future__ import annotations

import copy
import dataclasses
import functools
import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from . import certificates, logs, synthetic, trees
from .bmc import Bmc, Call
from .clock import Clock
from .faults import Fault
from .messages import Json, message
from .pki import Pki, issue, pem
from .profile import Profile
from .profiles import PROFILES
from .record import Request, blind_repeats
from .server import Host, Loop
from .tasks import Outcome
from .tree import Base, encode, schema

USERNAME = "kiban"
# Characters that a careless client gets wrong; long enough for every policy, short enough for 20-character ones.
PASSWORD = 'canary-"p/w\u00f6rd'
# What is left out of `state`: it changes by itself, or by reading.
_VOLATILE = ("Session", "SessionCollection", "Task", "TaskCollection", "LogEntry", "LogEntryCollection")


@functools.cache
def _base(profile: Profile, recorded: bool, etag: str) -> Base:
    if recorded:
        return Base(trees.load(profile.tree), profile.any_case)
    shape = synthetic.Shape(**dict(profile.shape))
    return Base(synthetic.build(shape), profile.any_case, etag if etag in ("strong", "weak") else "")


class Simulator:
    """One BMC. As a context manager it starts and stops; a `Fleet` has its own.

    profile: a name of PROFILES, or a Profile. Other keywords replace fields of it (`session_limit=1`).
    tree: "auto" takes the recorded tree where it is at hand, "recorded" insists on it, "synthetic" never does; or
    resources by URI.
    number: which server of a fleet it is; others than 0 have their own serial numbers, UUIDs and MAC addresses.
    tls: HTTPS with a certificate of `ca_path`; else plain HTTP.
    speed: simulated seconds in a real one; 0: only `advance` moves the clock. latency: real seconds an answer takes.
    """

    def __init__(
        self,
        profile: str | Profile = "well-behaved",
        *,
        tls: bool = True,
        tree: str | Mapping[str, Json] = "auto",
        username: str = USERNAME,
        password: str = PASSWORD,
        speed: float = 1000.0,
        latency: float = 0.0,
        power: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        number: int = 0,
        loop: Loop | None = None,
        pki: Pki | None = None,
        **behaviour: Any,
    ) -> None:
        found = PROFILES[profile] if isinstance(profile, str) else profile
        self.profile = dataclasses.replace(found, **behaviour) if behaviour else found
        if isinstance(tree, str):
            problem = trees.why_not(found.tree)
            if tree == "recorded" and problem:
                raise FileNotFoundError(problem)
            self.recorded = tree != "synthetic" and problem is None
            base = _base(found, self.recorded, self.profile.etag)
        else:
            self.recorded = False
            base = Base(tree, found.any_case)
        self.username, self.password = username, password
        self.tls, self.host, self.port = tls, host, port
        self._latency = latency
        self.bmc = Bmc(base, self.profile, Clock(speed), username, password, number)
        if power is not None:
            self.bmc.tree.edit(self.bmc.power.system)["PowerState"] = power
        self._began = copy.deepcopy(self.bmc.tree.changed())
        self._shared = loop
        self._loop: Loop | None = loop
        self._pki = pki
        self._host: Host | None = None

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        self._loop = self._shared or Loop()
        if self._pki is None and self.tls:
            self._pki = Pki.make(self._loop.directory, [self.host])
        chain = self._chain() if self.tls else None
        self._show_certificate(chain)
        self._host = Host(self._loop, self.bmc, self._loop.tls(chain) if chain else None, self._latency)
        self.port = self._loop.run(self._host.start(self.host, self.port))

    def stop(self) -> None:
        if self._host is not None and self._loop is not None:
            self._loop.run(self._host.stop())
        if self._shared is None and self._loop is not None:
            self._loop.stop()
            self._loop = None

    def _chain(self) -> bytes:
        assert self._pki is not None
        if self._shared is None or self.host == "127.0.0.1":
            return self._pki.pem
        key = load_pem_private_key(self._pki.pem, None)
        certificate = issue(self._pki.ca_key, self._pki.ca_certificate, key.public_key(), "bmc", [self.host])  # type: ignore[arg-type]
        return pem(certificate, key)  # type: ignore[arg-type]

    def _show_certificate(self, chain: bytes | None) -> None:
        """The resource of the HTTPS certificate of a synthetic tree says what is served."""
        for uri in self.bmc.tree.of_schema("Certificate") if chain and not self.recorded else ():
            if "/HTTPS/" in uri:
                shown = certificates.describe(load_pem_x509_certificate(chain))  # type: ignore[arg-type]
                self.bmc.tree.edit(uri).update(shown)
                self._began[uri] = copy.deepcopy(self.bmc.tree.need(uri))

    # -- how to reach it

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    @property
    def pki(self) -> Pki:
        assert self._pki is not None
        return self._pki

    @property
    def ca_path(self) -> str:
        return str(self.pki.ca)

    @property
    def options(self) -> Json:
        """Options of the modules of this collection that reach it."""
        common = {"username": self.username, "password": self.password}
        if self.tls:
            return {"address": self.address, "ca_path": self.ca_path, **common}
        return {"address": self.url, "validate_certs": False, **common}

    # -- what happened

    @property
    def requests(self) -> list[Request]:
        """All that arrived, oldest first."""
        assert self._host is not None
        return self._host.requests

    @property
    def connections(self) -> int:
        assert self._host is not None
        return self._host.connections

    @property
    def open_sessions(self) -> list[str]:
        """URIs of sessions that were opened and not closed."""
        return list(self.bmc.access.sessions)

    @property
    def logins(self) -> int:
        """How often a password was tried."""
        return self.bmc.access.tries

    def sent(self, *methods: str) -> list[str]:
        """Requests as "METHOD path"; all methods where none is named."""
        return [str(request) for request in self.requests if not methods or request.method in methods]

    def writes(self) -> list[str]:
        """Requests that change something, without those of sessions."""
        return [str(request) for request in self.requests if request.is_write]

    def blind_repeats(self) -> list[str]:
        """POSTs that were repeated although the first may have been done, without reading in between."""
        return [str(request) for request in blind_repeats(self.requests)]

    def keep_record(self, keep: bool) -> None:
        """Whether requests are recorded; off for long runs of many."""
        assert self._host is not None
        self._host.keep_record = keep

    def forget(self) -> None:
        """Begin a new record of requests."""
        self.requests.clear()

    @property
    def boots(self) -> list[str]:
        """What the server was started from, oldest first."""
        return self._safely(lambda: list(self.bmc.power.boots))

    @property
    def pushed(self) -> list[tuple[Json, bytes]]:
        """Update parameters and content of firmware that was pushed."""
        return self.bmc.pushed

    @property
    def erased(self) -> list[str]:
        """URIs of drives that were erased, oldest first."""
        return self._safely(lambda: list(self.bmc.erased))

    # -- its resources

    def get(self, uri: str) -> Json:
        """A copy of a resource as it is now. KeyError: there is none."""
        found = self._safely(lambda: encode(self.bmc.tree.shown(uri)))
        return json.loads(self.bmc.tree.base.identity.apply(found, self.bmc.number))

    def find(self, kind: str) -> list[str]:
        """URIs of the resources of a kind, such as `Drive`, in the order of the tree."""
        return self._safely(lambda: self.bmc.tree.of_schema(kind))

    def edit(self, uri: str, change: Callable[[Json], None]) -> None:
        """Change a resource behind the back of its clients."""
        self._safely(lambda: change(self.bmc.tree.edit(uri)))

    def put(self, uri: str, body: Json) -> None:
        """Add or replace a resource, without making it a member of anything."""
        self._safely(lambda: self.bmc.tree.put(uri, body))

    def remove(self, uri: str) -> None:
        self._safely(lambda: self.bmc.tree.remove(uri))

    def hear(self, neighbours: Mapping[int, tuple[str, str] | None]) -> None:
        """Have network ports of the server, counted from 0, hear by LLDP the port of a switch, or nothing."""
        uris = self.find("Port")
        for place, found in neighbours.items():
            heard = found and {"ChassisId": "02:00:00:00:FE:00", "PortId": found[1], "SystemName": found[0]}
            self.edit(uris[place], lambda body, heard=heard: body["Ethernet"].update(LLDPReceive=heard or {}))

    @property
    def system(self) -> Json:
        return self.get(self.bmc.power.system)

    def state(self) -> dict[str, Json | None]:
        """What differs from how it began, without sessions, tasks and log entries."""

        def differing() -> dict[str, Json | None]:
            tree = self.bmc.tree
            found = {}
            for uri, body in tree.changed().items():
                known = self._began.get(uri, tree.base.bodies.get(uri))
                if schema(body or known or {}) not in _VOLATILE and body != known:
                    found[uri] = copy.deepcopy(body)
            return found

        return self._safely(differing)

    def add_log_entry(self, text: str, severity: str = "OK", log: str | None = None) -> str:
        return self._safely(lambda: logs.add(self.bmc, text, severity, log))

    # -- what shall happen

    def fault(
        self,
        method: str = "*",
        path: str = "*",
        *,
        nth: int = 1,
        times: int | None = 1,
        status: int | None = None,
        body: Any = None,
        message: tuple[str, ...] | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after: Any = None,
        delay: float = 0.0,
        drop: str | None = None,
        work: bool = False,
        refuse: float | None = None,
        change: Callable[[Json], None] | None = None,
        when: Callable[[Call], bool] | None = None,
    ) -> Fault:
        """Let requests fail. The first fault that fits a request counts.

        method, path: which requests; `*` in the path stands for anything, its query does not count.
        nth: the first of them that is met, from 1. times: how many are; None: all from then on.
        status, body, headers: this answer instead of the work (with work=True: after it).
        message: (message id, text, arguments...) as the error body; an id without a dot is of the Base registry.
        retry_after: seconds (number) or a date (datetime) for the header of that name.
        delay: real seconds before the answer, after the work.
        drop: cut the connection "before" the work, "after" it, or in the "half" of the answer.
        refuse: restart: cut everything, lose sessions, and refuse connections for so many simulated seconds.
        change: changes the body that would be answered. when: a further condition.
        """
        fault = Fault(
            method, path, nth, times, status, body, message, dict(headers or {}), retry_after, delay, drop, work,
            refuse, change, when,
        )  # fmt: skip
        self._safely(lambda: self.bmc.faults.append(fault))
        return fault

    def missing(self, *paths: str) -> list[Fault]:
        """A partial tree: these answer 404 until `clear_faults`."""
        return [
            self.fault("GET", path, times=None, status=404, message=("ResourceMissingAtURI", "", path))
            for path in paths
        ]

    def clear_faults(self) -> None:
        self._safely(self.bmc.faults.clear)

    def unspent_faults(self) -> list[Fault]:
        """Faults that met fewer requests than they should have."""
        return [fault for fault in self.bmc.faults if not fault.spent]

    def task(
        self,
        on: str,
        state: str = "Exception",
        *,
        message: tuple[str, ...] | None = None,
        seconds: float | None = None,
        purged: bool = False,
        times: int | None = 1,
    ) -> None:
        """How the work that a request starts will end. on: "POST */Volumes". purged: its task is gone at its end."""
        said = _message(message) if message else None
        self._safely(lambda: self.bmc.tasks.outcomes.append(Outcome(on, state, said, seconds, purged, times)))

    def advance(self, seconds: float) -> None:
        """Let simulated time pass; sessions age by it too."""
        self._safely(lambda: self.bmc.advance(seconds))

    def restart_bmc(self, refused: float | None = None, partial: float | None = None) -> None:
        """The BMC restarts: connections are refused, then its tree has gaps (simulated seconds). Sessions are lost."""
        self._safely(lambda: self.bmc.restart(refused, partial))

    def set_power(self, state: str) -> None:
        """On or Off, at once and without a start."""
        self.edit(self.bmc.power.system, lambda body: body.update(PowerState=state))

    def expire_sessions(self) -> None:
        self._safely(self.bmc.access.close_all)

    def exhaust_sessions(self, exhausted: bool = True) -> None:
        """No session is free until it is called with False."""
        limit = 0 if exhausted else self.profile.session_limit
        self._safely(lambda: setattr(self.bmc.access, "limit", limit))

    def check(self) -> None:
        """Fails where a session was left open, a POST repeated blindly, or a fault not met."""
        assert not self.open_sessions, f"sessions were left open: {self.open_sessions}"
        assert not self.blind_repeats(), f"repeated without reading: {self.blind_repeats()}"
        assert not self.unspent_faults(), f"scripted but not met: {self.unspent_faults()}"

    def _safely(self, work: Callable[[], Any]) -> Any:
        def caught_up() -> Any:
            self.bmc.clock.catch_up()
            return work()

        return self._loop.call(caught_up) if self._loop is not None else caught_up()


def _message(given: tuple[str, ...]) -> Json:
    return message(given[0], *given[2:], text=given[1] or None)


class Fleet:
    """Many BMCs from one thread, with serial numbers, UUIDs and MAC addresses of their own.

    spread: each at an address of its own from `first` on, all at `port`; else all at 127.0.0.1, each at a port of its
    own. Other arguments are those of Simulator.
    """

    def __init__(
        self, count: int, *, spread: bool = False, port: int = 0, first: str = "127.16.0.1", **each: Any
    ) -> None:
        self.count = count
        self.spread, self.port, self.first = spread, port, first
        self.each = each
        self.bmcs: list[Simulator] = []
        self._loop: Loop | None = None

    def __enter__(self) -> Fleet:
        self._loop = Loop()
        pki = Pki.make(self._loop.directory, ["127.0.0.1"]) if self.each.get("tls", True) else None
        base = ipaddress.ip_address(self.first)
        try:
            for number in range(self.count):
                where: dict[str, Any] = {"host": str(base + number)} if self.spread else {}
                if self.spread or self.count == 1:
                    where["port"] = self.port
                bmc = Simulator(number=number, loop=self._loop, pki=pki, **where, **self.each)
                self.bmcs.append(bmc)
                bmc.start()
                if self.spread and not self.port:
                    self.port = bmc.port
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        for bmc in self.bmcs:
            bmc.stop()
        if self._loop is not None:
            self._loop.stop()

    def __iter__(self) -> Iterator[Simulator]:
        return iter(self.bmcs)

    def __len__(self) -> int:
        return len(self.bmcs)

    def __getitem__(self, index: int) -> Simulator:
        return self.bmcs[index]

    @property
    def ca_path(self) -> Path:
        return self.bmcs[0].pki.ca
