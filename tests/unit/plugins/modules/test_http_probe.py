# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.modules import http_probe

Answer = Callable[[int], tuple[int, str]]


class Site:
    """A server on loopback that gives the answers of a function of the request's number."""

    def __init__(self, answer: Answer) -> None:
        self.seen: list[str] = []
        self.hosts: list[str] = []
        self.ports: set[int] = set()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.seen.append(self.path)
                site.hosts.append(self.headers["Host"])
                site.ports.add(self.client_address[1])
                status, body = answer(len(site.seen))
                if status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_args: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_args: Any) -> None:
                return

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


Serve = Callable[[Answer], Site]
RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Site]]:
    sites: list[Site] = []

    def start(answer: Answer) -> Site:
        sites.append(Site(answer))
        return sites[-1]

    yield start
    for site in sites:
        site.server.shutdown()
        site.server.server_close()


def measure(site: Site, **settings: Any) -> dict[str, Any]:
    chosen = {"count": None, "duration": None, "interval": 0.01, "retries": 0, **settings}
    return http_probe.measure(lambda: http_probe.get(site.url, 1, None), **chosen)


def test_counts_and_bodies(serve: Serve) -> None:
    site = serve(lambda number: (200, f"web-{number % 2}"))
    result = measure(site, count=10)
    assert (result["requests"], result["ok"], result["lost"]) == (10, 10, 0)
    assert result["bodies"] == ["web-0", "web-1"]
    assert result["counts"] == {"web-0": 5, "web-1": 5}
    assert result["first_error"] == ""


def test_each_request_has_a_connection_of_its_own(serve: Serve) -> None:
    site = serve(lambda number: (200, "x"))
    measure(site, count=8)
    assert len(site.ports) == 8


def test_failures_are_counted_and_the_first_one_is_told(serve: Serve) -> None:
    site = serve(lambda number: {3: (0, ""), 5: (503, "draining")}.get(number, (200, "x")))
    result = measure(site, count=6)
    assert (result["ok"], result["lost"], result["retried"]) == (4, 2, 0)
    assert "RemoteDisconnected" in result["first_error"] or "ConnectionReset" in result["first_error"]


def test_a_second_try_is_counted_as_one(serve: Serve) -> None:
    site = serve(lambda number: (503, "x") if number == 2 else (200, "x"))
    result = measure(site, count=3, retries=1)
    assert (result["requests"], result["ok"], result["lost"], result["retried"]) == (3, 3, 0, 1)
    assert len(site.seen) == 4
    assert "503" in result["first_error"]


def test_the_longest_gap_spans_what_failed(serve: Serve) -> None:
    def answer(number: int) -> tuple[int, str]:
        if number == 2:
            time.sleep(0.4)
            return 500, "x"
        return 200, "x"

    result = measure(serve(answer), count=3)
    assert 400 <= result["longest_gap_ms"] < 900
    assert result["slowest_ms"] < 400


def test_a_gap_at_the_end_counts(serve: Serve) -> None:
    site = serve(lambda number: (200 if number < 3 else 500, "x"))
    result = measure(site, duration=0.5, interval=0.05)
    assert result["longest_gap_ms"] >= 300
    assert result["lost"] == result["requests"] - 2


def test_goes_on_for_the_duration(serve: Serve) -> None:
    site = serve(lambda number: (200, "x"))
    result = measure(site, duration=0.5, interval=0.1)
    assert 4 <= result["requests"] <= 6
    assert result["seconds"] >= 0.5


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(http_probe.ProbeError, match="ConnectionRefusedError"):
        http_probe.get(f"http://127.0.0.1:{port}/", 1, None)


def test_an_unexpected_body_is_a_failure(serve: Serve) -> None:
    site = serve(lambda number: (200, "stale"))
    with pytest.raises(http_probe.ProbeError, match="does not match 'fresh'"):
        http_probe.get(site.url, 1, "fresh")


def test_a_slow_answer_is_a_failure(serve: Serve) -> None:
    def answer(number: int) -> tuple[int, str]:
        time.sleep(0.5)
        return 200, "x"

    with pytest.raises(http_probe.ProbeError, match=r"[Tt]imeout"):
        http_probe.get(serve(answer).url, 0.1, None)


def test_path_and_query_are_asked(serve: Serve) -> None:
    site = serve(lambda number: (200, "x"))
    http_probe.get(f"{site.url}/dial?host=a&port=80", 1, None)
    assert site.seen == ["/dial?host=a&port=80"]


