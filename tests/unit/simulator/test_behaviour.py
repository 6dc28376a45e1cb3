# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a BMC does: power, BIOS settings, volumes, firmware, accounts, certificates, media, logs, network."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from cryptography import x509

from .conftest import Make

SYSTEM = "/redfish/v1/Systems/1"
MANAGER = "/redfish/v1/Managers/1"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
BIOS = f"{SYSTEM}/Bios"
VOLUMES = f"{SYSTEM}/Storage/RAID/Volumes"
UPDATE = "/redfish/v1/UpdateService"
ACCOUNTS = "/redfish/v1/AccountService/Accounts"


def test_power_takes_time_and_the_override_counts_once(make: Make) -> None:
    sim, client = make()
    boot = {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}
    assert client.patch(SYSTEM, {"Boot": boot}).status == 200
    assert client.post(RESET, {"ResetType": "On"}).status == 204
    assert client.get(SYSTEM).body["PowerState"] == "Off"
    sim.advance(2)
    system = client.get(SYSTEM).body
    assert system["PowerState"] == "On"
    assert system["BootProgress"]["LastState"] == "SystemHardwareInitializationComplete"
    assert system["Boot"]["BootSourceOverrideEnabled"] == "Disabled"
    sim.advance(60)
    assert client.get(SYSTEM).body["BootProgress"]["LastState"] == "OSRunning"
    client.post(RESET, {"ResetType": "ForceRestart"})
    sim.advance(2)
    assert sim.system["PowerState"] == "Off"
    sim.advance(2)
    assert sim.boots == ["Pxe", "Boot0000"]
    assert client.post(RESET, {"ResetType": "Explode"}).message_id.endswith("ActionParameterValueNotInList")


def test_power_is_refused_as_vendors_do(make: Make) -> None:
    sim, client = make(power="On", power_conflict=60, power_busy=5, post_refuses=(400, "iLO.2.14.Busy", ""))
    client.post(RESET, {"ResetType": "ForceOff"})
    sim.advance(3)
    assert client.post(RESET, {"ResetType": "On"}).message_id.endswith("InvalidOperationForSystemState")
    sim.advance(10)
    conflict = client.post(RESET, {"ResetType": "On"})
    assert (conflict.status, conflict.message_id[-28:]) == (409, "ActionParameterValueConflict")
    sim.advance(60)
    assert client.post(RESET, {"ResetType": "On"}).status == 204
    sim.advance(10)
    boot = {"Boot": {"BootSourceOverrideTarget": "Pxe"}}
    assert client.patch(SYSTEM, boot).message_id == "iLO.2.14.Busy"
    sim.advance(60)
    assert client.patch(SYSTEM, boot).status == 200


def test_bios_settings_are_pending_until_a_start_applies_them_by_a_job(make: Make) -> None:
    sim, client = make()
    assert client.patch(BIOS, {"Attributes": {"LogicalProc": "Disabled"}}).status == 400
    assert client.patch(f"{BIOS}/Settings", {"Attributes": {"LogicalProc": "Maybe"}}).status == 400
    assert client.patch(f"{BIOS}/Settings", {"Attributes": {"Bogus": 1}}).message_id.endswith("PropertyUnknown")
    wanted = {"Attributes": {"LogicalProc": "Disabled"}, "@Redfish.SettingsApplyTime": {"ApplyTime": "OnReset"}}
    started = client.patch(f"{BIOS}/Settings", wanted)
    assert started.status == 202
    task = started.headers["location"]
    assert client.get(task).body["TaskState"] == "New"
    assert client.get(f"{BIOS}/Settings").body["Attributes"] == {"LogicalProc": "Disabled"}
    client.post(RESET, {"ResetType": "On"})
    sim.advance(2 + 15)
    running = client.get(task).body
    assert (running["TaskState"], running["PercentComplete"]) == ("Running", 50)
    assert client.get(BIOS).body["Attributes"]["LogicalProc"] == "Enabled"
    sim.advance(15)
    assert client.get(task).body["TaskState"] == "Completed"
    bios = client.get(BIOS).body
    assert bios["Attributes"]["LogicalProc"] == "Disabled"
    assert bios["@Redfish.Settings"]["Messages"][0]["MessageId"].endswith("Success")
    assert client.get(f"{BIOS}/Settings").body["Attributes"] == {}


