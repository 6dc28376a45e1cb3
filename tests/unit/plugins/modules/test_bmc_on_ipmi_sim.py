# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver ipmi against ipmi_sim of OpenIPMI, a BMC that others wrote, spoken to by ipmitool, which others wrote too.

ipmi_sim takes boot flags but shows them as not valid, so a boot device cannot be read back from it: that is reported.
VirtualBMC shows them (test_bmc_on_virtualbmc.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options
from ansible_collections.kiban.baremetal.plugins.modules import bmc_boot, bmc_info, bmc_log, bmc_power, bmc_scan
from ansible_collections.kiban.baremetal.plugins.plugin_utils._readers.bmcs import read_bmcs

RunModule = Callable[..., dict[str, Any]]
Params = dict[str, Any]

PASSWORD = "canary-ipmi-1"

LAN = """
name "kiban"
set_working_mc 0x20
startlan 1
  addr 127.0.0.1 {port}
  priv_limit admin
  allowed_auths_user none md2 md5 straight
  allowed_auths_operator none md2 md5 straight
  allowed_auths_admin none md2 md5 straight
  guid a123456789abcdefa123456789abcdef
endlan
chassis_control "{chassis} 0x20"
user 2 true "kiban" "{password}" admin 10 none md2 md5 straight
"""

CHASSIS = """#!/bin/sh
# Keeps the state of the server in a file: <mc> get power | set power 0 | set reset 1 ...
here=$(dirname "$0")
echo "$2 $3 $4" >> "$here/calls"
case "$2 $3" in
"get power") echo "power:$(cat "$here/power")" ;;
"get boot") echo "boot:none" ;;
"set power") echo "$4" > "$here/power" ;;
"set shutdown") [ -e "$here/deaf" ] || echo 0 > "$here/power" ;;
esac
"""


def sdr() -> str:
    """A full sensor record, IPMI 2.0 table 43-1: temperature in degrees C, reading = raw value."""
    body = [0x20, 0, 1, 3, 1, 0x7F, 0x68, 1, 1, *[0] * 4, 0x3F, 0x3F, 0, 1, 0, 0, 1, *[0] * 9, 0xFF, 0]
    body += [0xA0, 0x90, 0x80, *[0] * 8, 0xC8, *b"CPU Temp"]
    return " ".join(f"0x{byte:02x}" for byte in [1, 0, 0x51, 1, len(body), *body])


# The event: record type 2, temperature sensor 1, upper critical going high, asserted. Its time is that of the
# simulator's own clock, which nobody set.
EMULATION = f"""
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
sensor_add 0x20 0 1 0x01 0x01
sensor_set_value 0x20 0 1 0x40 0
sensor_set_event_support 0x20 0 1 enable scanning per-state {" ".join(["000111111000000"] * 4)}
main_sdr_add 0x20 {sdr()}
sel_add 0x20 2 0 0 0 0 0x20 0 4 1 1 1 0x59 0xff 0xff
mc_enable 0x20
"""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Sim:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.options = {
            "address": f"127.0.0.1:{self.port}",
            "username": "kiban",
            "password": PASSWORD,
            "driver": "ipmi",
        }

    def gives_readings(self) -> bool:
        words = ["ipmitool", "-I", "lanplus", "-H", "127.0.0.1", "-p", str(self.port), "-U", "kiban", "-E", "-C", "3"]
        return (
            subprocess.run(
                [*words, "raw", "0x04", "0x2d", "0x01"],
                env={**os.environ, "IPMI_PASSWORD": PASSWORD},
                capture_output=True,
                check=False,
            ).returncode
            == 0
        )

    def calls(self, what: str) -> list[str]:
        return [line for line in (self.home / "calls").read_text().splitlines() if line.startswith(what)]


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    programs = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("ipmi_sim", "ipmitool")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        pytest.skip(f"no {' and '.join(missing)}: apt-get install openipmi ipmitool")
    found = Sim(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "power").write_text("0\n")
    (tmp_path / "calls").write_text("")
    chassis = tmp_path / "chassis"
    chassis.write_text(CHASSIS)
    chassis.chmod(0o755)
    (tmp_path / "lan.conf").write_text(LAN.format(port=found.port, chassis=chassis, password=PASSWORD))
    (tmp_path / "kiban.emu").write_text(EMULATION)
    command = [str(programs["ipmi_sim"]), "-n", "-s", str(tmp_path / "state")]
    command += ["-c", str(tmp_path / "lan.conf"), "-f", str(tmp_path / "kiban.emu")]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        for _ in range(100):
            assert process.poll() is None, (tmp_path / "log").read_text()
            if f"{found.port:04X}" in Path("/proc/net/udp").read_text():
                break
            time.sleep(0.05)
        yield found
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def losing_answers(sim: Sim, after: str) -> Iterator[str]:
    """A way to the simulator on which answers are lost once the server was told `after`, until a new client asks."""
    front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    front.bind(("127.0.0.1", 0))
    front.settimeout(0.05)
    ways: dict[Any, socket.socket] = {}
    lost: set[Any] = set()
    stopped = threading.Event()

    def relay() -> None:
        while not stopped.is_set():
            with contextlib.suppress(OSError):
                data, client = front.recvfrom(4096)
                if client not in ways:
                    ways[client] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    ways[client].setblocking(False)
                ways[client].sendto(data, ("127.0.0.1", sim.port))
                time.sleep(0.02)
            for client, way in list(ways.items()):
                with contextlib.suppress(OSError):
                    answer = way.recv(4096)
                    if sim.calls(after) and not lost:
                        lost.add(client)
                    if client not in lost:
                        front.sendto(answer, client)

    thread = threading.Thread(target=relay)
    thread.start()
    try:
        yield f"127.0.0.1:{front.getsockname()[1]}"
    finally:
        stopped.set()
        thread.join()
        for way in (front, *ways.values()):
            way.close()


def test_power_ladder(sim: Sim, run_module: RunModule) -> None:
    for state, method, resets in (
        ("on", "graceful", ["On"]),
        ("restarted", "forced", ["ForceRestart"]),
        ("off", "graceful", ["GracefulShutdown"]),
    ):
        foreseen = run_module(bmc_power, check_mode=True, **sim.options, state=state, method=method)
        assert not foreseen["failed"], foreseen["msg"]
        assert (foreseen["changed"], foreseen["resets"]) == (True, resets)
        done = run_module(bmc_power, **sim.options, state=state, method=method)
        assert (done["failed"], done["changed"], done["resets"]) == (False, True, resets), done
    again = run_module(bmc_power, **sim.options, state="off")
    assert (again["changed"], again["power_state"], again["requests"]) == (False, "off", 2)
    assert sim.calls("set") == ["set power 1", "set reset 1", "set shutdown 1"]


def test_a_system_that_does_not_shut_down(sim: Sim, run_module: RunModule) -> None:
    (sim.home / "power").write_text("1\n")
    (sim.home / "deaf").touch()
    result = run_module(bmc_power, **sim.options, state="off", wait_timeout=2)
    assert (result["failed"], result["changed"], result["failure"]["kind"]) == (True, True, "timeout")
    assert "method: forced" in result["msg"]


def test_a_reset_whose_answer_is_lost_is_sent_once(sim: Sim, run_module: RunModule) -> None:
    (sim.home / "power").write_text("1\n")
    with losing_answers(sim, "set reset") as address:
        result = run_module(
            bmc_power, **{**sim.options, "address": address, "timeout": 8}, state="restarted", method="forced"
        )
    assert (result["failed"], result["changed"], result["failure"]["kind"]) == (True, False, "uncertain")
    assert sim.calls("set") == ["set reset 1"]


def test_a_power_off_whose_answer_is_lost_shows_in_the_state(sim: Sim, run_module: RunModule) -> None:
    (sim.home / "power").write_text("1\n")
    with losing_answers(sim, "set power") as address:
        result = run_module(
            bmc_power, **{**sim.options, "address": address, "timeout": 8}, state="off", method="forced"
        )
    assert not result["failed"], result["msg"]
    assert (result["changed"], result["power_state"]) == (True, "off")
    assert sim.calls("set") == ["set power 0"]


def test_what_it_knows_of_the_hardware(sim: Sim, run_module: RunModule) -> None:
    subset = ["system", "processors", "boot", "manager", "sensors"]
    read = run_module(bmc_info, **sim.options, subset=subset)
    assert not read["failed"], read["msg"]
    hardware = read["hardware"]
    assert hardware["system"]["power_state"] == "off"
    assert hardware["system"]["serial_number"] is None  # it has no FRU
    assert hardware["processors"] is None and hardware["storage"] is None
    assert hardware["manager"]["firmware_version"] == "9.08"
    assert hardware["boot"] == {"mode": None, "order": None, "override": {"target": "none", "enabled": None}}
    # The simulator of Debian 13 knows the sensor, but answers CEh to Get Sensor Reading (IPMI 2.0, 35.14).
    reads = sim.gives_readings()
    measured = {"reading": 64.0, "unit": "C", "health": "OK"} if reads else dict.fromkeys(("reading", "unit", "health"))
    assert hardware["sensors"] == [{"name": "CPU Temp", **measured}]


def test_event_log(sim: Sim, run_module: RunModule) -> None:
    read = run_module(bmc_log, **sim.options)
    assert [(entry["created"], entry["message"]) for entry in read["entries"]] == [
        (None, "Temperature CPU Temp, Upper Critical going high, Asserted")
    ], read
    assert run_module(bmc_log, **sim.options, since=read["cursor"])["entries"] == []
    assert run_module(bmc_log, check_mode=True, **sim.options, state="cleared")["changed"]
    assert len(run_module(bmc_log, **sim.options)["entries"]) == 1
    assert run_module(bmc_log, **sim.options, state="cleared")["changed"]
    assert not run_module(bmc_log, **sim.options, state="cleared")["changed"]
    assert run_module(bmc_log, **sim.options)["entries"] == []


@pytest.mark.parametrize(("target", "device"), [("pxe", "pxe"), ("disk", "default"), ("cd", "cdrom")])
def test_a_boot_device_arrives_but_that_it_cannot_be_read_back_is_no_success(
    sim: Sim, run_module: RunModule, monkeypatch: pytest.MonkeyPatch, target: str, device: str
) -> None:
    from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import ipmi

    monkeypatch.setattr(ipmi, "SETTLE", 0.5)
    result = run_module(bmc_boot, **sim.options, target=target)
    assert sim.calls("set boot") == [f"set boot {device}"]
    assert (result["failed"], result["failure"]["kind"]) == (True, "timeout")
    assert "shows none" in result["msg"]


@pytest.mark.parametrize("wrong", [{"password": "canary-wrong"}, {"username": "nobody"}])
@pytest.mark.parametrize("module", [bmc_power, bmc_log])
def test_wrong_account(sim: Sim, run_module: RunModule, module: Any, wrong: Params) -> None:
    more = {"state": "on"} if module is bmc_power else {}
    result = run_module(module, **{**sim.options, **wrong, **more})
    assert (result["failed"], result["failure"]["kind"]) == (True, "auth")
    assert "canary" not in str({**result, "invocation": None})


def test_the_password_is_on_no_command_line(sim: Sim, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    real = subprocess.run

    def noting(command: Any, *args: Any, **kwargs: Any) -> Any:
        lines.append(str(command))
        return real(command, *args, **kwargs)

    monkeypatch.setattr(subprocess, "run", noting)
    run_module(bmc_power, **sim.options, state="on")
    assert lines and not any(PASSWORD in line for line in lines)


def test_many_at_once_and_the_reader_of_the_plan(sim: Sim, run_module: RunModule) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    target = {**sim.options, "name": "node01"}
    result = run_module(
        bmc_scan, targets=[target, {**target, "address": nobody, "timeout": 3}], subset=["system"], address="192.0.2.1"
    )
    assert [bmc["hardware"] and bmc["hardware"]["system"]["power_state"] for bmc in result["bmcs"]] == ["off", None]
    assert result["bmcs"][1]["failure"]["kind"] in ("unreachable", "timeout")
    states = read_bmcs({"node01": Options(**sim.options)})
    assert (states["node01"].power, states["node01"].media, states["node01"].error) == ("off", (), None)
