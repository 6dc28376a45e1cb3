# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may be disrupted: each reason by example, and the arithmetic for every site."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.disruption import (
    Etcd,
    Pod,
    PodBudget,
    Service,
    Volume,
    admit,
    allowed,
    refusals,
    waves,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Server, Site


def site(workers: int = 10, limits: dict[str, Any] | None = None, serial: Any = None, control: int = 1) -> Site:
    def server(name: str, first: int, role: str) -> dict[str, Any]:
        return {
            "name": name,
            "roles": [role],
            "profile": "compute",
            "bmc": f"10.1.0.{first}",
            "addresses": {"node": f"10.2.0.{first}"},
        }

    half = max(1, workers // 2)
    loaded = load_site(
        {
            "site": {"name": "lab", "domain": "lab.example.net"},
            "networks": {"bmc": {"cidr": "10.1.0.0/16"}, "node": {"cidr": "10.2.0.0/16"}},
            "deploy": {"address": "10.2.9.9", "bmc_address": "10.1.9.9"},
            "limits": {"max_unavailable": limits or {}},
            "profiles": {"compute": {"disks": {"system": {"select": "protocol == 'SATA'"}}, "serial": serial}},
            "racks": [
                {"name": "a01", "servers": [server("cp1", 1, "control_plane"), server(f"w[1:{half}]", 11, "worker")]},
                {
                    "name": "a02",
                    "servers": [server(f"w[{half + 1}:{workers}]", 11 + half, "worker")] if workers > half else [],
                },
            ],
            "cluster": {
                "kubernetes": "v1.36.3",
                "sdn": {"driver": "bgp", "pods": "10.64.0.0/10", "services": "10.3.0.0/16"},
            },
        }
    )
    # The site file knows one control-plane server so far; the decision is made for any number.
    cp1 = loaded.server("cp1")
    more = tuple(replace(cp1, name=f"cp{number}") for number in range(2, control + 1))
    return replace(loaded, servers=(*loaded.servers, *more))


def service(of: Site, **changes: Any) -> Service:
    names = [server.name for server in of.servers]
    etcd = Etcd(voters={server.name: True for server in of.with_role("control_plane")})
    return replace(Service(members=frozenset(names), etcd=etcd), **changes)


WEB = PodBudget("shop/web", disruptions_allowed=1, healthy=3, desired_healthy=2)
LOST = {"w1": "its node is not Ready"}


def pods(*names: str, ready: bool = True) -> dict[str, tuple[Pod, ...]]:
    return {name: (Pod(f"shop/web-{name}", ready, ("shop/web",)),) for name in names}


def test_a_worker_among_many_may_go() -> None:
    of = site()
    assert refusals(of, service(of), "w1", "data") == ()


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "another run": ({}, {"leases": {"w2": "process 71, since 10:02"}}, "w2", "another run works on it (process 71"),
    "unread": ({}, {"unread": "connection refused"}, "w2", "could not be read"),
    "workers": ({}, {"down": LOST}, "w2", "at most 1 of 10 servers of workers"),
    "servers": (
        {"limits": {"servers": 1, "workers": "50%"}},
        {"down": LOST},
        "w2",
        "at most 1 of 11 servers of servers",
    ),
    "its rack": (
        {"limits": {"rack": 1, "workers": "50%"}},
        {"down": LOST},
        "w2",
        "of rack a01 may be out of service (limits.max_unavailable.rack: 1), w1 already",
    ),
    "this rack": ({"limits": {"rack_a01": 1, "workers": "50%"}}, {"down": LOST}, "w2", "of rack_a01 may be"),
    "this profile": ({"limits": {"profile_compute": 1, "workers": "50%"}}, {"down": LOST}, "w2", "of profile_compute"),
    "never": ({"limits": {"workers": 0}}, {}, "w2", "at most 0 of 10"),
    "never, in percent": ({"limits": {"workers": "0%"}}, {}, "w2", "at most 0 of 10"),
    "pods": (
        {},
        {"budgets": (replace(WEB, disruptions_allowed=0),), "pods": pods("w2")},
        "w2",
        "shop/web allows 0 more",
    ),
    "unhealthy pod": (
        {},
        {"budgets": (replace(WEB, disruptions_allowed=0, healthy=1),), "pods": pods("w2", ready=False)},
        "w2",
        "shop/web allows 0 more",
    ),
    "the only etcd member": ({}, {}, "cp1", "etcd needs 1 of 1 members, and without cp1 0 would be healthy"),
    "etcd unread": ({}, {"etcd": None}, "cp1", "members of etcd could not be read"),
    "quorum": (
        {"control": 3},
        {"etcd": Etcd({"cp1": True, "cp2": True, "cp3": False})},
        "cp1",
        "etcd needs 2 of 3 members, and without cp1 1 would be healthy (cp2)",
    ),
    "learner": (
        {"control": 4},
        {"etcd": Etcd({"cp1": True, "cp2": True, "cp3": True}, {"cp4": False})},
        "cp1",
        "etcd needs 3 of 4 members once its learners vote",
    ),
    "control plane one at a time": ({"control": 5}, {"down": {"cp2": "silent"}}, "cp1", "cp2 does not serve"),
    "volume": (
        {},
        {"volumes": (Volume("volume pool/1", {"w2": True, "w3": False}),)},
        "w2",
        "volume pool/1 needs 1 healthy",
    ),
}


