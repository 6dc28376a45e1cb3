# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver ipmi without a BMC: what is decided before ipmitool is called, and what is made of its answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcError, BmcUnsupported, Options, connect
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.boot import BootState
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.ipmi import IpmiBmc, _entry, _fru
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.ipmitool import failure_of
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.sensors import sensor_of_sdr

# A program that keeps boot flags, power and GUID as a BMC does, by the bytes of the specification.
TOOL = r"""#!/bin/sh
here=$(dirname "$0")
while [ $# -gt 0 ] && [ "$1" != raw ] && [ "$1" != fru ]; do shift; done
echo "$*" >> "$here/asked"
case "$*" in
"raw 0x00 0x01") echo " 01 00 00" ;;
"raw 0x06 0x37") cat "$here/guid" ;;
"raw 0x00 0x08 0x03"*) echo "rsp=0xcc): Invalid data field in request" >&2; exit 1 ;;
"raw 0x00 0x08 0x05"*) echo " 01 05 ${5#0x} ${6#0x} 00 00 00" > "$here/flags" ;;
"raw 0x00 0x09"*) cat "$here/flags" 2>/dev/null || echo " 01 05 00 00 00 00 00" ;;
"fru print 0") printf ' Product Manufacturer  : Example\n Product Name : M1\n Product Serial : SN: 1\n' ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""


def options(**own: object) -> Options:
    return Options.from_params({"address": "192.0.2.9", "username": "u", "password": "canary", "driver": "ipmi", **own})


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "ipmitool"
    program.write_text(TOOL)
    program.chmod(0o755)
    (tmp_path / "guid").write_text(" 31 4d 4a 4f c0 b4 52 80 10 30 34 00 44 45 4c 4c\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


@pytest.mark.parametrize(
    ("target", "enabled", "flags"),
    [
        ("pxe", "once", "0xa0 0x04"),
        ("disk", "continuous", "0xe0 0x08"),
        ("cd", "once", "0xa0 0x14"),
        ("none", None, "0x00 0x00"),
    ],
)
def test_boot_flags_are_set_and_read_back(tool: Path, target: str, enabled: str | None, flags: str) -> None:
    with connect(options()) as bmc:
        assert bmc.boot.apply(BootState(target, enabled)) == BootState(target, enabled)
    assert f"raw 0x00 0x08 0x05 {flags} 0x00 0x00 0x00" in (tool / "asked").read_text()


@pytest.mark.parametrize(
    "says",
    [
        "Error in open session response message : invalid authentication algorithm",
        "Authentication algorithm 0x01 is not what we requested 0x03",
    ],
)
@pytest.mark.parametrize("first", ["raw 0x00 0x01", "fru print 0"])
def test_a_bmc_that_has_only_the_older_cipher_suite(tool: Path, says: str, first: str) -> None:
    """ipmitool tells why only with -v, which is for raw commands."""
    program = tool / "ipmitool"
    refuse = f'''case "$*" in
*"-C 17"*"-v raw"*) echo "{says}" >&2; exit 1 ;;
*"-C 17"*) echo "Unable to establish" >&2; exit 1 ;;
esac
'''
    more = '"raw 0x06 0x01") echo " 20 01" ;;\n'
    script = TOOL.replace("while [", f"{refuse}while [", 1).replace('"raw 0x00 0x01")', f'{more}"raw 0x00 0x01")')
    program.write_text(script)
    with connect(options()) as bmc:
        assert isinstance(bmc, IpmiBmc)
        kind, *words = first.split()
        said = bmc._tool.run(kind, *words)
    assert said.strip()


def test_identity(tool: Path) -> None:
    with connect(options()) as bmc:
        status = bmc.status()
    assert (status["manufacturer"], status["model"], status["serial_number"]) == ("Example", "M1", "SN: 1")
    assert status["power_state"] == "on"


@pytest.mark.parametrize(
    ("guid", "uuid"),
    [
        # As SMBIOS has it: the first three fields in little endian.
        ("33 22 11 00 55 44 77 46 88 99 aa bb cc dd ee ff", "00112233-4455-4677-8899-aabbccddeeff"),
        # As the IPMI specification has it: all bytes in reverse.
        ("ff ee dd cc bb aa 99 88 77 46 55 44 33 22 11 00", "00112233-4455-4677-8899-aabbccddeeff"),
        ("00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00", None),
    ],
)
def test_the_order_of_a_guid_is_found_or_it_is_null(tool: Path, guid: str, uuid: str | None) -> None:
    (tool / "guid").write_text(guid)
    with connect(options()) as bmc:
        assert bmc.status()["uuid"] == uuid


@pytest.mark.parametrize(
    ("said", "once", "kind"),
    [
        ("> RAKP 2 HMAC is invalid\nError: Unable to establish IPMI v2 / RMCP+ session", False, "auth"),
        ("RAKP 2 message indicates an error : unauthorized name\nError: Unable to establish", False, "auth"),
        ("RAKP 2 message indicates an error : insufficient resources for session", False, "busy"),
        ("Address lookup for x failed\nError: Unable to establish IPMI v2 / RMCP+ session", False, "unreachable"),
        ("Error: Unable to establish IPMI v2 / RMCP+ session", True, "unreachable"),
        ("This BMC does not support IPMI v2 / RMCP+\nError: Unable to establish", False, "unsupported"),
        ("Unable to send RAW command (channel=0x0 netfn=0x0 lun=0x0 cmd=0x2)", True, "uncertain"),
        ("Unable to send RAW command (channel=0x0 netfn=0x0 lun=0x0 cmd=0x1)", False, "timeout"),
        ("Unable to send RAW command (cmd=0x99 rsp=0xc1): Invalid command", False, "unsupported"),
        ("Unable to send RAW command (cmd=0x2 rsp=0xd4): Insufficient privilege level", True, "auth"),
        ("Unable to send RAW command (cmd=0x2 rsp=0xc0): Node busy", True, "busy"),
        ("Unable to send RAW command (cmd=0x2 rsp=0xd5): Command not supported in present state", True, "refused"),
        (" Device not present (Invalid data field in request)", False, "unsupported"),
    ],
)
def test_what_ipmitool_says(said: str, once: bool, kind: str) -> None:
    assert failure_of("192.0.2.9", "raw", said, once).kind == kind


@pytest.mark.parametrize(
    ("own", "kind", "words"),
    [
        ({"address": "https://192.0.2.9"}, "option", "takes no URL"),
        ({"address": ""}, "option", "takes no URL"),
        ({"password": "p" * 21}, "option", "longer than the 20 bytes"),
        ({"username": "u" * 17}, "option", "longer than the 16 bytes"),
        ({"timeout": 0}, "option", "greater than 0"),
        ({"driver": "telnet"}, "option", "redfish, ipmi"),
    ],
)
def test_options_that_make_no_sense(own: dict[str, object], kind: str, words: str) -> None:
    with pytest.raises(BmcError) as error:
        connect(options(**own))
    assert error.value.kind == kind and words in str(error.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("bmc-1:1623", "bmc-1:1623"),
        ("2001:db8::9", "[2001:db8::9]"),
        ("[::1]:99", "[::1]:99"),
    ],
)
def test_addresses(address: str, shown: str) -> None:
    assert connect(options(address=address)).address == shown


def test_without_ipmitool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_more: None)
    with pytest.raises(BmcError, match="apt-get install ipmitool"), connect(options()) as bmc:
        bmc.power.read()


def test_all_else_is_unsupported() -> None:
    with connect(options()) as bmc:
        for name in ("media", "bios", "accounts", "drives", "firmware", "certificates", "boot_settings", "resources"):
            with pytest.raises(BmcUnsupported, match="driver ipmi knows nothing of"):
                getattr(bmc, name)
        for ask in (bmc.volumes, bmc.network):
            with pytest.raises(BmcUnsupported, match="driver ipmi knows nothing of"):
                ask()


def test_lines() -> None:
    line = "   a | 11/27/26 | 23:40:01 UTC | Fan #0x30 | Lower Critical going low  | Asserted"
    assert _entry(line) == {
        "@odata.id": "sel/a",
        "Id": "10",
        "Created": "2026-11-27T23:40:01+00:00",
        "Message": "Fan #0x30, Lower Critical going low, Asserted",
        "SensorType": "Fan",
    }
    assert _entry("   1 |  Pre-Init  |0000000000| Power Unit | Power off/down | Asserted")["Created"] is None
    assert sensor_of_sdr("FAN1 | 41h | ns  | 29.1 | No Reading") == {
        "name": "FAN1",
        "reading": None,
        "unit": None,
        "health": None,
    }
    assert sensor_of_sdr("FAN2 | 42h | cr  | 29.2 | 300 RPM") == {
        "name": "FAN2",
        "reading": 300.0,
        "unit": "RPM",
        "health": "Critical",
    }
    assert _fru(" Board Mfg : a: b\n Product Name :\n") == {"Board Mfg": "a: b"}
