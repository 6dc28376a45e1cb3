# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host whose disks are sparse files: its own sysfs, procfs and device directory, and a web server on loopback."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import _gpt
from ansible_collections.kiban.baremetal.plugins.module_utils._disks import System

MIB = 1 << 20
TOOLS = {**os.environ, "PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"}


def run(*command: object, stdin: str | None = None) -> str:
    """A tool, which must succeed."""
    words = [str(word) for word in command]
    return subprocess.run(words, input=stdin, check=True, capture_output=True, text=True, env=TOOLS).stdout


class Rack:
    """Disks of several buses under one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("sys/block", "sys/devices", "proc/self", "dev"):
            (root / name).mkdir(parents=True)
        (root / "proc/swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
        (root / "proc/self/mountinfo").write_text("22 1 0:21 / /proc rw - proc proc rw\n")
        self.system = System(str(root / "sys"), str(root / "dev"), str(root / "proc"))
        self._minor = 0

    def disk(self, name: str, serial: str, mib: int = 64, bus: str = "virtio", **attributes: str) -> Path:
        """A blank disk; more sysfs attributes as words, with __ for a slash."""
        place = {
            "virtio": f"pci0000:00/0000:00:02.0/virtio1/block/{name}",
            "nvme": f"pci0000:00/0000:00:03.0/nvme/nvme0/{name}",
            "scsi": f"pci0000:00/0000:00:04.0/virtio2/host0/target0:0:0/0:0:0:0/block/{name}",
            "sata": f"pci0000:00/0000:00:05.0/ata1/host1/target1:0:0/1:0:0:0/block/{name}",
            "sas": f"pci0000:00/0000:00:06.0/host2/port-2:0/end_device-2:0/target2:0:0/2:0:0:0/block/{name}",
            "usb": f"pci0000:00/0000:00:07.0/usb1/1-1/host3/target3:0:0/3:0:0:0/block/{name}",
            "iscsi": f"platform/host{name[-1]}/session{name[-1]}/target9:0:0/9:0:0:0/block/{name}",
            "virtual": f"virtual/block/{name}",
        }[bus]
        base = self.root / "sys/devices" / place
        base.mkdir(parents=True)
        (self.root / "sys/block" / name).symlink_to(base)
        values = {
            "dev": f"8:{self._minor}",
            "size": str(mib * 2048),
            "ro": "0",
            "removable": "0",
            "queue/logical_block_size": "512",
            "queue/rotational": "1",
            "queue/discard_max_bytes": "0",
        }
        self._minor += 16
        if bus in ("virtio",):
            values["serial"] = serial
        elif bus == "nvme":
            values |= {
                "device/serial": f"{serial:<20}",
                "device/model": "QEMU NVMe Ctrl",
                "wwid": "eui.0025",
                "queue/rotational": "0",
            }
        else:
            vendor = "ATA" if bus == "sata" else "QEMU"
            values |= {
                "device/vendor": f"{vendor:<8}",
                "device/model": f"{'QEMU HARDDISK':<16}",
                "device/wwid": "naa.5000c5",
            }
            self.attribute(base, "device/vpd_pg80", b"\x00\x80" + len(serial).to_bytes(2, "big") + serial.encode())
        values |= {key.replace("__", "/"): value for key, value in attributes.items()}
        for key, value in values.items():
            self.attribute(base, key, f"{value}\n".encode())
        path = self.root / "dev" / name
        with open(path, "wb") as file:
            file.truncate(mib * MIB)
        return path

    def session(self, number: str, portal: str, state: str = "LOGGED_IN") -> None:
        """An iSCSI session: the one of the disk whose name ends in the number."""
        address, _colon, port = portal.partition(":")
        connection = self.root / f"sys/class/iscsi_connection/connection{number}:0"
        self.attribute(connection, "persistent_address", address.encode())
        self.attribute(connection, "persistent_port", port.encode())
        session = self.root / f"sys/class/iscsi_session/session{number}"
        self.attribute(session, "targetname", b"iqn.2003-01.org.example:array1\n")
        self.attribute(session, "state", state.encode())

    def multipath(self, number: int, name: str, *paths: str, part: int | None = None) -> Path:
        """A device of dm-multipath over these disks, or a partition of one."""
        base = self.root / f"sys/devices/virtual/block/dm-{number}"
        size = (self.base(paths[0]) / "size").read_text()
        uuid = f"part{part}-mpath-3600" if part else "mpath-3600"
        values = {"dm/name": name, "dm/uuid": uuid, "size": size, "dev": f"252:{number}", "ro": "0"}
        for key, value in {**values, "queue/logical_block_size": "512"}.items():
            self.attribute(base, key, value.encode())
        (self.root / f"sys/block/dm-{number}").symlink_to(base)
        (base / "slaves").mkdir()
        (self.root / "dev/mapper").mkdir(exist_ok=True)
        for path in paths:
            (base / "slaves" / path).symlink_to(self.base(path))
            self.attribute(self.base(path), f"holders/dm-{number}/x", b"")
        return self.root / "dev/mapper" / name

    def resize(self, name: str, mib: int) -> None:
        os.truncate(self.root / "dev" / name, mib * MIB)
        self.attribute(self.base(name), "size", b"%d\n" % (mib * 2048))

    @staticmethod
    def attribute(base: Path, key: str, value: bytes) -> None:
        (base / key).parent.mkdir(parents=True, exist_ok=True)
        (base / key).write_bytes(value)

    def base(self, name: str) -> Path:
        return (self.root / "sys/block" / name).resolve()

    def partition(self, name: str, number: int, start: int, size: int) -> Path:
        """What the kernel shows of a partition (in 512-byte sectors)."""
        node = f"{name}p{number}" if name[-1].isdigit() else f"{name}{number}"
        base = self.base(name) / node
        for key, value in {"partition": number, "start": start, "size": size, "dev": f"259:{self._minor}"}.items():
            self.attribute(base, key, f"{value}\n".encode())
        self._minor += 1
        return base

    def mount(self, number: str, source: str, path: str) -> None:
        with open(self.root / "proc/self/mountinfo", "a") as file:
            file.write(f"30 22 {number} / {path} rw,relatime shared:1 - ext4 {source} rw\n")


def digest(path: Path) -> str:
    """Of the content: a hole and zeros are the same. Most of a disk is holes, and those need no reading."""
    found = hashlib.sha256(str(os.path.getsize(path)).encode())
    for place, data in blocks(path):
        found.update(place.to_bytes(8, "big") + data)
    return found.hexdigest()


def zeros(path: Path) -> bool:
    """Whether a disk holds nothing but zeros."""
    return not any(True for _block in blocks(path))


def blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Those of a disk's blocks of 64 KiB that hold anything, each with its place."""
    size, zero = 1 << 16, bytes(1 << 16)
    with open(path, "rb", buffering=0) as file:
        place, end = 0, os.fstat(file.fileno()).st_size
        while place < end:
            try:
                data = os.lseek(file.fileno(), place, os.SEEK_DATA)
            except OSError as exc:
                if exc.errno == errno.ENXIO:
                    return  # only a hole is left
                raise
            hole = os.lseek(file.fileno(), data, os.SEEK_HOLE)
            for start in range(data // size * size, hole, size):
                if start < place:
                    continue  # begins before the data, and was read with what was before it
                block = os.pread(file.fileno(), size, start)
                if block != zero[: len(block)]:
                    yield start, block
                place = start + size
            place = max(place, hole)


class Image:
    """A small but real disk image: GPT, an EFI system partition and an ext4 root with image.json, compressed."""

    def __init__(
        self, directory: Path, image_id: str = "image-1", mib: int = 24, label: str = "kiban-root", seed: int = 1
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.image_id = image_id
        self.raw = directory / "image.raw"
        tree = directory / "tree"
        (tree / "etc/kiban").mkdir(parents=True)
        (tree / "etc/ssh").mkdir()
        (tree / "etc/kiban/image.json").write_text(f'{{"image_id": "{image_id}"}}')
        (tree / "noise").write_bytes(random.Random(seed).randbytes(3 * MIB))
        with open(self.raw, "wb") as file:
            file.truncate(mib * MIB)
        run("sfdisk", "-q", self.raw, stdin=f"label: gpt\nsize=4M, type=U, name=esp\ntype=L, name={label}\n")
        # the root partition: from 5 MiB to the last whole MiB
        root = directory / "root.ext4"
        run("mkfs.ext4", "-q", "-d", tree, "-O", "^metadata_csum_seed", root, f"{mib - 6}M")
        with open(self.raw, "r+b") as file:
            file.seek(5 * MIB)
            file.write(root.read_bytes())
        self.compressed = directory / "image.raw.zst"
        run("zstd", "-q", "-f", self.raw, "-o", self.compressed)
        self.sha256 = hashlib.sha256(self.compressed.read_bytes()).hexdigest()

    def content_of(self, disk: Path) -> None:
        """Asserts that a disk holds this image, complete and grown."""
        data, image = disk.read_bytes(), self.raw.read_bytes()
        table, before = _gpt.parse(data, 512), _gpt.parse(image, 512)
        assert table and before
        assert table.disk_bytes == len(data)
        last = table.partitions[-1]
        assert (last.last + 1) * 512 > len(data) - 2 * MIB
        assert table.partitions[0] == before.partitions[0]
        end = (before.partitions[-1].last + 1) * 512
        assert data[MIB:end] == image[MIB:end]
        assert "No problems found" in run("sgdisk", "-v", disk)
        run("sfdisk", "--verify", disk)


class Server:
    """Serves one file; can break the transfer or answer with an error."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.requests = 0
        self.cut: list[int | None] = []
        self.status = 200
        self.delay = 0.0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/image.raw.zst"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.requests += 1
        handler.send_response(self.status)
        handler.send_header("Content-Length", str(len(self.content)))
        handler.end_headers()
        cut = self.cut.pop(0) if self.cut else None
        body = self.content if cut is None else self.content[:cut]
        try:
            if self.delay:
                import time

                for start in range(0, len(body), 65536):
                    handler.wfile.write(body[start : start + 65536])
                    time.sleep(self.delay)
            else:
                handler.wfile.write(body)
        except OSError:
            pass
        handler.close_connection = True


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    server = Server(content)
    thread = threading.Thread(target=server.httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.httpd.shutdown()
        server.httpd.server_close()
