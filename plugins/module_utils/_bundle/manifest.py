# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""The bundle directory: the files of the store under their names, and the manifest that describes them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from .errors import BundleError
from .recipe import Artifact, Recipe
from .store import File, Item, digest_of

__all__ = ["describe", "put_together", "read", "verify"]

FORMAT = 1
NAME = "manifest.json"
_KINDS = {"bin": "program", "cni": "cni", "images": "image", "objects": "objects"}
"""By the directory of the bundle; C(objects) are for the cluster, not for servers."""


def describe(recipe: Recipe, source: str, items: dict[str, Item]) -> tuple[dict[str, Any], dict[str, File]]:
    """The manifest, and the file of the store for each file of the bundle."""
    entries: list[dict[str, Any]] = []
    files: dict[str, File] = {}
    for artifact in recipe.wanted(None):
        item = items[artifact.name]
        for name, place, file in _results(artifact, item):
            files[place] = file
            entry: dict[str, Any] = {
                "name": name,
                "version": artifact.version,
                "kind": _KINDS[place.split("/", maxsplit=1)[0]],
                "file": place,
                "sha256": file.sha256,
                "size_bytes": file.size_bytes,
                "licence": artifact.licence,
                "origin": item.origin,
                "artifact": artifact.name,
                "store": item.key,
            }
            if artifact.kind == "image":
                entry["reference"] = artifact.reference
            if item.packages:
                entry["packages"] = item.packages
            entries.append(entry)
    entries.sort(key=lambda entry: entry["file"])
    content = [[entry.get(key) for key in ("file", "sha256", "version", "reference")] for entry in entries]
    packages = [
        {"name": name, "suite": recipe.debian["suite"], "licence": artifact.licence}
        for artifact in recipe.artifacts.values()
        if artifact.kind == "packages"
        for name in artifact.spec["packages"]
    ]
    identity = hashlib.sha256(json.dumps([content, packages], sort_keys=True).encode()).hexdigest()
    manifest = {"format": FORMAT, "source": source, "id": identity, "artifacts": entries, "packages": packages}
    return manifest, files


def _results(artifact: Artifact, item: Item) -> list[tuple[str, str, File]]:
    if artifact.kind == "image":
        return [(artifact.name, f"images/{artifact.name}.tar", item.files["image.tar"])]
    return [(name, place, item.files[name]) for name, place in artifact.files.items()]


def read(bundle: Path) -> dict[str, Any] | None:
    """The manifest of a finished bundle."""
    try:
        found = json.loads((bundle / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _stands(path: Path, file: File) -> bool:
    """Whether a file of the bundle is the one of the store: the same inode, or a copy of the same size and age."""
    try:
        there, kept = path.lstat(), file.path.stat()
    except OSError:
        return False
    if (there.st_dev, there.st_ino) == (kept.st_dev, kept.st_ino):
        return True
    return (there.st_size, there.st_mtime) == (kept.st_size, kept.st_mtime) and path.is_file() and not path.is_symlink()


def put_together(bundle: Path, manifest: dict[str, Any], files: dict[str, File], check: bool) -> list[str]:
    """Make the bundle directory what the manifest says; the names of the files that change. In check mode only say."""
    there = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if not path.is_dir() or path.is_symlink()}
    stale = sorted(there - set(files) - {NAME})
    old = read(bundle) or {"artifacts": []}
    known = {entry["file"]: entry["sha256"] for entry in old["artifacts"]}
    fresh = [
        place
        for place, file in sorted(files.items())
        if known.get(place) != file.sha256 or not _stands(bundle / place, file)
    ]
    changed = [*stale, *fresh]
    if old != manifest:
        changed.append(NAME)
    if check or not changed:
        return changed
    # Without a manifest there is no bundle: a run that is killed from here on leaves nothing that looks finished.
    (bundle / NAME).unlink(missing_ok=True)
    for name in stale:
        (bundle / name).unlink()
    for place in fresh:
        _put(files[place].path, bundle / place)
    for folder in sorted((path for path in bundle.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    _write(bundle / NAME, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return changed


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    new.unlink(missing_ok=True)
    try:
        os.link(source, new)
    except OSError:  # another filesystem, or one without hard links
        try:
            shutil.copy2(source, new)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    os.replace(new, target)
    new.unlink(missing_ok=True)  # renaming onto a hard link of the same file does nothing


def _write(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    os.replace(new, path)


def verify(bundle: Path) -> dict[str, Any]:
    """Read every file of the bundle again and compare it with the manifest; all differences at once."""
    manifest = read(bundle)
    if manifest is None:
        raise BundleError(f"there is no finished bundle in {bundle}. Run the playbook kiban.baremetal.bundle")
    problems = []
    for entry in manifest["artifacts"]:
        where = f"{entry['name']} {entry['version']} ({bundle / entry['file']})"
        try:
            found = digest_of(bundle / entry["file"])
        except OSError as error:
            problems.append(f"{where}: {error.strerror}")
            continue
        if found != entry["sha256"]:
            problems.append(
                f"{where}: wrong checksum: {found}, the manifest says {entry['sha256']}. It was changed or damaged: "
                f"remove {bundle.parent / 'store' / entry['store']} and make the bundle again"
            )
    if problems:
        raise BundleError("\n".join(["the bundle is not what its manifest says:", *problems]))
    return manifest
