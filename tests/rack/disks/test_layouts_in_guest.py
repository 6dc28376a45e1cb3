# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_layout on an installed node: mdadm, LVM, cryptsetup, Clevis and file systems on disks of four buses.

Needs QEMU, root, the node image of the playbook kiban.baremetal.image, and a directory with Debian 13 packages that
KIBAN_LAYOUT_DEBS names; docs/storage-layouts.md says which. The control host needs the Debian packages swtpm and tang.
"""

from __future__ import annotations

import os
import shutil
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.tests.rack.disks.node_guest import DISKS, NodeGuest
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import run

pytestmark = pytest.mark.rack

TANGD = Path("/usr/libexec/tangd")
CACHE, UNLOCK = "layout_cache_guest.py", "layout_unlock_guest.py"


class LayoutGuest(NodeGuest):
    """With a TPM, whose state outlives a power cycle."""

    packages = (
        *("cryptsetup-bin", "libcryptsetup12", "thin-provisioning-tools", "clevis", "clevis-luks", "clevis-tpm2"),
        *("jose", "libjose0", "curl", "tpm2-tools"),
    )

    def more(self) -> list[str]:
        state, control = self.directory / "tpm", self.directory / "tpm.sock"
        state.mkdir(exist_ok=True)
        words = ["--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={control}", "--tpm2", "--terminate"]
        subprocess.Popen(["swtpm", "socket", *words], start_new_session=True, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while not control.exists():
            assert time.monotonic() < end, "swtpm does not start"
            time.sleep(0.1)
        device = ["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]
        return ["-chardev", f"socket,id=tpm,path={control}", *device]


class Tang:
    """tangd as an inetd would start it, on the control host; QEMU's user network leads to it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.server = directory, None
        self.port = 0
        self.new_keys()
        self.start()

    def new_keys(self) -> str:
        """Other keys, and none of the old ones; the thumbprint of the key that signs."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        run("/usr/libexec/tangd-keygen", self.directory, "sign", "exchange")
        return run("jose", "jwk", "thp", "-a", "S256", "-i", self.directory / "sign.jwk").strip()

    def start(self) -> None:
        directory = self.directory

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                subprocess.run([TANGD, directory], stdin=self.request, stdout=self.request, check=False)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.server: Any = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


@pytest.fixture(scope="module")
def tang(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tang]:
    if not TANGD.exists() or not shutil.which("swtpm"):
        pytest.skip("needs the Debian packages tang and swtpm")
    tang = Tang(tmp_path_factory.mktemp("tang") / "keys")
    yield tang
    tang.stop()


@pytest.fixture(scope="module")
def guest(tang: Tang, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeGuest]:
    guest = LayoutGuest(tmp_path_factory.mktemp("node"))
    try:
        guest.start()
        config = {"serials": list(DISKS), "seed": int(os.environ.get("KIBAN_SEED", "1"))}
        guest.upload({**config, "tang": f"http://10.0.2.2:{tang.port}", "thumbprint": tang.new_keys()})
        yield guest
    finally:
        guest.stop()


def test_foreign_content_is_refused(guest: NodeGuest) -> None:
    guest.step("refused")
    guest.step("erase")


def test_survives_sigkill(guest: NodeGuest) -> None:
    done = guest.step("kills")
    assert len(done["killed"]) == 20 and len(set(done["killed"])) >= 8
    guest.step("erase")


def test_layouts_are_made_as_foreseen_and_once(guest: NodeGuest) -> None:
    assert len(guest.step("create")["steps"]) > 20


def test_survives_a_power_cycle(guest: NodeGuest) -> None:
    guest.power_cycle()
    guest.step("after_start")


def test_grows_in_use(guest: NodeGuest) -> None:
    guest.step("grow")


def test_members_are_replaced(guest: NodeGuest) -> None:
    guest.step("replace")
    guest.step("erase")


def test_a_cache_is_made_as_foreseen_and_once(guest: NodeGuest) -> None:
    guest.power_cycle()
    guest.use(CACHE)
    assert guest.step("create")[-1].endswith("put the cache in front of /dev/slow/store: writethrough")


def test_a_cache_survives_a_power_cycle(guest: NodeGuest) -> None:
    guest.power_cycle()
    guest.step("after_start")


def test_a_cache_whose_disk_is_pulled_is_replaced(guest: NodeGuest) -> None:
    guest.step("pulled")


def test_a_cache_whose_disk_is_gone_at_boot_is_replaced(guest: NodeGuest) -> None:
    guest.disks.remove("BIG-SCSI")
    guest.power_cycle()
    guest.disks.append("BIG-SCSI")
    guest.step("gone_at_start")


def test_a_cache_changes_in_use(guest: NodeGuest) -> None:
    guest.step("changes")
    guest.use("layout_guest.py")
    guest.step("erase")


def test_caches_survive_sigkill(guest: NodeGuest) -> None:
    guest.power_cycle()
    guest.use(CACHE)
    done = guest.step("kills")
    assert len(done["killed"]) == 20 and len([each for each in done["killed"] if "cache" in each]) >= 2
    guest.use("layout_guest.py")
    guest.step("erase")


def test_containers_are_bound_without_showing_a_key(guest: NodeGuest) -> None:
    guest.use(UNLOCK)
    assert guest.step("bind")["looks"] > 20


def test_containers_open_at_boot_without_a_person(guest: NodeGuest) -> None:
    guest.power_cycle()
    guest.step("opened")


def test_a_container_whose_server_is_away_stays_closed_until_a_run_or_the_server(guest: NodeGuest, tang: Tang) -> None:
    tang.stop()
    guest.power_cycle()
    guest.step("tang_absent")
    guest.step("closed")
    tang.start()
    assert guest.step("tang_back") < 60


def test_bindings_that_no_longer_work_are_made_again(guest: NodeGuest, tang: Tang) -> None:
    guest.config["thumbprint"] = tang.new_keys()
    guest.upload(guest.config)
    guest.step("rebind")
    guest.power_cycle()
    guest.step("other_pcr")
    guest.power_cycle()
    guest.step("opened")


def test_server_and_tpm_together_and_neither_any_more(guest: NodeGuest) -> None:
    guest.step("both")
    guest.use("layout_guest.py")
    guest.step("erase")


def test_bindings_survive_sigkill(guest: NodeGuest) -> None:
    guest.use(UNLOCK)
    done = guest.step("kills")
    assert len(done["killed"]) == 20 and len([each for each in done["killed"] if "bind" in each]) >= 2
