# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._oci import (
    Config,
    Layer,
    OciError,
    pack_layout,
    write_image,
)

NAME = "registry.example/tools/hello:v1"


def layer(program: Path, reverse: bool = False) -> Layer:
    steps = [
        lambda made: made.file("/usr/bin/hello", program),
        lambda made: made.link("/bin", "usr/bin"),
        lambda made: made.file("/etc/motd", b"hello\n", 0o644),
        lambda made: made.directory("/tmp", 0o1777),
    ]
    made = Layer()
    for step in reversed(steps) if reverse else steps:
        step(made)
    return made


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "hello"
    path.write_bytes(b"\x7fELF" + bytes(range(256)) * 100)
    return path


def test_same_content_gives_the_same_bytes(tmp_path: Path, program: Path) -> None:
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    first = write_image(one, NAME, layer(program), Config(["/usr/bin/hello"]))
    program.touch()
    program.chmod(0o700)
    second = write_image(two, NAME, layer(program, reverse=True), Config(["/usr/bin/hello"]))
    assert first == second
    assert one.read_bytes() == two.read_bytes()


def test_other_content_or_config_gives_another_digest(tmp_path: Path, program: Path) -> None:
    one = write_image(tmp_path / "a.tar", NAME, layer(program))
    two = write_image(tmp_path / "b.tar", NAME, layer(program), Config(command=["x"]))
    program.write_bytes(b"other")
    three = write_image(tmp_path / "c.tar", NAME, layer(program))
    assert len({one, two, three}) == 3


def test_archive_is_whole(tmp_path: Path, program: Path) -> None:
    path = tmp_path / "image.tar"
    digest = write_image(path, NAME, layer(program), Config(["/usr/bin/hello"], labels={"k": "v"}))
    assert not list(tmp_path.glob("*.layer"))
    with tarfile.open(path) as tar:
        names = tar.getnames()
        blobs = {}
        for name in names:
            stream = tar.extractfile(name)
            assert stream is not None
            blobs[name] = stream.read()
        assert {(info.mtime, info.uid, info.gid) for info in tar} == {(0, 0, 0)}
    for name, blob in blobs.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"
    index = json.loads(blobs["index.json"])
    (entry,) = index["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == NAME
    assert entry["digest"] == digest
    manifest = json.loads(blobs["blobs/" + digest.replace(":", "/")])
    config = json.loads(blobs["blobs/" + manifest["config"]["digest"].replace(":", "/")])
    (content,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [content["digest"]]
    assert config["config"]["Entrypoint"] == ["/usr/bin/hello"]
    (tmp_path / "layer.tar").write_bytes(blobs["blobs/" + content["digest"].replace(":", "/")])
    with tarfile.open(tmp_path / "layer.tar") as tar:
        found = {info.name: (info.mode, info.linkname) for info in tar}
    assert found["usr/bin/hello"] == (0o755, "")
    assert found["bin"] == (0o777, "usr/bin")
    assert found["tmp"][0] == 0o1777
    assert list(found) == sorted(found)


def test_a_path_under_a_link_is_refused(program: Path) -> None:
    made = Layer()
    made.link("/lib64", "usr/lib64")
    with pytest.raises(OciError, match=r"/lib64/ld.so cannot be put under the link /lib64 -> usr/lib64"):
        made.file("/lib64/ld.so", program)


def test_a_link_in_the_place_of_a_directory_is_refused(program: Path) -> None:
    made = Layer()
    made.file("/lib64/ld.so", program)
    with pytest.raises(OciError, match=r"/lib64 is already there as a dir"):
        made.link("/lib64", "usr/lib64")


@pytest.mark.parametrize("path", ["", "/", "../etc/passwd", "a/../../b"])
def test_a_path_outside_is_refused(path: str) -> None:
    with pytest.raises(OciError, match=r"is not a path inside an image"):
        Layer().file(path, b"")


def test_a_name_without_tag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OciError, match=r"has no tag"):
        write_image(tmp_path / "x.tar", "localhost:5000/hello", Layer())


def test_a_layout_of_another_tool_gets_our_name_and_keeps_its_digest(tmp_path: Path, program: Path) -> None:
    path = tmp_path / "image.tar"
    digest = write_image(path, "elsewhere.example/x:latest", layer(program))
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "layout")
    packed = tmp_path / "packed.tar"
    assert pack_layout(tmp_path / "layout", packed, NAME) == digest
    direct = tmp_path / "direct.tar"
    write_image(direct, NAME, layer(program))
    assert packed.read_bytes() == direct.read_bytes()
