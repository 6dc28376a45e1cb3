# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that a test asks for."""

from __future__ import annotations

import datetime
import email.utils
import http.client
import time

import pytest

from .conftest import Make

SYSTEM = "/redfish/v1/Systems/1"
LOST = (http.client.HTTPException, ConnectionError)


def test_answers_that_were_asked_for(make: Make) -> None:
    sim, client = make()
    fault = sim.fault("PATCH", SYSTEM, nth=2, status=503, message=("IDRAC.2.8.RAC0218", "Not now, %1.", "Bob"))
    assert client.patch(SYSTEM, {"AssetTag": "a"}).status == 200
    assert sim.unspent_faults() == [fault]
    refused = client.patch(SYSTEM, {"AssetTag": "b"})
    assert refused.status == 503
    assert refused.message_id == "IDRAC.2.8.RAC0218"
    assert refused.body["error"]["message"] == "Not now, Bob."
    assert sim.system["AssetTag"] == "a"
    assert client.patch(SYSTEM, {"AssetTag": "c"}).status == 200
    assert sim.unspent_faults() == []
    assert sim.requests[1].fault is fault


def test_work_done_and_still_an_error(make: Make) -> None:
    sim, client = make()
    sim.fault("PATCH", "*", status=500, work=True)
    assert client.patch(SYSTEM, {"AssetTag": "a"}).status == 500
    assert sim.system["AssetTag"] == "a"
    assert sim.requests[0].done


@pytest.mark.parametrize("drop, done", [("before", False), ("after", True), ("half", True)])
def test_dropped_connection(make: Make, drop: str, done: bool) -> None:
    sim, client = make()
    sim.fault("PATCH", "*", drop=drop)
    with pytest.raises(LOST):
        client.patch(SYSTEM, {"AssetTag": "a"})
    assert (sim.system["AssetTag"] == "a") is done
    assert sim.requests[0].status is None
    assert sim.requests[0].done is done
    assert client.get(SYSTEM).status == 200


def test_retry_after_in_both_forms(make: Make) -> None:
    sim, client = make()
    date = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    sim.fault(status=503, retry_after=7)
    sim.fault(status=429, retry_after=date)
    assert client.get(SYSTEM).headers["retry-after"] == "7"
    late = client.get(SYSTEM)
    assert late.status == 429
    assert email.utils.parsedate_to_datetime(late.headers["retry-after"]) == date


def test_delay(make: Make) -> None:
    sim, client = make()
    sim.fault("GET", SYSTEM, delay=0.1)
    began = time.monotonic()
    assert client.get(SYSTEM).status == 200
    assert time.monotonic() - began >= 0.1


def test_partial_tree_and_changed_bodies(make: Make) -> None:
    sim, client = make()
    sim.missing(f"{SYSTEM}/Storage*")
    sim.fault("GET", f"{SYSTEM}/Memory", change=lambda body: body.update(Members=None))
    assert client.get(f"{SYSTEM}/Storage/RAID").status == 404
    assert client.get(f"{SYSTEM}/Memory").body["Members"] is None
    assert len(client.get(f"{SYSTEM}/Memory").body["Members"]) == 16
    sim.clear_faults()
    assert client.get(f"{SYSTEM}/Storage/RAID").status == 200


def test_refused_connections(make: Make) -> None:
    sim, client = make()
    sim.fault("GET", SYSTEM, refuse=30)
    with pytest.raises(LOST):
        client.get(SYSTEM)
    with pytest.raises(ConnectionRefusedError):
        client.get(SYSTEM)
    sim.advance(31)
    _reachable(client)
    assert client.get(SYSTEM).status == 200


def test_restart_of_the_bmc(make: Make) -> None:
    sim, client = make(restart_refused=10, restart_partial=20)
    client.post("/redfish/v1/SessionService/Sessions", {"UserName": sim.username, "Password": sim.password})
    assert client.post("/redfish/v1/Managers/1/Actions/Manager.Reset", {"ResetType": "ForceRestart"}).status == 204
    sim.advance(1)
    client.http.close()
    with pytest.raises(ConnectionRefusedError):
        client.get(SYSTEM)
    assert sim.open_sessions == []
    sim.advance(10)
    _reachable(client)
    assert client.get(SYSTEM).status == 200
    assert client.get(f"{SYSTEM}/Memory").status == 404
    sim.advance(20)
    assert client.get(f"{SYSTEM}/Memory").status == 200


def test_throttling(make: Make) -> None:
    _sim, client = make(rate=0.1)
    assert client.get(SYSTEM).status == 200
    refused = client.get(SYSTEM)
    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"


def test_blind_repeats_are_seen(make: Make) -> None:
    sim, client = make()
    target = f"{SYSTEM}/Actions/ComputerSystem.Reset"
    sim.fault("POST", target, status=503)
    client.post(target, {"ResetType": "On"})  # refused, so it may be sent again
    client.post(target, {"ResetType": "On"})
    assert sim.blind_repeats() == []
    client.get(SYSTEM)
    client.post(target, {"ResetType": "On"})
    assert sim.blind_repeats() == []
    client.post(target, {"ResetType": "On"})
    assert sim.blind_repeats() == [f"POST {target}"]


def _reachable(client: object) -> None:
    """The listener comes back within a moment of real time."""
    for _try in range(100):
        try:
            client.get("/redfish/v1/")  # type: ignore[attr-defined]
            return
        except OSError:
            time.sleep(0.02)