def test_bios_settings_without_an_apply_time(make: Make) -> None:
    sim, client = make()
    assert client.patch(f"{BIOS}/Settings", {"Attributes": {"LogicalProc": "Disabled"}}).status == 200
    client.post(RESET, {"ResetType": "On"})
    sim.advance(40)
    assert client.get(BIOS).body["Attributes"]["LogicalProc"] == "Disabled"


@pytest.mark.parametrize(
    "mode, idle, waiting",
    [("modified", {}, {"LogicalProc": "Disabled"}), ("all", 10, 10), ("absent", None, {"LogicalProc": "Disabled"})],
)
def test_pending_bios_as_vendors_show_it(make: Make, mode: str, idle: Any, waiting: Any) -> None:
    sim, client = make(bios_pending=mode)

    def shown() -> Any:
        found = client.get(f"{BIOS}/Settings").body.get("Attributes")
        return len(found) if mode == "all" else found

    assert shown() == idle
    client.patch(f"{BIOS}/Settings", {"Attributes": {"LogicalProc": "Disabled"}})
    assert shown() == waiting
    client.patch(f"{BIOS}/Settings", {"Attributes": {"LogicalProc": "Enabled"}})
    assert shown() == idle
    assert sim.get(BIOS)["Attributes"]["LogicalProc"] == "Enabled"


def test_bios_job_is_made_only_with_an_apply_time_and_locks(make: Make) -> None:
    sim, client = make(bios_needs_apply_time=True, bios_locked_by_job=True)
    assert client.patch(f"{BIOS}/Settings", {"Attributes": {"LogicalProc": "Disabled"}}).status == 200
    client.post(RESET, {"ResetType": "On"})
    sim.advance(100)
    assert client.get(BIOS).body["Attributes"]["LogicalProc"] == "Enabled"
    apply = {"@Redfish.SettingsApplyTime": {"ApplyTime": "OnReset"}}
    assert client.patch(f"{BIOS}/Settings", {"Attributes": {"LogicalProc": "Disabled"}, **apply}).status == 202
    assert client.patch(f"{BIOS}/Settings", {"Attributes": {"BootMode": "Bios"}, **apply}).status == 503
    client.post(RESET, {"ResetType": "ForceRestart"})
    sim.advance(100)
    assert client.get(BIOS).body["Attributes"]["LogicalProc"] == "Disabled"


def test_reset_bios_and_secure_boot_wait_for_a_start(make: Make) -> None:
    sim, client = make()
    client.post(f"{BIOS}/Actions/Bios.ResetBios")
    assert client.get(f"{BIOS}/Settings").body["Attributes"] == {"SysProfile": "PerfOptimized"}
    client.patch(f"{SYSTEM}/SecureBoot", {"SecureBootEnable": True})
    assert client.get(f"{SYSTEM}/SecureBoot").body["SecureBootCurrentBoot"] == "Disabled"
    client.post(RESET, {"ResetType": "On"})
    sim.advance(40)
    assert client.get(f"{SYSTEM}/SecureBoot").body["SecureBootCurrentBoot"] == "Enabled"
    assert client.get(BIOS).body["Attributes"]["SysProfile"] == "PerfOptimized"


def drives(client: Any, *numbers: int) -> list[dict[str, str]]:
    found = client.get(f"{SYSTEM}/Storage/RAID").body["Drives"]
    return [found[number] for number in numbers]


def test_volume_is_made_and_deleted_by_tasks(make: Make) -> None:
    sim, client = make()
    wanted = {"RAIDType": "RAID1", "Name": "system", "Links": {"Drives": drives(client, 0, 1)}}
    started = client.post(VOLUMES, wanted)
    assert started.status == 202
    assert client.get(VOLUMES).body["Members"] == []
    sim.advance(20)
    assert client.get(started.headers["location"]).body["TaskState"] == "Completed"
    (member,) = client.get(VOLUMES).body["Members"]
    volume = client.get(member["@odata.id"]).body
    assert (volume["RAIDType"], volume["CapacityBytes"]) == ("RAID1", 480 * 10**9)
    drive = drives(client, 0)[0]["@odata.id"]
    assert client.get(drive).body["Links"]["Volumes"] == [member]
    assert client.post(VOLUMES, wanted).message_id.endswith("ResourceInUse")
    assert client.post(f"{drive}/Actions/Drive.SecureErase").status == 409
    assert client.delete(member["@odata.id"]).status == 202
    sim.advance(20)
    assert client.get(VOLUMES).body["Members"] == []
    assert client.get(drive).body["Links"]["Volumes"] == []


