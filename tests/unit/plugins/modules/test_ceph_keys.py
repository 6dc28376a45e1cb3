# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.kiban.baremetal.plugins.modules.ceph_keys import ensure


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "ceph/keys.json"
    assert "client.admin" in ensure(str(path), ["node1"], check_mode=True)
    assert not path.exists()
    made = ensure(str(path), ["node1"], check_mode=False)
    first = json.loads(path.read_text())
    assert sorted(first) == sorted(made)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert ensure(str(path), ["node1"], check_mode=False) == []
    # One more server with a monitor: its daemons get keys, and the others keep theirs.
    assert ensure(str(path), ["node1", "node2"], check_mode=False) == ["mds.node2", "mgr.node2"]
    assert json.loads(path.read_text()).items() >= first.items()
