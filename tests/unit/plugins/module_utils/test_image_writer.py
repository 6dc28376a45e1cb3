# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks, _image_writer
from ansible_collections.kiban.baremetal.plugins.module_utils._image_writer import ImageError, Request
from ansible_collections.kiban.baremetal.plugins.modules import image_write
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_content import CONTENT, put
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import (
    MIB,
    Image,
    Rack,
    Server,
    digest,
    serving,
    zeros,
)


class Scene:
    """One server in the ramdisk, an image, and the web server that has it."""

    def __init__(self, rack: Rack, image: Image, server: Server, disk: Path) -> None:
        self.rack, self.image, self.server, self.disk = rack, image, server, disk

    def request(self, **changes: Any) -> Request:
        return Request(**{"url": self.server.url, "sha256": self.image.sha256, "image_id": "image-1", **changes})

    def run(self, check: bool = False, serial: str = "SYS", **changes: Any) -> dict[str, Any]:
        return image_write.run(self.request(**changes), serial, check)

    @property
    def mark(self) -> Any:
        return _disks.find_disk("SYS", self.rack.system)["kiban"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return Image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def scene(tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    rack = Rack(tmp_path / "rack")
    monkeypatch.setattr(_disks, "SYSTEM", rack.system)
    monkeypatch.setattr(image_write, "RAMDISK_MARKERS", (str(tmp_path),))
    monkeypatch.setattr(_image_writer, "_PAUSE", 0.0)
    disk = rack.disk("vda", "SYS", mib=40)
    rack.disk("vdb", "OTHER", mib=40)
    with serving(image.compressed.read_bytes()) as server:
        yield Scene(rack, image, server, disk)


def test_a_blank_disk_gets_the_image_once(scene: Scene) -> None:
    result = scene.run()
    assert result["changed"] and result["attempts"] == 1
    assert result["download_bytes"] == scene.image.compressed.stat().st_size
    scene.image.content_of(scene.disk)
    before = digest(scene.disk)
    again = scene.run()
    assert again == {"changed": False, "path": str(scene.disk), "image_id": "image-1"}
    assert scene.server.requests == 1
    assert digest(scene.disk) == before
    assert zeros(scene.rack.root / "dev/vdb")


def test_check_mode_only_decides(scene: Scene) -> None:
    result = scene.run(check=True)
    assert result["changed"] and "image image-1" in result["diff"]["after"]
    assert scene.server.requests == 0 and zeros(scene.disk)


@pytest.mark.parametrize("name", CONTENT)
def test_a_disk_that_holds_anything_is_refused_and_unchanged(scene: Scene, name: str) -> None:
    write, word = CONTENT[name]
    scene.rack.resize("vda", 64)
    write(scene.disk)
    before = digest(scene.disk)
    for check in (True, False):
        with pytest.raises(ImageError) as caught:
            scene.run(check=check)
        assert word in str(caught.value) and "disk SYS" in str(caught.value)
    assert digest(scene.disk) == before
    assert scene.server.requests == 0


@pytest.mark.parametrize("name", ["gpt-with-ext4", "md-1.0", "zfs", "lvm", "unknown-end"])
def test_wipe_writes_over_it_and_leaves_no_trace(scene: Scene, name: str) -> None:
    CONTENT[name][0](scene.disk)
    assert scene.run(wipe=True)["changed"]
    scene.image.content_of(scene.disk)
    [record] = [r for r in _disks.list_disks(scene.rack.system) if r["name"] == "vda"]
    assert {sig["type"] for sig in record["signatures"]} == {"gpt", "PMBR"}


@pytest.mark.parametrize("wipe", [False, True])
def test_a_disk_in_use_is_refused_whatever_is_said(scene: Scene, wipe: bool) -> None:
    part = scene.rack.partition("vda", 1, 2048, 2048)
    scene.rack.mount((part / "dev").read_text().strip(), "/dev/vda1", "/data")
    with pytest.raises(ImageError, match="mounted at /data"):
        scene.run(wipe=wipe)
    assert zeros(scene.disk)


def test_another_image_needs_wipe(scene: Scene) -> None:
    scene.run()
    before = digest(scene.disk)
    with pytest.raises(ImageError, match="kiban-root"):
        scene.run(image_id="image-2")
    with pytest.raises(ImageError, match="kiban-root"):
        scene.run(token="again")
    assert digest(scene.disk) == before
    assert scene.run(image_id="image-2", wipe=True)["changed"]
    assert scene.mark["image_id"] == "image-2"
    assert not scene.run(image_id="image-2", wipe=True)["changed"]
    assert scene.run(image_id="image-2", token="again", wipe=True)["changed"]
    assert not scene.run(image_id="image-2", token="again", wipe=True)["changed"]


def test_a_half_made_data_disk_is_not_ours_to_overwrite(scene: Scene) -> None:
    put(scene.disk, 0, _disks.record_bytes(_disks.CLAIM_MARK, {"site": "lab"}))
    with pytest.raises(ImageError, match="data disk"):
        scene.run()


def test_a_wrong_checksum_leaves_a_marked_disk(scene: Scene) -> None:
    with pytest.raises(ImageError) as caught:
        scene.run(sha256="0" * 64)
    assert "0" * 64 in str(caught.value) and scene.image.sha256 in str(caught.value)
    assert (scene.mark["complete"], scene.mark["image_id"]) == (False, "image-1")
    assert scene.disk.read_bytes()[510:512] != b"\x55\xaa"
    assert scene.server.requests == 1
    assert scene.run()["changed"]
    scene.image.content_of(scene.disk)


def test_a_truncated_download_is_tried_once_more(scene: Scene) -> None:
    scene.server.cut = [1_000_000]
    assert scene.run()["attempts"] == 2
    scene.image.content_of(scene.disk)


def test_two_truncated_downloads_are_an_error(scene: Scene) -> None:
    scene.server.cut = [2_000_000, 2_000_000]
    with pytest.raises(ImageError, match=r"failed twice.*bytes early"):
        scene.run()
    assert scene.mark["complete"] is False
    assert scene.server.requests == 2
    assert scene.run()["changed"]
    scene.image.content_of(scene.disk)


def test_a_download_that_breaks_at_once_touches_nothing(scene: Scene) -> None:
    scene.server.cut = [20, 20]
    with pytest.raises(ImageError, match="failed twice"):
        scene.run()
    assert zeros(scene.disk)


def test_an_error_answer_is_final(scene: Scene) -> None:
    scene.server.status = 404
    with pytest.raises(ImageError, match="answered 404"):
        scene.run()
    assert scene.server.requests == 1 and zeros(scene.disk)


def test_nobody_listens(scene: Scene) -> None:
    with pytest.raises(ImageError, match=r"failed twice.*refused"):
        scene.run(url="http://127.0.0.1:9/image")
    assert zeros(scene.disk)


def test_what_is_no_image_is_refused_before_the_first_write(scene: Scene) -> None:
    import hashlib

    noise = random.Random(0).randbytes(3 * MIB)
    scene.server.content = noise
    with pytest.raises(ImageError, match="expected"):
        scene.run()
    with pytest.raises(ImageError, match=r"less than 1 MiB|cannot be decompressed"):
        scene.run(sha256=hashlib.sha256(noise).hexdigest())
    packed = subprocess.run(["zstd", "-qc"], input=noise, stdout=subprocess.PIPE, check=True).stdout
    scene.server.content = packed
    with pytest.raises(ImageError, match="not a disk image with a GPT"):
        scene.run(sha256=hashlib.sha256(packed).hexdigest())
    assert zeros(scene.disk)


def test_an_image_that_is_cut_before_compression(scene: Scene) -> None:
    import hashlib

    short = scene.image.raw.read_bytes()[: 10 * MIB]
    packed = subprocess.run(["zstd", "-qc"], input=short, stdout=subprocess.PIPE, check=True).stdout
    scene.server.content = packed
    with pytest.raises(ImageError, match="its partition table says"):
        scene.run(sha256=hashlib.sha256(packed).hexdigest())
    assert scene.mark["complete"] is False


def test_a_disk_that_is_too_small(scene: Scene) -> None:
    small = scene.rack.disk("vdc", "SMALL", mib=16)
    with pytest.raises(ImageError, match="has 16777216 bytes, the image needs 25165824"):
        scene.run(serial="SMALL")
    assert zeros(small)


def test_a_disk_just_as_large_as_the_image(scene: Scene) -> None:
    disk = scene.rack.disk("vdc", "EXACT", mib=24)
    assert scene.run(serial="EXACT")["changed"]
    scene.image.content_of(disk)


def test_a_disk_with_other_sectors(scene: Scene) -> None:
    disk = scene.rack.disk("vdc", "LARGE-SECTORS", mib=40, queue__logical_block_size="4096")
    with pytest.raises(ImageError, match="4096-byte sectors"):
        scene.run(serial="LARGE-SECTORS")
    assert zeros(disk)


def test_a_write_error_names_disk_and_place(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if offset >= 8 * MIB and offset < 30 * MIB:
            raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(_image_writer.os, "pwrite", pwrite)
    with pytest.raises(ImageError, match=r"vda cannot be written at byte \d+: No space left"):
        scene.run()
    assert scene.mark["complete"] is False


def test_outside_of_the_ramdisk_nothing_is_written(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_write, "RAMDISK_MARKERS", ("/nonexistent",))
    with pytest.raises(_disks.DiskError, match="not in the deploy ramdisk"):
        scene.run(wipe=True)
    assert zeros(scene.disk)


@pytest.mark.parametrize("changes", [{"url": "file:///etc/passwd"}, {"sha256": "abc"}, {"sha256": "x" * 64}])
def test_bad_options(scene: Scene, changes: dict[str, str]) -> None:
    with pytest.raises(_disks.DiskError, match=f"{next(iter(changes))} must"):
        scene.run(**changes)


def test_zeros_are_left_out_only_if_the_disk_zeroed_itself(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    put(scene.disk, MIB, b"\xff" * (24 * MIB))
    full = scene.run(wipe=True)
    assert not full["zeroed_by_disk"] and full["bytes_written"] == 24 * MIB
    scene.image.content_of(scene.disk)

    def zero(disk: Any, record: Any, length: int) -> bool:
        os.pwrite(disk.fd, bytes(length - MIB), MIB)
        return True

    monkeypatch.setattr(_image_writer._Disk, "clear", zero)
    sparse = scene.run(wipe=True, token="again")
    assert sparse["bytes_written"] < 14 * MIB
    scene.image.content_of(scene.disk)


def test_runs_of_a_buffer() -> None:
    cell = _image_writer._CELL
    buffer = bytearray(8 * cell)
    for index in (0, 2, 3, 7):
        buffer[index * cell + 5] = 1
    runs = list(_image_writer._runs(memoryview(buffer), 8 * cell, True))
    assert runs == [(0, cell), (2 * cell, 4 * cell), (7 * cell, 8 * cell)]
    assert list(_image_writer._runs(memoryview(buffer), 8 * cell - 512, True))[-1] == (7 * cell, 8 * cell - 512)
    assert list(_image_writer._runs(memoryview(buffer), 8 * cell, False)) == [(0, 8 * cell)]
    assert list(_image_writer._runs(memoryview(bytearray(cell)), cell, True)) == []


class _Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_stop_at_every_single_write_is_recognised(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write itself may have reached the disk in part."""
    CONTENT["gpt-with-ext4"][0](scene.disk)
    original = scene.disk.read_bytes()
    real = os.pwrite
    stop = [0]

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if stop[0] == 0:
            real(fd, data[: len(data) // 1024 * 512], offset)
            raise _Killed
        stop[0] -= 1
        return real(fd, data, offset)

    seen = set()
    for number in range(100):
        scene.disk.write_bytes(original)
        monkeypatch.setattr(_image_writer.os, "pwrite", pwrite)
        stop[0] = number
        try:
            scene.run(wipe=True)
            break
        except _Killed:
            pass
        monkeypatch.setattr(_image_writer.os, "pwrite", real)
        mark = scene.mark
        if mark is None:
            assert scene.disk.read_bytes() == original, f"write {number}"
        else:
            assert mark["purpose"] == "system" and not mark["complete"], f"write {number}: {mark}"
            assert mark["image_id"] == "image-1"
        seen.add(mark is None)
        # the next run needs no permission, unless nothing was touched
        assert scene.run(wipe=mark is None)["changed"]
        scene.image.content_of(scene.disk)
    else:
        pytest.fail("never came to an end")
    assert number > 8 and seen == {True, False}


_CHILD = """
import sys
from ansible_collections.kiban.baremetal.plugins.module_utils import _disks, _image_writer
from ansible_collections.kiban.baremetal.plugins.modules import image_write
root, url, sha256 = sys.argv[1:]
_disks.SYSTEM = _disks.System(root + "/sys", root + "/dev", root + "/proc")
image_write.RAMDISK_MARKERS = (root,)
image_write.run(_image_writer.Request(url, sha256, "image-1", wipe=True), "SYS", False)
"""


@pytest.mark.slow
def test_sigkill_at_random_moments(scene: Scene, checkout: Path) -> None:
    scene.server.delay = 0.01
    command = [sys.executable, "-c", _CHILD, str(scene.rack.root), scene.server.url, scene.image.sha256]
    environment = {**os.environ, "PYTHONPATH": str(checkout / ".ansible/collections")}
    CONTENT["gpt-with-ext4"][0](scene.disk)
    original = scene.disk.read_bytes()
    started = time.monotonic()
    subprocess.run(command, env=environment, check=True)
    whole = time.monotonic() - started
    scene.image.content_of(scene.disk)
    states = []
    dice = random.Random(7)
    for _ in range(12):
        scene.disk.write_bytes(original)
        child = subprocess.Popen(command, env=environment)
        time.sleep(dice.uniform(0.1, 1.0) * whole)
        child.send_signal(signal.SIGKILL)
        child.wait()
        mark = scene.mark
        states.append(mark and mark["complete"])
        if mark is None:
            assert scene.disk.read_bytes() == original
        scene.server.delay = 0
        again = scene.run(wipe=mark is None)
        scene.server.delay = 0.01
        assert again["changed"] is (not (mark and mark["complete"]))
        scene.image.content_of(scene.disk)
    assert False in states, f"no kill hit the writing: {states}"
