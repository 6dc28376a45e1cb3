# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._runs.leases import Leased, read_leases, take_lease


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_none() -> None:
    assert read_leases("/nonexistent", os.getpid()) == {}


def test_a_lease_of_another_run_refuses_and_names_it(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    take_lease(str(tmp_path), "node1", other.pid)
    assert list(read_leases(str(tmp_path), os.getpid())) == ["node1"]
    with pytest.raises(Leased, match=f"process {other.pid} on .*, since 20"):
        take_lease(str(tmp_path), "node1", os.getpid())
    take_lease(str(tmp_path), "node2", os.getpid())


def test_its_own_lease_is_no_hindrance(tmp_path: Path) -> None:
    take_lease(str(tmp_path), "node1", os.getpid())
    take_lease(str(tmp_path), "node1", os.getpid())
    assert read_leases(str(tmp_path), os.getpid()) == {}


def test_a_lease_ends_with_its_run(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    take_lease(str(tmp_path), "node1", other.pid)
    other.kill()
    other.wait()
    assert read_leases(str(tmp_path), os.getpid()) == {}
    take_lease(str(tmp_path), "node1", os.getpid())


def test_a_number_that_was_given_again_is_another_process(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    take_lease(str(tmp_path), "node1", other.pid)
    path = tmp_path / "leases" / "node1"
    lease = json.loads(path.read_text())
    path.write_text(json.dumps({**lease, "began": lease["began"] + "0"}))
    assert read_leases(str(tmp_path), os.getpid()) == {}


def test_a_lease_of_another_host_counts(tmp_path: Path) -> None:
    take_lease(str(tmp_path), "node1", os.getpid())
    path = tmp_path / "leases" / "node1"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "elsewhere", "pid": 1}))
    assert "on elsewhere" in read_leases(str(tmp_path), os.getpid())["node1"]


def test_a_broken_file_is_no_lease(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    (tmp_path / "leases" / "node1").write_text("{")
    assert read_leases(str(tmp_path), os.getpid()) == {}
