# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""OCI image archives without a container engine: one layer, and the same bytes from the same content."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Config", "Layer", "OciError", "pack_layout", "write_image"]

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
EPOCH = "1970-01-01T00:00:00Z"


class OciError(Exception):
    """Something about the content of an image cannot be."""


@dataclass(frozen=True)
class _Entry:
    kind: str  # file, link or dir
    mode: int
    content: bytes | Path = b""
    target: str = ""


class Layer:
    """What an image contains. Parents are made by themselves; a path under a link or a file is refused."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def file(self, path: str, content: bytes | Path, mode: int = 0o755) -> None:
        self._add(path, _Entry("file", mode, content))

    def link(self, path: str, target: str) -> None:
        self._add(path, _Entry("link", 0o777, target=target))

    def directory(self, path: str, mode: int = 0o755) -> None:
        self._add(path, _Entry("dir", mode))

    def _add(self, path: str, entry: _Entry) -> None:
        name = _clean(path)
        parts = name.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            there = self._entries.setdefault(parent, _Entry("dir", 0o755))
            if there.kind != "dir":
                what = f"the link /{parent} -> {there.target}" if there.kind == "link" else f"the file /{parent}"
                raise OciError(f"/{name} cannot be put under {what}")
        old = self._entries.get(name)
        if old is not None and old != entry and not (old.kind == entry.kind == "dir"):
            raise OciError(f"/{name} is already there as a {old.kind}, and would become a {entry.kind} or differ")
        self._entries[name] = entry

    def write(self, stream: BinaryIO) -> None:
        """The layer as a tar stream: sorted, owned by root, without times."""
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, entry in sorted(self._entries.items()):
                info = tarfile.TarInfo(name)
                info.mode = entry.mode
                if entry.kind == "file":
                    _add_content(tar, info, entry.content)
                else:
                    info.type = tarfile.SYMTYPE if entry.kind == "link" else tarfile.DIRTYPE
                    info.linkname = entry.target
                    tar.addfile(info)


@dataclass(frozen=True)
class Config:
    """How an image runs."""

    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


def _clean(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise OciError(f"{path!r} is not a path inside an image")
    return "/".join(parts)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for data in iter(lambda: stream.read(1 << 20), b""):
            digest.update(data)
    return digest.hexdigest()


def _add_content(tar: tarfile.TarFile, info: tarfile.TarInfo, content: bytes | Path) -> None:
    if isinstance(content, bytes):
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
        return
    with open(content, "rb") as stream:
        info.size = os.fstat(stream.fileno()).st_size
        tar.addfile(info, stream)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": size}


def _index(manifest: dict[str, Any], reference: str) -> bytes:
    # containerd imports under the first name, other tools read the second.
    named = dict(manifest)
    named["annotations"] = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rsplit(":", 1)[-1],
    }
    kind = "application/vnd.oci.image.index.v1+json"
    return _json({"schemaVersion": 2, "mediaType": kind, "manifests": [named]})


def _archive(path: Path, index: bytes, blobs: dict[str, bytes | Path]) -> None:
    contents: dict[str, bytes | Path] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}
    contents.update({f"blobs/sha256/{digest}": blob for digest, blob in sorted(blobs.items())})
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            _add_content(tar, info, content)


def write_image(path: Path, reference: str, layer: Layer, config: Config | None = None) -> str:
    """Write the archive and return the digest of its manifest. The name is part of the archive, not of the digest."""
    if ":" not in reference.rsplit("/", 1)[-1]:
        raise OciError(f"{reference!r} has no tag")
    config = config or Config()
    blob = path.with_name(path.name + ".layer")
    try:
        with open(blob, "wb") as stream:
            layer.write(stream)
        layer_digest = _sha256(blob)
        runs: dict[str, Any] = {"Env": [PATH], "WorkingDir": "/"}
        optional = {"Entrypoint": config.entrypoint, "Cmd": config.command, "Labels": config.labels}
        runs.update({key: value for key, value in optional.items() if value})
        settings = _json(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": EPOCH,
                "config": runs,
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
                "history": [{"created": EPOCH, "created_by": "kiban.baremetal.bundle"}],
            }
        )
        settings_digest = hashlib.sha256(settings).hexdigest()
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": _descriptor("config.v1+json", settings_digest, len(settings)),
                "layers": [_descriptor("layer.v1.tar", layer_digest, blob.stat().st_size)],
            }
        )
        digest = hashlib.sha256(manifest).hexdigest()
        described = _descriptor("manifest.v1+json", digest, len(manifest))
        described["platform"] = {"architecture": "amd64", "os": "linux"}
        _archive(path, _index(described, reference), {digest: manifest, settings_digest: settings, layer_digest: blob})
    finally:
        blob.unlink(missing_ok=True)
    return f"sha256:{digest}"


def pack_layout(folder: Path, path: Path, reference: str) -> str:
    """Pack an OCI layout folder with one image into an archive under the given name; returns its manifest's digest."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    manifests = index.get("manifests") or []
    if len(manifests) != 1:
        raise OciError(f"{folder} holds {len(manifests)} images, one was expected")
    blobs = {blob.name: blob for blob in (folder / "blobs" / "sha256").iterdir()}
    described = {key: value for key, value in manifests[0].items() if key != "annotations"}
    _archive(path, _index(described, reference), dict(blobs))
    return str(described["digest"])
