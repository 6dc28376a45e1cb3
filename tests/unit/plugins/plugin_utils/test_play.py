# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.kiban.baremetal.plugins.plugin_utils._play import lease_errors, write_result
from ansible_collections.kiban.baremetal.plugins.plugin_utils._runs.leases import asking, take_lease


def test_a_server_that_another_run_holds_ends_the_task(tmp_path: Path) -> None:
    take_lease(str(tmp_path), "node1", os.getpid())
    said = rf"^node1: another run works on it \(process {os.getpid()} on .*\)\. Run again when that is over"
    with pytest.raises(AnsibleActionFail, match=said), lease_errors("node1"):
        take_lease(str(tmp_path), "node1", os.getppid())


def test_a_lease_that_cannot_be_written_ends_the_task_and_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "leases").write_text("a file where the directory must be")
    for take in (lambda: asking(str(tmp_path)).__enter__(), lambda: take_lease(str(tmp_path), "node1", os.getpid())):
        with pytest.raises(AnsibleActionFail, match=rf"^node1: .*{tmp_path}/leases"), lease_errors("node1"):
            take()


def test_a_result_of_a_site_that_has_no_directory_yet(tmp_path: Path) -> None:
    place = tmp_path / "sites" / "tokyo"
    write_result(str(place / "plan.json"), {"changes": []})
    assert json.loads((place / "plan.json").read_text()) == {"changes": []}
    assert place.stat().st_mode & 0o077 == 0, "keys will be in it"


def test_a_result_that_can_not_be_written_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "sites").touch()
    with pytest.raises(AnsibleActionFail, match=r"plan\.json can't be written"):
        write_result(str(tmp_path / "sites" / "tokyo" / "plan.json"), {})
