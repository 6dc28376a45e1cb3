# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemons that are known by their records."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._lab import LabError
from ansible_collections.kiban.baremetal.plugins.module_utils._lab_process import Spec, Supervisor, start_time

SERVER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listening", flush=True)
while True:
    listener.accept()
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(str(tmp_path / "run"), str(tmp_path / "log"), stop_timeout=0.3)
    yield made
    for name in made.names():
        made.stop(name)


def sleeper(name: str = "one", **options: object) -> Spec:
    return Spec(name, ["/usr/bin/sleep", "300"], **options)  # type: ignore[arg-type]


def test_start_find_again_stop(supervisor: Supervisor) -> None:
    spec = sleeper()
    assert supervisor.why_not_running(spec) == "not running"
    pid = supervisor.start(spec)
    assert supervisor.pid("one") == pid
    assert supervisor.why_not_running(spec) is None
    assert os.getsid(pid) == pid, "it does not end with its parent's terminal"
    assert supervisor.stop("one") is True
    assert start_time(pid) is None
    assert supervisor.stop("one") is False
    assert supervisor.names() == []


def test_a_reused_process_id_is_not_the_daemon(supervisor: Supervisor) -> None:
    supervisor.start(sleeper())
    path = Path(supervisor.run_dir) / "one.json"
    record = json.loads(path.read_text())
    time.sleep(2 / os.sysconf("SC_CLK_TCK"))  # the kernel tells processes apart by ticks, and never reuses an id in one
    with subprocess.Popen(["/usr/bin/sleep", "300"]) as other:
        path.write_text(json.dumps({**record, "pid": other.pid}))
        assert supervisor.pid("one") is None
        supervisor.stop("one")
        assert other.poll() is None, "a process that is not the daemon is never stopped"
        other.kill()
    os.kill(record["pid"], signal.SIGKILL)


@pytest.mark.parametrize("change", [{"boot": "another"}, {"start": 1}, {"argv": ["/usr/bin/sleep", "301"]}])
def test_boot_start_time_and_arguments_must_agree(supervisor: Supervisor, change: dict[str, object]) -> None:
    pid = supervisor.start(sleeper())
    path = Path(supervisor.run_dir) / "one.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **change}))
    assert supervisor.pid("one") is None
    path.write_text(json.dumps(record))
    assert supervisor.pid("one") == pid


def test_a_damaged_record_counts_as_none(supervisor: Supervisor) -> None:
    pid = supervisor.start(sleeper())
    path = Path(supervisor.run_dir) / "one.json"
    path.write_text("{")
    assert supervisor.pid("one") is None
    os.kill(pid, signal.SIGKILL)


def test_a_changed_file_or_call_asks_for_a_start(supervisor: Supervisor, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("a")
    spec = sleeper(files=[str(config)])
    supervisor.start(spec)
    assert supervisor.why_not_running(spec) is None
    config.write_text("b")
    assert "changed" in str(supervisor.why_not_running(spec))
    config.write_text("a")
    assert supervisor.why_not_running(spec) is None
    assert "changed" in str(supervisor.why_not_running(sleeper(files=[str(config)], env={"A": "b"})))


def test_a_daemon_follows_what_it_requires(supervisor: Supervisor) -> None:
    base, above = sleeper("base"), sleeper("above", requires=["base"])
    supervisor.start(base)
    supervisor.start(above)
    assert supervisor.why_not_running(above) is None
    time.sleep(0.02)
    supervisor.start(base)
    assert supervisor.why_not_running(above) is not None


def test_names_are_youngest_first(supervisor: Supervisor) -> None:
    for name in ("a", "b"):
        supervisor.start(sleeper(name))
        time.sleep(0.03)
    assert supervisor.names() == ["b", "a"]


def test_ready_when_the_socket_answers(supervisor: Supervisor, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    spec = Spec("server", [sys.executable, "-c", SERVER, str(path)], ready_unix=str(path))
    supervisor.start(spec)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert (tmp_path / "log/server.log").read_text() == "listening\n"


def test_a_daemon_that_ends_while_starting_is_an_error_with_its_words(supervisor: Supervisor, tmp_path: Path) -> None:
    spec = Spec("bad", ["/bin/sh", "-c", "echo no such license >&2; exit 3"], ready_unix=str(tmp_path / "none"))
    with pytest.raises(LabError, match=r"bad ended with status 3.*no such license"):
        supervisor.start(spec)


def test_a_daemon_that_is_never_ready_is_an_error(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"not ready after 0.2 s"):
        supervisor.start(sleeper(ready_unix=str(tmp_path / "none"), timeout=0.2))


def test_a_missing_program_is_an_error(supervisor: Supervisor) -> None:
    with pytest.raises(LabError, match=r"ghost cannot be started"):
        supervisor.start(Spec("ghost", ["/nowhere/ghost"]))
    assert supervisor.pid("ghost") is None


def test_a_daemon_that_ignores_the_request_to_end_is_killed(supervisor: Supervisor) -> None:
    spec = Spec("deaf", ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    pid = supervisor.start(spec)
    time.sleep(0.2)
    assert supervisor.stop("deaf") is True
    assert start_time(pid) is None


def test_commands_before_a_start_run_each_time(supervisor: Supervisor, tmp_path: Path) -> None:
    spec = sleeper(before=[["/bin/sh", "-c", f"echo x >> {tmp_path}/count"]])
    supervisor.start(spec)
    supervisor.start(spec)
    assert (tmp_path / "count").read_text() == "x\nx\n"


def open_files(pid: int) -> set[str]:
    found = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return found


def test_nothing_open_is_inherited(supervisor: Supervisor, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    pid = supervisor.start(sleeper())
    os.close(writer)
    expected, end = {"/dev/null", str(tmp_path / "log/one.log")}, time.monotonic() + 30
    # A Python that starts opens and closes files of its own; what it inherits stays open.
    while (found := open_files(pid)) != expected and time.monotonic() < end:
        time.sleep(0.01)
    assert found == expected
    assert os.read(reader, 1) == b"", "a reader of the module's output is not kept waiting"
    os.close(reader)
