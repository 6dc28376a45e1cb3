# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Release files and images from their publishers. Nothing is kept that does not have the known checksum."""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import socket
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from .._oci import OciError, pack_layout
from .errors import BundleError
from .process import run
from .recipe import Artifact, fill_in
from .store import Facts

__all__ = ["get_image", "get_programs", "inputs"]

_TRIES = 3
_TIMEOUT = 60


class _Again(Exception):
    """A failure that may pass."""


def inputs(artifact: Artifact, checksums: dict[str, str]) -> dict[str, Any]:
    """What is downloaded, with its checksums. Where from (a mirror) does not matter: the checksum decides."""
    if artifact.kind == "image":
        image, digest = _image(artifact, checksums)
        return {"image": image, "digest": digest, "reference": artifact.reference}
    return {"files": [_file(artifact, entry, checksums) for entry in artifact.part("upstream")]}


def _unknown(artifact: Artifact, what: str, kind: str, how: str) -> BundleError:
    return BundleError(
        f"{artifact.name} {artifact.version}: no {kind} is known for {what}, so it is not downloaded. {how} and put it "
        f"into bundle.yml (artifacts: {artifact.name}: upstream), or into the variable bundle_checksums under this name"
    )


def _file(artifact: Artifact, entry: dict[str, Any], checksums: dict[str, str]) -> dict[str, Any]:
    url = fill_in(entry["url"], artifact.version)
    sha256 = checksums.get(url) or entry.get("sha256")
    if not sha256:
        raise _unknown(artifact, url, "sha256", "Take it from the checksum file that the publisher signs beside it,")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise BundleError(f"{artifact.name}: the sha256 of {url} is not 64 hexadecimal digits: {sha256!r}")
    found = {"url": url, "sha256": sha256}
    if "file" in entry:
        return {**found, "file": entry["file"]}
    members = {name: fill_in(member, artifact.version) for name, member in entry["members"].items()}
    return {**found, "members": members}


def _image(artifact: Artifact, checksums: dict[str, str]) -> tuple[str, str]:
    recipe = artifact.part("upstream")
    image = fill_in(recipe.get("image") or artifact.spec["reference"], artifact.version)
    digest = checksums.get(image) or recipe.get("digest")
    if not digest:
        raise _unknown(
            artifact, image, "digest", "Read it with: skopeo inspect --format '{{.Digest}}' docker://" + image
        )
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise BundleError(
            f"{artifact.name}: the digest of {image} is not sha256: and 64 hexadecimal digits: {digest!r}"
        )
    return image, digest


def _through(address: str, mirrors: dict[str, str]) -> str:
    for prefix, other in mirrors.items():
        if address.startswith(prefix):
            return other + address[len(prefix) :]
    return address


def get_programs(artifact: Artifact, wanted: list[dict[str, Any]], mirrors: dict[str, str], place: Path) -> Facts:
    """Download release files and take the programs out of them."""
    origin = []
    for entry in wanted:
        what = f"{artifact.name} {artifact.version}"
        download = place / "download"
        _download(what, _through(entry["url"], mirrors), entry["sha256"], download)
        if "file" in entry:
            download.rename(place / entry["file"])
            (place / entry["file"]).chmod(0o755)
        else:
            _unpack(what, entry["url"], download, entry["members"], place)
            download.unlink()
        origin.append(f"{entry['url']} sha256:{entry['sha256']}")
    return Facts(origin=origin)


def _download(what: str, url: str, sha256: str, target: Path) -> None:
    for attempt in range(1, _TRIES + 1):
        try:
            found = _fetch(url, target)
            break
        except _Again as error:
            if attempt == _TRIES:
                raise BundleError(f"{what}: {url}: {error} ({_TRIES} tries)") from error
            time.sleep(attempt)
        except urllib.error.HTTPError as error:
            raise BundleError(f"{what}: {url}: the server answered {error.code} {error.reason}") from error
    if found != sha256:
        raise BundleError(
            f"{what}: {url} has the wrong checksum: {found}, but {sha256} was expected. It was thrown away. "
            "Either it was changed on the way, or bundle.yml names the checksum of another version"
        )


def _fetch(url: str, target: Path) -> str:
    digest = hashlib.sha256()
    size = 0
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, open(target, "wb") as stream:
            announced = answer.headers.get("Content-Length")
            for data in iter(lambda: answer.read(1 << 20), b""):
                digest.update(data)
                size += len(data)
                stream.write(data)
    except urllib.error.HTTPError as error:
        if error.code in (429, 500, 502, 503, 504):
            raise _Again(f"the server answered {error.code} {error.reason}") from error
        raise
    except urllib.error.URLError as error:
        raise _Again(f"no connection: {error.reason}") from error
    except (ConnectionError, socket.timeout, http.client.HTTPException) as error:
        raise _Again(f"the connection broke after {size} bytes: {error}") from error
    if announced is not None and size != int(announced):
        raise _Again(f"the connection ended after {size} of {announced} bytes")
    return digest.hexdigest()


def _unpack(what: str, url: str, archive: Path, members: dict[str, str], place: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            there = {member.name[2:] if member.name.startswith("./") else member.name: member for member in tar}
            for name, path in members.items():
                stream = tar.extractfile(there[path]) if path in there else None
                if stream is None:
                    raise BundleError(f"{what}: there is no file {path} in {url}")
                with open(place / name, "wb") as target:
                    shutil.copyfileobj(stream, target)
                (place / name).chmod(0o755)
    except tarfile.TarError as error:
        raise BundleError(f"{what}: {url} is not an archive that can be read: {error}") from error


def get_image(artifact: Artifact, wanted: dict[str, Any], mirrors: dict[str, str], place: Path) -> Facts:
    """Copy an image by its digest and pack it under the name that nodes use."""
    what = f"{artifact.name} {artifact.version}"
    source = _through(wanted["image"], mirrors)
    layout = place / "layout"
    name = source.rsplit(":", 1)[0] if ":" in source.rsplit("/", 1)[-1] else source
    argv = ["skopeo", "copy", "--override-os", "linux", "--override-arch", "amd64", "--preserve-digests", "--quiet"]
    run(what, [*argv, f"docker://{name}@{wanted['digest']}", f"oci:{layout}:image"], place, env={"TMPDIR": str(place)})
    try:
        pack_layout(layout, place / "image.tar", wanted["reference"])
    except OciError as error:
        raise BundleError(f"{what}: {error}") from error
    shutil.rmtree(layout)
    return Facts(origin=[f"{wanted['image']}@{wanted['digest']}"])
