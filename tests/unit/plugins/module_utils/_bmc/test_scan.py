# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many BMCs in one process: each has a result or a reason of its own."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import scan as scan_module
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.scan import scan
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import FakeBmc, Reply, Tls

MakeBmc = Callable[..., FakeBmc]


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_every_way_to_fail_is_of_one_bmc_only(make_bmc: MakeBmc, bmc_tls: Tls) -> None:
    good, angry, silly, odd = make_bmc(), make_bmc(), make_bmc(), make_bmc()
    silly.on("GET", "/redfish/v1", Reply(200, raw=b"<html>a printer</html>"))
    odd.resource("/redfish/v1/Systems/1")["SerialNumber"] = "ODD"
    options = {
        "good": Options(**good.options),
        "password": Options(**{**angry.options, "password": "canary-wrong"}),
        "certificate": Options(**{**make_bmc().options, "ca_path": str(bmc_tls.other_ca)}),
        "nobody": Options(**{**good.options, "address": f"127.0.0.1:{closed_port()}"}),
        "printer": Options(**silly.options),
        "option": Options(**{**good.options, "address": "ftp://127.0.0.1"}),
        "odd": Options(**odd.options),
        "last": Options(**good.options),
    }

    def read(bmc: Any) -> dict[str, Any]:
        record: dict[str, Any] = bmc.hardware()
        if record["system"]["serial_number"] == "ODD":
            raise KeyError("surprise")
        return record

    found = scan(options, read)
    assert list(found) == list(options)
    kinds = {name: one.error.kind if one.error else None for name, one in found.items()}
    assert kinds == {
        "good": None,
        "password": "auth",
        "certificate": "tls",
        "nobody": "unreachable",
        "printer": "bad_answer",
        "option": "option",
        "odd": "bad_answer",
        "last": None,
    }
    for one in found.values():
        assert (one.value is None) is (one.error is not None)
    assert found["good"].value is not None and found["good"].value["system"]["model"] == "M1"
    assert "KeyError" in str(found["odd"].error) and "surprise" in str(found["odd"].error)
    assert found["good"].requests == sum(call.connection == 1 for call in good.calls), "the logout counts"
    assert "canary" not in str(found["password"].error)


def test_they_are_read_side_by_side_and_never_more_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[int] = []
    most = []
    lock = threading.Lock()

    class Bmc:
        notes: tuple[str, ...] = ()
        requests = 1

        def __enter__(self) -> Bmc:
            return self

        def __exit__(self, *_exc: object) -> None:
            pass

    def read(_bmc: Any) -> float:
        with lock:
            running.append(1)
            most.append(len(running))
        time.sleep(0.05)
        with lock:
            running.pop()
        return sys.getswitchinterval()

    monkeypatch.setattr(scan_module, "connect", lambda _options: Bmc())
    before = sys.getswitchinterval()
    found = scan({n: Options("192.0.2.1", "u", "p") for n in range(12)}, read, at_once=4)
    assert max(most) == 4
    assert all(one.value == pytest.approx(scan_module._TURN) for one in found.values())
    assert sys.getswitchinterval() == pytest.approx(before)
    assert scan({}, read) == {}


def test_the_limit_of_open_files_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module.resource, "getrlimit", lambda _kind: (100, 100))
    assert scan_module._open_files() == 36
    monkeypatch.setattr(scan_module.resource, "getrlimit", lambda _kind: (10, 10))
    assert scan_module._open_files() == 1
