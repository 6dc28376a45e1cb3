# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""Streams a compressed disk image from a URL to a disk.

A kill at any moment leaves a disk that is recognised. Sector 0 holds our half-written mark from the first write on;
the protective MBR of the complete disk replaces it by one sector write, which is the last one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import mmap
import os
import queue
import ssl
import stat
import struct
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks, _gpt
from ansible_collections.kiban.baremetal.plugins.module_utils._disks import MIB

__all__ = ["ImageError", "Request", "Result", "already_there", "refusal", "write_image"]

_CHUNK = MIB
_BUFFER = 4 * MIB
_CELL = 256 * 1024
# A bytearray on the left compares with memcmp; bytes or a memoryview there would go byte by byte.
_ZERO_CELL = bytearray(_CELL)
_SAMPLES = 32
_PAUSE = 2.0

_F_SETPIPE_SZ = 1031
_BLKDISCARD = 0x1277
_BLKZEROOUT = 0x127F


class ImageError(Exception):
    """The image was not written; the message says what is on the disk now."""


class _DownloadError(Exception):
    """The transfer broke: worth one more try."""


@dataclass(frozen=True)
class Request:
    """What shall be on the disk."""

    url: str
    sha256: str
    image_id: str
    token: str = ""
    wipe: bool = False
    ca_path: str | None = None
    timeout: float = 60.0


@dataclass(frozen=True)
class Result:
    """What was done."""

    bytes_written: int
    image_bytes: int
    download_bytes: int
    seconds: float
    attempts: int
    zeroed_by_disk: bool


def already_there(record: dict[str, Any], request: Request) -> bool:
    """Whether the disk holds exactly this image, complete."""
    mark = record["kiban"]
    if mark is None or mark["purpose"] != "system" or not mark["complete"]:
        return False
    if mark["image_id"] is not None:
        return (mark["image_id"], mark["token"] or "") == (request.image_id, request.token)
    # Written by something else than this module: the file system inside still knows.
    return not request.token and not record["mounts"] and _image_id_inside(record) == request.image_id


def refusal(record: dict[str, Any], request: Request) -> str | None:
    """Why this disk must not be written to, or None."""
    if reasons := _disks.in_use(record):
        return "; ".join(reasons)
    mark = record["kiban"]
    half_written = mark is not None and mark["purpose"] == "system" and not mark["complete"]
    content = _disks.not_blank(record)
    if request.wipe or half_written or not content:
        return None
    return f"{'; '.join(content)}. Nothing was touched. To overwrite this disk, name its serial number under wipe"


def write_image(record: dict[str, Any], request: Request) -> Result:
    """Writes the image. The disk is locked, and refusal() has been asked under that lock."""
    started = time.monotonic()
    for attempt in (1, 2):
        try:
            with _Stream(request) as stream:
                written, size, zeroed = _write(record, request, stream)
                return Result(written, size, stream.received, time.monotonic() - started, attempt, zeroed)
        except _DownloadError as exc:
            if attempt == 2:
                raise ImageError(
                    f"the download of {request.url} failed twice, last with: {exc}. If writing had begun, "
                    f"{record['path']} is marked as half-written and will be written from the start by the next run"
                ) from exc
            time.sleep(_PAUSE)
    raise AssertionError("unreachable")


