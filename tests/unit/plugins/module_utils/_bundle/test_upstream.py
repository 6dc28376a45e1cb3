# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bundle import upstream
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.builder import Builder, Settings
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.errors import BundleError
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.recipe import Recipe
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.store import Store
from ansible_collections.kiban.baremetal.plugins.module_utils._oci import Layer, write_image
from ansible_collections.kiban.baremetal.plugins.modules import bundle

PROGRAM = b"\x7fELF" + bytes(200_000)
URL = "https://publisher.example/v1.2.3/tool-1.2.3"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Publisher:
    """A server on loopback with faults to order."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.requests: list[str] = []
        publisher = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.requests.append(self.path)
                fault = publisher.faults.pop(0) if publisher.faults else ""
                content = publisher.files.get(self.path)
                if fault.isdigit() or content is None:
                    self.send_error(int(fault or 404))
                    return
                if fault == "hang up":
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                if "/manifests/" in self.path:
                    self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, content: bytes) -> None:
        self.files["/mirror/v1.2.3/tool-1.2.3"] = content


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setattr(upstream.time, "sleep", lambda _seconds: None)
    monkeypatch.setenv("no_proxy", "*")
    made = Publisher()
    yield made
    made.server.shutdown()
    made.server.server_close()


def builder(
    root: Path, publisher: Publisher, entry: dict[str, Any], checksums: dict[str, str] | None = None
) -> Builder:
    artifact: dict[str, Any] = {
        "name": "tool",
        "kind": "programs",
        "version": "v1.2.3",
        "licence": "MIT",
        "directory": "bin",
    }
    source = {"url": "https://publisher.example/{version}/tool-{number}", **entry}
    artifact.update({"files": ["tool"], "upstream": [source]})
    recipe = Recipe.load({"format": 1, "toolchain": {}, "debian": {}, "artifacts": [artifact]})
    mirrors = {"https://publisher.example/": f"{publisher.address}/mirror/"}
    return Builder(recipe, Store(root), Settings("upstream", root, checksums=checksums or {}, mirrors=mirrors))


def make(made: Builder) -> Any:
    return made.make(made.recipe.artifacts["tool"])


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.glob("*") if not path.name.startswith(".lock-")]


def test_a_good_file(tmp_path: Path, publisher: Publisher) -> None:
    publisher.serve(PROGRAM)
    made = builder(tmp_path, publisher, {"sha256": sha256(PROGRAM), "file": "tool"})
    assert made.find(made.recipe.artifacts["tool"]) is None
    item = make(made)
    assert item.files["tool"].path.read_bytes() == PROGRAM
    assert item.files["tool"].path.stat().st_mode & 0o777 == 0o555
    assert item.origin == [f"{URL} sha256:{sha256(PROGRAM)}"]
    assert [step.action for step in made.steps] == ["downloaded"]
    again = builder(tmp_path, publisher, {"sha256": sha256(PROGRAM), "file": "tool"})
    make(again)
    assert [step.action for step in again.steps] == ["cached"]
    assert len(publisher.requests) == 1


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(tmp_path: Path, publisher: Publisher) -> None:
    publisher.serve(PROGRAM + b"!")
    with pytest.raises(BundleError) as caught:
        make(builder(tmp_path, publisher, {"sha256": sha256(PROGRAM), "file": "tool"}))
    text = str(caught.value)
    assert text.startswith("tool v1.2.3: http://127.0.0.1")
    assert "has the wrong checksum" in text
    assert sha256(PROGRAM) in text
    assert sha256(PROGRAM + b"!") in text
    assert leftovers(tmp_path) == []
    assert len(publisher.requests) == 1


def test_an_unknown_checksum_is_refused_before_anything_is_asked_for(tmp_path: Path, publisher: Publisher) -> None:
    publisher.serve(PROGRAM)
    with pytest.raises(BundleError, match=rf"no sha256 is known for {URL}, so it is not downloaded.* bundle_checksums"):
        make(builder(tmp_path, publisher, {"sha256": None, "file": "tool"}))
    assert publisher.requests == []
    item = make(builder(tmp_path, publisher, {"sha256": None, "file": "tool"}, {URL: sha256(PROGRAM)}))
    assert item.files["tool"].sha256 == sha256(PROGRAM)


def test_all_unknown_checksums_are_named_at_once(tmp_path: Path, publisher: Publisher) -> None:
    made = builder(tmp_path, publisher, {"sha256": None, "file": "tool"})
    artifact = made.recipe.artifacts["tool"]
    with pytest.raises(BundleError) as caught:
        bundle.look(made, [artifact, replace(artifact, name="other")])
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["tool v1.2.3", "other v1.2.3"]


def test_a_checksum_that_is_none_is_refused(tmp_path: Path, publisher: Publisher) -> None:
    with pytest.raises(BundleError, match=r"is not 64 hexadecimal digits: 'latest'"):
        make(builder(tmp_path, publisher, {"sha256": "latest", "file": "tool"}))


def test_a_missing_file_is_not_asked_for_again(tmp_path: Path, publisher: Publisher) -> None:
    with pytest.raises(BundleError, match=r"tool v1.2.3: .*/tool-1.2.3: the server answered 404 Not Found"):
        make(builder(tmp_path, publisher, {"sha256": sha256(PROGRAM), "file": "tool"}))
    assert len(publisher.requests) == 1
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("cut", "the connection ended after 100002 of 200004 bytes"),
        ("hang up", "connection"),
        ("503", "the server answered 503 Service Unavailable"),
    ],
)
def test_what_may_pass_is_tried_three_times(tmp_path: Path, publisher: Publisher, fault: str, sentence: str) -> None:
    publisher.serve(PROGRAM)
    publisher.faults = [fault] * 3
    with pytest.raises(BundleError, match=rf"{sentence}.* \(3 tries\)"):
        make(builder(tmp_path, publisher, {"sha256": sha256(PROGRAM), "file": "tool"}))
    assert leftovers(tmp_path) == []
    publisher.faults = [fault, fault]
    assert make(builder(tmp_path, publisher, {"sha256": sha256(PROGRAM), "file": "tool"}))
    assert len(publisher.requests) == 6


def test_no_server(tmp_path: Path, publisher: Publisher) -> None:
    publisher.server.shutdown()
    publisher.server.server_close()
    with pytest.raises(BundleError, match=r"no connection: .*refused.* \(3 tries\)"):
        make(builder(tmp_path, publisher, {"sha256": sha256(PROGRAM), "file": "tool"}))


def archive(names: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_programs_of_an_archive(tmp_path: Path, publisher: Publisher) -> None:
    content = archive({"./tool-1.2.3/tool": PROGRAM, "../evil": b"x"})
    publisher.serve(content)
    entry = {"sha256": sha256(content), "members": {"tool": "tool-{number}/tool"}}
    item = make(builder(tmp_path / "store", publisher, entry))
    assert item.files["tool"].sha256 == sha256(PROGRAM)
    assert set(item.files) == {"tool"}
    assert not (tmp_path / "evil").exists()


def test_an_archive_without_the_program(tmp_path: Path, publisher: Publisher) -> None:
    content = archive({"README": b"x"})
    publisher.serve(content)
    with pytest.raises(BundleError, match=rf"tool v1.2.3: there is no file bin/tool in {URL}"):
        make(builder(tmp_path, publisher, {"sha256": sha256(content), "members": {"tool": "bin/tool"}}))
    assert leftovers(tmp_path) == []


def test_no_archive_at_all(tmp_path: Path, publisher: Publisher) -> None:
    publisher.serve(PROGRAM)
    with pytest.raises(BundleError, match=r"is not an archive that can be read"):
        make(builder(tmp_path, publisher, {"sha256": sha256(PROGRAM), "members": {"tool": "bin/tool"}}))
    assert leftovers(tmp_path) == []


def test_a_full_disk(tmp_path: Path, publisher: Publisher) -> None:
    """The limit on the size of a file gives the same kind of error as a disk that is full."""
    publisher.serve(PROGRAM)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(BundleError, match=r"tool v1.2.3: no space left under .* Nothing unfinished was kept"):
            make(builder(tmp_path, publisher, {"sha256": sha256(PROGRAM), "file": "tool"}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert leftovers(tmp_path) == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_really_full_disk(tmp_path: Path, publisher: Publisher) -> None:
    publisher.serve(bytes(4 << 20))
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode != 0:
        pytest.skip("may not mount here")
    try:
        with pytest.raises(BundleError, match=rf"no space left under {disk} \(\d+ MiB free of 1 MiB\)"):
            make(builder(disk, publisher, {"sha256": sha256(PROGRAM), "file": "tool"}))
        assert leftovers(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)


class Registry(Publisher):
    """Serves one image by its digest, as a registry does."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        layer = Layer()
        layer.file("/hello", PROGRAM)
        self.digest = write_image(folder / "source.tar", "publisher.example/tools/hello:v1.2.3", layer)
        self.files["/v2/"] = b"{}"
        with tarfile.open(folder / "source.tar") as tar:
            for name in tar.getnames():
                stream = tar.extractfile(name)
                if name.startswith("blobs/") and stream:
                    digest = "sha256:" + name.rsplit("/", 1)[-1]
                    kind = "manifests" if digest == self.digest else "blobs"
                    self.files[f"/v2/mirror/tools/hello/{kind}/{digest}"] = stream.read()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("no_proxy", "*")
    made = Registry(tmp_path)
    host = made.address.removeprefix("http://")
    settings = tmp_path / "home" / ".config" / "containers" / "registries.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield made
    made.server.shutdown()
    made.server.server_close()