@pytest.mark.parametrize(
    "change, message_id",
    [
        ({"RAIDType": None}, "CreateFailedMissingReqProperties"),
        ({"RAIDType": "RAID99"}, "PropertyValueNotInList"),
        ({"RAIDType": "RAID5"}, "PropertyValueConflict"),
        ({"CapacityBytes": 10**18}, "PropertyValueOutOfRange"),
        ({"Bogus": 1}, "PropertyUnknown"),
        ({"Name": "x" * 65}, "PropertyValueFormatError"),
        ({"@Redfish.OperationApplyTime": "Later"}, "PropertyValueNotInList"),
    ],
)
def test_volume_that_cannot_be(make: Make, change: Any, message_id: str) -> None:
    sim, client = make()
    wanted = {"RAIDType": "RAID1", "Links": {"Drives": drives(client, 0, 1)}, **change}
    refused = client.post(VOLUMES, wanted)
    assert refused.status == 400
    assert refused.message_id.endswith(message_id)
    assert sim.state() == {}


def test_task_that_fails_or_vanishes(make: Make) -> None:
    sim, client = make(task_hidden=1)
    sim.task("POST */Volumes", message=("IDRAC.2.8.PR21", "Job failed."))
    sim.task("POST */Volumes", state="Completed", purged=True)
    wanted = {"RAIDType": "RAID1", "Links": {"Drives": drives(client, 0, 1)}}
    failed = client.post(VOLUMES, wanted)
    assert client.get(failed.headers["location"]).status == 404
    sim.advance(20)
    task = client.get(failed.headers["location"]).body
    assert (task["TaskState"], task["Messages"][0]["Message"]) == ("Exception", "Job failed.")
    monitor = client.get(task["TaskMonitor"])
    assert (monitor.status, monitor.message_id) == (400, "IDRAC.2.8.PR21")
    assert client.get(VOLUMES).body["Members"] == []
    gone = client.post(VOLUMES, wanted)
    sim.advance(20)
    assert client.get(gone.headers["location"]).status == 404
    assert len(client.get(VOLUMES).body["Members"]) == 1


@pytest.mark.parametrize("place", ["task", "monitor", "job", "none"])
def test_where_a_task_is_found(make: Make, place: str) -> None:
    sim, client = make(task_location=place, retry_after=3)
    started = client.post(VOLUMES, {"RAIDType": "RAID1", "Links": {"Drives": drives(client, 0, 1)}})
    assert started.headers["retry-after"] == "3"
    location = started.headers.get("location")
    if place == "none":
        assert location is None
        return
    assert location is not None
    assert ("TaskMonitors" in location) is (place == "monitor")
    assert ("JID_" in location) is (place == "job")
    assert client.get(location).status == (202 if place == "monitor" else 200)
    sim.advance(20)
    assert client.get(location).status == 200


def test_secure_erase(make: Make) -> None:
    sim, client = make()
    drive = drives(client, 0)[0]["@odata.id"]
    started = client.post(f"{drive}/Actions/Drive.SecureErase")
    assert started.status == 202
    assert client.get(drive).body["Status"]["State"] == "Updating"
    assert sim.erased == []
    sim.advance(60)
    assert sim.erased == [drive]
    assert client.get(drive).body["Status"]["State"] == "Enabled"


def test_simple_update_of_the_bmc_restarts_it(make: Make) -> None:
    sim, client = make()
    started = client.post(
        f"{UPDATE}/Actions/UpdateService.SimpleUpdate", {"ImageURI": "http://192.0.2.1/BMC_2.0.0.bin"}
    )
    assert started.status == 202
    sim.advance(20)
    assert sim.get(MANAGER)["FirmwareVersion"] == "2.0.0"
    with pytest.raises(OSError):
        client.get(UPDATE)


