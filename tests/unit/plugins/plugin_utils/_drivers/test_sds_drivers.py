# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds_drivers import DRIVERS, PROVISIONER, of_model
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.shape import schema
from ansible_collections.kiban.baremetal.tests.docs.storage_drivers import PAGE, page

CHECKOUT = Path(__file__).resolve().parents[5]


def test_the_site_model_knows_the_same_drivers() -> None:
    known = schema()["properties"]["cluster"]["properties"]["sds"]["items"]["properties"]["driver"]["enum"]
    assert sorted(DRIVERS) == sorted(known)


@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_each_driver_is_a_role_with_the_contract(name: str) -> None:
    tasks = CHECKOUT / f"roles/sds_{name}/tasks"
    assert {"main.yml", "wait.yml", "remove.yml"} <= {path.name for path in tasks.iterdir()}
    assert DRIVERS[name].storage_class == f"kiban-{name}"


def test_checks_that_depend_on_a_capability_name_one_that_exists() -> None:
    checks = yaml.safe_load((CHECKOUT / "roles/verify/vars/main.yml").read_text())["_verify_every_check"]
    words = {word for check in checks for word in check["wants"]}
    words -= {"network", "storage", "power", "rack", "switch", "NetworkPolicy", "LoadBalancer", "Ingress"}
    assert words == {"many", "moves", "size_enforced", "capacity_told", "expansion", "measured"}
    files = {path.name for path in (CHECKOUT / "roles/verify/tasks/checks").iterdir()}
    assert {check["tasks"] for check in checks} | {check.get("ahead", "sds.yml") for check in checks} <= files


def test_the_page_has_the_table_of_the_drivers() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run python -m tests.docs.storage_drivers"


@pytest.mark.parametrize("inventory", ["lab", "lab-ceph", "lab-storage"])
def test_objects_that_no_disk_decides_about(inventory: str) -> None:
    site = load_site(yaml.safe_load((CHECKOUT / f"inventories/{inventory}/site.yml").read_text()))
    images = {name: f"x/{name}:1" for name in ("local-path-provisioner", "agnhost", PROVISIONER)}
    found = of_model(site, images)
    used = {sds.driver for sds in site.cluster.sds}
    assert {obj["metadata"]["name"] for obj in found if obj["kind"] == "Namespace"} == {
        DRIVERS[name].workload[1] for name in used
    }
    classes = {obj["metadata"]["name"] for obj in found if obj["kind"] == "StorageClass"}
    assert classes == {DRIVERS[name].storage_class for name in used - {"local"}}
    assert of_model(site, {}) == []
