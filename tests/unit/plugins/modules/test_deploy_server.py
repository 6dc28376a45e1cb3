# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The web server for images, with the real nginx on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.modules.deploy_server import DeployServer, DeployServerError, ensure

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DeployServer]:
    made = DeployServer(str(tmp_path), free_port(), ["127.0.0.1"])
    yield made
    ensure(made, "stopped", check_mode=False)


def url(server: DeployServer, name: str) -> str:
    port = server.config.split("127.0.0.1:")[1].split(";")[0]
    return f"http://127.0.0.1:{port}/{name}"


def test_serves_files_and_ranges_but_no_listing(server: DeployServer, tmp_path: Path) -> None:
    changed, pid = ensure(server, "started", check_mode=False)
    assert changed and pid
    (tmp_path / "root" / "image").write_bytes(b"0123456789")
    assert urllib.request.urlopen(url(server, "image")).read() == b"0123456789"
    request = urllib.request.Request(url(server, "image"), headers={"Range": "bytes=2-4"})
    assert urllib.request.urlopen(request).read() == b"234"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url(server, ""))


def test_media_are_served_below_the_token_only(server: DeployServer, tmp_path: Path) -> None:
    port = free_port()
    made = DeployServer(str(tmp_path), port, ["127.0.0.1"], token="c0ffee")
    try:
        ensure(made, "started", check_mode=False)
        assert Path(made.config_path).stat().st_mode & 0o777 == 0o600
        (tmp_path / "media" / "cp1.iso").write_bytes(b"medium")
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/c0ffee/cp1.iso").read() == b"medium"
        for name in ("cp1.iso", "media/cp1.iso", "decade/cp1.iso", "c0ffee", "c0ffee/", "c0ffee/../nginx.conf"):
            with pytest.raises(urllib.error.HTTPError, match=r"40[34]"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}")
    finally:
        ensure(made, "stopped", check_mode=False)
    assert not Path(made.config_path).exists(), "the token is gone with the server"


def test_is_started_once_and_stopped_once(server: DeployServer) -> None:
    _changed, pid = ensure(server, "started", check_mode=False)
    assert ensure(server, "started", check_mode=False) == (False, pid)
    assert ensure(server, "stopped", check_mode=True) == (True, pid)
    assert ensure(server, "stopped", check_mode=False) == (True, None)
    assert ensure(server, "stopped", check_mode=False) == (False, None)


def test_a_foreign_process_with_the_old_number_is_not_ours(server: DeployServer, tmp_path: Path) -> None:
    (tmp_path / "nginx.pid").write_text("1\n")
    assert server.pid() is None
    assert ensure(server, "stopped", check_mode=False) == (False, None)


def test_a_process_that_ended_and_that_nobody_waited_for_does_not_run(server: DeployServer) -> None:
    """In a container the first process may never wait for what is left to it."""
    child = subprocess.Popen([sys.executable, "-c", "input()", server.config_path], stdin=subprocess.PIPE)
    try:
        wait_until(lambda: server.runs_as(child.pid))
        assert child.stdin
        child.stdin.close()
        wait_until(lambda: not server.runs_as(child.pid))
        assert Path(f"/proc/{child.pid}").exists()
    finally:
        child.wait()


def test_a_signal_that_nginx_does_not_act_upon_is_sent_again(server: DeployServer) -> None:
    Path(server.config_path).touch()
    program = "import signal as s; t = {s.SIGTERM}; s.pthread_sigmask(s.SIG_BLOCK, t); print(flush=True)"
    program += "; s.sigwait(t); s.sigwait(t)"
    with subprocess.Popen([sys.executable, "-c", program, server.config_path], stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline()
        server.stop(child.pid)


def test_where_nginx_is_missing_the_package_is_named(server: DeployServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_names, **_options: None)
    with pytest.raises(DeployServerError, match="nginx-light"):
        ensure(server, "started", check_mode=False)


def test_a_taken_port_is_an_error_that_names_it(server: DeployServer, tmp_path: Path) -> None:
    port = int(url(server, "").split(":")[2].rstrip("/"))
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        with pytest.raises(DeployServerError, match=str(port)):
            ensure(server, "started", check_mode=False)
