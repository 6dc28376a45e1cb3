# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a blank, powered-off rack: a dry run touches nothing, and bad access or a disk with content is refused."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
import rack

pytestmark = [pytest.mark.rack, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def blank_rack() -> None:
    rack.blank()


def disks() -> dict[str, str]:
    found = sorted((rack.WORK / "lab/disks").glob("*/*.qcow2"))
    assert len(found) == 9
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def powered_on() -> list[str]:
    """Command lines of the rack's virtual servers that run."""
    found = subprocess.run(["pgrep", "-af", "guest=(cp1|node1|node2),"], capture_output=True, text=True, check=False)
    return [line for line in found.stdout.splitlines() if "qemu" in line and str(rack.WORK) in line]


def test_a_dry_run_touches_nothing() -> None:
    before = disks()
    done = rack.playbook("site", "--check", "--diff")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "3 servers to install, 0 in order" in done.stdout, done.stdout[-4000:]
    assert disks() == before
    assert not powered_on()


@pytest.mark.parametrize(
    ("options", "variables", "text"),
    [
        ({"address": "192.0.2.99"}, {}, "192.0.2.99"),
        ({"ca_path": "/etc/ssl/certs/ca-certificates.crt"}, {}, "certificate"),
        ({"fingerprint": "0" * 64}, {}, "fingerprint"),
        ({}, {"KIBAN_BMC_PASSWORD": "canary-wrong-password"}, "password"),
    ],
    ids=["unreachable", "foreign certificate", "wrong fingerprint", "wrong password"],
)
def test_bad_access_is_named_and_nothing_is_touched(
    tmp_path: Path, options: dict[str, str], variables: dict[str, str], text: str
) -> None:
    done = rack.playbook("site", "--check", inventory=rack.variant(tmp_path, **options), **variables)
    assert done.returncode != 0
    # Ansible wraps long lines.
    told = " ".join(done.stdout.partition("problem: node2")[2].split()).lower()
    assert text in told[:400], done.stdout[-4000:]
    assert "canary-wrong-password" not in done.stdout
    if options:
        assert "cp1:" in done.stdout and "node1:" in done.stdout, "the other servers are planned all the same"
    assert not powered_on()


@pytest.mark.parametrize("name", ["node1"])
def test_a_system_disk_with_content_is_refused(name: str, tmp_path: Path) -> None:
    raw = tmp_path / "disk"
    with raw.open("wb") as handle:
        handle.truncate(12 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-L", "precious", "-E", "lazy_itable_init=1,nodiscard", str(raw)], check=True)
    disk = rack.WORK / f"lab/disks/{name}/0.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(disk)], check=True)
    done = rack.playbook("site", "--limit", name)
    assert done.returncode != 0
    assert f"SYS-{name.upper()}" in done.stdout and "ext4" in done.stdout and "wipe" in done.stdout, done.stdout[-4000:]
    back = tmp_path / "back"
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", str(disk), str(back)], check=True)
    assert subprocess.run(["cmp", str(raw), str(back)], check=False).returncode == 0, "the disk was written to"


def test_a_server_that_fails_stops_no_other_and_joins_when_it_is_put_right(tmp_path: Path) -> None:
    """Makes the cluster, so it comes last: 10 to 20 minutes on two cores without KVM."""
    rack.blank()
    done = rack.playbook("site", inventory=rack.variant(tmp_path, address="192.0.2.99"))
    assert done.returncode != 0
    assert "192.0.2.99" in done.stdout and rack.recap(done.stdout)["node2"]["failed"] == 1, done.stdout[-4000:]
    assert sorted(rack.ready_nodes()) == ["cp1", "node1"]
    assert len(powered_on()) == 2
    done = rack.playbook("site")
    assert done.returncode == 0, done.stdout[-4000:]
    assert sorted(rack.ready_nodes()) == ["cp1", "node1", "node2"]
    assert rack.recap(done.stdout)["cp1"]["failed"] == 0
