# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules against sushy-emulator, a BMC that others wrote, over libvirt's own test driver.

Real servers behind it are the virtual rack's job (tests/rack). Here: what its Redfish says and takes.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options, connect
from ansible_collections.kiban.baremetal.plugins.modules import (
    bmc_bios,
    bmc_boot,
    bmc_certificate,
    bmc_erase,
    bmc_firmware,
    bmc_info,
    bmc_log,
    bmc_network,
    bmc_power,
    bmc_user,
    bmc_virtual_media,
    bmc_volume,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import Tls
from ansible_collections.kiban.baremetal.tests.unit.plugins.third_parties import KEEP_DOMAIN, interpreter

RunModule = Callable[..., dict[str, Any]]
Params = dict[str, Any]

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
PASSWORD = "canary-sushy"

DOMAIN = f"""
<domain type='test'>
  <name>node1</name><uuid>{UUID}</uuid><memory>1048576</memory><vcpu>2</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>
  <devices>
    <disk type='file' device='disk'><source file='/nonexistent.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <interface type='bridge'><mac address='52:54:00:AA:BB:01'/><source bridge='br0'/></interface>
  </devices>
</domain>
"""

LAUNCH = f"""{KEEP_DOMAIN}
import bcrypt
domain, home, port, password, certificate = sys.argv[1:]
with open(home + "/htpasswd", "w") as file:
    file.write("kiban:" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode())
settings = {{"LISTEN_IP": "127.0.0.1", "LISTEN_PORT": int(port), "SSL_CERT": certificate, "SSL_KEY": certificate,
            "AUTH_FILE": home + "/htpasswd", "LIBVIRT_URI": "test:///default", "STATE_DIR": home,
            "FEATURE_SET": "full", "VMEDIA_VERIFY_SSL": False}}
with open(home + "/emulator.conf", "w") as file:
    file.writelines(f"SUSHY_EMULATOR_{{name}} = {{value!r}}\\n" for name, value in settings.items())
sys.argv = ["sushy-emulator", "--config", home + "/emulator.conf"]
from sushy_tools.emulator.main import main
main()
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory, bmc_tls: Tls) -> Iterator[Params]:
    python = interpreter("bcrypt", "libvirt", "sushy_tools")
    if python is None:
        pytest.skip("no Python with sushy-tools and libvirt: make third-parties, or name one in KIBAN_SUSHY_PYTHON")
    home = tmp_path_factory.mktemp("sushy")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-c", LAUNCH, DOMAIN, str(home), str(port), PASSWORD, str(bmc_tls.certificate)]
    with open(home / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (home / "log").read_text()
                time.sleep(0.1)
        yield {
            "address": f"127.0.0.1:{port}",
            "username": "kiban",
            "password": PASSWORD,
            "ca_path": str(bmc_tls.ca),
        }
    finally:
        process.terminate()
        process.wait(10)


def test_power(emulator: Params, run_module: RunModule) -> None:
    def run(state: str, method: str = "forced", check: bool = False) -> dict[str, Any]:
        result = run_module(bmc_power, check_mode=check, **emulator, state=state, method=method, wait_timeout=30)
        assert not result["failed"], result
        return result

    run("off")
    assert run("on", check=True)["resets"] == ["On"]
    assert run("on")["changed"] and not run("on")["changed"]
    assert run("restarted")["resets"] == ["ForceRestart"]
    assert run("off", "graceful")["resets"] == ["GracefulShutdown"]
    assert not run("off")["changed"]
    assert run("restarted")["resets"] == ["On"]


def test_boot(emulator: Params, run_module: RunModule) -> None:
    def run(target: str, **more: Any) -> dict[str, Any]:
        return run_module(bmc_boot, **emulator, target=target, **more)

    assert not run("disk", enabled="continuous")["failed"]
    assert run("pxe")["changed"]
    assert not run("pxe")["changed"], "it reads back as Continuous, which is no change to make"
    assert run("disk")["changed"] and not run("disk")["changed"]
    no_media = run("cd")
    assert no_media["failed"] and not no_media["changed"]
    assert no_media["failure"]["status"] == 500
    assert "bmc_virtual_media" in no_media["msg"]
    none = run("none")
    assert none["failed"] and none["failure"]["kind"] == "unsupported"


def test_media_that_this_driver_cannot_attach(emulator: Params, run_module: RunModule, tmp_path: Path) -> None:
    """The emulator fetches the image and shows it, but libvirt's test driver takes no upload: that is no success."""
    (tmp_path / "a.iso").write_bytes(b"x" * 4096)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_address[1]}"
        for image, status in ((f"{base}/a.iso", 500), (f"{base}/nothing.iso", 400)):
            for _again in range(2):
                result = run_module(bmc_virtual_media, **emulator, image=image)
                assert result["failed"] and not result["changed"]
                assert result["failure"]["status"] == status
                assert image in result["msg"]
        result = run_module(bmc_virtual_media, **emulator, state="ejected")
        assert not result["failed"] and not result["changed"] and result["images"] == []
    finally:
        server.shutdown()
        server.server_close()


