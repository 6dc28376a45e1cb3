# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""block_paths against a sysfs and records of open-iscsi in a directory, and tools that are written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _block_paths, _disks
from ansible_collections.kiban.baremetal.plugins.modules import block_paths
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import Rack

TARGET = "iqn.2003-01.org.example:array1"
NAME = "iqn.1993-08.org.debian:01:node1.example.net"
SECRET = "a long secret"
ISCSI = {"name": "array1", "target": TARGET, "portals": ["192.0.2.10", "198.51.100.10:3261"]}
CHAP = {"username": "node1", "password": SECRET}


class Lab:
    """A host; iscsiadm makes records and sessions as open-iscsi does."""

    def __init__(self, root: Path) -> None:
        self.rack = Rack(root / "rack")
        self.host = _block_paths.Host(
            str(self.rack.root / "sys"),
            (str(root / "elsewhere/nodes"), str(root / "iscsi/nodes")),
            str(root / "iscsi/initiatorname.iscsi"),
            str(root / "nvme-fabrics"),
        )
        self.root = root
        (root / "iscsi/nodes").mkdir(parents=True)
        self.calls: list[tuple[str, ...]] = []
        self.fails = ""
        self.run_module: Any = None

    def tool(self, *words: str) -> tuple[int, str, str]:
        self.calls.append(words)
        if self.fails and self.fails in words:
            return 24, "", "iscsiadm: Could not login. initiator reported error (24 - authorization failure)"
        if words[-1] == "new":
            address, port = words[6].split(":")
            path = self.root / "iscsi/nodes" / words[4] / f"{address},{port},1"
            path.mkdir(parents=True)
            old = "node.startup = manual\nnode.session.auth.authmethod = None\n"
            (path / "default").write_text(f"# BEGIN RECORD 2.1\nnode.name = {words[4]}\n{old}# END RECORD\n")
        if words[-1] == "--login":
            self.rack.session(str(len(list((self.rack.root / "sys").glob("class/iscsi_session/*"))) + 1), words[6])
        return 0, "", ""

    def records(self) -> list[str]:
        return [path.read_text() for path in sorted((self.root / "iscsi/nodes").rglob("default"))]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module: Any) -> Lab:
    made = Lab(tmp_path)
    made.run_module = run_module
    monkeypatch.setattr(_disks, "run_tool", made.tool)
    monkeypatch.setattr(_block_paths, "Host", lambda: made.host)
    return made


