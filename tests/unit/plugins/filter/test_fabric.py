# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters about switches and cables give what plays need, and errors of the model as sentences."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kiban.baremetal.plugins.filter.fabric import cabling_faults, lost_sessions, switch_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import site_vars
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE, with_os

SITE = site_vars(load_site(BASE))


def test_switch_config() -> None:
    tor1 = switch_config(SITE, "tor1")
    assert tor1["os"] == "linux"
    assert tor1["tables"]["PORT"]["swp1"]["tag"] == 20
    assert "router bgp 65101\n" in tor1["text"]
    assert "BGP_NEIGHBOR" in switch_config(site_vars(load_site(with_os("sonic"))), "tor1")["tables"]


def test_errors_are_sentences() -> None:
    with pytest.raises(AnsibleFilterError, match="there is no switch 'tor9' in the site lab"):
        switch_config(SITE, "tor9")
    with pytest.raises(AnsibleFilterError, match="not a site model"):
        switch_config({}, "tor1")


def test_cabling_faults() -> None:
    neighbor = {"port": "swp3", "device": "node1", "device_port": "eno1", "mac": None}
    # tor2 has no lldpd, and nobody else was asked.
    faults = cabling_faults(SITE, {"tor1": [neighbor], "tor2": None})
    assert faults[0]["kind"] == "wrong"
    assert faults[0]["servers"] == ["node1", "node2"]
    by_mac = {"port": "swp2", "device": None, "device_port": None, "mac": "02:00:00:00:00:01"}
    everything = cabling_faults(SITE, {"tor1": [by_mac]}, macs={"02:00:00:00:00:01": ["node1", "eno1"]})
    assert {fault["kind"] for fault in everything} == {"missing"}


def test_lost_sessions() -> None:
    up, down = {"asn": 65001, "state": "Established", "prefixes": 1}, {"asn": 65001, "state": "Active", "prefixes": 0}
    before = {"swp1": up, "swp2": up, "swp3": down, "swp4": up}
    assert lost_sessions({"swp1": up, "swp2": down, "swp3": down}, before) == ["swp2"]
