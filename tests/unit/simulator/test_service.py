# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every BMC has: sessions, errors, ETags, query parameters, the record."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.tests.simulator import USERNAME

from .conftest import Make

SYSTEM = "/redfish/v1/Systems/1"
SESSIONS = "/redfish/v1/SessionService/Sessions"


def login(client: Any, **change: Any) -> Any:
    body = {"UserName": USERNAME, "Password": client.sim.password, **change}
    return client.post(SESSIONS, body)


def test_root_is_open_and_the_rest_is_not(make: Make) -> None:
    _sim, client = make()
    client.auth = {}
    assert client.get("/redfish").body == {"v1": "/redfish/v1/"}
    assert client.get("/redfish/v1/").status == 200
    assert client.get("/redfish/v1/$metadata").headers["content-type"].startswith("application/xml")
    refused = client.get(SYSTEM)
    assert refused.status == 401
    assert refused.message_id.endswith("NoValidSession")
    assert "www-authenticate" in refused.headers


def test_session_is_opened_used_and_closed(make: Make) -> None:
    sim, client = make()
    client.auth = {}
    opened = login(client)
    assert opened.status == 201
    client.auth = {"X-Auth-Token": opened.headers["x-auth-token"]}
    assert client.get(SYSTEM).status == 200
    assert sim.open_sessions == [opened.headers["location"]]
    assert client.get(SESSIONS).body["Members@odata.count"] == 1
    assert client.delete(opened.headers["location"]).status == 204
    assert sim.open_sessions == []
    assert client.get(SYSTEM).status == 401
    sim.check()


def test_session_limit_wrong_password_and_idleness(make: Make) -> None:
    sim, client = make(session_limit=1, session_timeout=60)
    sim.edit("/redfish/v1/SessionService", lambda body: body.update(SessionTimeout=60))
    assert login(client, Password="wrong").status == 401
    token = login(client).headers["x-auth-token"]
    assert login(client).status == 503
    client.auth = {"X-Auth-Token": token}
    sim.advance(59)
    assert client.get(SYSTEM).status == 200
    sim.advance(61)
    assert client.get(SYSTEM).status == 401
    assert login(client).status == 201
    sim.exhaust_sessions()
    assert login(client).message_id.endswith("SessionLimitExceeded")


def test_errors_name_what_is_wrong(make: Make) -> None:
    sim, client = make()
    before = sim.state()
    assert client.get("/redfish/v1/Systems/2").status == 404
    assert client.ask("PUT", SYSTEM, {}).status == 405
    assert "PATCH" in client.ask("PUT", SYSTEM, {}).headers["allow"]
    assert client.patch(SYSTEM, b"{").message_id.endswith("MalformedJSON")
    for sent, message_id in (
        ({"PowerState": "On"}, "PropertyNotWritable"),
        ({"Bogus": 1}, "PropertyUnknown"),
        ({"AssetTag": 5}, "PropertyValueTypeError"),
        ({"Boot": {"BootSourceOverrideTarget": "Moon"}}, "PropertyValueNotInList"),
        ({}, "EmptyJSON"),
    ):
        refused = client.patch(SYSTEM, sent)
        assert refused.status == 400
        assert refused.message_id.endswith(message_id), sent
    assert client.post(f"{SYSTEM}/Actions/ComputerSystem.Reset", {}).message_id.endswith("ActionParameterMissing")
    assert client.post(f"{SYSTEM}/Actions/ComputerSystem.Explode", {}).status == 404
    assert sim.state() == before == {}


def test_etags(make: Make) -> None:
    sim, client = make()
    etag = client.get(SYSTEM).headers["etag"]
    assert client.get(SYSTEM, If_None_Match=etag).status == 304
    assert client.patch(SYSTEM, {"AssetTag": "a"}, If_Match='"other"').status == 412
    changed = client.patch(SYSTEM, {"AssetTag": "a"}, If_Match=etag)
    assert changed.status == 200
    assert changed.headers["etag"] == client.get(SYSTEM).headers["etag"] != etag
    assert sim.system["AssetTag"] == "a"


@pytest.mark.parametrize(
    "behaviour, sent, status, taken",
    [
        ({"if_match": "required"}, None, 428, False),
        ({"if_match": "required"}, "etag", 200, True),
        ({"if_match": "dropped"}, None, 200, False),
        ({"if_match": "ignored"}, '"other"', 200, True),
        ({"etag": "weak"}, "etag", 412, False),
        ({"etag": "weak"}, "strong", 200, True),
        ({"etag": "gzip"}, "etag", 412, False),
        ({"etag": "bare"}, "etag", 200, True),
        ({"if_match": "required", "if_match_on": ("/redfish/v1/Managers*",)}, None, 200, True),
    ],
)
def test_etags_as_vendors_have_them(make: Make, behaviour: Any, sent: str | None, status: int, taken: bool) -> None:
    sim, client = make(**behaviour)
    etag = client.get(SYSTEM).headers["etag"]
    if sent == "strong":
        etag = etag.removeprefix("W/")
    headers = {} if sent is None else {"If_Match": etag if sent in ("etag", "strong") else sent}
    assert client.patch(SYSTEM, {"AssetTag": "a"}, **headers).status == status
    assert (sim.system["AssetTag"] == "a") is taken