@pytest.mark.parametrize(("options", "changes", "name", "text"), CASES.values(), ids=CASES)
def test_refused(options: dict[str, Any], changes: dict[str, Any], name: str, text: str) -> None:
    of = site(**options)
    found = refusals(of, service(of, **changes), name, "reboot")
    assert any(text in reason for reason in found), found


FINE: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "budget left": ({"limits": {"workers": 2}}, {"down": LOST}, "w2", "data"),
    "rack of its own": ({"limits": {"rack": 1, "workers": 2}}, {"down": LOST}, "w7", "data"),
    "it is the one that is down": ({}, {"down": LOST}, "w1", "data"),
    "a never joined server": ({}, {"members": frozenset(["cp1", "w1"]), "down": LOST}, "w2", "data"),
    "pods with room": ({}, {"budgets": (WEB,), "pods": pods("w2")}, "w2", "reboot"),
    "unhealthy pod of a healthy budget": (
        {},
        {"budgets": (replace(WEB, disruptions_allowed=0),), "pods": pods("w2", ready=False)},
        "w2",
        "reboot",
    ),
    "unhealthy pod that may always go": (
        {},
        {
            "budgets": (replace(WEB, disruptions_allowed=0, healthy=0, always_allow_unhealthy=True),),
            "pods": pods("w2", ready=False),
        },
        "w2",
        "reboot",
    ),
    "one of three members": ({"control": 3}, {}, "cp2", "data"),
    "a learner": (
        {"control": 4},
        {"etcd": Etcd({"cp1": True, "cp2": True, "cp3": True}, {"cp4": True})},
        "cp4",
        "data",
    ),
    "a hung control plane is restarted": (
        {},
        {"down": {"cp1": "silent"}, "etcd": Etcd({"cp1": False})},
        "cp1",
        "reboot",
    ),
    "volume elsewhere": ({}, {"volumes": (Volume("pool/1", {"w2": True, "w3": True}),)}, "w2", "data"),
}


@pytest.mark.parametrize(("options", "changes", "name", "level"), FINE.values(), ids=FINE)
def test_allowed(options: dict[str, Any], changes: dict[str, Any], name: str, level: str) -> None:
    of = site(**options)
    assert refusals(of, service(of, **changes), name, level) == ()


def test_a_server_that_only_loses_a_disk_serves_on() -> None:
    of = site(limits={"workers": 0})
    volume = Volume("volume pool/1", {"w1": True, "w2": True, "cp1": True}, needed=2)
    state = service(of, budgets=(replace(WEB, disruptions_allowed=0),), pods=pods("w2"), volumes=(volume,))
    for name in ("w2", "cp1"):
        assert refusals(of, state, name, "disk") == ()
        assert "volume pool/1 needs 2" in refusals(of, state, name, "disk", ["w1"])[0]
        assert "another run" in refusals(of, replace(state, leases={name: "process 7"}), name, "disk")[0]
        assert "could not be read" in refusals(of, replace(state, unread="timed out"), name, "disk")[0]
    # What is down and loses its disks loses them all the same.
    assert refusals(of, replace(state, down={"w2": "silent", "w1": "silent"}), "w2", "disk") != ()


def test_a_dead_member_of_a_lost_quorum_keeps_its_disk() -> None:
    of = site(control=3)
    state = service(of, down={"cp1": "off", "cp2": "off"}, etcd=Etcd({"cp1": False, "cp2": False, "cp3": True}))
    assert refusals(of, state, "cp1", "reboot") == ()
    assert "etcd needs 2 of 3" in refusals(of, state, "cp1", "data")[0]


