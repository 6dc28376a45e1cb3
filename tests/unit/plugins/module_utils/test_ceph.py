# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts that decide; tests/integration/test_ceph.py runs them all on real daemons."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _ceph, _ceph_cluster, _ceph_osd
from ansible_collections.kiban.baremetal.plugins.module_utils._ceph import CephError, Host

FSID = "0ec7c4e2-2b50-5a3c-8f0e-2f7d0a0f3c11"


def test_a_key_is_what_cephx_takes() -> None:
    first, second = (base64.b64decode(_ceph.new_key()) for _time in range(2))
    kind, _seconds, _nanoseconds, length = struct.unpack("<HIIH", first[:12])
    assert (kind, length, len(first)) == (1, 16, 28)
    assert first[12:] != second[12:]


def test_every_entity_has_what_it_is_allowed() -> None:
    names = _ceph.entities(["node2", "node1"])
    assert {"mon.", "client.admin", "client.bootstrap-osd", "client.volumes", "mgr.node1", "mds.node2"} <= {*names}
    assert all(_ceph.caps(name) for name in names)
    text = _ceph.keyring({"client.volumes": "KEY"})
    assert text.startswith("[client.volumes]\n\tkey = KEY\n")
    # Those who mount it may set quotas, and see nothing of other data.
    assert 'caps mds = "allow rwp fsname=volumes"' in text
    assert 'caps osd = "allow rw tag cephfs data=volumes"' in text
    assert _ceph.keyring({"osd.3": "KEY"}, with_caps=False) == "[osd.3]\n\tkey = KEY\n"


def test_keys_that_the_cluster_has_otherwise() -> None:
    keys = {"mon.": "M", "client.admin": "A", "mgr.node1": "G", "client.volumes": "V"}
    known = [
        {"entity": "client.admin", "key": "A", "caps": _ceph.caps("client.admin")},
        {"entity": "mgr.node1", "key": "other", "caps": _ceph.caps("mgr.node1")},
        {"entity": "client.volumes", "key": "V", "caps": {"mon": "allow r"}},
        {"entity": "client.of-somebody", "key": "X", "caps": {}},
    ]
    assert _ceph.differing(keys, known) == ["client.volumes", "mgr.node1"]


@pytest.mark.parametrize(
    ("osds", "data", "meta"), [(0, 16, 16), (1, 32, 16), (3, 64, 16), (12, 256, 32), (90, 2048, 256)]
)
def test_placement_groups(osds: int, data: int, meta: int) -> None:
    assert _ceph_cluster.pg_counts(osds) == {"volumes.data": data, "volumes.meta": meta}


def test_health_in_words() -> None:
    checks = {
        "OSD_DOWN": {"summary": {"message": "1 osds down"}, "detail": [{"message": "osd.1 is down"}], "muted": False},
        "MGR_MODULE_ERROR": {"summary": {"message": "many"}, "detail": [], "muted": True},
    }
    assert _ceph_cluster.health_of({"checks": checks}) == ["OSD_DOWN: 1 osds down (osd.1 is down)"]
    assert _ceph_cluster.health_of({"checks": {}}) == []


class Cluster:
    """Answers commands of ceph, and writes down those that change something."""

    def __init__(self, safe: bool, up: bool = False, weight: float = 1.0) -> None:
        self.safe, self.done = safe, [""][:0]
        self.answers: dict[str, Any] = {
            "osd dump": {"osds": [{"osd": 0, "uuid": "u0"}, {"osd": 1, "uuid": "u1"}]},
            "osd tree": {
                "nodes": [
                    {"id": -1, "type": "host", "name": "node1", "children": [0, 1]},
                    {"id": 0, "type": "osd", "status": "up", "reweight": 1.0},
                    {"id": 1, "type": "osd", "status": "up" if up else "down", "reweight": weight},
                ]
            },
        }

    def run(self, argv: Sequence[str], data: str | None) -> tuple[int, str, str]:
        words = [word for word in argv[1:] if not word.startswith("--connect") and not word.startswith("--format")]
        command = " ".join(words)
        if command in self.answers:
            return 0, json.dumps(self.answers[command]), ""
        if command == "osd safe-to-destroy 1":
            return (0, "", "") if self.safe else (16, "", "Error EBUSY: OSD(s) 1 have 57 pgs currently mapped to them.")
        self.done.append(command)
        return 0, "", ""


def test_an_osd_that_is_gone_is_forgotten_once_it_is_safe() -> None:
    cluster = Cluster(safe=True)
    told = _ceph_cluster.forget_osds(Host(cluster.run), {"node1": ["u0"]})
    assert cluster.done == ["osd out 1", "osd purge 1 --yes-i-really-mean-it"]
    assert told == (["OSD 1 out", "OSD 1 forgotten"], {})


def test_an_osd_that_data_needs_is_kept() -> None:
    cluster = Cluster(safe=False)
    done, kept = _ceph_cluster.forget_osds(Host(cluster.run), {"node1": ["u0"]})
    assert cluster.done == ["osd out 1"] and done == ["OSD 1 out"]
    assert "57 pgs" in kept[1]


