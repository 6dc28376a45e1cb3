# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that set something, on every kind of BMC that can be simulated: check, apply, again, update, absent."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.tests.simulator import PROFILES, Simulator
from ansible_collections.kiban.baremetal.tests.unit.plugins.hurry import hurry

RunModule = Callable[..., dict[str, Any]]
MakeSimulator = Callable[..., Simulator]

PROFILE_NAMES = sorted(PROFILES)


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"ansible_collections.kiban.baremetal.plugins.modules.{name}")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


class Ladder:
    """Runs a module in check mode, then for real, then again; and compares what each says with what happened."""

    def __init__(self, bmc: Simulator, run_module: RunModule, name: str) -> None:
        self.bmc = bmc
        self._run_module = run_module
        self._module = module_of(name)

    def run(self, check: bool = False, **params: Any) -> dict[str, Any]:
        result = self._run_module(self._module, check_mode=check, diff_mode=True, **{**self.bmc.options, **params})
        # Not even as Ansible's own mask: it would mean that the module had put it there.
        assert "canary" not in str({**result, "invocation": None}), "a secret is in the result"
        assert "VALUE_SPECIFIED" not in str({**result, "invocation": None})
        return result

    def settled(self) -> dict[str, Any]:
        """The state once a start of the server has run its course."""
        self.bmc.advance(300)
        self.bmc.forget()
        return self.bmc.state()

    def step(self, again: bool = True, **params: Any) -> dict[str, Any]:
        """One rung: it is a change, predicted as it then happens, and no change a second time."""
        before = self.settled()
        planned = self.run(check=True, **params)
        assert not planned["failed"], planned
        assert planned["changed"]
        assert self.bmc.writes() == [] and self.bmc.state() == before, "check mode changed something"
        done = self.run(**params)
        assert not done["failed"], done
        assert done["changed"]
        assert done["diff"] == planned["diff"]
        assert self.bmc.writes(), "changed without a write"
        if again:
            self.same(**params)
        return done

    def same(self, **params: Any) -> dict[str, Any]:
        """No change is needed, and none is made or predicted."""
        for check in (True, False):
            before = self.settled()
            result = self.run(check=check, **params)
            assert not result["failed"], result
            assert not result["changed"], result["diff"]
            assert self.bmc.writes() == [] and self.bmc.state() == before
        return result

    def fails(self, kind: str, **params: Any) -> dict[str, Any]:
        """It fails for this reason, in check mode too, and nothing is written."""
        for check in (True, False):
            before = self.settled()
            result = self.run(check=check, **params)
            assert result["failed"], result
            assert result["failure"]["kind"] == kind, result["msg"]
            assert not result["changed"] and self.bmc.writes() == [] and self.bmc.state() == before
        return result


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_bios(simulator: MakeSimulator, run_module: RunModule, profile: str) -> None:
    bmc = simulator(profile)
    ladder = Ladder(bmc, run_module, "bmc_bios")
    found = ladder.run()
    if found["failed"]:
        assert found["failure"]["kind"] == "unsupported"
        ladder.fails("unsupported", attributes={"BootMode": "Uefi"})
        return
    name, first, second = _enumeration(bmc, found["attributes"])
    near = ladder.fails("option", attributes={f"{name}x": first})
    assert name in near["failure"]["hint"]
    staged = ladder.step(attributes={name: second})
    assert staged["pending"] == {name: second} and staged["attributes"][name] == first
    # Back to what is in force: the waiting value has to be taken away again.
    if not bmc.profile.bios_locked_by_job:
        ladder.step(attributes={name: first})
        ladder.step(attributes={name: second})
        ladder.step(state="absent")
        ladder.step(attributes={name: second})
    else:
        refused = ladder.run(attributes={name: first})
        assert refused["failed"] and refused["failure"]["kind"] == "busy" and refused["failure"]["status"] == 503
    applied = ladder.step(attributes={name: second}, restart="forced")
    assert applied["attributes"][name] == second and applied["pending"] == {}
    back = ladder.step(attributes={name: first}, restart="graceful")
    assert back["attributes"][name] == first and back["pending"] == {}