def test_multipart_push_of_host_firmware_waits_for_a_start(make: Make) -> None:
    sim, client = make()
    parts = [
        '--b\r\nContent-Disposition: form-data; name="UpdateParameters"\r\nContent-Type: application/json\r\n\r\n'
        '{"Targets": [], "@Redfish.OperationApplyTime": "OnReset"}\r\n',
        '--b\r\nContent-Disposition: form-data; name="UpdateFile"; filename="BIOS_3.0.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n",
    ]
    content = bytes(range(256)) * 5000
    form = "".join(parts).encode() + content + b"\r\n--b--\r\n"
    started = client.post(f"{UPDATE}/upload", form, Content_Type="multipart/form-data; boundary=b")
    assert started.status == 202, started.raw
    assert sim.pushed[0][1] == content
    sim.advance(100)
    assert client.get(SYSTEM).body["BiosVersion"] == "2.1.0"
    client.post(RESET, {"ResetType": "On"})
    sim.advance(40)
    assert client.get(SYSTEM).body["BiosVersion"] == "3.0"
    assert client.get(f"{UPDATE}/FirmwareInventory/BIOS").body["Version"] == "3.0"
    assert client.get(started.headers["location"]).body["TaskState"] == "Completed"


def test_firmware_that_is_none_fails_in_its_task(make: Make) -> None:
    sim, client = make()
    started = client.post(f"{UPDATE}/Actions/UpdateService.SimpleUpdate", {"ImageURI": "http://192.0.2.1/cat.gif"})
    sim.advance(20)
    assert client.get(started.headers["location"]).body["TaskState"] == "Exception"
    assert sim.state() == {}


def test_accounts(make: Make) -> None:
    sim, client = make()
    body = {"UserName": "ops", "Password": "first-pass", "RoleId": "Operator"}
    assert client.post(ACCOUNTS, {**body, "Password": "short"}).message_id.endswith("PropertyValueFormatError")
    uri = client.post(ACCOUNTS, body).headers["location"]
    assert client.get(uri).body["Password"] is None
    assert client.post(ACCOUNTS, body).message_id.endswith("ResourceAlreadyExists")
    assert client.patch(uri, {"RoleId": "King"}).status == 400
    assert client.patch(uri, {"Password": "second-pass"}).status == 200
    assert sim.bmc.access.check("ops", "first-pass") is None
    assert sim.bmc.access.check("ops", "second-pass") == uri
    assert client.delete(uri).status == 204
    assert client.delete(f"{ACCOUNTS}/1").status == 403  # the last administrator


def test_accounts_in_fixed_slots(make: Make) -> None:
    sim, client = make(accounts="slots", tree=_slots())
    assert client.post(ACCOUNTS, {"UserName": "ops", "Password": "first-pass", "RoleId": "Operator"}).status == 405
    assert client.patch(f"{ACCOUNTS}/1", {"UserName": "ops", "Password": "first-pass"}).status == 403
    sent = {"UserName": "ops", "Password": "first-pass", "RoleId": "Operator", "Enabled": True}
    assert client.patch(f"{ACCOUNTS}/3", sent).status == 200
    assert sim.bmc.access.check("ops", "first-pass") == f"{ACCOUNTS}/3"
    assert client.delete(f"{ACCOUNTS}/3").status == 405
    assert client.patch(f"{ACCOUNTS}/3", {"UserName": ""}).status == 200
    assert client.get(f"{ACCOUNTS}/3").body["Enabled"] is False


def _slots() -> Any:
    from ansible_collections.kiban.baremetal.tests.simulator import synthetic

    return synthetic.build(synthetic.Shape(account_slots=5))


def test_certificate_is_requested_replaced_and_served(make: Make) -> None:
    sim, client = make(tls=True)
    service = "/redfish/v1/CertificateService/Actions/CertificateService"
    collection = f"{MANAGER}/NetworkProtocol/HTTPS/Certificates"
    subject = dict.fromkeys(("CommonName", "Organization", "OrganizationalUnit", "City", "State"), "bmc-1")
    subject["Country"] = "DE"
    request = client.post(
        f"{service}.GenerateCSR", {**subject, "CertificateCollection": {"@odata.id": collection}}
    ).body["CSRString"]
    new = sim.pki.sign(request)
    body = {"CertificateString": new, "CertificateType": "PEM", "CertificateUri": {"@odata.id": f"{collection}/1"}}
    assert client.post(f"{service}.ReplaceCertificate", {**body, "CertificateString": "no"}).status == 400
    assert client.post(f"{service}.ReplaceCertificate", body).status == 204
    assert client.get(f"{collection}/1").body["Subject"]["CommonName"] == "bmc-1"
    served = ssl.get_server_certificate((sim.host, sim.port))
    assert x509.load_pem_x509_certificate(served.encode()) == x509.load_pem_x509_certificate(new.encode())


