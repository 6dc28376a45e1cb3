# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver ipmi against VirtualBMC, which others wrote, over libvirt's own test driver, by ipmitool.

It keeps a boot device, which ipmi_sim does not; it has neither sensors nor a log.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import ipmi
from ansible_collections.kiban.baremetal.plugins.modules import (
    bmc_bios,
    bmc_boot,
    bmc_info,
    bmc_log,
    bmc_power,
    bmc_virtual_media,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.third_parties import KEEP_DOMAIN, interpreter

RunModule = Callable[..., dict[str, Any]]
Params = dict[str, Any]

PASSWORD = "canary-vbmc-1"
DOMAIN = """
<domain type='test'>
  <name>node1</name><memory>1048576</memory><vcpu>2</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>
</domain>
"""
LAUNCH = f"""{KEEP_DOMAIN}
from virtualbmc.vbmc import VirtualBMC
VirtualBMC("kiban", sys.argv[3], int(sys.argv[2]), "127.0.0.1", "node1", "test:///default").listen()
"""


@pytest.fixture
def options(tmp_path: Path) -> Iterator[Params]:
    python = interpreter("libvirt", "virtualbmc.vbmc")
    if python is None or shutil.which("ipmitool") is None:
        pytest.skip("no Python with VirtualBMC and libvirt, or no ipmitool: make third-parties")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [python, "-c", LAUNCH, DOMAIN, str(port), PASSWORD], stdout=log, stderr=log, cwd=tmp_path
        )
    try:
        for _ in range(200):
            assert process.poll() is None, (tmp_path / "log").read_text()
            if f"{port:04X}" in Path("/proc/net/udp").read_text():
                break
            time.sleep(0.05)
        yield {"address": f"127.0.0.1:{port}", "username": "kiban", "password": PASSWORD, "driver": "ipmi"}
    finally:
        process.kill()
        process.wait()


def test_power_ladder(options: Params, run_module: RunModule) -> None:
    for state, method, resets in (
        ("on", "graceful", ["On"]),
        ("restarted", "forced", ["ForceRestart"]),
        ("off", "graceful", ["GracefulShutdown"]),
        ("on", "forced", ["On"]),
        ("off", "forced", ["ForceOff"]),
    ):
        foreseen = run_module(bmc_power, check_mode=True, **options, state=state, method=method)
        assert (foreseen["failed"], foreseen["changed"], foreseen["resets"]) == (False, True, resets), foreseen
        done = run_module(bmc_power, **options, state=state, method=method, wait_timeout=30)
        assert (done["failed"], done["changed"], done["resets"]) == (False, True, resets), done
    assert not run_module(bmc_power, **options, state="off")["changed"]


def test_boot_device(options: Params, run_module: RunModule) -> None:
    for target in ("pxe", "cd", "disk"):
        assert run_module(bmc_boot, check_mode=True, **options, target=target)["changed"]
        done = run_module(bmc_boot, **options, target=target)
        assert not done["failed"], done["msg"]
        assert done["changed"] and done["override"] == {"target": target, "enabled": "once"}
        assert not run_module(bmc_boot, **options, target=target)["changed"]
    shown = run_module(bmc_info, **options, subset=["system", "boot"])["hardware"]
    assert shown["boot"]["override"]["target"] == "disk" and shown["system"]["power_state"] == "off"


@pytest.mark.parametrize("wanted", [{"target": "none"}, {"target": "pxe", "enabled": "continuous"}])
def test_what_it_does_not_keep_is_no_success(
    options: Params, run_module: RunModule, monkeypatch: pytest.MonkeyPatch, wanted: Params
) -> None:
    monkeypatch.setattr(ipmi, "SETTLE", 0.5)
    result = run_module(bmc_boot, **options, **wanted)
    assert (result["failed"], result["failure"]["kind"]) == (True, "timeout"), result


@pytest.mark.parametrize(
    ("module", "params"),
    [
        (bmc_log, {}),
        (bmc_info, {"subset": ["sensors"]}),
        (bmc_bios, {"attributes": {"a": "b"}}),
        (bmc_virtual_media, {"image": "http://192.0.2.1/a.iso"}),
    ],
)
def test_what_it_does_not_have_is_no_success(
    options: Params, run_module: RunModule, module: ModuleType, params: Params
) -> None:
    result = run_module(module, **options, **params)
    assert result["failed"] and not result["changed"]
    assert result["failure"]["kind"] == "unsupported", result["msg"]


def test_a_wrong_password(options: Params, run_module: RunModule) -> None:
    result = run_module(bmc_power, **{**options, "password": "canary-wrong"}, state="on")
    assert (result["failed"], result["failure"]["kind"]) == (True, "auth")
    assert "canary" not in result["msg"]
