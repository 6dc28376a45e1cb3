# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of a network, and that the documentation has the one of the lab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.cables import cables
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.picture import picture
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE, sites


def test_the_documentation_has_the_picture_of_the_lab(checkout: Path) -> None:
    site = load_site(yaml.safe_load((checkout / "inventories/lab-fabric/site.yml").read_text()))
    page = (checkout / "docs/port-to-pod.md").read_text()
    drawn = picture(site)
    assert f"```\n{drawn}```\n" in page, f"docs/port-to-pod.md needs this picture:\n{drawn}"


def test_what_hangs_on_two_switches_is_described_once() -> None:
    drawn = picture(load_site(BASE))
    assert drawn.startswith("mgmt1\n") or "\nmgmt1\n" in drawn
    assert drawn.count("AS 4200000021") == 1
    assert "├─ swp2 ── eno1 node1  AS 4200000021  198.51.100.21  pods 10.244.21.0/24\n" in drawn
    assert "├─ swp2 ── eno2 node1\n" in drawn
    assert "─ swp4 ── BMC of node3\n" in drawn


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(sites())
def test_every_cable_is_drawn(data: dict[str, Any]) -> None:
    site = load_site(data)
    drawn = picture(site)
    pairs = {frozenset((cable.near.device, cable.far.device)) for cable in cables(site)}
    for cable in cables(site):
        # A pair of switches is joined by cables of one of the two; a way does not lead back.
        assert f"─ {cable.far.port} ── " in drawn, (cable, pairs)
