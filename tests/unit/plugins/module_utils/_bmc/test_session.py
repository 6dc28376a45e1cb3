# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions, credentials, the retry loop, and errors from answers."""

from __future__ import annotations

import base64
import email.utils
import time
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import (
    BmcAuthError,
    BmcBusy,
    BmcError,
    BmcNotFound,
    BmcRefused,
    BmcTimeout,
    BmcUncertain,
    BmcUnreachable,
    Options,
    connect,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.session import retry_after_seconds
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import (
    PASSWORD,
    RESET,
    SYSTEM,
    USERNAME,
    FakeBmc,
    Reply,
    error,
    small_tree,
)

MakeBmc = Callable[..., FakeBmc]
SESSIONS = "/redfish/v1/SessionService/Sessions"


def options(bmc: FakeBmc, **changes: Any) -> Options:
    return Options(**{**bmc.options, **changes})


def test_one_session_opened_used_and_closed(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with connect(options(bmc)) as client:
        client.status(media=False)
        assert len(bmc.sessions) == 1
    assert bmc.sent() == [
        "GET /redfish/v1/",
        f"POST {SESSIONS}",
        "GET /redfish/v1/Systems",
        f"GET {SYSTEM}",
        f"DELETE {SESSIONS}/1",
    ]
    assert all("authorization" not in call.headers for call in bmc.calls)
    assert "x-auth-token" not in bmc.calls[0].headers


def test_nothing_is_sent_before_something_is_asked(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with connect(options(bmc)):
        pass
    assert bmc.sent() == []


@pytest.mark.parametrize("failure", [error(500, "X.1.Broken", "broken"), Reply(200, raw=b"{"), Reply(404)])
def test_the_session_is_closed_on_error_paths(make_bmc: MakeBmc, failure: Reply) -> None:
    bmc = make_bmc()
    bmc.on("GET", SYSTEM, failure)
    with pytest.raises(BmcError), connect(options(bmc)) as client:
        client.power.read()
    assert bmc.opened == 1
    assert bmc.sessions == {}


def test_the_session_is_closed_when_the_caller_fails(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with pytest.raises(ZeroDivisionError), connect(options(bmc)) as client:
        client.status()
        raise ZeroDivisionError
    assert bmc.sessions == {}


def test_a_logout_that_is_cut_off_is_repeated_and_one_that_fails_is_only_noted(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("DELETE", f"{SESSIONS}/1", Reply(drop=True))
    with connect(options(bmc)) as client:
        client.status()
    assert client.notes == []
    assert bmc.sessions == {}

    other = make_bmc()
    other.on("DELETE", f"{SESSIONS}/1", error(500, "X.1.Broken", "broken"))
    with connect(options(other)) as client:
        client.status()
    assert "could not be closed" in client.notes[0]
    other.sessions.clear()


def test_a_session_that_ended_is_renewed_once(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with connect(options(bmc)) as client:
        client.status()
        bmc.sessions.clear()  # the BMC's own time-out
        assert client.power.read() == "off"
        bmc.sessions.clear()
        assert client.power.apply(client.power.plan("on"), 10) == ("on", ["On"])
    assert bmc.opened == 3
    assert len(bmc.writes()) == 1


def test_a_wrong_password_is_tried_once(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with pytest.raises(BmcAuthError) as caught, connect(options(bmc, password="canary-wrong")) as client:
        client.status()
    assert bmc.password_tries == 1
    assert caught.value.status == 401
    text = str(caught.value)
    assert "user name and password" in text
    assert "kiban" in text
    assert "tried once" in text
    assert "canary" not in text
    assert "canary" not in repr(caught.value.as_dict())


def test_a_wrong_password_with_basic_authentication_is_tried_once(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    del tree["/redfish/v1"]["Links"], tree["/redfish/v1"]["SessionService"]
    bmc = make_bmc(tree)
    with pytest.raises(BmcAuthError), connect(options(bmc, password="canary-wrong")) as client:
        client.status()
    assert bmc.password_tries == 1


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (error(400, "iLO.2.14.UnauthorizedLoginAttempt", "login failed"), "user name and password"),
        (error(403, "Base.1.8.PasswordChangeRequired", "change it"), "has to be changed"),
    ],
)
def test_other_ways_to_refuse_a_login(make_bmc: MakeBmc, refusal: Reply, words: str) -> None:
    bmc = make_bmc()
    bmc.on("POST", SESSIONS, refusal)
    with pytest.raises(BmcAuthError, match=words), connect(options(bmc)) as client:
        client.status()
    assert bmc.sent("POST") == [f"POST {SESSIONS}"]


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(404),
        Reply(405),
        error(503, "IDRAC.2.8.RAC0218", "the maximum number of user sessions is reached"),
        error(400, "Base.1.8.SessionLimitExceeded", "too many sessions"),
    ],
)
def test_basic_authentication_where_there_is_no_session_to_have(make_bmc: MakeBmc, refusal: Reply) -> None:
    bmc = make_bmc()
    bmc.on("POST", SESSIONS, refusal)
    with connect(options(bmc)) as client:
        assert client.status()["model"] == "M1"
    assert "basic authentication" in client.notes[0]
    given = bmc.calls[-1].headers["authorization"].split(" ")[1]
    assert base64.b64decode(given).decode() == f"{USERNAME}:{PASSWORD}"
    assert bmc.sent("DELETE") == []


def test_sessions_are_exhausted(make_bmc: MakeBmc) -> None:
    bmc = make_bmc(max_sessions=0)
    with connect(options(bmc)) as client:
        assert client.status()["model"] == "M1"


def test_a_service_without_sessions(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    del tree["/redfish/v1"]["Links"], tree["/redfish/v1"]["SessionService"]
    bmc = make_bmc(tree)
    with connect(options(bmc)) as client:
        client.status(media=False)
    assert client.notes == []
    assert bmc.sent() == ["GET /redfish/v1/", "GET /redfish/v1/Systems", f"GET {SYSTEM}"]


def test_a_root_that_asks_for_credentials(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", "/redfish/v1", Reply(401))
    with connect(options(bmc)) as client:
        assert client.status()["model"] == "M1"


def test_a_login_whose_answer_is_lost_is_not_repeated(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("POST", SESSIONS, Reply(drop=True))
    with pytest.raises(BmcUncertain), connect(options(bmc)) as client:
        client.status()
    assert bmc.sent("POST") == [f"POST {SESSIONS}"]


def test_busy_reads_are_repeated_after_the_named_seconds(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", SYSTEM, Reply(503, None, {"Retry-After": "1"}), Reply(429, None, {"Retry-After": "0"}))
    began = time.monotonic()
    with connect(options(bmc)) as client:
        assert client.power.read() == "off"
    assert 1.0 <= time.monotonic() - began < 3
    assert bmc.sent().count(f"GET {SYSTEM}") == 3


def test_busy_reads_are_repeated_at_the_named_date(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()

    def busy(_call: Any) -> Reply:
        return Reply(503, None, {"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)})

    bmc.on("GET", SYSTEM, busy)
    began = time.monotonic()
    with connect(options(bmc)) as client:
        assert client.power.read() == "off"
    assert 0.9 <= time.monotonic() - began < 4


def test_a_bmc_that_wants_more_time_than_there_is(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", SYSTEM, Reply(503, None, {"Retry-After": "600"}))
    began = time.monotonic()
    with pytest.raises(BmcBusy) as caught, connect(options(bmc, timeout=5)) as client:
        client.power.read()
    assert time.monotonic() - began < 2
    assert caught.value.retry_after == 600
    assert "Wait" in caught.value.hint


def test_busy_without_retry_after_is_repeated_with_growing_pauses(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", SYSTEM, Reply(503), Reply(504))
    with connect(options(bmc)) as client:
        assert client.power.read() == "off"


def test_a_read_has_one_deadline_with_all_its_repetitions(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", SYSTEM, Reply(503), Reply(200, {}, delay=3))
    began = time.monotonic()
    with pytest.raises(BmcTimeout), connect(options(bmc, timeout=1)) as client:
        client.power.read()
    assert time.monotonic() - began < 2.5


def test_a_bmc_that_goes_away_in_the_middle_is_waited_for(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with connect(options(bmc, timeout=1)) as client:
        client.status()
        port = client.session.transport.endpoint.port
        object.__setattr__(client.session.transport.endpoint, "port", 1)  # nobody listens there
        client.session.transport.drop()
        began = time.monotonic()
        with pytest.raises((BmcUnreachable, BmcTimeout)):
            client.power.read()
        assert time.monotonic() - began > 0.5
        object.__setattr__(client.session.transport.endpoint, "port", port)


def test_a_write_is_never_repeated_after_a_time_out(make_bmc: MakeBmc) -> None:
    """The POST is slower than the time-out. It is sent once; what the server then shows decides."""
    bmc = make_bmc()

    def slow(_call: Any) -> Reply:
        bmc.resource(SYSTEM)["PowerState"] = "On"
        return Reply(204, delay=2)

    bmc.on("POST", RESET, slow)
    with connect(options(bmc, timeout=1)) as client:
        assert client.power.apply(client.power.plan("on"), 20) == ("on", ["On"])
    assert bmc.writes() == [f"POST {RESET}"]


def test_a_write_that_the_bmc_puts_off_is_not_repeated_by_the_session(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("POST", RESET, Reply(503, None, {"Retry-After": "7"}))
    with pytest.raises(BmcBusy) as caught, connect(options(bmc)) as client:
        client.session.post(RESET, {"ResetType": "On"})
    assert caught.value.retry_after == 7
    assert len(bmc.writes()) == 1


def test_errors_carry_status_and_what_the_bmc_said(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    refusal = error(400, "Base.1.8.PropertyValueNotInList", "the value X is bad", Resolution="Choose another value.")
    bmc.on("POST", RESET, refusal)
    with pytest.raises(BmcRefused) as caught, connect(options(bmc)) as client:
        client.session.post(RESET, {"ResetType": "X"})
    failure = caught.value.as_dict()
    assert failure["status"] == 400
    assert failure["messages"][0]["MessageId"] == "Base.1.8.PropertyValueNotInList"
    assert caught.value.message_ids[0] == "PropertyValueNotInList"
    assert "the value X is bad" in str(caught.value)
    assert "Choose another value" in str(caught.value)
    assert failure["request"] == f"POST {RESET}"


def test_404_is_its_own_error(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with pytest.raises(BmcNotFound), connect(options(bmc)) as client:
        client.session.get("/redfish/v1/Nothing")


def test_403_names_the_account(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("POST", RESET, error(403, "Base.1.8.InsufficientPrivilege", "no"))
    with pytest.raises(BmcAuthError, match="not allowed for the user kiban"), connect(options(bmc)) as client:
        client.session.post(RESET, {"ResetType": "On"})


def test_secrets_never_reach_an_error(make_bmc: MakeBmc) -> None:
    """The BMC quotes password, token and the basic header in its error body."""
    for auth in ("session", "basic"):
        bmc = make_bmc()

        def tells_all(call: Any) -> Reply:
            token = call.headers.get("x-auth-token") or call.headers.get("authorization", "").split(" ")[-1]
            return error(400, "X.1.Oops", f"bad: {PASSWORD} {token}", Resolution=f"use {token}", MessageArgs=[PASSWORD])

        bmc.on("POST", RESET, tells_all)
        with connect(options(bmc, auth=auth)) as client:
            with pytest.raises(BmcRefused) as caught:
                client.session.post(RESET, {"ResetType": "On"})
            seen = [client.session._token, client.session._basic and client.session._basic.split(" ")[1], PASSWORD]
        shown = f"{caught.value} {caught.value.as_dict()} {caught.value!r} {client.session.options!r} {client.notes}"
        for secret in filter(None, seen):
            assert secret not in shown
        assert "********" in shown


def test_only_the_named_bmc_is_ever_asked(make_bmc: MakeBmc) -> None:
    """Links with a host in them lead to the same BMC."""
    tree = small_tree()
    tree["/redfish/v1"]["Systems"] = {"@odata.id": "https://192.0.2.66/redfish/v1/Systems"}
    bmc = make_bmc(tree)
    with connect(options(bmc)) as client:
        assert client.status(media=False)["model"] == "M1"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("", None), ("5", 5.0), (" 1.5 ", 1.5), ("-3", 0.0), ("soon", None)],
)
def test_retry_after_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header) == seconds


def test_retry_after_as_a_date() -> None:
    ahead = retry_after_seconds(email.utils.formatdate(time.time() + 60, usegmt=True))
    assert ahead is not None and 55 < ahead <= 60
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
