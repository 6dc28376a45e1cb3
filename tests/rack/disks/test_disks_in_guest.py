# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disk modules in the deploy ramdisk, on virtio, SCSI, NVMe and SATA disks of an emulated server.

Needs QEMU and the deploy ramdisk of the playbook kiban.baremetal.image (or KIBAN_RAMDISK=<directory>), no rack.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible
import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _deploy_media
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_content import CONTENT
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import MIB, Image, Server, run, serving

pytestmark = pytest.mark.rack

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
# A /dev/kvm that can be opened does not always work, so it is asked for by name.
ACCELERATOR = os.environ.get("KIBAN_ACCEL", "tcg")
SIZE = 96
DISKS = {
    "SYS-VIRTIO": ("virtio-blk-pci,discard=on,write-zeroes=on", "VirtIO"),
    "DATA-SCSI": ("scsi-hd,bus=scsi0.0", "SCSI"),
    "DATA-NVME": ("nvme", "NVMe"),
    "DATA-SATA": ("ide-hd,bus=ide.1", "SATA"),
}


def ramdisk() -> Path:
    """The directory of the newest deploy ramdisk."""
    if name := os.environ.get("KIBAN_RAMDISK"):
        return Path(name)
    work = Path(os.environ.get("KIBAN_WORK") or Path.home() / ".cache/kiban")
    found = sorted((work / "image").glob("ramdisk-*/initrd.zst"), key=lambda path: path.stat().st_mtime)
    if not found:
        pytest.skip("no deploy ramdisk: run the playbook kiban.baremetal.image, or set KIBAN_RAMDISK")
    return found[-1].parent


def patches(path: Path) -> list[tuple[int, str]]:
    """What is not zero in a sparse file, in pieces of 64 KiB."""
    found = []
    with open(path, "rb") as file:
        for offset in range(0, path.stat().st_size, 65536):
            data = file.read(65536)
            if data.strip(b"\0"):
                found.append((offset, base64.b64encode(zlib.compress(data)).decode()))
    return found


class Guest:
    """One emulated server in the deploy ramdisk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        for name in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name)
        known = (directory / "host.pub").read_text()
        (directory / "known_hosts").write_text(f"guest {known}")
        server = _deploy_media.Server(
            "guest", "10.0.2.15/24", "10.0.2.2", authorized_keys=[(directory / "user.pub").read_text().strip()]
        )
        host_key = (directory / "host").read_bytes()
        entries = _deploy_media.entries(server, "test", host_key, known.encode(), b"")
        entries = [entry for entry in entries if not entry.path.endswith("-cert.pub")]
        source = ramdisk()
        self.kernel = source / "vmlinuz"
        initrd = (source / "initrd.zst").read_bytes()
        (directory / "initrd").write_bytes(initrd + bytes(-len(initrd) % 4) + _deploy_media.newc(entries))
        for serial in DISKS:
            with open(directory / serial, "wb") as file:
                file.truncate(SIZE * MIB)

    def start(self) -> None:
        command = [
            "qemu-system-x86_64",
            "-machine",
            f"q35,accel={ACCELERATOR}",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "1536",
        ]
        command += ["-nographic", "-no-reboot", "-kernel", str(self.kernel), "-initrd", str(self.directory / "initrd")]
        command += ["-append", "console=ttyS0 loglevel=4 net.ifnames=0", "-device", "virtio-rng-pci"]
        command += ["-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=n"]
        command += ["-device", "virtio-scsi-pci,id=scsi0"]
        for serial, (device, _) in DISKS.items():
            drive = f"if=none,id={serial},file={self.directory / serial},format=raw,cache=unsafe,discard=unmap"
            command += ["-drive", drive, "-device", f"{device},drive={serial},serial={serial}"]
        with open(self.directory / "console.log", "ab") as console:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        end = time.monotonic() + 600
        while subprocess.run([*self.ssh(5), "true"], capture_output=True, check=False).returncode != 0:
            assert self.process.poll() is None, (self.directory / "console.log").read_text()[-2000:]
            assert time.monotonic() < end, "the guest does not answer"
            time.sleep(2)

    def stop(self) -> None:
        """Cuts the power."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def ssh(self, timeout: int = 60) -> list[str]:
        options = {
            "ConnectTimeout": str(timeout),
            "HostKeyAlias": "guest",
            "UserKnownHostsFile": str(self.directory / "known_hosts"),
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return [
            "ssh",
            "-F",
            "none",
            "-T",
            "-i",
            str(self.directory / "user"),
            "-p",
            str(self.port),
            *words,
            "root@127.0.0.1",
        ]

    def upload(self, config: dict[str, Any]) -> None:
        archive = io.BytesIO()
        core = Path(ansible.__file__).parent
        with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as tar:

            def add(path: Path, name: str) -> None:
                tar.add(path, name, filter=lambda info: None if "__pycache__" in info.name else info)

            for name in ("__init__.py", "_vendor", "release.py", "module_utils"):
                add(core / name, f"ansible/{name}")
            for path in [*CHECKOUT.glob("plugins/module_utils/_*.py"), *CHECKOUT.glob("plugins/modules/*.py")]:
                add(path, f"ansible_collections/kiban/baremetal/{path.relative_to(CHECKOUT)}")
            add(HERE / "guest.py", "guest.py")
            info = tarfile.TarInfo("config.json")
            data = json.dumps(config).encode()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        subprocess.run([*self.ssh(), "mkdir -p /run/t && tar -C /run/t -xzf -"], input=archive.getvalue(), check=True)

    def step(self, name: str) -> Any:
        command = f"cd /run/t && PYTHONPATH=/run/t python3 -B guest.py config.json {name}"
        done = subprocess.run([*self.ssh(), command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        result = json.loads(done.stdout.splitlines()[-1])
        print(name, json.dumps(result))
        return result


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, Any]]]:
    directory = tmp_path_factory.mktemp("content")
    image = Image(directory / "image")
    content, words = {}, {}
    for name, (write, word) in CONTENT.items():
        blank = directory / "blank"
        with open(blank, "wb") as file:
            file.truncate(SIZE * MIB)
        write(blank)
        content[name], words[name] = patches(blank), word
        blank.unlink()
    raw = image.raw.read_bytes()
    # all but the backup table at the end of the image, which moves
    pieces = [(offset, MIB, zlib.crc32(raw[offset : offset + MIB])) for offset in range(MIB, len(raw) - MIB, MIB)]
    with serving(image.compressed.read_bytes()) as http:
        port = http.httpd.server_port
        config = {
            "serials": list(DISKS),
            "content": content,
            "words": words,
            "image": {"url": f"http://10.0.2.2:{port}/image", "sha256": image.sha256, "crc": pieces},
            "seed": int(os.environ.get("KIBAN_SEED", "1")),
        }
        yield http, config


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory, server: tuple[Server, dict[str, Any]]) -> Iterator[Guest]:
    guest = Guest(tmp_path_factory.mktemp("guest"))
    try:
        guest.start()
        guest.upload(server[1])
        yield guest
    finally:
        guest.stop()


