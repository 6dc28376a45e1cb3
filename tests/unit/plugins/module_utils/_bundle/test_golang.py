# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that are taken in part or as they are, with a go command that has one module in its cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bundle import golang
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.errors import BundleError
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.recipe import Artifact

RECIPE = {
    "partial": [{"module": "x.test/m@v1.0.0", "sum": "h1:right=", "directory": "m", "without": ["providers/dns"]}],
    "programs": {},
}


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The module in Go's cache, where nobody may write."""
    module = tmp_path / "cache/m"
    for name in ("go.mod", "core/core.go", "providers/dns/all.go", "providers/dns/acme/acme.go", "a.yaml", "b.yaml"):
        (module / name).parent.mkdir(parents=True, exist_ok=True)
        (module / name).write_text(f"name: {name}\n")
    for path in sorted(module.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return module


@pytest.fixture
def go(tmp_path: Path, module: Path) -> str:
    command = tmp_path / "go"
    said = json.dumps({"Dir": str(module), "Sum": "h1:right="})
    command.write_text(f"#!/bin/sh\n[ \"$1 $2 $3\" = 'mod download -json' ] && echo '{said}'\n")
    command.chmod(0o755)
    return str(command)


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    folder = tmp_path / "locks/thing"
    (folder / "m/providers/dns").mkdir(parents=True)
    (folder / "go.mod").write_text("module kiban.test/bundle/thing\n")
    (folder / "m/providers/dns/ours.go").write_text("package dns\n")
    return tmp_path / "locks"


def test_ours_stands_in_the_place_of_what_is_left_out(tmp_path: Path, locks: Path, go: str) -> None:
    source = golang.complete("thing v1", RECIPE, locks / "thing", go, tmp_path)
    there = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert there == {"go.mod", "m/go.mod", "m/core/core.go", "m/providers/dns/ours.go", "m/a.yaml", "m/b.yaml"}
    assert (source / "m/go.mod").read_text() == "name: go.mod\n"


def test_another_checksum_is_refused(tmp_path: Path, locks: Path, go: str) -> None:
    recipe: dict[str, Any] = {"partial": [{**RECIPE["partial"][0], "sum": "h1:other="}]}  # type: ignore[dict-item]
    with pytest.raises(
        BundleError, match=r"thing v1: x.test/m@v1.0.0 has the checksum h1:right=, bundle.yml says h1:o"
    ):
        golang.complete("thing v1", recipe, locks / "thing", go, tmp_path)


def artifact(files: str) -> Artifact:
    recipe = {"programs": {}, "joined": {"all.yaml": {"module": "x.test/m", "files": files}}}
    return Artifact("thing", "programs", "v1", "MIT", {"modules": {"go": recipe}})


def test_files_of_a_module_are_joined(tmp_path: Path, locks: Path, go: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    golang.build(artifact("*.yaml"), locks, go, place)
    assert [path.name for path in place.iterdir()] == ["all.yaml"]
    assert (place / "all.yaml").read_text() == "name: a.yaml\n---\nname: b.yaml\n"
    with pytest.raises(BundleError, match=r"thing v1: x.test/m has no \*.json"):
        golang.build(artifact("*.json"), locks, go, place)


def test_what_is_put_into_a_module_decides_what_comes_out(locks: Path) -> None:
    before = golang.inputs(artifact("*"), locks, {"version": "1.0"})
    assert set(before["lock"]) == {"go.mod", "m/providers/dns/ours.go"}
    (locks / "thing/m/providers/dns/ours.go").write_text("package other\n")
    assert golang.inputs(artifact("*"), locks, {"version": "1.0"}) != before
