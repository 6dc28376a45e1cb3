# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A LAG with LACP between a switch and a server that has a real bond, and numbered links between switches."""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import (
    Bench,
    Router,
    Switch,
    eventually,
    missing,
)

WHY = missing("ethtool", "ovs-appctl")
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]

DATA = copy.deepcopy(BASE)
del DATA["racks"][0]["switches"][1:]
DATA["racks"][0]["switches"][0]["cables"] = {}
DATA["racks"][0]["servers"] = [{**DATA["racks"][0]["servers"][0], "cables": {"eno1": "tor1:swp1", "eno2": "tor1:swp2"}}]
DATA["profiles"]["compute"]["network"] = {"mode": "802.3ad"}
DATA["racks"][1]["switches"] = []


TOR1 = intents(load_site(DATA))["tor1"]
LAG = f"lag{TOR1.lags[0].number}"


@pytest.fixture(scope="module")
def rack() -> Iterator[SimpleNamespace]:
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        bench = Bench(Path(directory))
        try:
            tor1, cp1 = bench.add(Switch, "tor1"), bench.add(Switch, "cp1")
            bench.wire("tor1", "swp1", "cp1", "eno1")
            bench.wire("tor1", "swp2", "cp1", "eno2")
            # The server's kernel may have no bonds; Open vSwitch has one that speaks LACP.
            vsctl = ["ovs-vsctl", f"--db=unix:{cp1.directory}/db.sock"]
            cp1.run(*vsctl, "add-br", "bond0", "--", "set", "bridge", "bond0", "datapath_type=netdev")
            cp1.run(
                *vsctl,
                *("add-bond", "bond0", "b0", "eno1", "eno2", "bond_mode=balance-tcp", "lacp=active"),
                *("other_config:lacp-time=fast", "other_config:bond-detect-mode=miimon"),
            )
            cp1.run("ip", "link", "set", "bond0", "up")
            cp1.run("ip", "address", "add", "198.51.100.11/24", "dev", "bond0")
            config = render("linux", TOR1)
            options = {"tables": dict(config.tables), "text": config.text}
            answer = tor1.module("switch_config", **options)
            assert not answer.get("failed"), answer["msg"]
            tor1.module("switch_config", state="confirmed")
            yield SimpleNamespace(bench=bench, tor1=tor1, cp1=cp1, options=options)
        finally:
            bench.close()


def negotiated(rack: SimpleNamespace) -> int:
    """Members of the switch's LAG that have a partner."""
    told = rack.tor1.run("ovs-appctl", "-t", f"{rack.tor1.directory}/vswitchd.ctl", "lacp/show", LAG)
    return told.count("current attached") if "active negotiated" in told else 0


def answers(rack: SimpleNamespace) -> bool:
    """Whether the gateway is reached: its BGP port answers."""
    code = "import socket; socket.create_connection(('198.51.100.1', 179), 1); print('yes')"
    return "yes" in rack.cp1.run(sys.executable, "-c", code, check=False)


def test_both_members_find_their_partner(rack: SimpleNamespace) -> None:
    eventually(lambda: negotiated(rack) == 2, 90)
    eventually(lambda: answers(rack), 30)
    assert not rack.tor1.module("switch_config", check=True, **rack.options)["changed"]


def test_the_server_goes_on_with_one_cable(rack: SimpleNamespace) -> None:
    eventually(lambda: negotiated(rack) == 2 and answers(rack), 90)
    for cut in ("swp1", "swp2"):
        rack.tor1.run("ip", "link", "set", cut, "down")
        took = eventually(lambda: answers(rack), 30)
        print(f"answers again {took:.1f} s after {cut} went down")
        rack.tor1.run("ip", "link", "set", cut, "up")
        eventually(lambda: negotiated(rack) == 2, 90)
        eventually(lambda: answers(rack), 30)


def test_numbered_links() -> None:
    found = intents(load_site({**BASE, "fabric": {"links": "10.255.0.0/28"}}))
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        bench = Bench(Path(directory))
        try:
            # The other tor1 is still there.
            near, far = bench.add(Router, "near"), bench.add(Router, "far")
            bench.wire("near", "swp49", "far", "swp1")
            for router, name in ((near, "tor1"), (far, "spine1")):
                path = router.directory / "frr.conf"
                path.write_text(render("linux", found[name]).text)
                router.run("vtysh", "--vty_socket", router.directory, "-f", path)
            eventually(lambda: "10.255.0.1" in near.run("ip", "route", "show", "203.0.113.3"), 90)
            eventually(lambda: "10.255.0.0" in far.run("ip", "route", "show", "203.0.113.1"), 30)
        finally:
            bench.close()
