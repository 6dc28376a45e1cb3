# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.ceph import (
    differences_of_ceph,
    notices_of_ceph,
    volumes_of_ceph,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.changes import Intent, View
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.disruption import Service, admit
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import HostState, SiteState

CHECKOUT = Path(__file__).resolve().parents[5]
SITE = load_site(yaml.safe_load((CHECKOUT / "inventories/lab-ceph/site.yml").read_text()))
NAMES = ("cp1", "node1", "node2")


def said(**more: Any) -> dict[str, Any]:
    """What a monitor's server says of a cluster that is in order."""
    osds = [{"id": number, "uuid": f"u{number}", "host": name, "up": 1, "in": 1} for number, name in enumerate(NAMES)]
    return {"quorum": [*NAMES], "health": [], "cluster_osds": osds, "groups": [[80, 2, [*NAMES]]], **more}


def hosts(answers: dict[str, dict[str, Any]]) -> dict[str, HostState]:
    found = {}
    for number, name in enumerate(NAMES):
        units = [f"ceph-{kind}@{name}.service" for kind in ("mon", "mgr", "mds")]
        units += [f"ceph-osd@{number}.service", "var-lib-kiban-ceph.automount"]
        own = {"monitor": True, "osds": {"/dev/osd/block": number}, "units": dict.fromkeys(units, "active")}
        found[name] = HostState(where="node", ceph={**own, **answers.get(name, {})})
    return found


def may_go(answers: dict[str, dict[str, Any]], *names: str) -> dict[str, str]:
    """Who of these must not restart now, and why."""
    service = Service(volumes=volumes_of_ceph(SITE, hosts(answers)))
    # Pods, etcd and the budgets of the site are not what is asked here.
    wanted = [(name, "data") for name in names if name != "cp1"]
    return {name: "; ".join(reasons) for name, reasons in admit(SITE, service, wanted)[1].items()}


def everybody(**more: Any) -> dict[str, dict[str, Any]]:
    return dict.fromkeys(NAMES, said(**more))


def test_one_server_at_a_time_may_go() -> None:
    assert may_go(everybody(), "node1") == {}
    refused = may_go(everybody(), "node1", "node2")
    assert [*refused] == ["node2"]
    reason = "each of 80 placement groups of Ceph needs 2 healthy replicas, and without node2 1 would be left"
    assert reason in refused["node2"]
    assert "the map of Ceph's monitors needs 2" in refused["node2"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        # Two copies are left of some: without one more they would take no more writes.
        ({"groups": [[70, 2, [*NAMES]], [10, 2, ["node1", "node2"]]]}, "each of 10 placement groups of Ceph needs 2"),
        # All three are there, and one of them is behind: nobody knows which.
        ({"groups": [[3, 3, [*NAMES]]]}, "each of 3 placement groups of Ceph needs 3"),
        ({"quorum": ["node1", "node2"]}, "the map of Ceph's monitors needs 2 healthy replicas"),
    ],
)
def test_nobody_goes_whom_the_data_needs(answer: dict[str, Any], reason: str) -> None:
    assert reason in may_go(everybody(**answer), "node1")["node1"]


def test_what_could_not_be_read_is_not_risked() -> None:
    refused = may_go({key: {"error": "TimedOut: error connecting to the cluster"} for key in NAMES}, "node1")
    assert "all data in Ceph, which could not be read (cp1: TimedOut" in refused["node1"]
    # Without a manager the cluster says how it is, and not where its data is.
    silent = {key: value for key, value in said().items() if key != "groups"} | {"error": "no answer within 25 s"}
    answers = dict.fromkeys(NAMES, silent)
    assert "(cp1: no answer within 25 s" in may_go(answers, "node1")["node1"]
    assert notices_of_ceph(SITE, hosts(answers)) == []
    # One that answers is enough.
    assert may_go({"node2": said()}, "node1") == {}


def test_before_there_is_a_cluster_nothing_depends_on_it() -> None:
    answers = {key: {"monitor": False} for key in NAMES}
    assert may_go(answers, "node1", "node2") == {}
    assert notices_of_ceph(SITE, hosts(answers)) == []


def test_what_ceph_says_against_itself_is_told() -> None:
    health = [["OSD_DOWN", "1 osds down", ["osd.1 (root=default,rack=a01,host=node1) is down"]]]
    found = notices_of_ceph(SITE, hosts(everybody(health=health)))
    assert [one.message for one in found] == [
        "Ceph says OSD_DOWN, 1 osds down: osd.1 (root=default,rack=a01,host=node1) is down"
    ]
    assert notices_of_ceph(SITE, hosts(everybody())) == []
    unread = notices_of_ceph(SITE, hosts({key: {"error": "no answer within 25 s"} for key in NAMES}))
    assert "Ceph could not be read: cp1: no answer within 25 s" in unread[0].message


def test_an_osd_without_its_disk_is_told() -> None:
    gone = {"id": 7, "uuid": "u7", "host": "node1", "up": 0, "in": 0}
    found = notices_of_ceph(SITE, hosts(everybody(cluster_osds=[*said()["cluster_osds"], gone])))
    assert [one.message.partition(".")[0] for one in found] == ["OSD 7 of node1 has no disk there any more"]


@pytest.mark.parametrize(
    ("health", "is_in", "differs"),
    [
        ([], 0, ["OSD 7 has no disk here any more"]),
        # Ceph would not let it go yet, so there is nothing to do.
        ([["PG_DEGRADED", "3 pgs degraded", []]], 0, []),
        ([], 1, []),
    ],
)
def test_an_osd_is_forgotten_when_its_copies_are_made_anew(
    health: list[list[Any]], is_in: int, differs: list[str]
) -> None:
    gone = {"id": 7, "uuid": "u7", "host": "node1", "up": 0, "in": is_in}
    found = hosts(everybody(health=health, cluster_osds=[*said()["cluster_osds"], gone]))
    for name, state in found.items():
        view = View(SITE, SITE.server(name), Intent(""), SiteState(hosts=found), state)
        assert [*differences_of_ceph(view)] == (differs if name == "node1" else [])


@pytest.mark.parametrize(
    ("own", "differs"),
    [
        ({}, []),
        ({"monitor": False}, ["there is no monitor of Ceph"]),
        ({"osds": {}}, ["there is no OSD on /dev/osd/block"]),
        ({"units": {}}, ["ceph-osd@1.service is not there", "ceph-mds@node1.service is not there"]),
    ],
)
def test_what_a_run_mends(own: dict[str, Any], differs: list[str]) -> None:
    host = hosts({"node1": own})["node1"]
    found = [*differences_of_ceph(View(SITE, SITE.server("node1"), Intent(""), SiteState(), host))]
    assert {*differs} <= {*found}
    assert bool(found) is bool(differs)


def test_an_osd_whose_disk_is_gone_is_no_work_for_a_run() -> None:
    """There is nothing to make it on: the pool tells that its disk is missing."""
    dead = {"units": {**(hosts({})["node1"].ceph or {})["units"], "ceph-osd@1.service": "failed"}}
    host = hosts({"node1": dead})["node1"]
    for disks, differs in (({}, []), ({"sdb": {"pool": "osd", "site": "lab-ceph"}}, ["ceph-osd@1.service is failed"])):
        view = View(SITE, SITE.server("node1"), Intent(""), SiteState(), replace(host, layouts={"disks": disks}))
        assert [*differences_of_ceph(view)] == differs
