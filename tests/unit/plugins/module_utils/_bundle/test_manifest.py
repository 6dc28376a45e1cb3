# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bundle import manifest as manifests
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.errors import BundleError
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.recipe import Recipe
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.store import Facts, File, Item, Store

RECIPE = Recipe.load(
    {
        "format": 1,
        "toolchain": {},
        "debian": {"suite": "trixie"},
        "artifacts": [
            {
                "name": "tools",
                "kind": "programs",
                "version": "v1.2.3",
                "licence": "MIT",
                "directory": "bin",
                "files": ["one", "two"],
                "upstream": [],
            },
            {
                "name": "server",
                "kind": "image",
                "version": "v1",
                "licence": "MIT",
                "reference": "registry.example/server:{version}",
                "upstream": {},
            },
            {"name": "runc", "kind": "packages", "licence": "Apache-2.0", "packages": ["runc"]},
        ],
    }
)


class Work:
    """A work directory with results in its store."""

    def __init__(self, root: Path) -> None:
        self.bundle = root / "bundle"
        self.store = Store(root / "store")
        self.contents = {"tools": {"one": "1", "two": "2", "unpublished": "3"}, "server": {"image.tar": "image"}}

    def items(self) -> dict[str, Item]:
        return {name: self.item(name, files) for name, files in self.contents.items()}

    def item(self, name: str, files: dict[str, str]) -> Item:
        def fill(place: Path) -> Facts:
            for file, text in files.items():
                (place / file).write_text(text)
            return Facts(origin=["here"])

        return self.store.ensure(name, {"files": files}, fill)[0]

    def described(self) -> tuple[dict[str, Any], dict[str, File]]:
        return manifests.describe(RECIPE, "upstream", self.items())

    def put(self, check: bool = False) -> list[str]:
        manifest, files = self.described()
        return manifests.put_together(self.bundle, manifest, files, check)

    def listing(self) -> list[str]:
        return sorted(str(path.relative_to(self.bundle)) for path in self.bundle.rglob("*") if path.is_file())


ALL = ["bin/one", "bin/two", "images/server.tar", "manifest.json"]


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


def test_a_bundle_is_what_its_manifest_says(work: Work) -> None:
    assert work.put() == ALL
    assert work.listing() == ALL
    manifest = json.loads((work.bundle / "manifest.json").read_text())
    assert manifest["source"] == "upstream"
    one, _two, image = manifest["artifacts"]
    assert (one["name"], one["version"], one["kind"], one["file"]) == ("one", "v1.2.3", "program", "bin/one")
    assert one["sha256"] == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert one["size_bytes"] == 1
    assert (image["kind"], image["reference"]) == ("image", "registry.example/server:v1")
    assert manifest["packages"] == [{"name": "runc", "suite": "trixie", "licence": "Apache-2.0"}]
    assert manifests.verify(work.bundle)["id"] == manifest["id"]


def test_a_second_run_changes_nothing(work: Work) -> None:
    work.put()
    before = (work.bundle / "manifest.json").stat()
    assert work.put() == []
    assert (work.bundle / "manifest.json").stat() == before


def test_check_mode_only_says(work: Work) -> None:
    assert work.put(check=True) == ALL
    assert not work.bundle.exists()


def test_the_id_is_of_the_content_alone(work: Work, tmp_path: Path) -> None:
    first = work.described()[0]["id"]
    assert Work(tmp_path / "elsewhere").described()[0]["id"] == first
    work.contents["tools"]["unpublished"] = "changed"
    assert work.described()[0]["id"] == first
    work.contents["tools"]["one"] = "changed"
    assert work.described()[0]["id"] != first


def test_stale_and_changed_files_go(work: Work) -> None:
    work.put()
    (work.bundle / "old").mkdir()
    (work.bundle / "old" / "program").touch()
    (work.bundle / "bin" / "two").unlink()
    (work.bundle / "bin" / "two").symlink_to("one")
    work.contents["tools"]["one"] = "new"
    assert work.put() == ["old/program", "bin/one", "bin/two", "manifest.json"]
    assert work.listing() == ALL
    assert not (work.bundle / "old").exists()
    assert (work.bundle / "bin" / "one").read_text() == "new"
    assert not (work.bundle / "bin" / "two").is_symlink()


def test_a_killed_run_leaves_no_manifest(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    work.put()
    work.contents["tools"]["one"] = "new"

    def killed(_source: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(manifests, "_put", killed)
        with pytest.raises(KeyboardInterrupt):
            work.put()
    assert manifests.read(work.bundle) is None
    with pytest.raises(BundleError, match=r"there is no finished bundle in"):
        manifests.verify(work.bundle)
    work.put()
    manifests.verify(work.bundle)
    assert work.listing() == ALL


def test_without_hard_links_files_are_copied(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_args: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    work.put()
    assert (work.bundle / "bin" / "one").stat().st_nlink == 1
    assert work.put() == []
    manifests.verify(work.bundle)


def test_verify_names_every_wrong_artifact(work: Work) -> None:
    work.put()
    damaged = work.bundle / "images" / "server.tar"
    damaged.chmod(0o644)
    damaged.write_text("imagE")
    (work.bundle / "bin" / "two").unlink()
    with pytest.raises(BundleError) as caught:
        manifests.verify(work.bundle)
    text = str(caught.value)
    assert "server v1 (" in text
    assert "images/server.tar): wrong checksum" in text
    assert "two v1.2.3 (" in text
    assert "No such file or directory" in text
    assert "one v1.2.3" not in text
    assert str(work.store.root) in text