def test_a_run_takes_as_many_as_fit_and_says_why_not_the_others() -> None:
    of = site(limits={"workers": "20%"})
    taken, refused = admit(of, service(of), [(f"w{number}", "data") for number in range(1, 5)])
    assert taken == ("w1", "w2")
    assert list(refused) == ["w3", "w4"] and "w1, w2 already" in refused["w3"][0]


def test_serial_counts_what_this_run_takes() -> None:
    of = site(limits={"workers": 10}, serial=1)
    taken, refused = admit(of, service(of, down=LOST), [("w2", "data"), ("w3", "data")])
    assert taken == ("w2",) and "at most 1 servers of profile compute go at once" in refused["w3"][0]


def test_pods_of_servers_that_go_together_share_a_budget() -> None:
    of = site(limits={"workers": 10})
    taken, refused = admit(
        of, service(of, budgets=(WEB,), pods=pods("w1", "w2")), [("w1", "drain"), ("w2", "drain"), ("w3", "drain")]
    )
    assert taken == ("w1", "w3") and "allows 0 more" in refused["w2"][0]


def test_evicted_pods_need_one_disruption_and_lost_ones_one_each() -> None:
    of = site(limits={"workers": 10})
    both = {"w1": (*pods("w1")["w1"], *pods("w1")["w1"])}
    state = service(of, budgets=(WEB,), pods=both)
    assert WEB.disruptions_allowed == 1
    assert refusals(of, state, "w1", "drain") == refusals(of, state, "w1", "data") == ()
    assert "allows 1 more disruptions, and 2 of its pods are here" in refusals(of, state, "w1", "reboot")[0]
    none = replace(state, budgets=(replace(WEB, disruptions_allowed=0),))
    assert "allows 0 more" in refusals(of, none, "w1", "drain")[0]


@pytest.mark.parametrize(
    ("budget", "size", "expected"),
    [
        (0, 10, 0),
        (3, 10, 3),
        (3, 2, 2),
        ("0%", 10, 0),
        ("10%", 0, 0),
        ("10%", 1, 1),
        ("10%", 9, 1),
        ("10%", 19, 1),
        ("10%", 20, 2),
        ("10%", 1000, 100),
        ("29%", 100, 29),
        ("100%", 7, 7),
    ],
)
def test_budget(budget: int | str, size: int, expected: int) -> None:
    assert allowed(budget, size) == expected


@given(st.integers(0, 100), st.integers(0, 5000))
def test_a_percentage_is_rounded_down_but_never_to_none(percent: int, size: int) -> None:
    exact = Fraction(percent * size, 100)
    got = allowed(f"{percent}%", size)
    assert 0 <= got <= size
    assert got <= exact or got == 1
    assert exact - got < 1
    assert (got == 0) == (percent == 0 or size == 0)


BUDGETS = st.one_of(st.integers(0, 12), st.integers(0, 100).map(lambda percent: f"{percent}%"))
GROUPS = ["servers", "workers", "control_plane", "rack", "profile", "rack_a01", "rack_a02", "profile_compute"]


@st.composite
def situations(draw: st.DrawFn) -> tuple[Site, Service, list[tuple[str, str]]]:
    of = site(
        draw(st.integers(1, 12)),
        draw(st.dictionaries(st.sampled_from(GROUPS), BUDGETS)),
        draw(st.one_of(st.none(), st.integers(1, 5), st.sampled_from(["1%", "34%"]))),
        draw(st.integers(1, 5)),
    )
    names = [server.name for server in of.servers]
    some = st.sets(st.sampled_from(names))
    controls = [server.name for server in of.with_role("control_plane")]
    split = {name: draw(st.sampled_from(["voter", "learner", "none"])) for name in controls}
    health = {name: draw(st.booleans()) for name in controls}
    pod = st.builds(Pod, st.just("a/p"), st.booleans(), st.sets(st.sampled_from(["a/1", "a/2"])).map(tuple))
    state = Service(
        members=frozenset(draw(some)),
        down=dict.fromkeys(sorted(draw(some)), "silent"),
        etcd=draw(
            st.one_of(
                st.none(),
                st.just(Etcd(*({n: health[n] for n in controls if split[n] == kind} for kind in ("voter", "learner")))),
            )
        ),
        budgets=tuple(PodBudget(name, draw(st.integers(0, 3))) for name in ("a/1", "a/2")),
        pods={name: tuple(draw(st.lists(pod, max_size=2))) for name in names},
        volumes=tuple(
            draw(
                st.lists(
                    st.builds(
                        Volume,
                        st.just("v"),
                        st.dictionaries(st.sampled_from(names), st.booleans(), max_size=4),
                        st.integers(1, 3),
                    ),
                    max_size=2,
                )
            )
        ),
        leases=dict.fromkeys(draw(some), "another") if draw(st.booleans()) else {},
        unread=draw(st.sampled_from(["", "", "", "down"])),
    )
    order = draw(st.permutations(names))
    return of, state, [(name, draw(st.sampled_from(["reboot", "drain", "data"]))) for name in order]


