# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a node in QEMU that is storage server and client at once: guest.py CONFIG STEP. Prints JSON."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.module_utils.testing import patch_module_args

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_paths, _disks
from ansible_collections.kiban.baremetal.plugins.modules import block_paths, disk_claim

CONFIG: dict[str, Any] = {}
PORTALS = ("127.0.0.1", "127.0.0.2")
IQN, NQN = "iqn.2003-01.org.example:array1", "nqn.2014-08.org.example:fast1"
INITIATOR = "iqn.1993-08.org.debian:01:guest.example.net"
HOST_ID = "00000000-0000-4000-8000-000000000001"
HOST_NQN = f"nqn.2014-08.org.nvmexpress:uuid:{HOST_ID}"
CHAP = {"username": "guest", "password": "a-long-secret", "username_in": "array1", "password_in": "another-secret"}
SERIAL = "LUN-0001"
BASE = "/run/local"


def say(text: str) -> None:
    print(f"# {text}", flush=True)


def tool(*words: str, ok: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not ok, (words, done.stdout, done.stderr)
    return done.stdout


def call(module: ModuleType, check: bool = False, **params: Any) -> dict[str, Any]:
    """A module as Ansible runs it."""
    out = io.StringIO()
    options = {**params, "_ansible_check_mode": check, "_ansible_diff": False}
    with patch_module_args(options), contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        module.main()
    result: dict[str, Any] = json.loads(out.getvalue())
    for secret in ("a-long-secret", "another-secret", "a-wrong-secret"):
        assert secret not in out.getvalue()
    return result


def paths(chap: dict[str, str] | None = None, check: bool = False, ok: bool = True) -> dict[str, Any]:
    iscsi = [{"name": "array1", "target": IQN, "portals": PORTALS, "chap": chap or CHAP}]
    nvme_of = [{"name": "fast1", "subsystem": NQN, "portals": PORTALS}]
    names = {"initiator": INITIATOR, "host_nqn": HOST_NQN, "host_id": HOST_ID}
    result = call(block_paths, check, iscsi=iscsi, nvme_of=nvme_of, timeout=120, **names)
    assert not result.get("failed") or not ok, result
    return result


def offer() -> Any:
    """A LUN and a namespace, each at two portals; the second run has nothing to do."""
    chap = [{"name": INITIATOR, "chap": CHAP}]
    luns = [{"device": _disks.find_path("DATA-SCSI"), "serial": SERIAL}]
    spaces = [{"device": _disks.find_path("DATA-VIRTIO")}]
    config = {
        "targets": [{"target": IQN, "portals": PORTALS, "luns": luns, "initiators": chap}],
        "subsystems": [{"subsystem": NQN, "portals": PORTALS, "namespaces": spaces, "hosts": [HOST_NQN]}],
    }
    os.makedirs("/etc/kiban", exist_ok=True)
    Path("/etc/kiban/block-target.json").write_text(json.dumps(config))
    done = tool("python3", "/run/t/kiban-block-target").splitlines()
    assert done and tool("python3", "/run/t/kiban-block-target") == ""
    # What LIO offers is in use for everybody else.
    assert _disks.in_use(_disks.find_disk("DATA-SCSI"))
    return done


@contextlib.contextmanager
def watched() -> Iterator[set[str]]:
    """All command lines that are seen meanwhile."""
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for name in filter(str.isdigit, os.listdir("/proc")):
                with contextlib.suppress(OSError):
                    seen.add(Path("/proc", name, "cmdline").read_text().replace("\0", " "))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def attach() -> Any:
    Path("/etc/multipath.conf").write_text(CONFIG["multipath"])
    tool("systemctl", "daemon-reload")
    tool("systemctl", "start", "iscsid.socket", "multipathd.service")
    wrong = paths({**CHAP, "password": "a-wrong-secret"}, ok=False)
    assert wrong.get("failed") and "auth" in wrong["msg"].lower(), wrong
    foreseen = paths(check=True)["steps"]
    with watched() as seen:
        done = paths()
    assert done["steps"] == foreseen and any("iscsiadm" in line and "--login" in line for line in seen)
    assert not any("secret" in line for line in seen)
    assert paths()["changed"] is False and paths(check=True)["steps"] == []
    assert len(done["sessions"]) == 4
    return done["steps"]


def remote() -> list[dict[str, Any]]:
    """The LUN and the namespace, each of which must be one disk."""
    found = [record for record in _disks.list_disks() if record["protocol"] in ("iSCSI", "NVMeOverFabrics")]
    return sorted(found, key=lambda record: str(record["protocol"]))


def until(question: Any, seconds: float = 180) -> float:
    began = time.monotonic()
    while not question():
        assert time.monotonic() - began < seconds, (_disk_paths.network_sessions("/sys"), tool("multipath", "-ll"))
        time.sleep(0.5)
    return time.monotonic() - began


def one_disk() -> Any:
    until(lambda: len(remote()) == 2 and all(len(record["paths"]) == 2 for record in remote()))
    lun, space = remote()
    assert lun["serial_number"] == SERIAL and lun["path"].startswith("/dev/mapper/")
    for record in (lun, space):
        assert {path["portal"].partition(":")[0] for path in record["paths"]} == set(PORTALS)
        assert all(path["state"] in _disk_paths.GOOD_STATES for path in record["paths"])
    return [
        {key: record[key] for key in ("path", "protocol", "serial_number", "wwn", "paths")} for record in (lun, space)
    ]


def claims(**more: Any) -> dict[str, Any]:
    serials = [record["serial_number"] for record in remote()]
    result = call(disk_claim, disks=serials, site="lab", mount_base=BASE, **more)
    assert not result.get("failed"), result
    return result


def claim() -> Any:
    """Both are claimed as any other disk, and recognised."""
    foreseen = claims(check=True)
    done = claims()
    assert foreseen["changed"] and done["changed"] and claims()["changed"] is False
    for record in remote():
        place = Path(BASE, record["serial_number"])
        assert os.path.ismount(place) and record["kiban"]["complete"] and len(record["partitions"]) == 1
        (place / "precious").write_text("precious")
    return done["disks"]


def lost_path() -> Any:
    """One portal is silent, as when a cable is pulled, while both disks are written to."""
    places = [Path(BASE, record["serial_number"]) for record in remote()]
    longest, errors, stop = dict.fromkeys(places, 0.0), [], threading.Event()

    def write(place: Path) -> None:
        number = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                with open(place / "writing", "w") as file:
                    file.write(str(number))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as exc:
                errors.append(str(exc))
                return
            longest[place] = max(longest[place], time.monotonic() - began)
            number += 1
            time.sleep(0.05)

    threads = [threading.Thread(target=write, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    time.sleep(3)
    calm = dict(longest)
    tool("nft", "add table inet pulled")
    tool("nft", "add chain inet pulled out { type filter hook output priority 0 ; }")
    tool("nft", "add rule inet pulled out ip daddr 127.0.0.2 drop")
    tool("nft", "add rule inet pulled out ip saddr 127.0.0.2 drop")
    lost = [until(lambda place=place: states(place) == 1, 300) for place in ("iscsi", "tcp")]
    time.sleep(5)
    named = [session for session in _disk_paths.network_sessions("/sys") if session["portal"].startswith("127.0.0.2")]
    assert len(named) == 2 and not any(session["state"] in _disk_paths.GOOD_STATES for session in named), named
    assert all(_disk_paths.answers(record) for record in remote())
    tool("nft", "delete table inet pulled")
    back = [until(lambda place=place: states(place) == 2, 600) for place in ("iscsi", "tcp")]
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors, errors
    for place in places:
        assert (place / "precious").read_text() == "precious"
    assert paths()["changed"] is False
    stall = [longest[place] for place in places]
    return {"calm": list(calm.values()), "stall": stall, "lost": lost, "back": back, "named": named}


def states(transport: str) -> int:
    """How many paths of a transport carry input and output."""
    sessions = [each for each in _disk_paths.network_sessions("/sys") if each["transport"] == transport]
    return sum(session["state"] in _disk_paths.GOOD_STATES for session in sessions)


def release() -> Any:
    assert claims(state="absent")["changed"]
    return claims(state="absent")["changed"]


if __name__ == "__main__":
    with open(sys.argv[1]) as config:
        CONFIG.update(json.load(config))
    print(json.dumps(globals()[sys.argv[2]]()))