def test_expand_follows_the_specification(make: Make) -> None:
    _sim, client = make()
    plain = client.get("/redfish/v1/Systems").body
    assert plain["Members"] == [{"@odata.id": SYSTEM}]
    one = client.get("/redfish/v1/Systems?$expand=.($levels=1)").body["Members"][0]
    assert one["Id"] == "1"
    assert one["Processors"] == {"@odata.id": f"{SYSTEM}/Processors"}
    two = client.get("/redfish/v1/Systems?$expand=.($levels=2)").body["Members"][0]
    assert two["Processors"]["Members"][0] == {"@odata.id": f"{SYSTEM}/Processors/CPU1"}
    assert two["Links"]["Chassis"] == [{"@odata.id": "/redfish/v1/Chassis/1"}]
    everything = client.get(f"{SYSTEM}?$expand=*").body
    assert everything["Links"]["Chassis"][0]["ChassisType"] == "RackMount"
    assert everything["Memory"]["Members@odata.count"] == 16
    only_links = client.get(f"{SYSTEM}?$expand=~").body
    assert only_links["Links"]["Chassis"][0]["ChassisType"] == "RackMount"
    assert set(only_links["Memory"]) == {"@odata.id"}
    assert client.get("/redfish/v1/Systems?$expand=.($levels=7)").message_id.endswith("QueryParameterOutOfRange")
    assert client.get("/redfish/v1/Systems?$expand=x").status == 400
    assert client.get("/redfish/v1/Systems?$magic=1").status == 501
    assert client.get("/redfish/v1/Systems?only").body["Id"] == "1"
    assert set(client.get(f"{SYSTEM}?$select=Model").body) >= {"@odata.id", "@odata.type", "Model"}
    assert "Memory" not in client.get(f"{SYSTEM}?$select=Model").body
    page = client.get(f"{SYSTEM}/Memory?$top=3&$skip=2").body
    assert [m["@odata.id"][-5:] for m in page["Members"]] == ["DIMM3", "DIMM4", "DIMM5"]
    assert page["Members@odata.nextLink"].endswith("?$skip=5&$top=3")


def test_expand_shows_what_was_changed(make: Make) -> None:
    _sim, client = make()
    uri = "/redfish/v1/Systems?$expand=.($levels=1)"
    assert client.get(uri).body["Members"][0]["AssetTag"] == ""
    client.patch(SYSTEM, {"AssetTag": "a"})
    assert client.get(uri).body["Members"][0]["AssetTag"] == "a"


@pytest.mark.parametrize(
    "mode, status, members, whole",
    [("right", 200, 16, True), ("ignored", 200, 16, False), ("refused", 501, 0, False), ("cut", 200, 16, False),
     ("short", 200, 15, True)],
)  # fmt: skip
def test_expand_that_lies(make: Make, mode: str, status: int, members: int, whole: bool) -> None:
    _sim, client = make(expand=mode)
    answer = client.get(f"{SYSTEM}/Memory?$expand=.($levels=1)")
    assert answer.status == status
    if status == 200:
        assert len(answer.body["Members"]) == members
        assert ("Name" in answer.body["Members"][0]) is whole


def test_record(make: Make) -> None:
    sim, client = make()
    client.get(f"{SYSTEM}?$expand=.")
    client.patch(SYSTEM, {"AssetTag": "a"})
    first, second = sim.requests
    assert (str(first), first.status, first.done) == (f"GET {SYSTEM}?$expand=.", 200, True)
    assert second.body == {"AssetTag": "a"}
    assert second.headers["content-type"] == "application/json"
    assert first.connection == second.connection == sim.connections == 1
    assert sim.writes() == [f"PATCH {SYSTEM}"]
    assert list(sim.state()) == [SYSTEM]


def test_roles(make: Make) -> None:
    sim, client = make()
    accounts = "/redfish/v1/AccountService/Accounts"
    made = client.post(accounts, {"UserName": "reader", "Password": "reader-pass", "RoleId": "ReadOnly"})
    assert made.status == 201
    sim.username, sim.password = "reader", "reader-pass"
    reader = type(client)(sim)
    assert reader.get(SYSTEM).status == 200
    assert reader.patch(SYSTEM, {"AssetTag": "a"}).status == 403
    assert reader.patch(made.headers["location"], {"Password": "another-pass"}).status == 200
    reader.http.close()


def test_tls_is_verified_against_the_ca(make: Make) -> None:
    sim, client = make(tls=True)
    assert client.get("/redfish/v1/").status == 200
    strict = ssl.create_default_context(cafile=sim.ca_path)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_connection((sim.host, sim.port)) as raw, strict.wrap_socket(raw, server_hostname=sim.host):
        pass
    assert sim.options["ca_path"] == sim.ca_path