def test_what_came_before_the_first_answer_is_not_measured(serve: Serve, run_module: RunModule) -> None:
    site = serve(lambda number: (503 if number < 4 else 200, "x"))
    result = run_module(http_probe, url=site.url, count=5, interval=0.01, ready_timeout=10)
    assert (result["requests"], result["ok"]) == (5, 5)
    assert len(site.seen) == 9


def test_never_an_answer(serve: Serve, run_module: RunModule) -> None:
    site = serve(lambda number: (503, "starting"))
    result = run_module(http_probe, url=site.url, ready_timeout=0.5)
    assert result["failed"]
    assert "not ready within 0.5 s: status 503: starting" in result["msg"]


def test_ready_needs_every_replica_and_a_row_of_answers(serve: Serve, run_module: RunModule) -> None:
    def answer(number: int) -> tuple[int, str]:
        """The first replica, then a dead one's time-out, then both."""
        return (503, "dead") if number == 3 else (200, "a" if number < 6 else f"web-{number % 2}")

    site = serve(answer)
    settings = {"count": 2, "interval": 0.01, "ready_timeout": 20, "ready_count": 4, "min_bodies": 2}
    result = run_module(http_probe, url=site.url, **settings)
    assert (result["requests"], result["ok"], result["failed"]) == (2, 2, False)
    # 4, 5, 6 and 7 are the first four right answers in a row that are not all the same.
    assert len(site.seen) == 9


def test_one_replica_never_comes(serve: Serve, run_module: RunModule) -> None:
    site = serve(lambda number: (200, "a"))
    result = run_module(http_probe, url=site.url, ready_timeout=0.5, min_bodies=2)
    assert "answers in a row, 1 of them different" in result["msg"]


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        ({"count": 4}, "3 of 4 requests were answered, 4 must be. after"),
        ({"count": 4, "min_ok": 3}, ""),
        ({"count": 4, "min_ok": 3, "min_bodies": 2}, "1 different answers came, 2 must: x"),
    ],
)
def test_what_is_asked_for_must_hold(serve: Serve, run_module: RunModule, params: dict[str, Any], wrong: str) -> None:
    site = serve(lambda number: (500 if number == 2 else 200, "x"))
    result = run_module(http_probe, url=site.url, interval=0.01, **params)
    assert result["failed"] is bool(wrong)
    assert wrong in result.get("msg", "")
    assert (result["ok"], result["lost"]) == (3, 1)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """For one name, with its key in the same file."""
    made = tmp_path / "web.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        + ["-subj", "/CN=web", "-addext", "subjectAltName=DNS:shop.example.net", "-out", made, "-keyout", made],
        check=True,
        capture_output=True,
    )
    return made


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        ({"name": "shop.example.net", "ca": "right"}, ""),
        ({"name": "other.example.net", "ca": "right"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"name": "shop.example.net"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"ca": "right"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"ca": "no certificate"}, "ca holds no certificate in PEM form"),
    ],
)
def test_a_name_is_asked_for_by_tls(
    serve: Serve, run_module: RunModule, certificate: Path, params: dict[str, str], wrong: str
) -> None:
    site = serve(lambda number: (200, "x"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    site.server.socket = tls.wrap_socket(site.server.socket, server_side=True)
    if params.get("ca") == "right":
        params = {
            **params,
            "ca": re.search(r"-----BEGIN CERT[^-]+-----[^-]+-----END [^-]+-----", certificate.read_text())[0],
        }  # type: ignore[index]
    result = run_module(http_probe, url=site.url.replace("http", "https"), **params)
    assert result["failed"] is bool(wrong)
    assert wrong in result.get("msg", "")
    assert site.hosts == ([] if wrong else ["shop.example.net"])


def test_a_name_is_asked_for(serve: Serve, run_module: RunModule) -> None:
    site = serve(lambda number: (200, "x"))
    run_module(http_probe, url=site.url, name="shop.example.net")
    run_module(http_probe, url=site.url)
    assert site.hosts == ["shop.example.net", site.url.removeprefix("http://")]


def test_only_http(run_module: RunModule) -> None:
    result = run_module(http_probe, url="ftp://192.0.2.1/")
    assert result["failed"]
    assert "must begin with http://" in result["msg"]


def test_check_mode_asks_nothing(serve: Serve, run_module: RunModule) -> None:
    site = serve(lambda number: (200, "x"))
    result = run_module(http_probe, url=site.url, check_mode=True)
    assert not result["failed"]
    assert site.seen == []
