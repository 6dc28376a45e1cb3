# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans of generated sites in generated states: safe, in order, and empty once they were done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.changes import Change, Intent
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.kubelet import merged_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Server, Site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.plan import Plan, make_plan
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.service import depended_on
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.stages import (
    DRAIN,
    HARDWARE,
    STAGES,
    node_labels,
    node_taints,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import (
    Bios,
    BmcState,
    ClusterState,
    EtcdMember,
    HostState,
    NodeState,
    Raid,
    SiteState,
)

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[5] / "plugins/plugin_utils/_site/plan.schema.json").read_text("utf-8")
)
MEDIA, IMAGE, FILES = "http://192.0.2.2:8080/token/", "a" * 64, {"/etc/hosts": "2" * 64 + " 0644"}
KUBELET = {"maxPods": 200, "cgroupDriver": "systemd"}
UNITS = ("containerd.service", "kubelet.service", "systemd-networkd.service", "systemd-timesyncd.service")
MIRROR = {"system": {"raid_type": "RAID1", "drives": ["0", "1"]}}
BIOS = {"Virtualization": "Enabled", "Retries": 3}
TAINT = {"key": "example.net/a", "value": "b", "effect": "NoSchedule"}


@st.composite
def sites(draw: st.DrawFn) -> Site:
    def server(number: int) -> dict[str, Any]:
        return {
            "name": f"s{number}",
            "roles": ["worker"] if number else draw(st.sampled_from([["control_plane"], ["control_plane", "worker"]])),
            "profile": draw(st.sampled_from(["data", "plain"])),
            "bmc": f"192.0.2.{10 + number}",
            "addresses": {"node": f"198.51.100.{10 + number}"},
            "labels": draw(st.sampled_from([{}, {"example.net/x": "y"}])),
            "taints": draw(st.sampled_from([[], [TAINT]])),
            "reinstall": draw(st.sampled_from([None, None, "one"])),
        }

    system, data = {"select": "starts_with(serial_number, 'SYS')"}, {"select": "starts_with(serial_number, 'DATA')"}
    servers = [server(number) for number in range(draw(st.integers(1, 6)))]
    cut = draw(st.integers(1, len(servers)))
    return load_site(
        {
            "site": {"name": "s", "domain": "s.example.net", "ntp": draw(st.sampled_from([[], ["192.0.2.1"]]))},
            "networks": {"bmc": {"cidr": "192.0.2.0/24"}, "node": {"cidr": "198.51.100.0/24"}},
            "deploy": {"address": "198.51.100.2", "bmc_address": "192.0.2.2"},
            "limits": {"max_unavailable": draw(st.sampled_from([{}, {"rack": 1}, {"workers": 3}, {"servers": "50%"}]))},
            "profiles": {
                "data": {"disks": {"system": system, "data": data}, "serial": draw(st.sampled_from([None, 1, "50%"]))},
                "plain": {
                    "disks": {"system": system},
                    "bios": draw(st.sampled_from([{}, BIOS])),
                    "volumes": draw(st.sampled_from([{}, MIRROR])),
                },
            },
            "racks": [{"name": "a", "servers": servers[:cut]}, {"name": "b", "servers": servers[cut:]}],
            "cluster": {
                "kubernetes": "v1.36.3",
                "sdn": {"driver": "bgp", "pods": "10.244.0.0/16", "services": "10.96.0.0/16"},
            },
        }
    )


def installed(server: Server, joined: bool) -> HostState:
    """The system of this server right after it was installed, or after it joined."""
    return HostState(
        where="node",
        image_id=IMAGE,
        installed={"reinstall": server.reinstall},
        files=FILES,
        kubelet_configured=joined,
        kubelet_config=merged_config("", KUBELET) if joined else "",
        initialised=joined and "control_plane" in server.roles,
        disks=({"serial_number": "SYS-1", "name": "vda"}, {"serial_number": "DATA-1", "name": "sda"}),
        units=dict.fromkeys(UNITS, "active"),
        etcd=EtcdMember("a", True, False, ("a",)) if joined and "control_plane" in server.roles else None,
    )