def _write(record: dict[str, Any], request: Request, stream: _Stream) -> tuple[int, int, bool]:
    block = record["logical_block_bytes"]
    head = bytearray(MIB)
    if stream.readinto(memoryview(head)) != MIB:
        stream.check()
        raise ImageError(f"{request.url} holds less than 1 MiB: not a disk image. Nothing was touched")
    image = _gpt.parse(bytes(head), block)
    if image is None:
        raise ImageError(
            f"{request.url} is not a disk image with a GPT for {block}-byte sectors, which {record['path']} has. "
            "Nothing was touched"
        )
    with _target(record["path"]) as disk:
        if disk.size < image.disk_bytes:
            raise ImageError(
                f"{record['path']} (serial number {record['serial_number']}) has {disk.size} bytes, "
                f"the image needs {image.disk_bytes}. Nothing was touched"
            )
        roots = image.labelled(_disks.ROOT_LABEL)
        grow = roots[0].number if roots else 2
        try:
            final = image.grown(disk.size, grow)
        except ValueError as exc:
            raise ImageError(
                f"the partition table in {request.url} cannot be used: {exc}. Nothing was touched"
            ) from exc

        state: dict[str, Any] = {"image_id": request.image_id, "token": request.token}
        disk.invalidate(_disks.record_bytes(_disks.IMAGE_MARK, state))
        zeroed = disk.clear(record, image.disk_bytes)
        written = _copy(stream, disk, image, skip_zeros=zeroed)
        stream.check()

        root_offset = final.labelled(_disks.ROOT_LABEL)[0].first * block if roots else None
        state["disk"] = final.disk_uuid
        state["fs"] = _disks.ext_uuid(disk.fd, root_offset) if root_offset is not None else None
        disk.complete(head, final, _disks.record_bytes(_disks.RECORD_MARK, state))
    return written + MIB, image.disk_bytes, zeroed


def _copy(stream: _Stream, disk: _Disk, image: _gpt.Table, skip_zeros: bool) -> int:
    """Everything after the first MiB; returns the bytes that were written."""
    # The image's own backup table would end up inside the grown partition.
    end = image.layout().backup[0]
    position, written = MIB, 0
    # Page-aligned, as writing past the page cache needs it.
    buffer = memoryview(mmap.mmap(-1, _BUFFER))
    while count := stream.readinto(buffer):
        if position + count > image.disk_bytes:
            raise ImageError(f"{stream.url} is longer than its partition table says. {disk.half_written}")
        if position + count > end:
            start = max(0, end - position)
            buffer[start:count] = bytes(count - start)
        for first, last in _runs(buffer, count, skip_zeros):
            disk.write(buffer[first:last], position + first)
            written += last - first
        position += count
    stream.check()
    if position != image.disk_bytes:
        raise ImageError(
            f"{stream.url} is {position} bytes long, its partition table says {image.disk_bytes}. {disk.half_written}"
        )
    return written


def _runs(buffer: memoryview, count: int, skip_zeros: bool) -> Iterator[tuple[int, int]]:
    """The parts of the buffer that have to be written."""
    if not skip_zeros:
        yield 0, count
        return
    start = None
    for cell in range(0, count, _CELL):
        size = min(_CELL, count - cell)
        zeros = _ZERO_CELL if size == _CELL else bytearray(size)
        if zeros == buffer[cell : cell + size]:
            if start is not None:
                yield start, cell
            start = None
        elif start is None:
            start = cell
    if start is not None:
        yield start, count


