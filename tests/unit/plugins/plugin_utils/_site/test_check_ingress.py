# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How HTTP from outside reaches the cluster: what is wrong is named by its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Ingress, SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import site_vars

IN_POOL, ELSEWHERE = "203.0.113.130", "203.0.113.5"


def data(checkout: Path, name: str, ingress: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((checkout / f"inventories/{name}/site.yml").read_text())
    found["cluster"]["ingress"] = ingress
    return found


@pytest.mark.parametrize(
    ("name", "ingress", "wanted"),
    [
        ("lab", {}, Ingress()),
        ("lab", {"driver": "traefik"}, Ingress("traefik")),
        ("lab", {"driver": "traefik", "https_node_port": 31443}, Ingress("traefik", None, 30080, 31443)),
        ("lab-fabric", {"driver": "traefik", "address": IN_POOL}, Ingress("traefik", IN_POOL)),
    ],
)
def test_what_is_right(checkout: Path, name: str, ingress: dict[str, Any], wanted: Ingress) -> None:
    site = load_site(data(checkout, name, ingress))
    assert site.cluster.ingress == wanted
    assert load_site(site_vars(site)).cluster.ingress == wanted


@pytest.mark.parametrize(
    ("name", "ingress", "said"),
    [
        ("lab", {"driver": "nginx"}, "cluster.ingress.driver: 'nginx' is not supported"),
        ("lab", {"class": "x"}, "cluster.ingress.class: unknown key"),
        ("lab", {"driver": "traefik", "http_node_port": 80}, "cluster.ingress.http_node_port: 80 is out of range"),
        (
            "lab",
            {"driver": "traefik", "http_node_port": 30443},
            "cluster.ingress.http_node_port: 30443 would be the port of HTTP and of HTTPS; another port",
        ),
        (
            "lab",
            {"driver": "traefik", "http_node_port": 31000, "https_node_port": 31000},
            "cluster.ingress.https_node_port: 31000 would be the port of HTTP and of HTTPS",
        ),
        ("lab", {"driver": "traefik", "address": "x"}, "cluster.ingress.address: 'x' is not"),
        (
            "lab",
            {"driver": "traefik", "address": IN_POOL},
            "cluster.ingress.address: without cluster.load_balancer.driver nothing gives it to a Service; leave it out",
        ),
        ("lab-fabric", {"address": IN_POOL}, "cluster.ingress.driver: missing; the address is for it"),
        (
            "lab-fabric",
            {"driver": "traefik", "address": ELSEWHERE},
            f"cluster.ingress.address: {ELSEWHERE} is in none of cluster.load_balancer.pools; "
            "an address of 203.0.113.128/26",
        ),
    ],
)
def test_what_is_wrong(checkout: Path, name: str, ingress: dict[str, Any], said: str) -> None:
    with pytest.raises(SiteError) as caught:
        load_site(data(checkout, name, ingress))
    (problem,) = caught.value.problems
    assert str(problem).startswith(said)
