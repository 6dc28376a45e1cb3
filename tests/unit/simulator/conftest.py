# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bare client, so that the simulator is tested by nothing of what it tests."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.tests.simulator import Simulator


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None

    @property
    def message_id(self) -> str:
        return str(self.body["error"]["@Message.ExtendedInfo"][0]["MessageId"])


class Client:
    """One kept connection with basic authentication."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        if sim.tls:
            context = ssl.create_default_context(cafile=sim.ca_path)
            self.http: http.client.HTTPConnection = http.client.HTTPSConnection(
                sim.host, sim.port, context=context, timeout=10
            )
        else:
            self.http = http.client.HTTPConnection(sim.host, sim.port, timeout=10)
        pair = base64.b64encode(f"{sim.username}:{sim.password}".encode()).decode()
        self.auth: dict[str, str] = {"Authorization": f"Basic {pair}"}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent = {**self.auth, **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None and "Content-Type" not in sent:
            sent["Content-Type"] = "application/json"
        try:
            self.http.request(method, path, body=data, headers=sent)
            response = self.http.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        except (OSError, http.client.HTTPException):
            self.http.close()
            raise

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("POST", path, body if body is not None else {}, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Answer:
        return self.ask("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Answer:
        return self.ask("DELETE", path, **headers)


Make = Callable[..., tuple[Simulator, Client]]


@pytest.fixture
def make() -> Iterator[Make]:
    """Starts a BMC whose clock stands still, over plain HTTP unless tls=True is given."""
    with ExitStack() as stack:

        def start(profile: str = "well-behaved", **options: Any) -> tuple[Simulator, Client]:
            options = {"tls": False, "speed": 0, "tree": "synthetic", **options}
            sim = stack.enter_context(Simulator(profile, **options))
            client = Client(sim)
            stack.callback(client.http.close)
            return sim, client

        yield start
