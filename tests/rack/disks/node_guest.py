# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node image in QEMU, with data disks of four buses: what systemd and udev do at a start is real."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.tests.rack.disks.test_disks_in_guest import ACCELERATOR, Guest
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import MIB, run

HERE = Path(__file__).resolve().parent
ROOT_OFFSET = 257 * MIB
# Serial number, size in MiB, QEMU device. The last is larger, to take the place of another.
DISKS = {
    "DATA-VIRTIO": (560, "virtio-blk-pci"),
    "DATA-SCSI": (560, "scsi-hd,bus=scsi0.0"),
    "DATA-NVME": (560, "nvme"),
    "DATA-SATA": (560, "ide-hd,bus=ide.1"),
    "BIG-SCSI": (720, "scsi-hd,bus=scsi0.0"),
    "BIG-VIRTIO": (720, "virtio-blk-pci"),
}
NETWORK = "[Match]\nName=en* eth*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"


def node_image() -> Path:
    """The newest node image."""
    work = Path(os.environ.get("KIBAN_WORK") or Path.home() / ".cache/kiban") / "image"
    if not (work / "manifest.json").exists():
        pytest.skip("no node image: run the playbook kiban.baremetal.image")
    return work / json.loads((work / "manifest.json").read_text())["node"]["file"]


def debs(variable: str, names: Sequence[str]) -> list[Path]:
    """The .deb files in the directory that an environment variable names."""
    directory = os.environ.get(variable)
    found = sorted(Path(directory).glob("*.deb")) if directory else []
    if any(not [path for path in found if path.name.startswith(f"{name}_")] for name in names):
        pytest.skip(f"{variable} names no directory with the Debian 13 packages {', '.join(names)}")
    return found


class NodeGuest(Guest):
    """An installed server that runs nothing but SSH, with Debian packages that the node image lacks."""

    program = "layout_guest.py"
    variable = "KIBAN_LAYOUT_DEBS"
    packages: tuple[str, ...] = ("cryptsetup-bin", "libcryptsetup12", "thin-provisioning-tools")

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = None
        self.say = print
        self.disks = list(DISKS)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        for name in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name)
        (directory / "known_hosts").write_text(f"guest {(directory / 'host.pub').read_text()}")
        self.kernel, self.initrd = directory / "vmlinuz", directory / "node-initrd"
        archives, raw = debs(self.variable, self.packages), directory / "node.raw"
        run("zstd", "-q", "-d", "--sparse", node_image(), "-o", raw)
        raw.chmod(0o600)
        run("mcopy", "-i", f"{raw}@@1M", "::/kiban/vmlinuz", self.kernel)
        run("mcopy", "-i", f"{raw}@@1M", "::/kiban/initrd", self.initrd)
        root = directory / "root"
        root.mkdir()
        run("mount", "-o", f"loop,offset={ROOT_OFFSET}", raw, root)
        try:
            for deb in archives:
                run("dpkg-deb", "--extract", deb, root)
            shutil.copy(directory / "host", root / "etc/ssh/ssh_host_ed25519_key")
            (root / "etc/ssh/ssh_host_ed25519_key").chmod(0o600)
            shutil.copy(directory / "user.pub", root / "root/.ssh/authorized_keys")
            (root / "etc/systemd/network/10-test.network").write_text(NETWORK)
            (root / "etc/hostname").write_text("guest\n")
            for unit in ("containerd.service", "kubelet.service"):
                (root / "etc/systemd/system" / unit).unlink()
                (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
        finally:
            run("umount", root)
        for serial, (size, _device) in DISKS.items():
            with open(directory / serial, "wb") as file:
                file.truncate(size * MIB)

    def start(self) -> None:
        command = ["qemu-system-x86_64", "-machine", f"q35,accel={ACCELERATOR}", "-cpu", "max", "-smp", "2"]
        command += ["-m", "1024", "-nographic", "-no-reboot", "-kernel", str(self.kernel), "-initrd", str(self.initrd)]
        command += ["-append", "root=PARTLABEL=kiban-root ro console=ttyS0 loglevel=4 panic=10 no_timer_check"]
        command += ["-device", "virtio-rng-pci", "-device", "virtio-scsi-pci,id=scsi0"]
        command += ["-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=n"]
        drives = {"SYSTEM": ("node.raw", "virtio-blk-pci")}
        drives |= {serial: (serial, DISKS[serial][1]) for serial in self.disks}
        for serial, (file, device) in drives.items():
            drive = f"if=none,id={serial},file={self.directory / file},format=raw,cache=unsafe,discard=unmap"
            command += ["-drive", drive, "-device", f"{device},drive={serial},serial={serial},id=d-{serial}"]
        command += self.more()
        with open(self.directory / "console.log", "ab") as console:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        # On a busy machine an emulated server takes long.
        end = time.monotonic() + 3600
        while subprocess.run([*self.ssh(30), "true"], capture_output=True, check=False).returncode != 0:
            assert self.process.poll() is None, (self.directory / "console.log").read_text()[-2000:]
            assert time.monotonic() < end, "the guest does not answer"
            time.sleep(2)

    def upload(self, config: dict[str, Any]) -> None:
        self.config = config
        super().upload(config)
        package = "/run/t/ansible_collections/kiban/baremetal/tests/rack/disks"
        for name, place in ((self.program, "/run/t/guest.py"), ("layout_guest.py", f"{package}/layout_guest.py")):
            command = f"mkdir -p {package} && cat > {place}"
            subprocess.run([*self.ssh(), command], input=(HERE / name).read_bytes(), check=True)

    def use(self, program: str) -> None:
        """Steps are those of this program from now on."""
        self.program = program
        self.upload(self.config)

    def more(self) -> list[str]:
        """What else QEMU gives the server; called at each start."""
        return []

    def power_cycle(self) -> None:
        """Off without a word, on again; what was uploaded was in memory."""
        self.stop()
        self.start()
        self.upload(self.config)
