# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._files import NotWritten, write_whole


def test_a_file_is_replaced_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "token"
    before = os.umask(0o077)
    try:
        write_whole(str(path), "one")
        private = path.stat().st_mode & 0o777
        write_whole(str(path), "two", mode=0o644)
    finally:
        os.umask(before)
    assert (private, path.stat().st_mode & 0o777, path.read_text()) == (0o600, 0o644, "two")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_whole_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(NotWritten, match=f"{path} cannot be written, and is as it was: File too large"):
            write_whole(str(path), "x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_with_its_space_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_source: str, _target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    said = r"No space left on device \(\d+ MiB free of \d+ MiB\)\. Free some space there and run again$"
    with pytest.raises(NotWritten, match=said):
        write_whole(str(tmp_path / "plan.json"), "{}")
    assert list(tmp_path.iterdir()) == []
