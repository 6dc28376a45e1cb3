# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A benchmark that is ended by a signal leaves nothing of its simulated site behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.tests.integration.kube_api import BUNDLE, CHECKOUT


def below(directory: Path) -> dict[int, str]:
    """Command lines of processes that have to do with this directory."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in words:
            found[int(entry.name)] = words[:200]
    return found


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces, which needs root")
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL], ids=lambda by: by.name)
def test_all_ends_with_the_benchmark(tmp_path: Path, by: signal.Signals) -> None:
    if not (BUNDLE / "manifest.json").exists():
        pytest.skip(f"there is no bundle at {BUNDLE}: run `make bundle`")
    command = [sys.executable, str(CHECKOUT / "tests/bench/scale/bench.py"), "--servers", "2", "--few", "2"]
    with (tmp_path / "log").open("w") as log:
        bench = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        deadline = time.monotonic() + 120
        while "servers are there" not in (tmp_path / "log").read_text():
            assert bench.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.2)
        there = " ".join(below(tmp_path).values())
        assert "kube-apiserver" in there and "/etcd" in there
    finally:
        bench.send_signal(by)
        bench.wait(30)
    deadline = time.monotonic() + 30
    while below(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert below(tmp_path) == {}
    if by is signal.SIGTERM:
        assert not list(tmp_path.glob("kiban-scale-*"))
