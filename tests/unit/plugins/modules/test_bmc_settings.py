# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that set something, where one module has something of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.tests.simulator import Simulator
from ansible_collections.kiban.baremetal.tests.unit.plugins.hurry import hurry

RunModule = Callable[..., dict[str, Any]]
MakeSimulator = Callable[..., Simulator]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def run(run_module: RunModule) -> RunModule:
    def named(of: str, bmc: Simulator, /, check_mode: bool = False, **params: Any) -> dict[str, Any]:
        module = importlib.import_module(f"ansible_collections.kiban.baremetal.plugins.modules.{of}")
        return run_module(module, check_mode=check_mode, diff_mode=True, **{**bmc.options, **params})

    return named


def well(result: dict[str, Any]) -> dict[str, Any]:
    assert not result["failed"], result["msg"]
    return result


# -- BIOS


def test_bios_types_follow_the_bios(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator()
    done = well(run("bmc_bios", bmc, attributes={"NumaNodesPerSocket": 2, "MemPatrolScrubHours": "12"}))
    assert done["pending"] == {"NumaNodesPerSocket": "2", "MemPatrolScrubHours": 12}
    wrong = run("bmc_bios", bmc, attributes={"ProcVirtualization": True})
    assert wrong["failure"]["kind"] == "option" and "Quote words" in wrong["failure"]["hint"]


def test_a_value_that_the_registry_does_not_allow_is_not_sent(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator()
    for value, said in (("Perhaps", "it can be: "),):
        refused = run("bmc_bios", bmc, check_mode=True, attributes={"ProcVirtualization": value})
        assert refused["failure"]["kind"] == "option" and said in refused["msg"]
    assert bmc.writes() == []


def test_bios_in_a_maintenance_window(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator("dell-idrac9", tree="synthetic")
    name = next(n for n, v in well(run("bmc_bios", bmc))["attributes"].items() if v == "Enabled")
    common = {"attributes": {name: "Disabled"}, "apply": "at_window_start"}
    assert "window_start" in run("bmc_bios", bmc, **common)["msg"]
    done = well(run("bmc_bios", bmc, **common, window_start="2030-01-31T22:00:00+00:00", window_duration=600))
    assert done["pending"] == {name: "Disabled"}
    sent = next(r.body for r in bmc.requests if r.method == "PATCH")["@Redfish.SettingsApplyTime"]
    assert sent["ApplyTime"] == "AtMaintenanceWindowStart"
    assert sent["MaintenanceWindowStartTime"] == "2030-01-31T22:00:00+00:00"
    assert sent["MaintenanceWindowDurationInSeconds"] == 600


def test_bios_at_once_only_where_that_is_offered(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator()
    done = well(run("bmc_bios", bmc, attributes={"ProcVirtualization": "Disabled"}, apply="immediate"))
    assert done["attributes"]["ProcVirtualization"] == "Disabled" and done["pending"] == {}
    other = simulator("hpe-ilo5")
    name = next(n for n, v in well(run("bmc_bios", other))["attributes"].items() if v == "Enabled")
    refused = run("bmc_bios", other, check_mode=True, attributes={name: "Disabled"}, apply="immediate")
    assert refused["failure"]["kind"] == "unsupported" and "at the next reset only" in refused["msg"]


def test_a_bios_job_that_fails_at_the_restart_is_a_failure(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator("dell-idrac9", tree="synthetic")
    name = next(n for n, v in well(run("bmc_bios", bmc))["attributes"].items() if v == "Enabled")
    bmc.task("PATCH */Settings", "Exception", message=("X.1.Locked", "The BIOS is locked by a password."))
    failed = run("bmc_bios", bmc, attributes={name: "Disabled"}, restart="forced")
    assert failed["failure"]["kind"] == "task_failed" and "locked by a password" in failed["msg"]
    assert failed["failure"]["done"] == [f"wrote {name}", "restarted the server"]
    assert failed["changed"], "the server was restarted"


# -- volumes


def test_a_volume_that_waits_for_a_reset_says_so(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator("dell-idrac9", tree="synthetic")
    storage = next(bmc.get(uri) for uri in bmc.find("Storage") if "Volumes" in bmc.get(uri))
    drives = [bmc.get(item["@odata.id"])["SerialNumber"] for item in storage["Drives"]][:2]
    mirror = {"controller": storage["Id"], "name": "data", "raid_type": "RAID1", "drives": drives}
    done = well(run("bmc_volume", bmc, **mirror))
    assert done["pending"] and done["volume"] is None
    # What waits already goes first, and was the very work that is wanted.
    applied = well(run("bmc_volume", bmc, **mirror, restart="forced"))
    assert not applied["pending"] and applied["volume"]["raid_type"] == "RAID1"
    assert len([line for line in bmc.writes() if line.endswith("/Volumes")]) == 1


def test_a_volume_whose_task_fails(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator()
    drives = [bmc.get(uri)["SerialNumber"] for uri in bmc.find("Drive")][:2]
    bmc.task("POST */Volumes", "Exception", message=("X.1.Foreign", "Drive 2 holds a foreign configuration."))
    mirror = {"controller": "RAID", "name": "data", "raid_type": "RAID1", "drives": drives}
    failed = run("bmc_volume", bmc, **mirror)
    assert failed["failure"]["kind"] == "task_failed" and "foreign configuration" in failed["msg"]
    assert not failed["changed"]
    assert well(run("bmc_volume", bmc, **mirror))["changed"]


def test_no_volume_is_missing_only_because_the_server_is_off(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator("hpe-ilo5", power="Off")
    gone = run("bmc_volume", bmc, name="data", controller="RAID", state="absent")
    assert gone["failed"] and gone["failure"]["kind"] == "not_found"
    assert "only while the server is on" in gone["failure"]["hint"]


# -- users


def test_the_password_from_the_factory(simulator: MakeSimulator, run: RunModule) -> None:
    """A login that may do nothing but change its password."""
    bmc = simulator("openbmc", tree="synthetic")
    account = bmc.find("ManagerAccount")[0]
    must = lambda call: bmc.bmc.access.passwords[account] == bmc.password  # noqa: E731
    said = ("Base.1.18.PasswordChangeRequired", "The password must be changed. PATCH %1.", account)
    elsewhere = lambda call: must(call) and call.uri not in ("/redfish/v1", account) and "/Sessions" not in call.uri  # noqa: E731
    bmc.fault(times=None, when=elsewhere, status=403, message=said)
    other = run("bmc_power", bmc, state="on")
    assert other["failure"]["kind"] == "auth" and "bmc_user" in other["failure"]["hint"]
    own = {"name": bmc.username, "account_password": "canary-own-22"}
    planned = well(run("bmc_user", bmc, check_mode=True, **own))
    assert planned["changed"] and bmc.writes() == []
    done = well(run("bmc_user", bmc, **own))
    assert done["changed"] and done["diff"] == planned["diff"]
    assert bmc.writes() == [f"PATCH {account}"]
    assert not well(run("bmc_user", bmc, **own))["changed"]
    assert not well(run("bmc_power", bmc, password="canary-own-22", state="on"))["changed"]


def test_all_slots_in_use(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator("dell-idrac9", tree="synthetic")
    for uri in bmc.find("ManagerAccount"):
        bmc.edit(uri, lambda body: body.update(UserName=body["UserName"] or f"user{body['Id']}"))
    full = run("bmc_user", bmc, name="watcher", account_password="canary-new-1", role="ReadOnly")
    assert full["failure"]["kind"] == "unsupported" and bmc.writes() == []


def test_a_bmc_that_takes_a_password_and_does_not_mean_it(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator()
    bmc.fault("POST", "*/Accounts", status=201, work=False)
    result = run("bmc_user", bmc, name="watcher", account_password="canary-new-1", role="ReadOnly")
    assert result["failed"] and result["failure"]["kind"] == "timeout" and not result["changed"]


# -- firmware


def test_several_components_and_one_restart(simulator: MakeSimulator, run: RunModule, tmp_path: Path) -> None:
    bmc = simulator()
    image = tmp_path / "Device1_3.3.bin"
    image.write_bytes(b"Device1_3.3.bin\n" + bytes(range(256)) * 5000)
    updates = [
        {"component": "BIOS", "version": "2.2", "image": "http://192.0.2.2/BIOS_2.2.bin"},
        {"component": "Device1", "version": "3.3", "path": str(image)},
        {"component": "BMC", "version": "4.4", "image": "http://192.0.2.2/BMC_4.4.bin"},
    ]
    done = well(run("bmc_firmware", bmc, updates=updates, restart="forced"))
    assert done["firmware"] == {"BIOS": "2.2", "Device1": "3.3", "BMC": "4.4"} and done["pending"] == []
    assert len(bmc.boots) == 1
    assert bmc.pushed[-1][1] == image.read_bytes()
    push = next(r for r in bmc.requests if "upload" in r.path)
    assert "content-length" in push.headers and "transfer-encoding" not in push.headers
    left = well(run("bmc_firmware", bmc, updates=[{**updates[0], "version": "2.3", "image": "http://x/BIOS_2.3.bin"}]))
    assert left["pending"] == ["BIOS"] and left["firmware"] == {"BIOS": "2.2"}


def test_an_image_that_is_none(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator()
    update = {"component": "BIOS", "version": "2.2", "image": "http://192.0.2.2/readme.txt"}
    failed = run("bmc_firmware", bmc, updates=[update])
    assert failed["failure"]["kind"] == "task_failed" and "not an update package" in failed["msg"]
    assert not failed["changed"]


# -- network and certificate


def test_a_bmc_that_moves_to_another_address(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator(host="0.0.0.0")
    uri = bmc.find("Manager")[0] + "/EthernetInterfaces/1"
    here = {"Address": "127.0.0.1", "SubnetMask": "255.0.0.0", "Gateway": "127.0.0.254", "AddressOrigin": "Static"}
    bmc.edit(uri, lambda body: body.update(IPv4Addresses=[here], IPv4StaticAddresses=[here]))
    bmc.edit(uri, lambda body: body.update(DHCPv4={"DHCPEnabled": False}))
    pinned = {"address": f"127.0.0.1:{bmc.port}", "ca_path": None, "fingerprint": bmc.pki.fingerprint}
    bmc.fault("PATCH", uri, drop="after")  # it is gone before it can answer
    moved = {"ip_address": "127.0.0.2", "netmask": "255.0.0.0", "gateway": "127.0.0.254"}
    done = well(run("bmc_network", bmc, **pinned, **moved))
    assert done["changed"] and done["network"]["address"] == "127.0.0.2"
    assert not well(run("bmc_network", bmc, **{**pinned, "address": f"127.0.0.2:{bmc.port}"}, **moved))["changed"]


def test_a_certificate_of_another_key_is_refused_and_nothing_changes(simulator: MakeSimulator, run: RunModule) -> None:
    bmc = simulator()
    refused = run("bmc_certificate", bmc, certificate=bmc.pki.other_ca.read_text())
    assert refused["failed"] and refused["failure"]["status"] == 400 and not refused["changed"]
    assert well(run("bmc_certificate", bmc, check_mode=True, certificate=bmc.pki.other_ca.read_text()))["changed"]
