# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections: kept alive, verified, bounded in time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import (
    BmcBadAnswer,
    BmcError,
    BmcOptionError,
    BmcTimeout,
    BmcTlsError,
    BmcUnreachable,
    Options,
    connect,
)
from ansible_collections.kiban.baremetal.tests.simulator import Simulator
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import SYSTEM, FakeBmc, Reply, Tls

MakeBmc = Callable[..., FakeBmc]


def options(bmc: FakeBmc, **changes: Any) -> Options:
    return Options(**{**bmc.options, **changes})


def status(bmc: FakeBmc, **changes: Any) -> dict[str, Any]:
    with connect(options(bmc, **changes)) as client:
        return client.status()


def test_one_connection_serves_all_requests(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    found = status(bmc)
    assert found["requests"] > 5
    assert bmc.connections == 1
    assert {call.connection for call in bmc.calls} == {1}


def test_a_connection_that_the_bmc_closes_is_replaced(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    body = bmc.resource(SYSTEM)
    bmc.on("GET", SYSTEM, Reply(200, body, {"Connection": "close"}))
    assert status(bmc)["power_state"] == "off"
    assert bmc.connections == 2


def test_a_connection_that_broke_while_idle_costs_no_write(make_bmc: MakeBmc) -> None:
    """The BMC closed it before a POST: that POST is sent once, on a fresh connection."""
    bmc = make_bmc()

    def closes_without_saying(_call: Any) -> Reply:
        return Reply(200, bmc.resource(SYSTEM), {"Keep-Alive": "timeout=0"}, drop=False)

    bmc.on("GET", SYSTEM, closes_without_saying)
    with connect(options(bmc)) as client:
        steps = client.power.plan("on")
        wire = client.session.transport._wire
        assert wire is not None
        wire.sock.shutdown(socket.SHUT_RDWR)  # as a reset from the other side would look
        client.power.apply(steps, 10)
    assert len(bmc.writes()) == 1
    assert bmc.connections == 2


def test_a_reset_on_reuse_is_read_again(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", SYSTEM, Reply(drop=True))
    assert status(bmc)["power_state"] == "off"
    assert bmc.sent().count(f"GET {SYSTEM}") == 2


def test_the_right_ca_is_accepted_and_another_refused(make_bmc: MakeBmc, bmc_tls: Tls) -> None:
    bmc = make_bmc()
    assert status(bmc)["power_state"] == "off"
    with pytest.raises(BmcTlsError) as caught:
        status(bmc, ca_path=str(bmc_tls.other_ca))
    assert bmc_tls.fingerprint in str(caught.value)
    assert "ca_path" in str(caught.value)
    calls = len(bmc.calls)
    with pytest.raises(BmcTlsError):
        status(bmc, ca_path=None)
    assert len(bmc.calls) == calls, "something was sent to a BMC that is not trusted"


def test_a_certificate_for_another_host_is_refused(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with pytest.raises(BmcTlsError, match="not trusted"):
        status(bmc, address=f"localhost:{bmc.port}")
    assert bmc.calls == []


def test_a_pinned_fingerprint_replaces_the_ca(make_bmc: MakeBmc, bmc_tls: Tls) -> None:
    bmc = make_bmc()
    pairs = ":".join(bmc_tls.fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
    for form in (bmc_tls.fingerprint, pairs, f"sha256:{bmc_tls.fingerprint}"):
        assert status(bmc, ca_path=None, fingerprint=form)["power_state"] == "off"


@pytest.mark.parametrize("validate", [True, False])
def test_another_fingerprint_is_refused_before_anything_is_sent(
    make_bmc: MakeBmc, bmc_tls: Tls, validate: bool
) -> None:
    bmc = make_bmc()
    with pytest.raises(BmcTlsError) as caught:
        status(bmc, fingerprint="0" * 64, validate_certs=validate)
    assert bmc_tls.fingerprint in str(caught.value)
    assert bmc.calls == []


def test_verification_is_off_only_when_asked(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    assert status(bmc, ca_path=None, validate_certs=False)["power_state"] == "off"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ca_path": "/nonexistent/ca.pem"}, "ca_path"),
        ({"fingerprint": "abc"}, "64 hexadecimal"),
        ({"address": ""}, "empty"),
        ({"address": "https://kiban:canary-pw@192.0.2.1"}, "must not hold a user name"),
        ({"address": "http://192.0.2.1"}, "plain http"),
        ({"address": "https://192.0.2.1/wrong"}, "/wrong"),
        ({"address": "ftp://192.0.2.1"}, "ftp"),
        ({"address": "192.0.2.1:notaport"}, "cannot be read"),
        ({"timeout": 0}, "timeout"),
        ({"driver": "telepathy"}, "telepathy"),
    ],
)
def test_options_that_make_no_sense(make_bmc: MakeBmc, changes: dict[str, Any], words: str) -> None:
    bmc = make_bmc()
    with pytest.raises(BmcOptionError, match=words) as caught:
        status(bmc, **changes)
    assert "canary" not in str(caught.value)
    assert bmc.calls == []


def test_a_ca_file_that_is_none(make_bmc: MakeBmc, tmp_path: Path) -> None:
    bmc = make_bmc()
    rubbish = tmp_path / "ca.pem"
    rubbish.write_text("this is no certificate")
    with pytest.raises(BmcOptionError, match="PEM"):
        status(bmc, ca_path=str(rubbish))


@pytest.mark.parametrize(
    ("address", "host", "port", "system"),
    [
        ("192.0.2.11", "192.0.2.11", 443, None),
        ("bmc.example.net:8443", "bmc.example.net", 8443, None),
        ("2001:db8::11", "2001:db8::11", 443, None),
        ("[2001:db8::11]:8443", "2001:db8::11", 8443, None),
        ("https://192.0.2.11/redfish/v1/", "192.0.2.11", 443, None),
        ("https://192.0.2.11:8443/redfish/v1/Systems/7/", "192.0.2.11", 8443, "/redfish/v1/Systems/7"),
    ],
)
def test_addresses(address: str, host: str, port: int, system: str | None) -> None:
    endpoint = connect(Options(address, "u", "p")).session.transport.endpoint
    assert (endpoint.host, endpoint.port, endpoint.system) == (host, port, system)


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        began = time.monotonic()
        with (
            pytest.raises(BmcUnreachable, match="refused") as caught,
            connect(Options(f"127.0.0.1:{port}", "u", "p")) as client,
        ):
            client.status()
    assert time.monotonic() - began < 2, "a BMC that never answered is not waited for"
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "power" in caught.value.hint


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(BmcUnreachable, match="does not resolve"), connect(Options("bmc.invalid", "u", "p")) as client:
        client.status()


def test_a_port_that_accepts_but_never_speaks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(BmcUnreachable, match="handshake"), connect(Options(address, "u", "p", timeout=1)) as client:
            client.status()
        assert time.monotonic() - began < 3


def test_a_port_that_does_not_speak_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def speak() -> None:
            peer, _address = plain.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        address = f"127.0.0.1:{plain.getsockname()[1]}"
        with pytest.raises(BmcTlsError, match="handshake failed"), connect(Options(address, "u", "p")) as client:
            client.status()
        thread.join()


def test_the_deadline_holds_for_an_answer_that_drips(make_bmc: MakeBmc, bmc_tls: Tls) -> None:
    """Each byte comes in time, the whole does not: the time-out is for the exchange, not for one read."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bmc_tls.certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            peer, _address = listener.accept()
            try:
                with context.wrap_socket(peer, server_side=True) as tls:
                    tls.recv(1000)
                    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
                    for _ in range(40):
                        tls.sendall(b" ")
                        time.sleep(0.1)
            except OSError:
                pass

        thread = threading.Thread(target=drip)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        with (
            pytest.raises(BmcTimeout),
            connect(Options(address, "u", "p", ca_path=str(bmc_tls.ca), timeout=1)) as client,
        ):
            client.status()
        assert time.monotonic() - began < 2
        thread.join()


def test_an_answer_that_is_not_redfish(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", "/redfish/v1", Reply(200, raw=b"<html>login</html>"))
    with pytest.raises(BmcBadAnswer, match="not a JSON object"):
        status(bmc)


def test_compressed_answers_and_406(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()

    def only_compressed(call: Any) -> Reply:
        assert call.headers["accept-encoding"] == "gzip"
        return Reply(200, bmc.resource(SYSTEM), {"Content-Encoding": "gzip"})

    bmc.on("GET", SYSTEM, Reply(406), only_compressed)
    assert status(bmc)["model"] == "M1"


def test_a_redirect_stays_on_the_bmc(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    elsewhere = f"https://192.0.2.99{SYSTEM}/"
    bmc.on("GET", SYSTEM, Reply(308, None, {"Location": elsewhere}))
    assert status(bmc)["model"] == "M1"
    assert bmc.sent().count(f"GET {SYSTEM}/") == 1


def test_contexts_are_shared_but_a_new_ca_file_is_noticed(make_bmc: MakeBmc, bmc_tls: Tls, tmp_path: Path) -> None:
    bmc = make_bmc()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(bmc_tls.other_ca.read_bytes())
    with pytest.raises(BmcTlsError):
        status(bmc, ca_path=str(ca))
    ca.write_bytes(bmc_tls.ca.read_bytes())
    assert status(bmc, ca_path=str(ca))["model"] == "M1"


def test_every_error_says_where_and_what_to_do(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    failures: list[BmcError] = []
    for changes in ({"fingerprint": "0" * 64}, {"ca_path": "/nonexistent"}, {"password": "wrong"}):
        with pytest.raises(BmcError) as caught:
            status(bmc, **changes)
        failures.append(caught.value)
    for failure in failures:
        assert str(failure).startswith(f"BMC {bmc.address}: ")
        assert failure.hint
        assert failure.as_dict()["kind"] in ("tls", "option", "auth")


def test_half_an_answer_is_no_answer(simulator: Callable[..., Simulator]) -> None:
    bmc = simulator()
    halved = bmc.fault("GET", "/redfish/v1/Systems", drop="half")
    with connect(Options(**bmc.options)) as client:
        assert client.resources.system()["Manufacturer"]
    assert halved.hits == 1