def inside(of: Site, group: str, server: Server) -> list[str]:
    """The members of a group as a person would list them, for the group as it looks from this server."""
    chosen = {
        "servers": lambda other: True,
        "workers": lambda other: "worker" in other.roles,
        "control_plane": lambda other: "control_plane" in other.roles,
        "rack": lambda other: other.rack == server.rack,
        "profile": lambda other: other.profile == server.profile,
        "rack_a01": lambda other: other.rack == "a01",
        "rack_a02": lambda other: other.rack == "a02",
        "profile_compute": lambda other: other.profile == "compute",
    }[group]
    return [other.name for other in of.servers if chosen(other)]


@settings(deadline=None, max_examples=300)
@given(situations())
def test_what_is_admitted_never_breaks_a_limit(situation: tuple[Site, Service, list[tuple[str, str]]]) -> None:
    of, state, wanted = situation
    taken, refused = admit(of, state, wanted)
    assert {*taken, *refused} == {name for name, _level in wanted} and not {*taken} & {*refused}
    assert all(refused.values()), "a refusal says why"
    fresh = [name for name in taken if name not in state.down]
    lost = {*state.down, *taken}
    assert not state.unread or not fresh
    for name in taken:
        assert name not in state.leases
        server = of.server(name)
        for group, budget in of.limits.max_unavailable.items():
            group_members = [other for other in inside(of, group, server) if other in state.members]
            new = [other for other in fresh if other in group_members]
            if name in new:
                gone = [other for other in group_members if other in lost]
                assert len(gone) <= allowed(budget, len(group_members))
    controls = [name for name in fresh if "control_plane" in of.server(name).roles]
    assert len(controls) <= 1
    if state.etcd:
        for name in controls:
            if name in state.etcd.voters:
                healthy = [n for n, good in state.etcd.voters.items() if good and n not in lost]
                assert len(healthy) > len(state.etcd.voters) / 2
    levels = dict(wanted)
    for budget in state.budgets:
        ready = {name: [p for p in state.pods[name] if budget.name in p.budgets and p.ready] for name in fresh}
        # Evicted pods go one after the other, others with their server.
        at_once = sum(len(found) if levels[name] == "reboot" else min(len(found), 1) for name, found in ready.items())
        assert at_once <= budget.disruptions_allowed
    for volume in state.volumes:
        if {*fresh} & {*volume.replicas}:
            assert sum(1 for n, good in volume.replicas.items() if good and n not in lost) >= volume.needed


@settings(deadline=None, max_examples=200)
@given(situations())
def test_wave_after_wave_takes_all_who_only_wait(situation: tuple[Site, Service, list[tuple[str, str]]]) -> None:
    of, state, wanted = situation
    taken, refused = admit(of, state, wanted)
    found = waves(of, state, wanted, refused)
    waiting = [name for wave in found for name in wave]
    assert len(waiting) == len(set(waiting)) and {*waiting} <= {*refused}
    levels = dict(wanted)
    assert all(refusals(of, state, name, levels[name]) for name in levels if name not in {*taken, *waiting})
    for number, wave in enumerate(found):
        assert wave, "no wave is empty"
        assert admit(of, state, [(name, levels[name]) for name in wave]) == (wave, {}), "a wave may go together"
        later = [name for one in found[number + 1 :] for name in one]
        together = {name: levels[name] for name in wave}
        for name in later:
            assert refusals(of, state, name, levels[name], together), "a wave is as large as the limits allow"


@settings(deadline=None, max_examples=200)
@given(situations(), st.data())
def test_more_trouble_never_allows_more(
    situation: tuple[Site, Service, list[tuple[str, str]]], data: st.DataObject
) -> None:
    """Another server down, or taken by this run, turns no refusal of a serving server into a yes."""
    of, state, wanted = situation
    name, level = wanted[0]
    other = data.draw(st.sampled_from([n for n, _level in wanted if n != name]))
    if name in state.down or not refusals(of, state, name, level):
        return
    assert refusals(of, state, name, level, taken={other: dict(wanted)[other]})
    assert refusals(of, replace(state, down={**state.down, other: "silent"}), name, level)
