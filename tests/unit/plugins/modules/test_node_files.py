# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _node_files
from ansible_collections.kiban.baremetal.plugins.module_utils._node_files import FilesError, resolve

CANARY = "canary-8d1f-secret\nsecond line of it"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def call(root: Path, checkout: Path, check: bool = False, **params: Any) -> dict[str, Any]:
    """The module as Ansible runs it, arguments on standard input."""
    arguments = {"root": str(root), "_ansible_check_mode": check, "_ansible_diff": True, **params}
    code = (
        "from ansible.module_utils import basic; from ansible.module_utils.testing import patch_module_args\n"
        "import json, sys\n"
        "from ansible_collections.kiban.baremetal.plugins.modules import node_files\n"
        "with patch_module_args(json.load(sys.stdin)): node_files.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(checkout / ".ansible/collections")},
        check=False,
    )
    assert done.stdout, done.stderr
    return {**json.loads(done.stdout), "raw": done.stdout + done.stderr}


def test_files_links_and_absent_paths(root: Path, checkout: Path) -> None:
    (root / "old").write_text("x")
    params = {
        "files": [
            {"path": "/etc/deep/hostname", "content": "node1\n"},
            {"path": "/etc/key", "content": "k", "mode": "0600"},
            {"path": "/etc/wants/a.service", "link": "/lib/a.service"},
        ],
        "absent": ["/old", "/never"],
    }
    planned = call(root, checkout, check=True, **params)
    assert planned["changed"] and os.listdir(root) == ["old"]
    done = call(root, checkout, **params)
    assert (
        done["changed_paths"]
        == planned["changed_paths"]
        == [
            "/etc/deep/hostname",
            "/etc/key",
            "/etc/wants/a.service",
            "/old",
        ]
    )
    assert (root / "etc/deep/hostname").read_text() == "node1\n"
    assert (root / "etc/key").stat().st_mode & 0o7777 == 0o600
    assert (root / "etc/deep").stat().st_mode & 0o7777 == 0o755
    assert os.readlink(root / "etc/wants/a.service") == "/lib/a.service"
    assert not (root / "old").exists()
    assert not call(root, checkout, **params)["changed"]
    assert not [name for _, _, names in os.walk(root) for name in names if name.startswith(".kiban-")]


def test_mode_and_content_are_compared(root: Path, checkout: Path) -> None:
    (root / "a").write_text("one\n")
    (root / "a").chmod(0o600)
    result = call(root, checkout, files=[{"path": "/a", "content": "two\n", "mode": "0640"}])
    assert result["diff"][0]["before"] == "mode 0600\none\n"
    assert result["diff"][0]["after"] == "mode 0640\ntwo\n"


def test_a_secret_is_nowhere_in_the_output(root: Path, checkout: Path) -> None:
    (root / "key").write_text("old-canary")
    for params in ({}, {"check": True}):
        result = call(root, checkout, files=[{"path": "/key", "content": CANARY, "secret": True}], **params)
        assert result["changed"] is (not params)
        for word in ("canary", "second line"):
            assert word not in result["raw"]
    assert (root / "key").read_text() == CANARY
    changed = call(root, checkout, files=[{"path": "/key", "content": CANARY + "x", "secret": True}])
    assert changed["diff"][0]["before"] != changed["diff"][0]["after"]
    assert "canary" not in changed["raw"]


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("etc/hostname", "absolute"),
        ("/etc/../../x", "'..'"),
        ("/../x", "'..'"),
        ("/etc/", "absolute path of a file"),
        ("/", "absolute path of a file"),
    ],
)
def test_paths_that_are_refused(root: Path, checkout: Path, path: str, word: str) -> None:
    result = call(root, checkout, files=[{"path": "/first", "content": "x"}, {"path": path, "content": "x"}])
    assert result["failed"] and word in result["msg"]
    assert os.listdir(root) == [], "a file was written although another one was refused"


def test_links_lead_nowhere_outside(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "abs").symlink_to(outside)
    (root / "up").symlink_to("../../../outside")
    (root / "loop").symlink_to("loop")
    inside = str(root.resolve())
    assert resolve(str(root), "/abs/file") == f"{inside}{outside}/file"
    assert resolve(str(root), "/up/file") == f"{inside}/outside/file"
    with pytest.raises(FilesError, match="too many"):
        resolve(str(root), "/loop/file")


def test_a_link_inside_is_followed(root: Path, checkout: Path) -> None:
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("/usr/lib")
    (root / "etc").mkdir()
    (root / "etc/resolv.conf").symlink_to("/etc/passwd")
    call(root, checkout, files=[{"path": "/lib/x", "content": "1"}, {"path": "/etc/resolv.conf", "content": "2"}])
    assert (root / "usr/lib/x").read_text() == "1"
    # the last part is replaced, not followed
    assert not (root / "etc/resolv.conf").is_symlink() and not (root / "etc/passwd").exists()


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"files": [{"path": "/a"}]}, "exactly one of content and link"),
        ({"files": [{"path": "/a", "content": "x", "link": "y"}]}, "exactly one of content and link"),
        ({"files": [{"path": "/a", "content": "x", "mode": "u=rw"}]}, "octal"),
        ({"files": [{"path": "/a", "content": "x"}], "absent": ["/a"]}, "more than once"),
        ({"files": [{"path": "/directory", "content": "x"}]}, "is a directory"),
        ({"absent": ["/directory"]}, "is a directory"),
        ({"files": [{"path": "/file/below", "content": "x"}]}, "not a directory"),
    ],
)
def test_mistakes(root: Path, checkout: Path, params: dict[str, Any], word: str) -> None:
    (root / "directory").mkdir()
    (root / "file").write_text("")
    result = call(root, checkout, **params)
    assert result["failed"] and word in result["msg"]


def test_a_root_that_is_not_there(tmp_path: Path, checkout: Path) -> None:
    result = call(tmp_path / "nothing", checkout, files=[])
    assert result["failed"] and "is the system mounted there?" in result["msg"]


def test_a_failure_names_what_was_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [_node_files.Wanted(f"/{name}", b"x") for name in ("a", "b")]
    real = os.replace

    def replace(source: str, target: str) -> None:
        if target.endswith("/b"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(_node_files.os, "replace", replace)
    with pytest.raises(FilesError, match=r"/b: .*No space.*Written before: /a"):
        _node_files.write_all(_node_files.differences(str(root), wanted))
    assert os.listdir(root) == ["a"], "a temporary file was left"