def _enumeration(bmc: Simulator, attributes: dict[str, Any]) -> tuple[str, str, str]:
    """An attribute with its value, and another value that it may have."""
    for uri in bmc.find("AttributeRegistry"):
        for entry in bmc.get(uri)["RegistryEntries"]["Attributes"]:
            values = [item["ValueName"] for item in entry.get("Value") or []]
            now = attributes.get(entry["AttributeName"])
            usable = not entry.get("ReadOnly") and not entry.get("GrayOut") and entry["Type"] == "Enumeration"
            if usable and now in values and len(values) > 1:
                return entry["AttributeName"], now, next(value for value in values if value != now)
    for name, now in attributes.items():
        if now in ("Enabled", "Disabled"):
            return name, now, "Disabled" if now == "Enabled" else "Enabled"
    raise AssertionError("no attribute to test with")


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_volume(simulator: MakeSimulator, run_module: RunModule, profile: str) -> None:
    bmc = simulator(profile)
    ladder = Ladder(bmc, run_module, "bmc_volume")
    controller, drives = _raid(bmc)
    common = {"controller": controller, "name": "data", "restart": "forced"}
    if len(drives) < 2:
        missing = ladder.run(name="data", raid_type="RAID0", drives=["x"])
        assert missing["failed"] and missing["failure"]["kind"] in ("unsupported", "option")
        return
    mirror = {**common, "raid_type": "RAID1", "drives": drives[:2]}
    ladder.fails("option", **{**mirror, "drives": [drives[0], "no-such-drive"]})
    made = ladder.step(**mirror)
    assert made["volume"]["raid_type"] == "RAID1" and not made["pending"]
    assert len(bmc.find("Volume")) >= 1
    # Another RAID type is never made of it.
    kept = ladder.fails("option", **{**mirror, "raid_type": "RAID0"})
    assert "left as it is" in kept["msg"]
    if len(drives) > 2:
        in_use = ladder.fails("option", **{**mirror, "name": "other", "drives": drives[1:3]})
        assert "in use" in in_use["msg"]
    gone = ladder.step(**common, state="absent")
    assert gone["volume"] is None


def _raid(bmc: Simulator) -> tuple[str, list[str]]:
    """A controller that makes volumes, and the serial numbers of its free drives."""
    for uri in bmc.find("Storage"):
        body = bmc.get(uri)
        drives = [bmc.get(item["@odata.id"]) for item in body.get("Drives", [])]
        free = [drive["SerialNumber"] for drive in drives if not (drive.get("Links") or {}).get("Volumes")]
        if "Volumes" in body and len(free) > 1:
            return body["Id"], free
    return "", []


