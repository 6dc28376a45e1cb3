# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module disk_layout on a host in memory: check mode, the rounds of a run, and what a failure says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks, _layout_apply, _layout_read, _layout_tools
from ansible_collections.kiban.baremetal.plugins.modules import disk_layout
from ansible_collections.kiban.baremetal.tests.unit.plugins.layout_host import Host

KEY = "a long secret"
VOLUME = {
    "name": "data",
    "size": None,
    "type": "linear",
    "thin_pool": None,
    "filesystem": "ext4",
    "mount": "/srv/data",
}
POOL: dict[str, Any] = {
    "name": "fast",
    "disks": ["a", "b"],
    "raid": "raid1",
    "metadata": "1.2",
    "luks": True,
    "filesystem": None,
    "mount": None,
    "volumes": [VOLUME],
}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    here = Host()
    for serial in ("a", "b"):
        here.add(serial)
    monkeypatch.setattr(_disks, "list_disks", lambda: [])
    monkeypatch.setattr(_layout_read, "read_facts", lambda pools, keys: here.facts())
    monkeypatch.setattr(_layout_apply, "apply", lambda step, keys: here.do(step))
    return here


def run(check: bool = False, **more: Any) -> dict[str, Any]:
    return disk_layout.run({"site": "lab", "pools": [POOL], "keys": {"fast": KEY}, "wipe": [], **more}, check)


def test_check_mode_foresees_what_is_done_and_does_nothing(host: Host) -> None:
    foreseen = run(check=True)
    assert not host.disks["a"].id
    done = run()
    # What is behind a container that was closed is known only when it is open.
    assert done["steps"][: len(foreseen["steps"])] == foreseen["steps"] and foreseen["changed"]
    assert done["diff"]["after"].splitlines() == done["steps"]
    nothing = {"changed": False, "steps": [], "diff": {"before": "", "after": ""}}
    assert (run(), run(check=True)) == (nothing, {**nothing, "wipes": []})


@pytest.mark.parametrize(
    ("disk", "wipes"),
    [
        ({"content": ("/dev/b holds ext4",)}, ["b"]),
        ({"site": "tokyo", "pool": "fast", "id": "x"}, ["b"]),
        ({}, []),
    ],
)
def test_check_mode_says_which_disks_would_lose_something(host: Host, disk: dict[str, Any], wipes: list[str]) -> None:
    host.disks["b"] = replace(host.disks["b"], **disk)
    assert run(check=True, wipe=["a", "b"])["wipes"] == wipes
    run(wipe=["a", "b"])
    assert run(check=True, wipe=["a", "b"])["wipes"] == [], "what is the pool's is not wiped again"


def test_a_restart_takes_several_rounds(host: Host) -> None:
    run()
    host.restart()
    assert run(check=True)["steps"] == ["fast: open /dev/md/fast as /dev/mapper/fast-luks"]
    assert [step.split()[1] for step in run()["steps"]] == ["open", "activate", "mount"]


def test_a_failure_says_what_was_done(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(step: Any, keys: Any) -> None:
        if step.kind == "luks_format":
            raise _layout_tools.LayoutError("cryptsetup: no room")
        host.do(step)

    monkeypatch.setattr(_layout_apply, "apply", apply)
    with pytest.raises(disk_layout.Failure) as failure:
        run()
    assert "make a LUKS2 container on /dev/md/fast: cryptsetup: no room. Done before: fast: part" in str(failure.value)
    assert len(failure.value.done) == 5 and KEY not in str(failure.value)


def test_a_refusal_touches_nothing(host: Host) -> None:
    host.add("b", content=("/dev/b holds ext4",))
    with pytest.raises(disk_layout.Failure) as failure:
        run()
    assert "Nothing was touched" in str(failure.value) and "holds ext4" in failure.value.refused[0]
    assert not host.disks["a"].id


def test_a_step_that_does_not_help_ends_the_run(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_layout_apply, "apply", lambda step, keys: None)
    with pytest.raises(disk_layout.Failure, match="has to be done again right after it was done"):
        run()


def test_a_container_without_a_key_is_refused(host: Host) -> None:
    with pytest.raises(disk_layout.Failure, match="there is no key"):
        run(keys={})
