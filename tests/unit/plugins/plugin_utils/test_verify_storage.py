# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds_drivers import DRIVERS, HOLDERS
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._verify_storage import (
    Cut,
    checks,
    cuts,
    space_command,
    volume_of,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import edited

CHECKOUT = Path(__file__).resolve().parents[4]
ROWS = yaml.safe_load((CHECKOUT / "roles/verify/vars/main.yml").read_text())["_verify_every_check"]
LAB = yaml.safe_load((CHECKOUT / "inventories/lab-storage/site.yml").read_text())
CEPH = load_site(yaml.safe_load((CHECKOUT / "inventories/lab-ceph/site.yml").read_text()))
WORKERS = ["node1", "node2"]
THREE = ["nfs", "lvm", "local"]
BY_NAME = {"cp1": 0, "node1": 1, "node2": 2}


def lab(*edits: tuple[str, Any]) -> Site:
    return load_site(edited(LAB, edits))


def lab_of(exporting: str, grouped: list[str], data: bool = True) -> Site:
    """The lab with this NFS server, volume groups on these servers, and data disks or none."""
    pools = {
        "fast": LAB["profiles"]["compute"]["storage"]["fast"],
        "export": LAB["profiles"]["filer"]["storage"]["export"],
    }
    profiles: dict[str, Any] = {}
    servers = []
    for server in LAB["racks"][0]["servers"]:
        name = server["name"]
        has = {"fast": name in grouped, "export": name == exporting}
        disks = LAB["profiles"]["compute"]["disks"]
        profiles[name] = {
            "expect": [],
            "network": LAB["profiles"]["compute"]["network"],
            "disks": disks if data else {"system": disks["system"]},
            "storage": {pool: pools[pool] for pool, wanted in has.items() if wanted},
        }
        servers.append({**server, "profile": name})
    chosen = [{**sds, "server": exporting} if sds["driver"] == "nfs" else sds for sds in LAB["cluster"]["sds"]]
    return lab(("profiles", profiles), ("racks", [{"name": "a01", "servers": servers}]), ("cluster.sds", chosen))


def names(steps: list[dict[str, Any]]) -> list[str]:
    return [step["name"] for step in steps]


def test_one_cut_serves_all_drivers_of_the_lab() -> None:
    """Not the server that exports volumes, and the one where those that stay can be."""
    assert cuts(lab(), THREE, WORKERS) == [Cut("node1", ("nfs", "lvm", "local"))]


def test_the_only_holder_of_volumes_of_others_is_spared_though_its_driver_is_not_tried() -> None:
    site = lab_of("node1", ["node2"])
    assert cuts(site, ["local"], WORKERS) == [Cut("node2", ("local",))]
    assert cuts(site, [], WORKERS) == [Cut("node2", ())]


def test_a_volume_that_stays_on_the_server_that_exports_takes_a_second_cut() -> None:
    site = lab_of("node2", ["cp1", "node2"])
    assert cuts(site, THREE, WORKERS) == [Cut("node1", ("nfs", "local")), Cut("node2", ("lvm",))]


def test_any_server_of_a_ceph_cluster_may_go() -> None:
    workers = [server.name for server in CEPH.with_role("worker")]
    assert [cut.drivers for cut in cuts(CEPH, ["ceph"], workers)] == [("ceph",)]
    assert len(HOLDERS["ceph"](CEPH)) == 3


def test_a_filer_is_no_server_of_the_site() -> None:
    site = lab(("cluster.sds.0.server", "203.0.113.9"))
    assert cuts(site, ["nfs"], WORKERS) == [Cut("node1", ("nfs",))]
    assert "measured" not in volume_of(site, "nfs", "node1", WORKERS)["offered"]


def test_a_driver_that_no_worker_has_volumes_of_is_told_by_its_own_checks() -> None:
    assert cuts(lab_of("node2", ["cp1"]), THREE, WORKERS) == [Cut("node1", ("nfs", "local", "lvm"))]
    assert cuts(lab_of("node2", ["cp1"]), ["lvm"], WORKERS) == [Cut("node1", ("lvm",))]
    assert cuts(lab(), THREE, []) == [Cut("", ("nfs", "lvm", "local"))]


@given(
    exporting=st.sampled_from(sorted(BY_NAME)),
    grouped=st.lists(st.sampled_from(sorted(BY_NAME)), unique=True, min_size=1),
    data=st.booleans(),
    drivers=st.permutations(THREE),
    workers=st.sampled_from([["node1", "node2"], ["cp1", "node1", "node2"], ["node2", "node1"]]),
)
def test_cuts_of_any_site(
    exporting: str, grouped: list[str], data: bool, drivers: list[str], workers: list[str]
) -> None:
    site = lab_of(exporting, grouped, data)

    def may(driver: str, worker: str) -> bool:
        return worker != exporting if driver == "nfs" else worker in (grouped if driver == "lvm" else workers * data)

    found = cuts(site, drivers, workers)
    assert sorted(name for cut in found for name in cut.drivers) == sorted(drivers), "each once"
    assert len({cut.worker for cut in found}) == len(found)
    for cut in found:
        for driver in cut.drivers:
            assert may(driver, cut.worker) or not any(may(driver, worker) for worker in workers)
    able = [driver for driver in drivers if any(may(driver, worker) for worker in workers)]
    if any(all(may(driver, worker) for driver in able) for worker in workers):
        assert len(found) == 1


@pytest.mark.parametrize(
    ("driver", "offered"),
    [
        ("local", ["measured"]),
        ("lvm", ["size_enforced", "capacity_told", "expansion", "measured"]),
        ("nfs", ["many", "moves", "measured"]),
    ],
)
def test_checks_are_chosen_by_what_a_driver_offers(driver: str, offered: list[str]) -> None:
    found = volume_of(lab(), driver, "node1", WORKERS)
    assert (found["name"], found["offered"]) == (f"sds-{driver}", offered)
    assert "snapshots" in found["not_offered"]
    assert found["default_class"] == (driver == "nfs")


def test_pods_are_where_they_are_needed() -> None:
    local, shared = (volume_of(lab(), driver, "node1", WORKERS) for driver in ("local", "nfs"))
    assert local["first"] == local["then"] == {"sds-local": "node1"}
    assert shared["first"] == {"sds-nfs": "node2", "sds-nfs-other": "node1"}
    assert shared["then"] == {"sds-nfs": "node1", "sds-nfs-other": "node2"}


def test_what_serves_the_claims_of_each_driver_can_be_waited_for() -> None:
    assert {can.workload[0] for can in DRIVERS.values()} == {"deployment", "daemonset"}
    assert volume_of(lab(), "lvm", "node1", WORKERS)["running"] == "daemonset_ready"


def test_plain_checks() -> None:
    found = names(checks(ROWS, lab(), ["power"], ["lvm"], WORKERS))
    assert found == [
        *("nodes", "web", "web_replica_deleted", "pod_network", "services"),
        *("sds:lvm", "sds:lvm", "sds_moved:lvm", "sds_moved:lvm"),
        *("sds_count:lvm", "worker_off", "worker_on", "sds_power:lvm"),
    ]
    assert names(checks(ROWS, lab(), [], ["lvm"], WORKERS)) == found[:-4]


def test_all_drivers_are_waited_for_together_and_share_one_cut() -> None:
    steps = checks(ROWS, lab(), ["storage", "power", "rack"], THREE, WORKERS)
    told = [f"{step['name']} {step['tasks']}" for step in steps if step["name"] != "nodes"]
    first = told.index("sds:nfs sds_apply.yml")
    assert told[first : first + 6] == [
        *("sds:nfs sds_apply.yml", "sds:lvm sds_apply.yml", "sds:local sds_apply.yml"),
        *("sds:nfs sds.yml", "sds:lvm sds.yml", "sds:local sds.yml"),
    ]
    assert [name for name in dict.fromkeys(names(steps)) if name.startswith(("sds", "worker", "rack"))] == [
        *("sds:nfs", "sds:lvm", "sds:local", "sds_moved:nfs", "sds_moved:lvm", "sds_moved:local", "sds_many:nfs"),
        *("sds_speed:nfs", "sds_speed:lvm", "sds_speed:local", "sds_full:lvm", "sds_room:lvm", "sds_expanded:lvm"),
        *("sds_removed:nfs", "sds_removed:lvm", "sds_removed:local"),
        *("sds_applied:nfs", "sds_applied:lvm", "sds_applied:local"),
        *("sds_count:nfs", "sds_count:lvm", "sds_count:local", "worker_off", "sds_node_lost:nfs", "worker_on"),
        *("sds_power:nfs", "sds_power:lvm", "sds_power:local"),
        *("sds_rack_count:nfs", "sds_rack_count:lvm", "sds_rack_count:local", "rack_power"),
        *("sds_rack_power:nfs", "sds_rack_power:lvm", "sds_rack_power:local"),
        *("sds_freed:nfs", "sds_freed:lvm", "sds_freed:local"),
    ]


def test_the_ground_of_a_check_is_of_the_same_driver() -> None:
    steps = checks(ROWS, lab(), ["storage", "power"], THREE, WORKERS)
    needs = {step["name"]: step["needs"] for step in steps}
    assert needs["sds_moved:lvm"] == ["sds:lvm"]
    assert needs["sds:lvm"] == ["web"]
    assert needs["sds_power:nfs"] == ["sds_count:nfs", "worker_on"]
    assert needs["worker_on"] == ["worker_off"]
    made = [name for step in steps for name in step["needs"]]
    assert set(made) <= set(names(steps)), "a check that nobody makes is never proved"


def test_a_second_cut_has_checks_of_its_own() -> None:
    site = lab_of("node2", ["cp1", "node2"])
    steps = checks(ROWS, site, ["storage", "network", "power"], THREE, WORKERS)
    found = names(steps)
    assert found[found.index("sdn_watch") : found.index("sds_freed:nfs")] == [
        *("sdn_watch", "sds_count:nfs", "sds_count:local", "worker_off", "sdn_node_lost", "sds_node_lost:nfs"),
        *("worker_on", "sds_power:nfs", "sds_power:local"),
        *("sds_count:lvm", "worker_off:node2", "worker_on:node2", "sds_power:lvm"),
    ]
    last = {step["name"]: step for step in steps}
    assert last["worker_on:node2"]["needs"] == ["worker_off:node2"]
    assert last["sds_power:lvm"]["needs"] == ["sds_count:lvm", "worker_on:node2"]
    assert (last["worker_off"]["worker"], last["worker_off:node2"]["worker"]) == ("node1", "node2")
    assert last["sds:lvm"]["volume"]["first"] == {"sds-lvm": "node2"}


def test_no_driver_is_no_volume() -> None:
    found = names(checks(ROWS, lab(), ["storage", "power"], [], WORKERS))
    assert found == ["nodes", "web", "web_replica_deleted", "pod_network", "services", "worker_off", "worker_on"]


def test_a_driver_that_the_site_does_not_use() -> None:
    with pytest.raises(ValueError, match=r"does not use the storage driver ceph, longhorn, only nfs, lvm, local"):
        checks(ROWS, lab(), [], ["longhorn", "ceph", "lvm"], WORKERS)


def test_where_to_ask_how_much_is_free() -> None:
    node = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1"]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}}
    path = "/var/lib/kiban/local/S1/pvc-1_apps_sds"
    found = space_command({"spec": {"local": {"path": path}, "nodeAffinity": affinity}}, [])
    assert (found["host"], found["argv"][-1]) == ("node1", "--target=/var/lib/kiban/local/S1")
    found = space_command({"spec": {"local": {"path": "/dev/fast/pvc-1"}, "nodeAffinity": affinity}}, [])
    assert (found["host"], found["argv"][0], found["argv"][-1]) == ("node1", "vgs", "fast")
    assert found["device"] == "/dev/fast/pvc-1"
    shared = {"spec": {"nfs": {"server": "198.51.100.22", "path": "/srv/volumes/pvc-1"}}}
    found = space_command(shared, ["node2"])
    assert (found["host"], found["argv"][-1]) == ("node2", "--target=/srv/volumes")
