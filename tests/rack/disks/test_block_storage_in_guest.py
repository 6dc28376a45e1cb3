# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iSCSI and NVMe over TCP on an installed node, which is storage server and client at once, over two portals.

Needs QEMU, root, the node image of the playbook kiban.baremetal.image, and a directory with Debian 13 packages that
KIBAN_BLOCK_DEBS names: those below, as `apt-get download` fetches them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest

from ansible_collections.kiban.baremetal.tests.rack.disks.node_guest import DISKS, NodeGuest

pytestmark = pytest.mark.rack

CHECKOUT = Path(__file__).resolve().parents[3]
PACKAGES = ("open-iscsi", "libopeniscsiusr", "libisns0t64", "multipath-tools", "kpartx", "libaio1t64", "liburcu8t64")


class BlockGuest(NodeGuest):
    program = "block_guest.py"
    variable, packages = "KIBAN_BLOCK_DEBS", PACKAGES


def multipath_conf() -> str:
    """As the role writes it."""
    text = (CHECKOUT / "roles/host_storage/templates/multipath.conf.j2").read_text()
    # The kernel's own target, and faster than its default at giving up.
    devices = [{"vendor": "LIO-ORG", "product": ".*", "path_grouping_policy": "multibus"}]
    values = {"ansible_managed": "", "host_storage_block": {"multipath": devices}}
    return jinja2.Environment(autoescape=False, trim_blocks=True).from_string(text).render(values)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeGuest]:
    guest = BlockGuest(tmp_path_factory.mktemp("node"))
    try:
        guest.start()
        guest.upload({"serials": list(DISKS), "multipath": multipath_conf()})
        target = (CHECKOUT / "roles/block_target/files/kiban-block-target").read_bytes()
        subprocess.run([*guest.ssh(), "cat > /run/t/kiban-block-target"], input=target, check=True)
        yield guest
    finally:
        guest.stop()


def test_devices_are_offered_once(guest: NodeGuest) -> None:
    assert len(guest.step("offer")) > 10


def test_paths_are_made_without_showing_a_secret(guest: NodeGuest) -> None:
    assert len(guest.step("attach")) == 6


def test_all_paths_of_a_lun_are_one_disk(guest: NodeGuest) -> None:
    lun, space = guest.step("one_disk")
    assert (lun["protocol"], space["protocol"]) == ("iSCSI", "NVMeOverFabrics")


def test_a_lun_is_claimed_as_any_other_disk(guest: NodeGuest) -> None:
    assert len(guest.step("claim")) == 2


def test_a_pulled_path_is_survived_and_named(guest: NodeGuest) -> None:
    done = guest.step("lost_path")
    assert max(done["stall"]) < 60


def test_claims_are_released(guest: NodeGuest) -> None:
    assert guest.step("release") is False