NEW = "canary-first-1"
NEWER = "canary-second-2"


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_user(simulator: MakeSimulator, run_module: RunModule, profile: str) -> None:
    bmc = simulator(profile)
    ladder = Ladder(bmc, run_module, "bmc_user")
    person = {"name": "watcher"}
    if not bmc.find("ManagerAccount"):
        ladder.fails("unsupported", **person, account_password=NEW, role="ReadOnly")
        return
    ladder.fails("option", **person)
    ladder.same(**person, state="absent")
    ladder.step(**person, account_password=NEW, role="ReadOnly")
    ladder.step(**person, account_password=NEWER, role="ReadOnly")
    ladder.step(**person, role="Operator")
    ladder.step(**person, enabled=False)
    ladder.same(**person, account_password=NEW, enabled=False)
    ladder.step(**person, state="absent")
    own = {"name": bmc.username, "account_password": NEWER}
    ladder.fails("option", name=bmc.username, state="absent")
    ladder.step(**own)
    assert ladder.run(name=bmc.username)["failure"]["kind"] == "auth", "the old password still works"


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_firmware(simulator: MakeSimulator, run_module: RunModule, profile: str, tmp_path: Path) -> None:
    bmc = simulator(profile)
    ladder = Ladder(bmc, run_module, "bmc_firmware")
    items = [bmc.get(uri) for uri in bmc.find("SoftwareInventory") if "FirmwareInventory" in uri]
    ids = [str(item["Id"]) for item in items if item.get("Version")]
    if not ids:
        assert ladder.run(updates=[{"component": "x", "version": "1", "image": "http://192.0.2.2/x_1.bin"}])["failed"]
        return
    host = next((name for name in ids if re.search("bios|uefi|system rom", name, re.IGNORECASE)), ids[0])
    update = {"component": host, "version": "9.9.1", "image": f"http://192.0.2.2/{host}_9.9.1.bin"}
    ladder.fails("option", updates=[{**update, "component": "no-such-thing"}])
    service = bmc.get(bmc.find("UpdateService")[0])
    if "#UpdateService.SimpleUpdate" in service.get("Actions", {}):
        done = ladder.step(updates=[update], restart="forced")
        assert done["firmware"] == {host: "9.9.1"} and done["pending"] == []
    else:
        ladder.fails("unsupported", updates=[update])
    image = tmp_path / f"{host}_9.9.2.bin"
    image.write_bytes(f"{host}_9.9.2.bin\n".encode() + b"\x00" * 300_000)
    pushed = {"component": host, "version": "9.9.2", "path": str(image)}
    usable = bmc.profile.firmware_push in ("multipart", "push")
    result = ladder.run(check=True, updates=[pushed])
    if result["failed"]:
        assert result["failure"]["kind"] == "unsupported" and (not usable or "HttpPushUri" in service)
        return
    done = ladder.step(updates=[pushed], restart="forced")
    assert done["firmware"] == {host: "9.9.2"}
    assert bmc.pushed[-1][1] == image.read_bytes(), "what arrived is what was sent"


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_log(simulator: MakeSimulator, run_module: RunModule, profile: str) -> None:
    bmc = simulator(profile)
    ladder = Ladder(bmc, run_module, "bmc_log")
    found = ladder.run()
    if found["failed"]:
        # Recorded trees have no entries, though the log says where they are.
        assert found["failure"]["kind"] in ("unsupported", "not_found")
        return
    log = found["log"]
    bmc.add_log_entry("Power supply 1 lost its input", "Critical", log)
    seen = ladder.run(log=log.removeprefix("/redfish/v1/"), since=found["cursor"], pattern="lost")
    assert [entry["severity"] for entry in seen["entries"]] == ["critical"]
    assert not seen["changed"] and bmc.writes() == []
    assert ladder.run(since=seen["cursor"])["entries"] == []
    late = ladder.run(since=seen["cursor"], pattern="never said", follow=5)
    assert late["failed"] and late["failure"]["kind"] == "timeout"
    assert ladder.run(since="yesterday")["failure"]["kind"] == "option"
    assert ladder.run(log="no-such-log")["failure"]["kind"] == "option"
    if "#LogService.ClearLog" not in bmc.get(log).get("Actions", {}):
        ladder.fails("unsupported", state="cleared")
        return
    ladder.step(state="cleared")
    assert ladder.run()["entries"] == []


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_erase(simulator: MakeSimulator, run_module: RunModule, profile: str) -> None:
    bmc = simulator(profile)
    ladder = Ladder(bmc, run_module, "bmc_erase")
    drives = [bmc.get(uri) for uri in bmc.find("Drive")]
    able = [d for d in drives if "#Drive.SecureErase" in d.get("Actions", {}) and not d["Links"].get("Volumes")]
    unable = [d for d in drives if "#Drive.SecureErase" not in d.get("Actions", {}) and d.get("SerialNumber")]
    if unable:
        ladder.fails("unsupported", state="erased", drives=[unable[0]["SerialNumber"]])
    missing = ladder.run(state="erased", drives=["no-such-drive"])
    assert missing["failed"] and missing["failure"]["kind"] in ("option", "not_found", "unsupported")
    if not able:
        return
    names = [drive["SerialNumber"] for drive in able[:2]]
    ladder.fails("option", state="erased", drives=[names[0], "no-such-drive"])
    ladder.fails("unsupported", state="erased", drives=names, method="Overwrite")
    ladder.step(state="erased", drives=names, again=False)
    assert [uri.lower() for uri in bmc.erased] == [drive["@odata.id"].lower() for drive in able[:2]]
    ladder.step(state="erased", drives=names[:1], again=False)
    assert len(bmc.erased) == len(names) + 1


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_network(simulator: MakeSimulator, run_module: RunModule, profile: str) -> None:
    bmc = simulator(profile)
    ladder = Ladder(bmc, run_module, "bmc_network")
    found = ladder.run()
    if found["failed"]:
        assert found["failure"]["kind"] in ("unsupported", "option")
        return
    ladder.fails("unsupported", protocols={"gopher": True})
    network = found["network"]
    if network["address"] == bmc.host:  # by chance; a BMC that moves away is a test of its own
        moved = {"Address": "192.0.2.9", "SubnetMask": "255.255.255.0", "Gateway": "192.0.2.1"}
        for uri in bmc.find("EthernetInterface"):
            body = bmc.get(uri)
            names = [name for name in ("IPv4Addresses", "IPv4StaticAddresses") if body.get(name)]
            bmc.edit(uri, lambda found, names=names: found.update({name: [moved] for name in names}))
    ladder.same(dns_servers=network["dns_servers"], protocols=network["protocols"])
    servers = ["192.0.2.53", "192.0.2.54"]
    if ladder.run(check=True, dns_servers=servers)["failed"]:
        ladder.fails("unsupported", dns_servers=servers)
    else:
        done = ladder.step(dns_servers=servers)
        assert done["network"]["dns_servers"] == servers
    switch = next((name for name in ("ssh", "ipmi", "snmp") if name in network["protocols"]), None)
    if switch:
        done = ladder.step(protocols={switch: not network["protocols"][switch]})
        assert done["network"]["protocols"] == {**network["protocols"], switch: not network["protocols"][switch]}
    done = ladder.step(dhcp=False, ip_address="192.0.2.77", netmask="255.255.255.0", gateway="192.0.2.1")
    assert done["network"]["address"] == "192.0.2.77" and done["network"]["dhcp"] is False
    if network["vlan"] is not None:
        ladder.step(vlan=12)
        ladder.step(vlan=0)
    if any("NTP" in bmc.get(uri) for uri in bmc.find("ManagerNetworkProtocol")):
        ladder.step(ntp_servers=["192.0.2.124", "192.0.2.125"])
        ladder.step(ntp_servers=[])
    ladder.step(dhcp=True)


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_certificate(simulator: MakeSimulator, run_module: RunModule, profile: str) -> None:
    bmc = simulator(profile)
    ladder = Ladder(bmc, run_module, "bmc_certificate")
    own = bmc.pki.pem.decode()
    certificate = own[own.index("-----BEGIN CERT") : own.index("-----END CERT")] + "-----END CERTIFICATE-----\n"
    ladder.same(certificate=certificate)
    ladder.fails("option", certificate="no certificate")
    subject = dict.fromkeys(("organization", "organizational_unit", "city", "state_or_province"), "Example")
    request = {"state": "requested", "subject": {**subject, "common_name": "bmc", "country": "DE"}}
    asked = ladder.run(check=True, **request)
    if asked["failed"]:
        assert asked["failure"]["kind"] == "unsupported"
        if not bmc.find("HpeHttpsCert"):  # an import of its own, which the simulator does not have
            ladder.fails("unsupported", certificate=bmc.pki.other_ca.read_text())
        return
    assert asked["csr"] is None and bmc.writes() == []
    asked = ladder.run(**request)
    assert asked["changed"] and asked["csr"].startswith("-----BEGIN CERTIFICATE REQUEST")
    signed = bmc.pki.sign(asked["csr"])
    signed = signed if isinstance(signed, str) else signed.decode()
    done = ladder.run(check=True, certificate=signed)
    if done["failed"]:
        assert done["failure"]["kind"] == "unsupported"
        return
    done = ladder.step(certificate=signed)
    assert done["fingerprint"] != asked["fingerprint"]
    pinned = {**bmc.options, "ca_path": None, "fingerprint": done["fingerprint"]}
    assert not ladder.run(**pinned, certificate=signed)["changed"]


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_boot(simulator: MakeSimulator, run_module: RunModule, profile: str) -> None:
    bmc = simulator(profile)
    ladder = Ladder(bmc, run_module, "bmc_boot")
    boot = bmc.system.get("Boot") or {}
    order = boot.get("BootOrder")
    if order and len(order) > 1:
        ladder.fails("option", order=order[1:])
        done = ladder.step(order=list(reversed(order)))
        assert done["settings"]["order"] == list(reversed(order))
        ladder.step(order=order, target="pxe")
    else:
        assert ladder.run(order=["Boot0001"])["failed"]
    if bmc.find("SecureBoot"):
        now = bmc.get(bmc.find("SecureBoot")[0]).get("SecureBootEnable")
        ladder.step(secure_boot=not now)
        ladder.step(secure_boot=bool(now))
    else:
        ladder.fails("unsupported", secure_boot=True)
    ladder.step(target="disk")
    ladder.step(target="none")


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_power(simulator: MakeSimulator, run_module: RunModule, profile: str) -> None:
    bmc = simulator(profile, power="On")
    ladder = Ladder(bmc, run_module, "bmc_power")
    ladder.same(state="on")
    ladder.step(state="off", method="forced")
    ladder.step(state="on", method="forced")
    planned = ladder.run(check=True, state="off")
    if planned["failed"]:
        ladder.fails("unsupported", state="off")
    else:
        assert ladder.step(state="off")["resets"] == ["GracefulShutdown"]
        ladder.step(state="on")
    for method in ("forced", "graceful"):
        before = ladder.settled()
        planned = ladder.run(check=True, state="restarted", method=method)
        assert bmc.writes() == [] and bmc.state() == before
        if planned["failed"]:
            ladder.fails("unsupported", state="restarted", method=method)
            continue
        boots = len(bmc.boots)
        done = ladder.run(state="restarted", method=method)
        assert not done["failed"], done["msg"]
        ladder.settled()
        assert done["changed"] and done["resets"] == planned["resets"] and len(bmc.boots) == boots + 1


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_virtual_media(simulator: MakeSimulator, run_module: RunModule, profile: str) -> None:
    bmc = simulator(profile)
    ladder = Ladder(bmc, run_module, "bmc_virtual_media")
    first, second = "http://192.0.2.2/a.iso", "http://192.0.2.2/b.iso"
    if not bmc.find("VirtualMedia"):
        ladder.fails("unsupported", image=first)
        return
    ladder.same(state="ejected")
    assert ladder.step(image=first)["images"] == [first]
    assert ladder.step(image=second)["images"] == [second]
    assert ladder.step(state="ejected")["images"] == []
    assert not any(bmc.get(uri).get("Image") for uri in bmc.find("VirtualMedia"))


MISSING = {
    "bmc_bios": None,  # it reads then
    "bmc_boot": "target",
    "bmc_certificate": "certificate",
    "bmc_erase": "drives",
    "bmc_firmware": "updates",
    "bmc_info": None,
    "bmc_log": None,
    "bmc_network": None,
    "bmc_power": "state",
    "bmc_user": "name",
    "bmc_virtual_media": "image",
    "bmc_volume": "name",
}


@pytest.mark.parametrize("name", sorted(MISSING))
def test_a_missing_parameter_is_named_and_nothing_is_sent(
    simulator: MakeSimulator, run_module: RunModule, name: str
) -> None:
    bmc = simulator("well-behaved")
    for missing in ("address", "username", "password"):
        given = {key: value for key, value in bmc.options.items() if key != missing}
        result = run_module(module_of(name), **given)
        assert result["failed"] and missing in result["msg"], result
    if MISSING[name]:
        result = run_module(module_of(name), **bmc.options)
        assert result["failed"] and str(MISSING[name]) in result["msg"], result
    assert not bmc.writes()