def test_identity_on_four_buses(guest: Guest) -> None:
    records = {record["serial_number"]: record for record in guest.step("identity")}
    assert set(records) == set(DISKS)
    for serial, (_, protocol) in DISKS.items():
        record = records[serial]
        assert (record["protocol"], record["capacity_bytes"]) == (protocol, SIZE * MIB)
        assert record["signatures"] == [] and record["partitions"] == [] and record["by_path"]


def test_refusal_matrix(guest: Guest) -> None:
    assert guest.step("refusals")["contents"] >= 14


def test_devices_in_use(guest: Guest) -> None:
    assert guest.step("held") == {"held": 4}


def test_images_on_four_buses(guest: Guest) -> None:
    done = guest.step("images")
    assert done["SYS-VIRTIO"]["zeroed_by_disk"]


def test_image_write_survives_sigkill(guest: Guest, server: tuple[Server, dict[str, Any]]) -> None:
    server[0].delay = 0.02
    try:
        states = guest.step("kill_images")
    finally:
        server[0].delay = 0
    assert len(states) == 19 and any(complete is False for _, complete in states)


def test_claims_on_four_buses(guest: Guest) -> None:
    guest.step("claims")


def test_disk_claim_survives_sigkill(guest: Guest) -> None:
    states = guest.step("kill_claims")
    assert len(states) == 19 and any(hit for hit, _ in states)


def test_image_write_survives_a_power_cut(guest: Guest, server: tuple[Server, dict[str, Any]]) -> None:
    server[0].delay = 0.05
    command = "cd /run/t && PYTHONPATH=/run/t python3 -B guest.py config.json power_cut"
    writing = subprocess.Popen([*guest.ssh(), command], stdout=subprocess.PIPE, text=True)
    assert writing.stdout and writing.stdout.readline() == "writing\n"
    requests = server[0].requests
    end = time.monotonic() + 60
    while server[0].requests == requests and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1.5)
    guest.stop()
    writing.wait()
    server[0].delay = 0
    guest.start()
    guest.upload(server[1])
    mark = guest.step("after_power_cut")
    assert mark is None or mark["complete"] is False