def test_media_by_action(make: Make) -> None:
    sim, client = make()
    drive = f"{SYSTEM}/VirtualMedia/2"
    insert, eject = (f"{drive}/Actions/VirtualMedia.{name}Media" for name in ("Insert", "Eject"))
    assert client.post(insert, {}).status == 400
    assert client.post(insert, {"Image": "http://user:secret@192.0.2.1/a.iso"}).status == 204
    assert client.get(drive).body["Image"] == "http://192.0.2.1/a.iso"
    assert client.post(insert, {"Image": "http://192.0.2.1/b.iso"}).message_id.endswith("ResourceInUse")
    assert client.patch(drive, {"Image": None}).status == 405
    assert client.post(eject).status == 204
    assert sim.get(drive)["Inserted"] is False


def test_media_as_vendors_have_it(make: Make) -> None:
    sim, client = make(media="patch", media_slots="^2$", media_requires=("TransferProtocolType",))
    drive = f"{SYSTEM}/VirtualMedia/2"
    image = {"Image": "http://192.0.2.1/a.iso", "Inserted": True}
    assert client.patch(drive, image).message_id.endswith("PropertyMissing")
    assert client.patch(drive, {**image, "TransferProtocolType": "HTTP"}).status == 200
    assert client.patch(f"{SYSTEM}/VirtualMedia/1", {**image, "TransferProtocolType": "HTTP"}).status == 400
    assert client.patch(drive, {"Image": None, "Inserted": False}).status == 200
    assert sim.get(drive)["Inserted"] is False


def test_media_that_is_ejected_late(make: Make) -> None:
    sim, client = make(media_eject_seconds=5)
    drive = f"{SYSTEM}/VirtualMedia/2"
    client.post(f"{drive}/Actions/VirtualMedia.InsertMedia", {"Image": "http://192.0.2.1/a.iso"})
    client.post(f"{drive}/Actions/VirtualMedia.EjectMedia")
    assert client.get(drive).body["Inserted"] is True
    sim.advance(5)
    assert client.get(drive).body["Inserted"] is False


def test_logs_and_network(make: Make) -> None:
    sim, client = make()
    log = f"{SYSTEM}/LogServices/SEL"
    sim.add_log_entry("Fan failed.", "Critical", log)
    entries = client.get(f"{log}/Entries?$expand=.").body["Members"]
    assert [entry["Message"] for entry in entries][-1] == "Fan failed."
    plain = client.get(f"{log}/Entries?$skip=3").body
    assert [entry["Message"] for entry in plain["Members"]] == ["Fan failed."]
    assert client.post(f"{log}/Actions/LogService.ClearLog").status == 204
    assert client.get(f"{log}/Entries").body["Members"] == []
    port, protocols = f"{MANAGER}/EthernetInterfaces/1", f"{MANAGER}/NetworkProtocol"
    assert client.patch(port, {"DHCPv4": {"DHCPEnabled": True}}).status == 200
    assert client.patch(protocols, {"NTP": {"NTPServers": ["192.0.2.9"]}}).status == 200
    assert client.get(port).body["DHCPv4"] == {"DHCPEnabled": True, "UseDNSServers": False}
    assert client.get(protocols).body["NTP"]["NTPServers"] == ["192.0.2.9"]
    assert client.patch(protocols, {"SSH": {"ProtocolEnabled": "yes"}}).status == 400


def test_a_fast_clock_needs_no_help(make: Make) -> None:
    sim, client = make(speed=10_000)
    client.post(RESET, {"ResetType": "On"})
    for _try in range(1000):
        if client.get(SYSTEM).body["BootProgress"]["LastState"] == "OSRunning":
            break
    assert sim.boots == ["Boot0000"]