def run(lab: Lab, check_mode: bool = False, chap: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
    iscsi = [{**ISCSI, **({"chap": chap} if chap else {})}]
    return lab.run_module(
        block_paths, check_mode=check_mode, **{"initiator": NAME, "iscsi": iscsi, "timeout": 1, **params}
    )


def test_two_paths_and_then_nothing(lab: Lab) -> None:
    foreseen = run(lab, check_mode=True)
    assert lab.calls == [] and foreseen["changed"]
    done = run(lab)
    assert (
        done["steps"]
        == foreseen["steps"]
        == [
            f"call this host {NAME}",
            f"array1: note how to reach {TARGET} at 192.0.2.10:3260",
            f"array1: log in to {TARGET} at 192.0.2.10:3260",
            f"array1: note how to reach {TARGET} at 198.51.100.10:3261",
            f"array1: log in to {TARGET} at 198.51.100.10:3261",
        ]
    )
    assert [session["portal"] for session in done["sessions"]] == ["192.0.2.10:3260", "198.51.100.10:3261"]
    for record in lab.records():
        assert "node.startup = automatic\n" in record and record.endswith("# END RECORD\n")
        assert "replacement_timeout = 5\n" in record and "manual" not in record
    assert run(lab)["changed"] is False and run(lab, check_mode=True)["steps"] == []


def test_chap_is_in_no_command_and_no_output(lab: Lab) -> None:
    result = run(lab, chap={**CHAP, "username_in": "array1", "password_in": "another secret"})
    for text in (str(lab.calls), str(result)):
        assert SECRET not in text and "another secret" not in text
    for record in lab.records():
        assert f"node.session.auth.password = {SECRET}\n" in record
        assert "node.session.auth.authmethod = CHAP\n" in record
        assert "node.session.auth.password_in = another secret\n" in record
    assert all(path.stat().st_mode & 0o077 == 0 for path in (lab.root / "iscsi/nodes").rglob("default"))
    assert run(lab, chap=CHAP)["changed"] is False
    assert "note how to reach" in run(lab, chap={**CHAP, "password": "changed since"})["steps"][0]
    # Without CHAP its settings are gone.
    assert run(lab)["changed"] and not any(SECRET in record or "changed since" in record for record in lab.records())


def test_a_refused_login_says_what_was_done(lab: Lab) -> None:
    lab.fails = "--login"
    result = lab.run_module(block_paths, initiator=NAME, iscsi=[{**ISCSI, "chap": CHAP}])
    assert result["failed"] and "authorization failure" in result["msg"] and SECRET not in str(result)
    assert result["done"][-1].startswith("array1: note how to reach")


def test_a_lost_session_is_waited_for(lab: Lab) -> None:
    run(lab)
    lab.rack.session("1", "192.0.2.10:3260", "FAILED")
    result = run(lab)
    assert result["failed"] and f"no path after 1 s: {TARGET} at 192.0.2.10:3260" in result["msg"]


def test_disks_that_multipath_does_not_take_are_named(lab: Lab) -> None:
    for name in ("sd1", "sd2"):
        lab.rack.disk(name, "LUN-0", bus="iscsi", device__state="running")
    result = run(lab)
    assert result["failed"] and "no multipath device after 1 s: sd1, sd2" in result["msg"]
    lab.rack.multipath(0, "3600", "sd1", "sd2")
    assert run(lab)["changed"] is False


def test_nvme_is_connected_by_the_kernel(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    (lab.root / "nvme-fabrics").touch()
    monkeypatch.setattr(_block_paths, "_good", lambda path, host: True)
    one = {"name": "fast", "subsystem": "nqn.2014-08.org.example:fast", "portals": ["192.0.2.10"]}
    result = lab.run_module(block_paths, nvme_of=[one], host_nqn="nqn.2014-08.org.nvmexpress:uuid:1", host_id="1")
    assert result["steps"] == ["fast: connect nqn.2014-08.org.example:fast at 192.0.2.10:4420"]
    assert (lab.root / "nvme-fabrics").read_text() == (
        "nqn=nqn.2014-08.org.example:fast,transport=tcp,traddr=192.0.2.10,trsvcid=4420,"
        "hostnqn=nqn.2014-08.org.nvmexpress:uuid:1,hostid=1,ctrl_loss_tmo=-1"
    )


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"iscsi": [{**ISCSI, "portals": ["192.0.2.10", "192.0.2.10:3260"]}]}, "is there twice"),
        ({"iscsi": [{**ISCSI, "chap": {"username": "node1"}}]}, "needs username and password together"),
        ({"iscsi": [{**ISCSI, "chap": {"user": "x"}}]}, "unknown keys: user"),
        ({"iscsi": [{**ISCSI, "chap": {"username": "a\nb", "password": "c"}}]}, "line break"),
        ({"nvme_of": [{"name": "f", "subsystem": "nqn.x", "portals": ["192.0.2.1"]}]}, "needs host_nqn and host_id"),
    ],
)
def test_what_contradicts_itself_is_refused(lab: Lab, params: dict[str, Any], words: str) -> None:
    result = lab.run_module(block_paths, **params)
    assert result["failed"] and words in result["msg"] and lab.calls == []


@pytest.mark.parametrize(
    ("portal", "expected"),
    [
        ("192.0.2.10", ("192.0.2.10", "3260")),
        ("192.0.2.10:1", ("192.0.2.10", "1")),
        ("[2001:db8::1]", ("2001:db8::1", "3260")),
        ("[2001:db8::1]:2", ("2001:db8::1", "2")),
    ],
)
def test_portals(portal: str, expected: tuple[str, str]) -> None:
    assert _block_paths.split_portal(portal, "iscsi") == expected
