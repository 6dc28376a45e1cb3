# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.filter.site import FilterModule
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sdn_drivers import DRIVERS, IN_CLUSTER
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import SDN_DRIVERS, Sdn
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.shape import schema


def test_the_site_model_knows_the_same_drivers() -> None:
    known = schema()["properties"]["cluster"]["properties"]["sdn"]["properties"]["driver"]["enum"]
    assert sorted(DRIVERS) == sorted(known) == sorted(SDN_DRIVERS)
    assert DRIVERS.keys() >= IN_CLUSTER.keys()


@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_each_driver_is_a_role(checkout: Path, name: str) -> None:
    assert (checkout / f"roles/sdn_{name}/tasks/main.yml").exists()


@pytest.fixture
def sdn(checkout: Path) -> Sdn:
    return load_site(yaml.safe_load((checkout / "inventories/lab/site.yml").read_text())).cluster.sdn


def test_what_the_driver_bgp_is_given(sdn: Sdn) -> None:
    plain = replace(sdn, policies=None, overlay=None, masquerade=None)
    assert (plain.hidden, plain.masquerades, plain.policy_engine) == (False, False, None)
    assert plain.kube_proxy
    assert not plain.node_pod_cidr
    assert replace(plain, masquerade=True).masquerades
    assert not replace(plain, masquerade=True).hidden
    assert replace(plain, overlay="vxlan").masquerades
    assert replace(plain, policies="kube-network-policies").policy_engine == "kube-network-policies"


def test_what_the_driver_cilium_brings(sdn: Sdn) -> None:
    own = replace(sdn, driver="cilium", policies=None, overlay=None, masquerade=None)
    assert (own.hidden, own.masquerades, own.policy_engine) == (True, True, "cilium")
    assert not own.kube_proxy
    assert own.node_pod_cidr


@pytest.mark.parametrize(
    ("inventory", "told"),
    [
        ("lab-fabric", {"overlay": False, "masquerade": False, "policies": "kube-network-policies"}),
        ("lab-cilium", {"overlay": True, "masquerade": True, "policies": "cilium"}),
    ],
)
def test_what_the_role_verify_is_told(checkout: Path, inventory: str, told: dict[str, object]) -> None:
    data = yaml.safe_load((checkout / f"inventories/{inventory}/site.yml").read_text())
    assert FilterModule().filters()["sdn_capabilities"](data) == told
