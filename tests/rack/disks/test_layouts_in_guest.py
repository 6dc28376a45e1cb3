# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_layout on an installed node: mdadm, LVM, cryptsetup and file systems on disks of four buses.

Needs QEMU, root, the node image of the playbook kiban.baremetal.image, and a directory with Debian 13 packages that
KIBAN_LAYOUT_DEBS names; see node_guest.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ansible_collections.kiban.baremetal.tests.rack.disks.node_guest import DISKS, NodeGuest

pytestmark = pytest.mark.rack


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeGuest]:
    guest = NodeGuest(tmp_path_factory.mktemp("node"))
    try:
        guest.start()
        guest.upload({"serials": list(DISKS), "seed": int(os.environ.get("KIBAN_SEED", "1"))})
        yield guest
    finally:
        guest.stop()


def test_foreign_content_is_refused(guest: NodeGuest) -> None:
    guest.step("refused")
    guest.step("erase")


def test_survives_sigkill(guest: NodeGuest) -> None:
    done = guest.step("kills")
    assert len(done["killed"]) == 20 and len(set(done["killed"])) >= 8
    guest.step("erase")


def test_layouts_are_made_as_foreseen_and_once(guest: NodeGuest) -> None:
    assert len(guest.step("create")["steps"]) > 20


def test_survives_a_power_cycle(guest: NodeGuest) -> None:
    guest.power_cycle()
    guest.step("after_start")


def test_grows_in_use(guest: NodeGuest) -> None:
    guest.step("grow")


def test_members_are_replaced(guest: NodeGuest) -> None:
    guest.step("replace")
