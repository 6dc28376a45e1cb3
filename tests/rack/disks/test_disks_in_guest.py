# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disk modules in the deploy ramdisk, on virtio, SCSI, NVMe and SATA disks of an emulated server.

Needs QEMU and the deploy ramdisk of the playbook kiban.baremetal.image (or KIBAN_RAMDISK=<directory>), no rack.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ansible
import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _deploy_media
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_content import CONTENT
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import (
    MIB,
    Image,
    Server,
    blocks,
    digest,
    run,
    serving,
)

pytestmark = pytest.mark.rack

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
# A /dev/kvm that can be opened does not always work, so it is asked for by name.
ACCELERATOR = os.environ.get("KIBAN_ACCEL", "tcg")
SIZE = 96
DISKS = {
    "SYS-VIRTIO": ("virtio-blk-pci,discard=on,write-zeroes=on", "VirtIO"),
    "DATA-SCSI": ("scsi-hd,bus=scsi0.0", "SCSI"),
    "DATA-NVME": ("nvme,smart_critical_warning=4", "NVMe"),
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


class Guest:
    """One emulated server in the deploy ramdisk."""

    def __init__(self, directory: Path, disks: Disks) -> None:
        self.directory = directory
        self.disks = disks
        self.say: Callable[[str], None] = print
        self.devices = {serial: device for serial, (device, _protocol) in DISKS.items()}
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
        for serial, device in self.devices.items():
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

    def recable(self) -> None:
        """Cuts the power, and plugs each disk in where another was."""
        self.stop()
        serials = list(self.devices)
        self.devices = {
            serial: self.devices[other] for serial, other in zip(serials, serials[1:] + serials[:1], strict=True)
        }
        self.start()

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
        """Runs a step, shows what it says as it goes, and does what it asks for; its result."""
        command = f"cd /run/t && PYTHONPATH=/run/t python3 guest.py config.json {name}"
        begun, result = time.monotonic(), ""
        with (
            open(self.directory / "errors", "w+") as errors,
            subprocess.Popen(
                [*self.ssh(), command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as running,
        ):
            try:
                assert running.stdin and running.stdout
                for result in running.stdout:
                    if result.startswith("# "):
                        self.say(f"{name}: {result[2:].rstrip()}")
                    elif result.startswith("? "):
                        getattr(self.disks, f"do_{result.split()[1]}")(*result.split()[2:])
                        running.stdin.write("done\n")
                        running.stdin.flush()
                running.wait()
            finally:
                running.kill()
            errors.seek(0)
            assert running.returncode == 0, errors.read()[-3000:]
        self.say(f"{name}: {time.monotonic() - begun:.0f} s, {result.strip()[:300]}")
        return json.loads(result)


class Disks:
    """The disks as the host sees them; the methods with do_ are what the guest asks for."""

    def __init__(self, directory: Path, content: dict[str, list[tuple[int, bytes]]], image: Image) -> None:
        self.paths = {serial: directory / serial for serial in DISKS}
        self.content = content
        self.image = image
        self.before: dict[str, str] = {}
        self.compared = 0

    def do_fill(self, name: str, *serials: str) -> None:
        """Nothing but this content on each of these disks."""
        for serial in serials:
            path = self.paths[serial]
            old = list(blocks(path))
            with open(path, "r+b") as file:
                for offset, data in [*((offset, bytes(len(data))) for offset, data in old), *self.content[name]]:
                    file.seek(offset)
                    file.write(data)
        self.do_remember()

    def do_remember(self) -> None:
        self.before = {serial: digest(path) for serial, path in self.paths.items()}

    def do_same(self, *serials: str) -> None:
        for serial in serials or self.paths:
            assert digest(self.paths[serial]) == self.before[serial], f"{serial} has changed"
            self.compared += 1

    def do_empty(self, serial: str) -> None:
        """Nothing is left but our mark in the first sector."""
        left = [(offset, data.rstrip(b"\0")) for offset, data in blocks(self.paths[serial])]
        assert all(offset == 0 and len(data) < 512 for offset, data in left), (
            f"{serial} holds something at {left[-1][0]}"
        )

    def do_image(self, serial: str) -> None:
        self.image.content_of(self.paths[serial])


class Setting(NamedTuple):
    """What all tests share."""

    http: Server
    image: Image
    content: dict[str, list[tuple[int, bytes]]]
    config: dict[str, Any]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    directory = tmp_path_factory.mktemp("content")
    image = Image(directory / "image")
    content: dict[str, list[tuple[int, bytes]]] = {
        "blank": [],
        "full": [(offset, random.Random(offset).randbytes(MIB)) for offset in range(0, SIZE * MIB, MIB)],
    }
    for name, (write, _word) in CONTENT.items():
        path = directory / name
        with open(path, "wb") as file:
            file.truncate(SIZE * MIB)
        write(path)
        content[name] = list(blocks(path))
        path.unlink()
    with serving(image.compressed.read_bytes()) as http:
        config = {
            "serials": list(DISKS),
            "words": {name: word for name, (_write, word) in CONTENT.items()},
            "image": {"url": f"http://10.0.2.2:{http.httpd.server_port}/image", "sha256": image.sha256},
            "seed": int(os.environ.get("KIBAN_SEED", "1")),
        }
        yield Setting(http, image, content, config)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, setting: Setting) -> Iterator[Guest]:
    directory = tmp_path_factory.mktemp("guest")
    guest = Guest(directory, Disks(directory, setting.content, setting.image))
    try:
        guest.start()
        guest.upload(setting.config)
        yield guest
    finally:
        guest.stop()


@pytest.fixture
def guest(started: Guest, capsys: pytest.CaptureFixture[str]) -> Guest:
    """The started guest; what its steps say is seen at once, with or without -s."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="", flush=True)

    started.say = say
    return started


def test_identity_on_four_buses(guest: Guest) -> None:
    records = {record["serial_number"]: record for record in guest.step("identity")}
    assert set(records) == set(DISKS)
    for serial, (_, protocol) in DISKS.items():
        record = records[serial]
        assert (record["protocol"], record["capacity_bytes"]) == (protocol, SIZE * MIB)
        assert record["signatures"] == [] and record["partitions"] == [] and record["by_path"]
    # The NVMe disk is told to warn. The emulator's virtio and SCSI disks know nothing of themselves.
    health = {serial: record["health"] and record["health"]["status"] for serial, record in records.items()}
    assert health == {"SYS-VIRTIO": None, "DATA-SCSI": None, "DATA-NVME": "failing", "DATA-SATA": "ok"}
    assert records["DATA-NVME"]["health"]["problems"] == ["errors of the medium have made it unreliable"]
    assert records["DATA-NVME"]["health"]["temperature_celsius"] > 0
    assert records["DATA-SATA"]["smartctl"]["temperature_celsius"] and records["SYS-VIRTIO"]["smartctl"] is None


def test_refusal_matrix(guest: Guest) -> None:
    compared = guest.disks.compared
    done = guest.step("refusals")
    assert done["contents"] >= 14
    assert guest.disks.compared - compared == done["contents"] * len(DISKS)


def test_devices_in_use(guest: Guest) -> None:
    assert guest.step("held")["kinds"] == 8


def test_only_what_is_named_is_written(guest: Guest) -> None:
    assert guest.step("named")["buses"] == len(DISKS)


def test_images_on_four_buses(guest: Guest) -> None:
    done = guest.step("images")
    assert done["SYS-VIRTIO"]["zeroed_by_disk"]


def test_image_write_survives_sigkill(guest: Guest, setting: Setting) -> None:
    setting.http.delay = 0.02
    try:
        states = guest.step("kill_images")
    finally:
        setting.http.delay = 0
    assert len(states) == 19 and any(complete is False for _, complete in states)


def test_claims_on_four_buses(guest: Guest) -> None:
    guest.step("claims")


def test_disk_claim_survives_sigkill(guest: Guest) -> None:
    states = guest.step("kill_claims")
    assert len(states) == 19 and any(hit for hit, _ in states)


def test_wipe_methods(guest: Guest) -> None:
    done = guest.step("wipes")
    assert len(done) == 9 and {size for _serial, _method, size in done} == {SIZE * MIB}


def test_a_claim_is_recognised_on_another_bus(guest: Guest, setting: Setting) -> None:
    before = guest.step("keep")
    guest.recable()
    guest.upload(setting.config)
    after = guest.step("recabled")
    assert {serial: action for serial, (_path, action) in after.items()} == dict.fromkeys(DISKS, "add to fstab, mount")
    assert all(after[serial][0] != before[serial] for serial in DISKS)


def test_image_write_survives_a_power_cut(guest: Guest, setting: Setting) -> None:
    guest.disks.do_fill("gpt-with-ext4", "SYS-VIRTIO")
    setting.http.delay = 0.05
    command = "cd /run/t && PYTHONPATH=/run/t python3 guest.py config.json power_cut"
    writing = subprocess.Popen([*guest.ssh(), command], stdout=subprocess.PIPE, text=True)
    assert writing.stdout and writing.stdout.readline() == "writing\n"
    requests = setting.http.requests
    end = time.monotonic() + 60
    while setting.http.requests == requests and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1.5)
    guest.stop()
    writing.wait()
    setting.http.delay = 0
    guest.start()
    guest.upload(setting.config)
    mark = guest.step("after_power_cut")
    assert mark is None or mark["complete"] is False