class _Stream:
    """HTTP -> zstd -> here; the checksum of what came over the network is made beside it."""

    def __init__(self, request: Request) -> None:
        self.url = request.url
        self.received = 0
        self._request = request
        self._error: Exception | None = None
        self._hash = hashlib.sha256()
        self._chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=8)

    def __enter__(self) -> _Stream:
        self._response = self._open()
        try:
            self._zstd = subprocess.Popen(
                ["zstd", "-dcq", "--long=31"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except FileNotFoundError as exc:
            raise ImageError("zstd is missing on this host. Nothing was touched") from exc
        if not self._zstd.stdin or not self._zstd.stdout:
            raise AssertionError
        for pipe in (self._zstd.stdin, self._zstd.stdout):
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe, _F_SETPIPE_SZ, MIB)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._download, self._digest)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._zstd.kill()
        self._zstd.wait()
        with contextlib.suppress(OSError):
            self._response.close()

    def readinto(self, view: memoryview) -> int:
        """Fills the view; less only at the end."""
        if not self._zstd.stdout:
            raise AssertionError
        fd, filled = self._zstd.stdout.fileno(), 0
        while filled < len(view):
            count = os.readv(fd, [view[filled:]])
            if not count:
                break
            filled += count
        return filled

    def check(self) -> None:
        """After the end of the stream: whether all of it came, and it was the right thing."""
        for thread in self._threads:
            thread.join()
        if isinstance(self._error, (OSError, http.client.HTTPException)):
            raise _DownloadError(_reason(self._error)) from self._error
        if self._error is not None:
            raise self._error
        actual = self._hash.hexdigest()
        # First the checksum: garbage in makes zstd fail too, and the checksum says more.
        if actual != self._request.sha256.lower():
            raise ImageError(
                f"{self.url} has sha256 {actual}, expected {self._request.sha256.lower()}. If writing had begun, the "
                "disk is marked as half-written and does not boot; check what the deploy server serves, then run again"
            )
        if self._zstd.wait() != 0:
            if not self._zstd.stderr:
                raise AssertionError
            detail = self._zstd.stderr.read().decode("utf-8", "replace").strip()
            raise ImageError(f"{self.url} cannot be decompressed: {detail or 'zstd failed'}")

    def _open(self) -> Any:
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self.url.startswith("https:"):
            try:
                context = ssl.create_default_context(cafile=self._request.ca_path)
            except OSError as exc:
                path = self._request.ca_path
                raise ImageError(f"the CA file {path} cannot be used: {exc}. Nothing was touched") from exc
            handlers.append(urllib.request.HTTPSHandler(context=context))
        try:
            return urllib.request.build_opener(*handlers).open(self.url, timeout=self._request.timeout)
        except urllib.error.HTTPError as exc:
            raise ImageError(f"{self.url}: the server answered {exc.code} {exc.reason}. Nothing was touched") from exc
        except urllib.error.URLError as exc:
            if isinstance(exc.reason, ssl.SSLCertVerificationError):
                raise ImageError(f"{self.url}: {exc.reason}. Nothing was touched") from exc
            raise _DownloadError(_reason(exc)) from exc
        except ValueError as exc:
            raise ImageError(f"{self.url!r} is not a usable URL: {exc}. Nothing was touched") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise _DownloadError(_reason(exc)) from exc

    def _download(self) -> None:
        if not self._zstd.stdin:
            raise AssertionError
        stdin, feeding = self._zstd.stdin.fileno(), True
        try:
            while chunk := self._response.read(_CHUNK):
                self.received += len(chunk)
                self._chunks.put(chunk)
                view = memoryview(chunk)
                while feeding and view:
                    try:
                        view = view[os.write(stdin, view) :]
                    except BrokenPipeError:
                        # zstd has given up: read on for the checksum, unless nobody waits for it.
                        feeding = False
            expected = self._response.headers.get("Content-Length")
            if expected is not None and self.received != int(expected):
                raise http.client.IncompleteRead(b"", int(expected) - self.received)
        except Exception as exc:
            self._error = exc
        finally:
            self._chunks.put(None)
            with contextlib.suppress(OSError):
                self._zstd.stdin.close()

    def _digest(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            self._hash.update(chunk)


class _Disk:
    """The disk, open for writing."""

    def __init__(self, path: str, fd: int, direct: int) -> None:
        self.path = path
        self.fd = fd
        self._direct = direct
        self.size = _disks.device_size(fd)
        self.half_written = f"{path} is marked as half-written and will be written from the start by the next run"

    def write(self, data: memoryview, offset: int) -> None:
        """All of data at offset, past the page cache where the length allows it."""
        fd = self._direct if len(data) % 4096 == 0 else self.fd
        _pwrite(self.path, fd, data, offset)

    def invalidate(self, mark: bytes) -> None:
        """From here on the disk is ours and not complete."""
        self._put(0, mark)
        self._put(len(mark), bytes(MIB - len(mark)), sync=False)
        # Backup tables and the superblocks that live at the end of a disk.
        tail = max(MIB, self.size - MIB)
        self._put(tail, bytes(self.size - tail))

    def clear(self, record: dict[str, Any], image_bytes: int) -> bool:
        """Lets the disk forget its content; True if all that the image covers reads as zeros now."""
        if record["discard"]:
            with contextlib.suppress(OSError):
                self._ranges(_BLKDISCARD, MIB, self.size - self.size % 4096)
        # A discard promises nothing about later reads; BLKZEROOUT does, and is cheap where the disk does it itself.
        if not record["write_zeroes"]:
            return False
        try:
            self._ranges(_BLKZEROOUT, MIB, image_bytes)
        except OSError:
            return False
        step = max(4096, (image_bytes - MIB) // _SAMPLES // 4096 * 4096)
        return all(not any(os.pread(self.fd, 4096, at)) for at in range(MIB, image_bytes, step))

    def complete(self, head: bytearray, table: _gpt.Table, record: bytes) -> None:
        """The last writes: backup table, first MiB, then sector 0, which makes the disk valid."""
        os.fsync(self._direct)
        layout = table.layout()
        self._put(*layout.backup)
        start, primary = layout.primary
        head[start : start + len(primary)] = primary
        if not any(head[_disks.RECORD_OFFSET : _disks.RECORD_OFFSET + len(record)]):
            head[_disks.RECORD_OFFSET : _disks.RECORD_OFFSET + len(record)] = record
        self._put(start, bytes(head[start:]))
        # Boot code of the image stays; the partition entry covers the larger disk.
        sector = bytearray(head[: table.block])
        sector[446:512] = layout.protective_mbr[1][446:512]
        self._put(0, bytes(sector))

    def _put(self, offset: int, data: bytes, sync: bool = True) -> None:
        _pwrite(self.path, self.fd, memoryview(data), offset)
        if sync:
            os.fsync(self.fd)

    def _ranges(self, request: int, start: int, end: int) -> None:
        # In pieces, so that a kill need not wait for all of a large disk.
        while start < end:
            length = min(1 << 30, end - start)
            fcntl.ioctl(self.fd, request, struct.pack("QQ", start, length))
            start += length


@contextlib.contextmanager
def _target(path: str) -> Iterator[_Disk]:
    """Opens the disk; the kernel refuses if anything on this host holds it or a part of it."""
    block_device = stat.S_ISBLK(os.stat(path).st_mode)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if block_device else 0))
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            raise ImageError(
                f"{path} is in use by the kernel (mounted, or part of a volume). Nothing was touched"
            ) from exc
        raise ImageError(f"{path} cannot be opened for writing: {exc.strerror}. Nothing was touched") from exc
    try:
        try:
            direct = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError:
            direct = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            yield _Disk(path, fd, direct)
        finally:
            os.close(direct)
        _disks.reread_partitions(path, fd)
    finally:
        os.close(fd)