def image_builder(root: Path, registry: Registry, digest: str | None) -> Builder:
    artifact = {"name": "tool", "kind": "image", "version": "v1.2.3", "licence": "MIT"}
    source = {"image": "publisher.example/tools/hello:{version}", "digest": digest}
    artifact.update({"reference": "nodes.example/hello:{version}", "upstream": source})
    recipe = Recipe.load({"format": 1, "toolchain": {}, "debian": {}, "artifacts": [artifact]})
    mirrors = {"publisher.example/": registry.address.removeprefix("http://") + "/mirror/"}
    return Builder(recipe, Store(root), Settings("upstream", root, mirrors=mirrors))


needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")


@needs_skopeo
def test_an_image_by_its_digest(tmp_path: Path, registry: Registry) -> None:
    item = make(image_builder(tmp_path / "store", registry, registry.digest))
    assert item.origin == [f"publisher.example/tools/hello:v1.2.3@{registry.digest}"]
    with tarfile.open(item.files["image.tar"].path) as tar:
        stream = tar.extractfile("index.json")
        assert stream is not None
        (entry,) = json.load(stream)["manifests"]
    assert entry["digest"] == registry.digest
    assert entry["annotations"]["io.containerd.image.name"] == "nodes.example/hello:v1.2.3"


@needs_skopeo
@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_an_image_that_was_changed_is_refused(tmp_path: Path, registry: Registry, kind: str) -> None:
    name = max((name for name in registry.files if kind in name), key=lambda name: len(registry.files[name]))
    registry.files[name] = registry.files[name][:-1] + b" "
    with pytest.raises(BundleError, match=r"tool v1.2.3: skopeo copy .* ended with 1. It said last:"):
        make(image_builder(tmp_path / "store", registry, registry.digest))
    assert leftovers(tmp_path / "store") == []


def test_an_image_without_digest_is_refused(tmp_path: Path, registry: Registry) -> None:
    sentence = r"no digest is known for publisher.example/tools/hello:v1.2.3, .* skopeo inspect"
    with pytest.raises(BundleError, match=sentence):
        make(image_builder(tmp_path / "store", registry, None))
    with pytest.raises(BundleError, match=r"is not sha256: and 64 hexadecimal digits: 'v1.2.3'"):
        make(image_builder(tmp_path / "store", registry, "v1.2.3"))
    assert registry.requests == []