def test_hardware(emulator: Params, run_module: RunModule) -> None:
    result = run_module(bmc_info, **emulator)
    assert not result["failed"], result
    hardware = result["hardware"]
    assert hardware["system"]["uuid"] == UUID
    assert hardware["system"]["manufacturer"] == "Sushy Emulator"
    assert hardware["memory"]["total_mib"] == 1024
    assert [port["mac"] for port in hardware["ports"]] == ["52:54:00:aa:bb:01"]
    assert hardware["manager"]["firmware_version"]


def test_status_takes_few_requests_and_no_session(emulator: Params) -> None:
    with connect(Options(**emulator)) as bmc:
        found = bmc.status()
        assert found["uuid"] == UUID
        assert found["requests"] <= 6
    assert bmc.notes == []


def test_a_wrong_password(emulator: Params, run_module: RunModule) -> None:
    result = run_module(bmc_power, **{**emulator, "password": "canary-wrong"}, state="on")
    assert result["failed"] and result["failure"]["kind"] == "auth"
    assert "canary" not in result["msg"]


def test_bios_is_applied_at_once(emulator: Params, run_module: RunModule) -> None:
    def run(**more: Any) -> dict[str, Any]:
        return run_module(bmc_bios, **emulator, **more)

    found = run()
    assert not found["failed"], found
    name, value = next(iter(found["attributes"].items()))
    wanted = {"attributes": {name: f"not {value}"}}
    assert run_module(bmc_bios, check_mode=True, **emulator, **wanted)["changed"]
    done = run(**wanted)
    assert not done["failed"], done
    assert done["changed"] and done["attributes"][name] == f"not {value}" and done["pending"] == {}
    assert not run(**wanted)["changed"]


def test_secure_boot(emulator: Params, run_module: RunModule) -> None:
    for wanted in (True, False):
        done = run_module(bmc_boot, **emulator, secure_boot=wanted)
        assert not done["failed"], done
        assert done["changed"] and done["settings"]["secure_boot"] is wanted
        assert not run_module(bmc_boot, **emulator, secure_boot=wanted)["changed"]


@pytest.mark.parametrize(
    ("module", "params"),
    [
        (bmc_user, {"name": "watcher", "account_password": "canary-new-1", "role": "ReadOnly"}),
        (bmc_log, {}),
        (bmc_erase, {"state": "erased", "drives": ["none"]}),
        (bmc_network, {"hostname": "bmc-1"}),
        (bmc_firmware, {"updates": [{"component": "BIOS", "version": "9", "image": "http://192.0.2.2/a.bin"}]}),
        (bmc_volume, {"name": "a", "raid_type": "RAID0", "drives": ["none"]}),
        (bmc_certificate, {"state": "requested", "subject": {"common_name": "bmc"}}),
    ],
)
def test_what_it_does_not_have_is_no_success(
    emulator: Params, run_module: RunModule, module: ModuleType, params: Params
) -> None:
    for check_mode in (True, False):
        result = run_module(module, check_mode=check_mode, **emulator, **params)
        assert result["failed"] and not result["changed"]
        assert result["failure"]["kind"] in ("unsupported", "not_found", "refused", "option"), result["msg"]