def joined(server: Server) -> NodeState:
    return NodeState(ready=True, version="v1.36.3", taints=tuple(node_taints(server)))


@st.composite
def hosts(draw: st.DrawFn, server: Server) -> HostState:
    kind = draw(st.sampled_from(["silent", "ramdisk", "node", "node", "node"]))
    if kind == "silent":
        return HostState(error="SSH: timed out")
    if kind == "ramdisk":
        return HostState(where="ramdisk")
    host = installed(server, draw(st.booleans()))
    return replace(
        host,
        image_id=draw(st.sampled_from([IMAGE, "b" * 64])),
        installed=draw(st.sampled_from([None, {"reinstall": None}, {"reinstall": server.reinstall}])),
        files=draw(st.sampled_from([FILES, {}])),
        network=draw(st.sampled_from([(), ("bond0: MTU 1500, not 9000",)])),
        units={**host.units, **draw(st.dictionaries(st.sampled_from(UNITS), st.sampled_from(["failed", "masked"])))},
        kubelet_config=draw(st.sampled_from([host.kubelet_config, "maxPods: 1\n"])),
        local_mounts=draw(st.sampled_from([(), ("DATA-1",)])),
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[Site, Intent, SiteState]:
    site = draw(sites())
    bmc = st.builds(
        BmcState,
        power=st.sampled_from(["on", "off", "powering_on"]),
        media=st.sampled_from([(), (MEDIA + "x.iso",), ("http://192.0.2.9/x.iso",)]),
        bios=st.one_of(
            st.builds(Bios, st.just(BIOS), st.sampled_from([{}, {"Retries": 4}])),
            st.builds(Bios, st.just({**BIOS, "Virtualization": "Disabled"}), st.sampled_from([{}, BIOS])),
            st.just(Bios(error="it shows no BIOS attributes")),
        ),
        error=st.sampled_from([None, None, None, "unreachable"]),
    )
    nodes = {
        server.name: replace(
            joined(server),
            ready=draw(st.sampled_from([True, True, False])),
            cordoned=draw(st.sampled_from([False, False, True])),
            drained=draw(st.sampled_from([False, False, True])),
            labels=draw(st.sampled_from([{}, node_labels(server)])),
            taints=draw(st.sampled_from([(), tuple(node_taints(server))])),
        )
        for server in site.servers
        if draw(st.booleans())
    }
    reachable = draw(st.sampled_from([True, True, False]))
    cluster = ClusterState(
        reachable=reachable,
        known=reachable or draw(st.booleans()),
        error=None if reachable else "connection refused",
        nodes=nodes if reachable else {},
    )
    raid = st.sampled_from([Raid(), Raid(("system",)), Raid((), {"system": "in use"}, ("x",)), Raid(foreign=("x",))])

    def read(server: Server) -> BmcState:
        """What is read of a BMC: more only where the profile asks for it."""
        profile, found = site.profiles[server.profile], draw(bmc)
        return replace(found, bios=found.bios if profile.bios else None, raid=draw(raid) if profile.volumes else None)

    state = SiteState(
        bmcs={server.name: read(server) for server in site.servers},
        hosts={server.name: draw(hosts(server)) for server in site.servers},
        cluster=cluster,
        leases={site.servers[-1].name: "another run"} if draw(st.integers(0, 4)) == 4 else {},
    )
    files = {server.name: FILES for server in site.servers}
    return site, Intent(IMAGE, files, KUBELET, "v2.4.2", MEDIA), state


def apply(site: Site, plan: Plan, state: SiteState) -> SiteState:
    """A model of what a run does: every change of the plan takes full effect, in order, and nothing else happens."""
    hosts, bmcs, nodes = dict(state.hosts), dict(state.bmcs), dict(state.cluster.nodes)
    reachable = state.cluster.reachable
    for change in plan.changes:
        name, server = change.server, site.server(change.server)
        host = hosts[name]
        if change.stage == "drain":
            continue  # A run that ends lets the node take pods again.
        if change.action == "volumes":
            raid = bmcs[name].raid
            assert raid is not None
            bmcs[name] = replace(bmcs[name], raid=replace(raid, missing=()))
        elif change.stage == "hardware":
            bios = bmcs[name].bios
            assert bios is not None
            restarted = change.action == "restart"
            bmcs[name] = replace(bmcs[name], bios=Bios({**bios.current, **BIOS} if restarted else bios.current, BIOS))
        elif change.stage == "os":
            bios = bmcs[name].bios
            # With the reset comes into force what waits for one.
            if bios is not None and change.action != "wait":
                bios = replace(bios, current={**bios.current, **bios.pending}, pending={})
            bmcs[name] = replace(bmcs[name], power="on", media=(), bios=bios)
            # What was only waited for, or powered on, is a system that was installed before.
            old = change.action in ("disk", "wait")
            hosts[name] = installed(server, joined=old and name in nodes)
            if old:
                hosts[name] = replace(hosts[name], local_mounts=("DATA-1",))
            elif name in nodes:
                nodes[name] = replace(nodes[name], ready=False)
        elif change.action == "files":
            hosts[name] = replace(host, files=FILES)
        elif change.action == "network":
            hosts[name] = replace(host, network=())
        elif change.action == "services":
            hosts[name] = replace(host, units=dict.fromkeys(UNITS, "active"))
        elif change.action == "kubelet":
            hosts[name] = replace(host, kubelet_config=merged_config(host.kubelet_config, KUBELET))
        elif change.action == "claim":
            hosts[name] = replace(host, local_mounts=("DATA-1",))
        elif change.action in ("init", "join"):
            new = installed(server, joined=True)
            hosts[name] = replace(
                host,
                kubelet_configured=True,
                initialised=new.initialised,
                kubelet_config=host.kubelet_config if host.kubelet_configured else new.kubelet_config,
                units={**host.units, "kubelet.service": "active"},
                etcd=host.etcd or new.etcd,
            )
            nodes[name] = replace(nodes.get(name, joined(server)), ready=True)
            reachable = reachable or change.action == "init"
        elif change.action == "label":
            nodes[name] = replace(nodes[name], labels={**nodes[name].labels, **node_labels(server)})
        elif change.action == "taint":
            nodes[name] = replace(nodes[name], taints=(*nodes[name].taints, *node_taints(server)))
        elif change.action == "uncordon":
            nodes[name] = replace(nodes[name], cordoned=False, drained=False)
        else:
            raise AssertionError(change)
    cluster = replace(state.cluster, nodes=nodes, reachable=reachable, known=state.cluster.known or reachable)
    return replace(state, bmcs=bmcs, hosts=hosts, cluster=cluster)


@settings(deadline=None, max_examples=250)
@given(situations())
def test_order_and_safety(situation: tuple[Site, Intent, SiteState]) -> None:
    site, intent, state = situation
    plan = make_plan(site, intent, state)
    jsonschema.validate(plan.to_dict(), SCHEMA)
    order = [STAGES.index(change.stage) for change in plan.changes]
    assert order == sorted(order)
    changed, alone = {c.server for c in plan.changes}, {p.server for p in plan.problems}
    assert not changed & alone, "what is left alone is not changed"
    assert {*changed, *alone} <= {*plan.servers}
    assert {*plan.later} <= changed
    assert not {*plan.later} & {name for names in plan.to_dict()["todo"].values() for name in names}
    for wave in plan.waves:
        assert {*wave} <= {c.server for c in plan.changes if c.stage == "os" or c.disruption != "none"}
    for change in plan.changes:
        server, host, bmc = site.server(change.server), state.hosts[change.server], state.bmcs[change.server]
        if change.disruption == "data":
            again = server.reinstall and (host.installed or {}).get("reinstall") != server.reinstall
            assert host.where != "node" or again, "a running system is never written over unasked"
            assert bmc.error is None, "a server whose BMC can't be used is never taken into an installation"
            ours = any(url.startswith(MEDIA) for url in bmc.media)
            assert host.where or bmc.power == "off" or ours, "a silent, powered-on server is left as it is"
            if depended_on(server, state):
                assert state.cluster.reachable, "unreadable is not absent"
        if change.action == "volumes":
            first = next(c for c in plan.changes if c.server == change.server and c.stage == "os")
            assert first.action == "ramdisk", "drives are taken only where the disks are looked at afterwards"
        if change.action == "restart":
            assert host.where == "node" and bmc.error is None
            assert state.cluster.reachable or not depended_on(server, state), "nobody knows what depends on it"
        if change.stage == "drain":
            assert host.where == "node" and state.cluster.reachable, "nothing can leave what does not answer"
            assert state.cluster.nodes[change.server].ready
            after = [c for c in plan.changes if c.server == change.server and c.disruption in ("reboot", "data")]
            assert after, "only who is disrupted is drained"
        if change.disruption in ("reboot", "data") and host.where == "node" and state.cluster.reachable:
            node = state.cluster.nodes.get(change.server)
            drained = any(c.server == change.server and c.stage == "drain" for c in plan.changes)
            assert drained == (node is not None and node.ready), "who is disrupted is drained, where that can be"
        if change.action == "uncordon":
            assert state.cluster.nodes[change.server].drained, "what a person cordoned stays so"
        if change.stage in ("os", "drain") or change.action in ("restart", "uncordon"):
            assert change.server not in state.leases, "two runs never boot one server"
    for server in site.servers:
        if state.hosts[server.name].where is None and state.bmcs[server.name].error:
            assert server.name in alone, "what can't be read is told"


@settings(deadline=None, max_examples=250)
@given(situations())
def test_a_plan_that_was_done_leaves_an_empty_one(situation: tuple[Site, Intent, SiteState]) -> None:
    site, intent, state = situation
    first = make_plan(site, intent, state)
    done = apply(site, first, state)
    second = make_plan(site, intent, done)
    if state.cluster.reachable == done.cluster.reachable:
        waited = {p.server for p in first.problems}
        # A server that is booting is waited for; what its BMC sets, with a restart, is compared when it is up.
        booting = {c.server for c in first.changes if c.action == "wait"}
        left = {c.server for c in second.changes if not (c.stage in (DRAIN, HARDWARE) and c.server in booting)}
        assert left <= waited, "only what had to wait is left"
    rounds = 0
    while second.changes:
        rounds += 1
        assert rounds <= len(site.servers) + 2, f"it never ends: {second.lines}"
        done = apply(site, second, done)
        second = make_plan(site, intent, done)


@settings(deadline=None, max_examples=100)
@given(situations(), st.data())
def test_the_plan_of_some_servers_is_that_part_of_the_whole(
    situation: tuple[Site, Intent, SiteState], data: st.DataObject
) -> None:
    """`--limit` changes who is planned, never what is found out about a server."""
    site, intent, state = situation
    # Without disruptions: budgets are shared, so there the others do matter.
    site = replace(site, servers=tuple(replace(server, reinstall=None) for server in site.servers))
    names = data.draw(st.sets(st.sampled_from([server.name for server in site.servers])))
    part = replace(
        state,
        bmcs={name: state.bmcs[name] for name in names},
        hosts={name: state.hosts[name] for name in names},
    )

    def of(plan: Plan) -> list[Change]:
        return [change for change in plan.changes if change.server in names]

    assert of(make_plan(site, intent, part)) == of(make_plan(site, intent, state))
