# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Images from programs of the bundle, directories of Go modules and files of Debian packages."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from .._oci import Config, Layer, OciError, write_image
from .debian import members
from .errors import BundleError
from .recipe import Artifact, fill_in
from .store import Facts, File, Item

__all__ = ["build", "inputs"]

# What Go's and libc's user lookups expect to find in any container.
_PASSWD = "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
_GROUP = "root:x:0:\nnogroup:x:65534:\n"


def inputs(artifact: Artifact, programs: dict[str, File], packages: Item | None) -> dict[str, Any]:
    """Everything that decides what is in the image: by content, not by how it came about."""
    return {
        "image": artifact.part("modules", "image"),
        "reference": artifact.reference,
        "licence": artifact.licence,
        "programs": {path: program.sha256 for path, program in programs.items()},
        "packages": packages.packages if packages else [],
    }


def build(
    artifact: Artifact, programs: dict[str, File], packages: Item | None, origin: list[str], place: Path
) -> Facts:
    """Write image.tar into an empty directory. The origin is that of the programs."""
    what = f"{artifact.name} {artifact.version}"
    recipe = artifact.part("modules", "image")
    layer = Layer()
    try:
        layer.directory("tmp", 0o1777)
        layer.file("etc/passwd", _PASSWD.encode(), 0o644)
        layer.file("etc/group", _GROUP.encode(), 0o644)
        for path, target in (recipe.get("links") or {}).items():
            layer.link(path, target)
        trees = recipe.get("trees") or {}
        for path, program in programs.items():
            if path in trees:
                _add_tree(layer, path, recipe, program.path)
            else:
                layer.file(path, program.path)
        if packages:
            _add_packages(what, layer, recipe, packages, place)
        for applet in recipe.get("applets") or []:
            layer.link(f"bin/{applet}", "busybox")
        labels = {
            "org.opencontainers.image.title": artifact.name,
            "org.opencontainers.image.version": fill_in("{number}", artifact.version),
            "org.opencontainers.image.licenses": artifact.licence,
        }
        config = Config(list(recipe.get("entrypoint") or []), list(recipe.get("command") or []), labels)
        digest = write_image(place / "image.tar", artifact.reference, layer, config)
    except OciError as error:
        raise BundleError(f"{what}: {error}") from error
    return Facts(
        origin=[f"image {digest}", *origin, *(packages.origin if packages else [])],
        packages=packages.packages if packages else [],
    )


def _add_tree(layer: Layer, path: str, recipe: dict[str, Any], archive: Path) -> None:
    """All but what is left out (omit)."""
    omit = tuple(recipe.get("omit") or [])
    with tarfile.open(archive) as tar:
        for member in tar:
            name, stream = f"{path.strip('/')}/{member.name}", tar.extractfile(member)
            if stream and not name.startswith(omit):
                layer.file(name, stream.read(), 0o644)


def _add_packages(what: str, layer: Layer, recipe: dict[str, Any], packages: Item, place: Path) -> None:
    """Single files (take: image path -> package path), or what begins so (only), but for what is left out (omit)."""
    take = {source: path for path, source in (recipe.get("take") or {}).items()}
    only, omit = tuple(recipe.get("only") or [""]), tuple(recipe.get("omit") or [])
    for package in packages.files.values():
        for name, member, content in members(what, package.path, place):
            path = take.get(name)
            if path is None and (take or not name.startswith(only) or name.startswith(omit)):
                continue
            path = path or name
            if member.issym():
                layer.link(path, member.linkname)
            else:
                layer.file(path, content, 0o755 if member.mode & 0o100 else 0o644)
            take.pop(name, "")
            if recipe.get("take") and not take:
                return
    if take:
        raise BundleError(f"{what}: no Debian package of it contains {', '.join(take)}")
