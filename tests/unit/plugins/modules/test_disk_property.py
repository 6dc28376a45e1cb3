# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever the disks hold and the model says: only disks that are named are written to, and only for a reason."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_claim, _disks
from ansible_collections.kiban.baremetal.plugins.modules import disk_claim
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.disks import select_disks
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_content import CONTENT, put
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import MIB, Rack, digest

NAMES = {"virtio": "vda", "scsi": "sda", "nvme": "nvme0n1", "sata": "sdb"}
BUSES = list(NAMES)
SELECTORS = (
    "protocol=='NVMe'",
    "protocol!='NVMe'",
    "capacity_bytes > `1`",
    "!signatures",
    "starts_with(serial_number, 'DISK-s')",
)


class Disk(NamedTuple):
    content: str
    hold: str


class Run(NamedTuple):
    """The disks by bus, what the model names, and what it lets be wiped."""

    disks: tuple[Disk, ...]
    named: frozenset[str]
    wipe: frozenset[str]
    check: bool
    method: str


BLANK = st.sampled_from(["blank", "blank", "ours", "foreign"])
DISK = st.builds(Disk, BLANK | st.sampled_from(list(CONTENT)), st.sampled_from(["", "", "", "holder", "mount", "ro"]))
SERIALS = st.frozensets(st.sampled_from([*(f"DISK-{bus}" for bus in BUSES), "DISK-gone"]))
# A file offers the first two and not the third.
METHODS = st.sampled_from(["signatures", "overwrite", "nvme_sanitize"])
RUNS = st.builds(Run, st.tuples(*[DISK] * len(BUSES)), SERIALS.filter(bool), SERIALS, st.booleans(), METHODS)


def serial_of(bus: str) -> str:
    return f"DISK-{bus}"


class Scene:
    """A host with a disk of each bus; only the mounting is not real."""

    def __init__(self, root: Path, disks: tuple[Disk, ...], originals: dict[str, bytes]) -> None:
        self.rack = Rack(root / "rack")
        self.host = _disk_claim.Host(str(root / "fstab"), str(self.rack.root / "proc/self/mountinfo"))
        self.base = str(root / "local")
        self.disks = dict(zip(map(serial_of, BUSES), disks, strict=True))
        self.paths: dict[str, Path] = {}
        for bus, disk in zip(BUSES, disks, strict=True):
            path = self.rack.disk(NAMES[bus], serial_of(bus), mib=64, bus=bus)
            self.paths[serial_of(bus)] = path
            self._fill(path, disk.content, originals)
            self._hold(NAMES[bus], path, disk.hold)

    def _fill(self, path: Path, content: str, originals: dict[str, bytes]) -> None:
        if content in CONTENT:
            for offset in range(0, 64 * MIB, MIB):
                piece = originals[content][offset : offset + MIB]
                if piece.strip(b"\0"):
                    put(path, offset, piece)
        elif content != "blank":
            # A claim that was cut off: of this site, or of another one.
            site = "lab" if content == "ours" else "tokyo"
            put(path, 0, _disks.record_bytes(_disks.CLAIM_MARK, {"site": site}))

    def _hold(self, name: str, path: Path, hold: str) -> None:
        base = self.rack.base(name)
        if hold == "holder":
            self.rack.attribute(base, "holders/dm-0/dev", b"")
        elif hold == "mount":
            self.rack.mount((base / "dev").read_text().strip(), str(path), "/srv")
        elif hold == "ro":
            self.rack.attribute(base, "ro", b"1\n")

    def digests(self) -> dict[str, str]:
        return {serial: digest(path) for serial, path in self.paths.items()}

    def may_be_written(self, run: Run) -> set[str]:
        """What the documentation promises, stated without the code that keeps it."""
        found = set()
        for serial in run.named & set(self.disks):
            content, hold = self.disks[serial]
            offered = serial not in run.wipe or run.method != "nvme_sanitize"
            if not hold and offered and (content in ("blank", "ours") or serial in run.wipe):
                found.add(serial)
        return found

    def claim(self, run: Run, named: list[str]) -> dict[str, Any] | None:
        params = {"state": "present", "disks": named, "wipe": sorted(run.wipe), "site": "lab", "mount_base": self.base}
        params |= {"wipe_method": run.method, "wipe_log": None}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_disks, "SYSTEM", self.rack.system)
            patch.setattr(disk_claim, "HOST", self.host)
            patch.setattr(_disk_claim, "_mount", lambda device, path: self.rack.mount("259:9", device, path))
            try:
                return disk_claim.run(params, run.check)
            except disk_claim.Failure as failure:
                assert failure.refused and not failure.done, failure
                return None


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What each tool makes of a blank disk, made once."""
    found = {}
    path = tmp_path_factory.mktemp("content") / "disk"
    for name, (write, _word) in CONTENT.items():
        with open(path, "wb") as file:
            file.truncate(64 * MIB)
        write(path)
        found[name] = path.read_bytes()
    return found


@settings(max_examples=int(os.environ.get("KIBAN_DISK_RUNS", "6")), deadline=None)
@given(run=RUNS)
def test_only_named_disks_are_written(run: Run, originals: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        scene = Scene(Path(directory), run.disks, originals)
        before = scene.digests()
        result = scene.claim(run, sorted(run.named))
        after = scene.digests()
        changed = {serial for serial in before if after[serial] != before[serial]}
        allowed = scene.may_be_written(run)
        assert changed <= run.named and changed <= allowed
        if run.check or run.named - allowed:
            # Decided before the first write: one refusal, and none is written.
            assert not changed
        else:
            assert changed == allowed
        assert (result is None) == bool(run.named - allowed), "check mode and a real run decide alike"


@settings(max_examples=int(os.environ.get("KIBAN_DISK_RUNS", "6")), deadline=None)
@given(run=RUNS, select=st.sampled_from(SELECTORS))
def test_a_selector_chooses_nothing_that_a_claim_would_refuse(
    run: Run, select: str, originals: dict[str, bytes]
) -> None:
    """The model's selector and the module decide apart from each other; only both together let a disk be written."""
    with tempfile.TemporaryDirectory() as directory:
        scene = Scene(Path(directory), run.disks, originals)
        records = _disks.list_disks(scene.rack.system)
        found = select_disks(records, {"select": select, "count": None}, purpose="data", wipe=run.wipe)
        chosen = {record["serial_number"] for record in found["chosen"]}
        refused = {each["serial_number"] for each in found["refused"]}
        assert chosen.isdisjoint(refused)
        assert all(each["reason"] for each in found["refused"])
        before = scene.digests()
        if chosen:
            scene.claim(run, sorted(chosen))
        after = scene.digests()
        assert {serial for serial in before if after[serial] != before[serial]} <= chosen
