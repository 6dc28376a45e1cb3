# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address of the API server that control-plane servers announce: what a site file needs, and what follows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.kubeadm import init_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import node_files

ADDRESS = "198.51.100.5"


def read(checkout: Path, name: str = "lab-fabric", **cluster: Any) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((checkout / f"inventories/{name}/site.yml").read_text())
    data["cluster"] |= {"endpoint": ADDRESS, "endpoint_by": "bgp", **cluster}
    return data


def test_control_plane_servers_watch_and_announce(checkout: Path) -> None:
    site = load_site(read(checkout))
    files = node_files(site, site.server("cp1"), "key")
    unit = files["/etc/systemd/system/kiban-endpoint.service"]
    assert f"endpoint.py {ADDRESS} 198.51.100.11 6443 /etc/kubernetes/pki/ca.crt\n" in unit
    assert "Wants=kiban-endpoint.service" in files["/etc/systemd/system/frr.service.d/20-kiban-endpoint.conf"]
    compile(files["/usr/local/lib/kiban/endpoint.py"], "endpoint.py", "exec")
    frr = files["/etc/frr/frr.conf"]
    assert f"ip prefix-list KIBAN-ENDPOINT seq 5 permit {ADDRESS}/32\n" in frr
    assert "  redistribute connected route-map KIBAN-ENDPOINT\n" in frr
    assert f"network {ADDRESS}" not in frr
    others = node_files(site, site.server("node1"), "key")
    assert ADDRESS not in "".join(others.values()) and "/usr/local/lib/kiban/endpoint.py" not in others


def test_switches_take_it_from_control_plane_servers_only(checkout: Path) -> None:
    site = load_site(read(checkout))
    for name in ("tor1", "tor2"):
        bgp = intents(site)[name].bgp
        assert bgp
        takes = {one.name for one in bgp.filters if f"{ADDRESS}/32" in {rule.prefix for rule in one.rules}}
        assert takes == {"KIBAN-cp1"}


def test_kubeadm_is_told(checkout: Path) -> None:
    """It puts the host of controlPlaneEndpoint into the API server's certificate by itself."""
    site = load_site(read(checkout))
    documents = list(yaml.safe_load_all(init_config(site, site.server("cp1"), {})))
    assert documents[1]["controlPlaneEndpoint"] == f"{ADDRESS}:6443"
    assert documents[0]["localAPIEndpoint"]["advertiseAddress"] == "198.51.100.11"


def test_by_default_nothing_of_it_is_there(checkout: Path) -> None:
    site = load_site(yaml.safe_load((checkout / "inventories/lab/site.yml").read_text()))
    assert not [path for path in node_files(site, site.server("cp1"), "key") if "endpoint" in path]


@pytest.mark.parametrize(
    ("name", "endpoint", "message"),
    [
        ("lab-fabric", None, "cluster.endpoint: missing; with endpoint_by bgp an address of the network node"),
        ("lab-fabric", "198.51.100.21", "cluster.endpoint: 198.51.100.21 is the address of node1"),
        ("lab-fabric", "198.51.100.1", "cluster.endpoint: 198.51.100.1 is the address of the gateway of node"),
        ("lab-fabric", "203.0.113.40", "cluster.endpoint: 203.0.113.40 is outside networks.node (198.51.100.0/24)"),
        ("lab", ADDRESS, "cluster.endpoint_by: the control-plane server cp1 has no routed links to announce"),
    ],
)
def test_what_cannot_be_is_named(checkout: Path, name: str, endpoint: str | None, message: str) -> None:
    with pytest.raises(SiteError) as caught:
        load_site(copy.deepcopy(read(checkout, name, endpoint=endpoint)))
    assert message in str(caught.value)
