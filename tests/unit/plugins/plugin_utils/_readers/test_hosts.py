# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of servers against a real SSH server on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._readers import hosts
from ansible_collections.kiban.baremetal.plugins.plugin_utils._readers.hosts import SshAccess, read_hosts

ANSWER = {"where": "node", "name": "node1", "image_id": "x", "files": {}}


class Server:
    """One SSH server in a thread; `answer` says what the program writes, and how it ends."""

    def __init__(self, folder: Path) -> None:
        self.authority = asyncssh.generate_private_key("ssh-ed25519")
        self.client = asyncssh.generate_private_key("ssh-ed25519")
        (folder / "ssh").mkdir()
        (folder / "ssh" / "id_ed25519").write_bytes(self.client.export_private_key())
        (folder / "ssh" / "id_ed25519").chmod(0o600)
        (folder / "known_hosts").write_text(f"@cert-authority * {self.authority.export_public_key().decode()}")
        self.access = SshAccess(str(folder), connect_timeout=5, total_timeout=20)
        self.answer: tuple[str, str, int] = (json.dumps({**ANSWER, "time": time.time()}), "", 0)
        self.programs: list[str] = []
        self.delay = 0.0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.listener: Any = None

    def start(self, principal: str = "node1", authority: asyncssh.SSHKey | None = None, clients: Any = None) -> int:
        key = asyncssh.generate_private_key("ssh-ed25519")
        certificate = (authority or self.authority).generate_host_certificate(key, "h", principals=[principal])
        allowed = asyncssh.import_authorized_keys((clients or self.client).export_public_key().decode())

        async def listen() -> Any:
            keys = [(key, certificate)]
            return await asyncssh.listen(
                "127.0.0.1", 0, server_host_keys=keys, authorized_client_keys=allowed, process_factory=self._serve
            )

        self.listener = asyncio.run_coroutine_threadsafe(listen(), self.loop).result(20)
        return int(self.listener.get_port())

    async def _serve(self, process: Any) -> None:
        self.programs.append(await process.stdin.read())
        await asyncio.sleep(self.delay)
        out, errors, code = self.answer
        process.stdout.write(out)
        process.stderr.write(errors)
        process.exit(code)

    def stop(self) -> None:
        async def end() -> None:
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()

        if self.listener:
            self.loop.call_soon_threadsafe(self.listener.close)
        asyncio.run_coroutine_threadsafe(end(), self.loop).result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)
        self.loop.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.stop()


def read(server: Server, monkeypatch: pytest.MonkeyPatch, port: int, *names: str) -> Any:
    monkeypatch.setattr(hosts, "_PORT", port)
    found = read_hosts(server.access, dict.fromkeys(names or ("node1",), "127.0.0.1"), {"node1": ["/etc/x"]}, 10)
    return found if names else found["node1"]


def test_it_sends_the_program_and_reads_its_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    state = read(server, monkeypatch, server.start())
    assert (state.where, state.name, state.error) == ("node", "node1", None)
    assert state.clock_off < 5
    assert "PATHS: list[str] = ['/etc/x']" in server.programs[0]


def test_many_share_one_process(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(server, monkeypatch, server.start("*"), *(f"n{number}" for number in range(30)))
    # asyncssh takes a principal as a name, not as a pattern: so all of these are refused, and each says why.
    assert len(found) == 30
    assert all("Host key verification failed" in state.error for state in found.values())


def test_a_clock_that_is_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = (json.dumps({**ANSWER, "time": time.time() - 300}), "", 0)
    assert 290 < read(server, monkeypatch, server.start()).clock_off < 310


def test_another_authority_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    state = read(server, monkeypatch, server.start(authority=asyncssh.generate_private_key("ssh-ed25519")))
    assert state.where is None and "Host key verification failed" in state.error
    assert server.programs == [], "nothing is sent to a stranger"


def test_a_certificate_for_another_server_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    state = read(server, monkeypatch, server.start(principal="node2"))
    assert "Host key verification failed" in state.error and server.programs == []


def test_a_server_that_does_not_let_us_in(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    state = read(server, monkeypatch, server.start(clients=asyncssh.generate_private_key("ssh-ed25519")))
    assert state.error == "SSH to 127.0.0.1: it does not let in the site's key"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (("", "bash: python3: command not found\n", 127), "SSH to 127.0.0.1: bash: python3: command not found"),
        (("", "", 1), "the probe ended with 1"),
        (("not json", "", 0), "the probe's answer can't be read: 'not json'"),
        (("[]", "", 0), "the probe's answer can't be read"),
        (("", "", 0), "the probe's answer can't be read"),
    ],
)
def test_answers_that_say_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, answer: tuple[str, str, int], text: str
) -> None:
    server.answer = answer
    state = read(server, monkeypatch, server.start())
    assert state.where is None and text in state.error


def test_nobody_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(server, monkeypatch, 1).error == "SSH to 127.0.0.1: Connection refused"


def test_a_server_that_never_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.delay = 30
    server.access = SshAccess(server.access.site_dir, connect_timeout=5, total_timeout=3)
    assert read(server, monkeypatch, server.start()).error == "no answer over SSH at 127.0.0.1 within 3 s"


def test_no_keys_yet(tmp_path: Path) -> None:
    found = read_hosts(SshAccess(str(tmp_path)), {"a": "127.0.0.1"}, {}, 1)
    assert "no usable SSH keys of the site" in str(found["a"].error)
    assert read_hosts(SshAccess(str(tmp_path)), {}, {}, 1) == {}