def _pwrite(path: str, fd: int, data: memoryview, offset: int) -> None:
    while len(data):
        try:
            count = os.pwrite(fd, data, offset)
        except OSError as exc:
            raise ImageError(
                f"{path} cannot be written at byte {offset}: {exc.strerror}. The disk is marked as half-written"
            ) from exc
        if not count:
            raise ImageError(f"{path} takes no more data at byte {offset}. The disk is marked as half-written")
        data, offset = data[count:], offset + count


def _image_id_inside(record: dict[str, Any]) -> str | None:
    """The image id in the root file system, which is mounted for a moment without replaying its journal."""
    root = next((part for part in record["partitions"] if part["label"] == _disks.ROOT_LABEL), None)
    if root is None or root["name"] is None:
        return None
    device = os.path.join(os.path.dirname(record["path"]), root["name"])
    with tempfile.TemporaryDirectory(prefix="kiban-") as directory:
        if _disks.run_tool("mount", "-t", "ext4", "-o", "ro,noload,nosuid,nodev", device, directory)[0] != 0:
            return None
        try:
            with open(os.path.join(directory, "etc/kiban/image.json"), encoding="utf-8") as file:
                data = json.load(file)
            return data.get("image_id") or data.get("id")
        except (OSError, ValueError, AttributeError):
            return None
        finally:
            status, _out, errors = _disks.run_tool("umount", directory)
            if status != 0:
                raise ImageError(f"{device} cannot be unmounted from {directory}: {errors.strip()}")


def _reason(exc: BaseException) -> str:
    if isinstance(exc, http.client.IncompleteRead):
        return f"the connection ended {exc.expected} bytes early"
    return str(getattr(exc, "reason", None) or exc) or type(exc).__name__
