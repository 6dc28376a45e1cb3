# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images with directories of Go modules, and with parts of Debian packages."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bundle import golang, image
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.errors import BundleError
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.recipe import Artifact
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.store import File, Item


def artifact(**parts: Any) -> Artifact:
    spec = {"reference": "registry/x:{version}", "modules": parts}
    return Artifact("x", "image", "v1.2.3", "Apache-2.0", spec)


def files_of(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:

        def blob(digest: str) -> Any:
            return archive.extractfile(f"blobs/{digest.replace(':', '/')}")

        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
        (layer,) = json.load(blob(index["manifests"][0]["digest"]))["layers"]
        with tarfile.open(fileobj=io.BytesIO(blob(layer["digest"]).read())) as tar:
            return {
                member.name: tar.extractfile(member).read() if member.isfile() else member.linkname.encode()  # type: ignore[union-attr]
                for member in tar
                if not member.isdir()
            }


def made(recipe: dict[str, Any], programs: dict[str, File], packages: Item | None, place: Path) -> dict[str, bytes]:
    image.build(artifact(image=recipe), programs, packages, [], place)
    found = files_of(place / "image.tar")
    return {name: content for name, content in found.items() if not name.startswith("etc/")}


def module_at(folder: Path) -> str:
    """A go command that knows one module, in this directory."""
    command = folder / "go"
    command.write_text(f'#!/bin/sh\n[ "$*" = "list -m -f {{{{.Dir}}}} example.com/m/v2" ] && echo {folder}/m\n')
    command.chmod(0o755)
    for name in ("bpf/lib/a.h", "bpf/b.c", "bpf/tests/c.c", "else.go"):
        path = folder / "m" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return str(command)


def test_a_directory_of_a_module_is_in_the_image_but_for_what_is_left_out(tmp_path: Path) -> None:
    go, archive, required = module_at(tmp_path), tmp_path / "bpf.tar", {"example.com/m/v2": "{version}"}
    golang._tree("x", required, "example.com/m/v2/bpf", go, tmp_path, archive)
    first = archive.read_bytes()
    (tmp_path / "m/bpf/b.c").touch()
    golang._tree("x", required, "example.com/m/v2/bpf", go, tmp_path, archive)
    assert archive.read_bytes() == first
    recipe = {"trees": {"/var/lib/x": "x/bpf.tar"}, "omit": ["var/lib/x/tests/"]}
    found = made(recipe, {"/var/lib/x": File(archive, "", 0)}, None, tmp_path)
    assert found == {"var/lib/x/b.c": b"bpf/b.c", "var/lib/x/lib/a.h": b"bpf/lib/a.h"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("example.com/m/bpf", "example.com/m/bpf is in none of the required modules"),
        ("example.com/m/v2/none", "there is no directory example.com/m/v2/none"),
    ],
)
def test_a_directory_that_is_not_there_is_said(tmp_path: Path, source: str, said: str) -> None:
    go = module_at(tmp_path)
    with pytest.raises(BundleError, match=said):
        golang._tree("x", {"example.com/m/v2": "{version}"}, source, go, tmp_path, tmp_path / "t.tar")


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="not installed: dpkg-deb")
def test_only_what_begins_so_is_taken_of_packages(tmp_path: Path) -> None:
    root, package = tmp_path / "root", tmp_path / "p.deb"
    for name in ("usr/lib/libx.so.1.2", "usr/lib/libxml.so", "usr/bin/tool", "usr/share/doc/p/copyright"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "usr/lib/libx.so.1").symlink_to("libx.so.1.2")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text("Package: p\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n")
    subprocess.run(["dpkg-deb", "--build", "-Znone", root, package], check=True, capture_output=True)
    item = Item("k", tmp_path, {"p.deb": File(package, "", 0)}, [], [], 0)
    found = made({"only": ["usr/lib/libx.so", "usr/share/doc/p/copyright"]}, {}, item, tmp_path)
    assert set(found) == {"usr/lib/libx.so.1", "usr/lib/libx.so.1.2", "usr/share/doc/p/copyright"}
    assert found["usr/lib/libx.so.1"] == b"libx.so.1.2"


def test_a_stamp_with_spaces_is_one_value() -> None:
    assert golang._stamp("a.b", "1.2.3") == "-X a.b=1.2.3"
    assert golang._stamp("a.b", "1.2.3 rev date") == "-X 'a.b=1.2.3 rev date'"
