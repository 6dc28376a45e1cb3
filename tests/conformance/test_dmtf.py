# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The well-behaved BMC of the simulator against the DMTF's own validators. `make conformance` installs them.

The service validator needs the CSDL schemas of DSP8010: those in the directory KIBAN_REDFISH_SCHEMAS, else those that
`make conformance` fetched with cargo, else it fetches them from dmtf.org into build/redfish-schemas.
"""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import ssl
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.plugins.loader import init_plugin_loader

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = CHECKOUT / "build" / "conformance" / "bin"

init_plugin_loader([str(CHECKOUT / ".ansible" / "collections")])

# SHA-256 of the package that schemas.toml names.
SCHEMAS = "12b683cd72e1962b4ae64a03641ac846f981db4a97bb082fa9340b23a2b983b1"
# Assertion of the protocol validator -> why a warning is accepted. Failures never are.
WAIVED = {
    "RESP_HEADERS_X_AUTH_TOKEN": "two statistical tests at 1 % each: a random token in fifty is called not random",
}


def validator(name: str) -> str:
    found = shutil.which(name, path=f"{BIN}:{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"{name} is not installed: make conformance")
    return found


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[Any]:
    from ansible_collections.kiban.baremetal.tests.simulator import Simulator

    with Simulator("well-behaved", tree="synthetic", password="simple-Pass1", tls=True) as sim:
        yield sim


@pytest.fixture
def environment(bmc: Any) -> dict[str, str]:
    """requests lets these variables win over the CA that it is given."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("CA_BUNDLE")}
    return {**kept, "REQUESTS_CA_BUNDLE": bmc.ca_path}


def send(bmc: Any, method: str, path: str, body: Any) -> None:
    pair = base64.b64encode(f"{bmc.username}:{bmc.password}".encode()).decode()
    headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{bmc.url}{path}", json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=bmc.ca_path)) as answer:
        assert answer.status < 300


def use(bmc: Any) -> None:
    """Make what comes to be only by use: a volume, tasks that ended well and badly, an account, settings, an image."""
    system, root = "/redfish/v1/Systems/1", "/redfish/v1"
    drives = [{"@odata.id": f"{root}/Chassis/1/Drives/RAID.{n}"} for n in (1, 2)]
    send(bmc, "POST", f"{system}/Storage/RAID/Volumes", {"RAIDType": "RAID1", "Links": {"Drives": drives}})
    send(
        bmc,
        "POST",
        f"{root}/UpdateService/Actions/UpdateService.SimpleUpdate",
        {"ImageURI": "http://192.0.2.1/cat.gif"},
    )
    account = {"UserName": "ops", "Password": "other-Pass1", "RoleId": "Operator"}
    send(bmc, "POST", f"{root}/AccountService/Accounts", account)
    event = {"Destination": "https://192.0.2.1/events", "Protocol": "Redfish", "Context": "c"}
    send(bmc, "POST", f"{root}/EventService/Subscriptions", event)
    image = {"Image": "http://192.0.2.1/a.iso"}
    send(bmc, "POST", f"{system}/VirtualMedia/2/Actions/VirtualMedia.InsertMedia", image)
    apply = {"@Redfish.SettingsApplyTime": {"ApplyTime": "OnReset"}}
    send(bmc, "PATCH", f"{system}/Bios/Settings", {"Attributes": {"LogicalProc": "Disabled"}, **apply})
    send(bmc, "POST", f"{system}/Actions/ComputerSystem.Reset", {"ResetType": "On"})
    bmc.advance(300)
    bmc.add_log_entry("Fan failed.", "Critical")
    assert Counter(task["TaskState"] for task in map(bmc.get, bmc.find("Task"))) == {"Completed": 2, "Exception": 1}


def schemas() -> tuple[Path, list[str]]:
    """Directory of the schemas, and what the validator has to be told about it."""
    given = os.environ.get("KIBAN_REDFISH_SCHEMAS")
    if given:
        assert list(Path(given).glob("ServiceRoot_v1.xml")), f"KIBAN_REDFISH_SCHEMAS={given} has no ServiceRoot_v1.xml"
        return Path(given), ["--skipschema"]
    vendored = CHECKOUT / "build" / "schemas" / "vendor" / "nv-redfish-schema"
    if vendored.is_dir():
        checksum = json.loads((vendored / ".cargo-checksum.json").read_text())["package"]
        assert checksum == SCHEMAS, "this is not the package whose checksum is known"
        return vendored / "redfish-csdl" / "csdl", ["--skipschema"]
    place = CHECKOUT / "build" / "redfish-schemas"
    return place, ["--skipschema"] if list(place.glob("ServiceRoot_v1.xml")) else []


def run(bmc: Any, program: str, options: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The reports tell how it ended."""
    command = [program, "-r", bmc.url, "-u", bmc.username, "-p", bmc.password, *options]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=600)


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_service_validator(bmc: Any, tmp_path: Path, environment: dict[str, str], used: bool) -> None:
    """Every resource is valid by its schema, from the beginning and after use."""
    program = validator("rf_service_validator")
    place, options = schemas()
    if used:
        use(bmc)
    if not options:
        environment = {name: value for name, value in environment.items() if name != "REQUESTS_CA_BUNDLE"}
    ran = run(bmc, program, ["--schema_directory", str(place), *options, "--logdir", str(tmp_path)], environment)
    if not list(place.glob("ServiceRoot_v1.xml")):
        pytest.skip("the schemas of DSP8010 could not be fetched from dmtf.org; KIBAN_REDFISH_SCHEMAS may name a copy")
    counts = re.search(r"\|\s+(\d+)\s+\|\s+(\d+)\s+\|\s+(\d+)\s+\|\s+(\d+)\s+\|", ran.stdout)
    assert counts, ran.stdout[-2000:]
    passed, warned, failed, _untested = map(int, counts.groups())
    reports = [path.read_text() for path in tmp_path.rglob("*Debug*.log")]
    problems = [line for text in reports for line in text.splitlines() if "Error:" in line or "Warning:" in line]
    assert (warned, failed) == (0, 0), "\n".join(problems) or ran.stdout[-2000:]
    assert passed > 1500


def test_protocol_validator(bmc: Any, tmp_path: Path, environment: dict[str, str]) -> None:
    """HTTP as the specification wants it: methods, headers, status codes, sessions, queries, privileges."""
    program = validator("rf_protocol_validator")
    options = [
        "--avoid-http-redirect",
        "--ca-bundle",
        bmc.ca_path,
        "--report-type",
        "tsv",
        "--report-dir",
        str(tmp_path),
    ]
    ran = run(bmc, program, options, environment)
    reports = list(tmp_path.glob("*.tsv"))
    assert reports, ran.stdout + ran.stderr
    with reports[0].open(newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t") if len(row) > 4]
    results = Counter(row[4] for row in rows)
    bad = [row for row in rows if row[4] == "FAIL" or (row[4] == "WARN" and row[0] not in WAIVED)]
    assert not bad, "\n".join(" | ".join(row[:6]) for row in bad)
    assert results["PASS"] > 300