@pytest.mark.parametrize(
    ("up", "present"),
    [(True, {"node1": ["u0"]}), (False, {}), (False, {"node2": []}), (False, {"node1": ["u0", "u1"]})],
)
def test_osds_that_run_or_were_not_looked_at_are_left_alone(up: bool, present: Mapping[str, Sequence[str]]) -> None:
    cluster = Cluster(safe=True, up=up)
    assert _ceph_cluster.forget_osds(Host(cluster.run), present) == ([], {})
    assert cluster.done == []


def test_check_mode_forgets_nothing() -> None:
    cluster = Cluster(safe=True)
    assert _ceph_cluster.forget_osds(Host(cluster.run), {"node1": ["u0"]}, check_mode=True)[0]
    assert cluster.done == []


class Device:
    """A device with a label or a signature, and no commands that write."""

    def __init__(self, root: Path, label: Mapping[str, Any] | None = None, blkid: tuple[int, str] = (2, "")) -> None:
        (root / "etc").mkdir()
        user = os.getuid()
        (root / "etc/passwd").write_text(f"ceph:x:{user}:{os.getgid()}::/:/bin/false\n")
        (root / "var/lib/ceph/osd").mkdir(parents=True)
        (root / "disk").write_bytes(b"")
        self.label, self.blkid = label, blkid
        self.host = Host(self.run, str(root), files=True)

    def run(self, argv: Sequence[str], data: str | None) -> tuple[int, str, str]:
        if argv[:2] == ["ceph-bluestore-tool", "show-label"]:
            return (0, json.dumps({"/disk": self.label}), "") if self.label else (1, "", "unable to read label")
        if argv[0] == "blkid":
            return self.blkid[0], self.blkid[1], ""
        raise AssertionError(f"{argv} writes")


OURS = {"ceph_fsid": FSID, "whoami": "3", "osd_uuid": "u3", "ready": "ready"}


@pytest.mark.parametrize(
    ("label", "blkid", "says"),
    [
        (None, (0, "TYPE=ext4\n"), "holds something: TYPE=ext4"),
        (None, (8, ""), "holds something: blkid ended with 8"),
        ({**OURS, "ceph_fsid": "another"}, (0, "TYPE=ceph_bluestore"), "OSD 3 of the Ceph cluster another"),
        ({"osd_uuid": "u3"}, (2, ""), "an OSD that was never finished"),
    ],
)
def test_what_is_not_ours_is_refused(
    tmp_path: Path, label: Mapping[str, Any] | None, blkid: tuple[int, str], says: str
) -> None:
    device = Device(tmp_path, label, blkid)
    for check_mode in (True, False):
        with pytest.raises(CephError, match=says):
            _ceph_osd.ensure_osd(device.host, FSID, "/disk", check_mode)
    assert list((tmp_path / "var/lib/ceph/osd").iterdir()) == []


def test_only_block_devices_are_taken(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.host.files = False
    with pytest.raises(CephError, match="is no block device"):
        _ceph_osd.ensure_osd(device.host, FSID, "/disk")
    with pytest.raises(CephError, match="is not there"):
        _ceph_osd.ensure_osd(device.host, FSID, "/nowhere")


def test_check_mode_says_what_would_be_made(tmp_path: Path) -> None:
    device = Device(tmp_path)
    assert _ceph_osd.ensure_osd(device.host, FSID, "/disk", check_mode=True) == _ceph_osd.Osd("/disk", changed=True)
    assert list((tmp_path / "var/lib/ceph/osd").iterdir()) == []


def test_a_server_without_ceph_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CephError, match="image_node_packages"):
        Host(lambda _argv, _data: (0, "", ""), str(tmp_path)).owner()


@pytest.mark.parametrize("there", [True, False])
def test_a_volume_whose_disk_is_gone_is_let_go_of(tmp_path: Path, there: bool) -> None:
    home = tmp_path / "var/lib/ceph/osd/ceph-4"
    home.mkdir(parents=True)
    (home / "block").symlink_to("/dev/osd-a/block")
    if there:
        (tmp_path / "sys/dev/block/259:3").mkdir(parents=True)
    done = []

    def run(argv: Sequence[str], data: str | None) -> tuple[int, str, str]:
        if argv[:2] == ["dmsetup", "deps"]:
            return (0, "1 dependencies\t: (259, 3)\n", "") if argv[-1] == "osd--a-block" else (1, "", "No such device")
        done.append(" ".join(argv))
        return 0, "", ""

    host = Host(run, str(tmp_path))
    assert _ceph_osd.release_lost(host, "/dev/osd-a/block", check_mode=True) is not there
    assert done == []
    assert _ceph_osd.release_lost(host, "/dev/osd-a/block") is not there
    assert done == ([] if there else ["systemctl stop ceph-osd@4.service", "dmsetup remove --retry osd--a-block"])
    assert not _ceph_osd.release_lost(host, "/dev/osd-b/block")
