# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""May this server be disrupted now? The one place where that is decided. Pure: no I/O, no clock."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .check_servers import group_name
from .model import Server, Site

__all__ = ["Etcd", "Pod", "PodBudget", "Service", "Volume", "admit", "allowed", "refusals", "waves"]

NOBODY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Etcd:
    """The members of etcd by server name; true where a member is healthy."""

    voters: Mapping[str, bool] = field(default_factory=dict)
    learners: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class PodBudget:
    """A PodDisruptionBudget as its controller last counted it."""

    name: str
    """Namespace and name: C(shop/web)."""
    disruptions_allowed: int
    healthy: int = 0
    desired_healthy: int = 0
    always_allow_unhealthy: bool = False


@dataclass(frozen=True)
class Pod:
    """A pod that goes when its server does. Pods of DaemonSets and static pods are none of these."""

    name: str
    ready: bool
    budgets: tuple[str, ...] = ()
    """Names of the budgets that select it."""


@dataclass(frozen=True)
class Volume:
    """What a storage driver keeps on several servers."""

    name: str
    """As it begins a sentence."""
    replicas: Mapping[str, bool]
    """Server name to whether the replica there is healthy and in step."""
    needed: int = 1
    """Healthy replicas that it needs to serve, and to lose nothing."""


@dataclass(frozen=True)
class Service:
    """What servers do at this moment, as far as it was read."""

    members: frozenset[str] = frozenset()
    """Servers that the cluster knows as nodes."""
    down: Mapping[str, str] = field(default_factory=dict)
    """Server to why it does not serve: C(its node is not Ready)."""
    cordoned: frozenset[str] = frozenset()
    """Servers that serve, but take no new pods: out of service for the budgets."""
    etcd: Etcd | None = None
    """None: nobody could be asked."""
    budgets: tuple[PodBudget, ...] = ()
    pods: Mapping[str, tuple[Pod, ...]] = field(default_factory=dict)
    """Pods by server; read for the servers that somebody asks about."""
    volumes: tuple[Volume, ...] = ()
    leases: Mapping[str, str] = field(default_factory=dict)
    """Server to who works on it: another run."""
    unread: str = ""
    """Why the cluster could not be read; empty where it was."""


def allowed(budget: int | str, size: int) -> int:
    """How many of C(size) servers a budget lets be out of service at once.

    A percentage is rounded down, but is at least one server unless it is C(0%): a small group could never be worked on
    otherwise. Never more than C(size).
    """
    if isinstance(budget, int):
        return min(budget, size)
    percent = int(budget.rstrip("%"))
    return min(size, max(1, size * percent // 100)) if percent else 0


def refusals(site: Site, service: Service, name: str, level: str, taken: Mapping[str, str] = NOBODY) -> tuple[str, ...]:
    """Every reason why this server must not be disrupted now; none: it may be.

    C(level) is C(reboot) where its pods are lost with it; C(drain) or C(data) where they are evicted before;
    C(disk) where it serves on and only loses what a disk holds; or C(none) for a server that nobody depends on and
    that only must not be worked on by two runs at once. C(taken) are the servers that this run disrupts already, each
    with its level.
    """
    server = site.server(name)
    found: list[str] = []
    if name in service.leases:
        found.append(f"another run works on it ({service.leases[name]})")
    if level == "none" or (level not in ("data", "disk") and name in service.down):
        # Nobody depends on it; and one that is down and keeps what it has can only gain.
        return tuple(found)
    if service.unread:
        # Nobody knows whom it serves. Unreadable is not absent.
        return (*found, f"the cluster could not be read, so nobody knows what depends on it: {service.unread}")
    lost = {*service.down, *taken}
    if level == "disk":
        return (*found, *_volumes(service, name, lost))
    if name not in service.down:
        found += _control_plane(site, server, lost)
        if name not in service.cordoned:
            found += _groups(site, service, server, lost | service.cordoned)
        found += _serial(site, service, server, taken)
        found += _pods(service, name, level, taken)
    return (*found, *_etcd(service, server, lost), *_volumes(service, name, lost))


def admit(
    site: Site, service: Service, wanted: Iterable[tuple[str, str]]
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Which of the wanted (server, level) this run may disrupt together, in their order, and why not the others."""
    taken: dict[str, str] = {}
    refused: dict[str, tuple[str, ...]] = {}
    for name, level in wanted:
        reasons = refusals(site, service, name, level, taken)
        if reasons:
            refused[name] = reasons
        elif level != "none":
            taken[name] = level
    return tuple(taken), refused


def waves(
    site: Site, service: Service, wanted: Iterable[tuple[str, str]], refused: Collection[str]
) -> tuple[tuple[str, ...], ...]:
    """Those of the refused that only others of the same run stand in the way of, in the groups in which they may go
    one after another: each as large as the limits allow when all before it are back.

    With the service as it is now, so each group has to be asked about again when its time has come.
    """
    left = [ask for ask in wanted if ask[0] in refused and not refusals(site, service, *ask)]
    found = []
    while left:
        taken, _refused = admit(site, service, left)
        found.append(taken)
        left = [ask for ask in left if ask[0] not in taken]
    return tuple(found)


def _control_plane(site: Site, server: Server, lost: Collection[str]) -> Iterator[str]:
    if "control_plane" in server.roles:
        others = [other.name for other in site.with_role("control_plane") if other.name in lost]
        if others:
            yield f"control-plane servers go one at a time, and {_names(others)} does not serve"


def _groups(site: Site, service: Service, server: Server, lost: Collection[str]) -> Iterator[str]:
    own = {
        "servers": lambda other: True,
        "rack": lambda other: other.rack == server.rack,
        "profile": lambda other: other.profile == server.profile,
        group_name("rack", server.rack): lambda other: other.rack == server.rack,
        group_name("profile", server.profile): lambda other: other.profile == server.profile,
    }
    roles = {"workers": "worker", "control_plane": "control_plane"}
    for group, role in roles.items():
        if role in server.roles:
            own[group] = lambda other, role=role: role in other.roles  # type: ignore[misc]
    for group, budget in site.limits.max_unavailable.items():
        if group not in own:
            continue
        # A server that never joined serves nobody: it is no part of what may be lost.
        inside = [other.name for other in site.servers if own[group](other) and other.name in service.members]
        gone, limit = (
            [other for other in inside if other in lost and other != server.name],
            allowed(budget, len(inside)),
        )
        if server.name in service.members and len(gone) + 1 > limit:
            told = f", {_names(gone)} already" if gone else ""
            yield (
                f"at most {limit} of {len(inside)} servers of {_group_words(group, server)} may be out of service "
                f"(limits.max_unavailable.{group}: {budget}){told}"
            )


def _group_words(group: str, server: Server) -> str:
    return {"rack": f"rack {server.rack}", "profile": f"profile {server.profile}"}.get(group, group)


def _serial(site: Site, service: Service, server: Server, taken: Collection[str]) -> Iterator[str]:
    budget = site.profiles[server.profile].serial
    if budget is None or server.name not in service.members:
        return
    inside = {other.name for other in site.servers if other.profile == server.profile and other.name in service.members}
    limit, now = allowed(budget, len(inside)), [name for name in taken if name in inside]
    if len(now) + 1 > limit:
        told = f" ({_names(now)})" if now else ""
        yield f"at most {limit} servers of profile {server.profile} go at once (its serial: {budget}){told}"


def _pods(service: Service, name: str, level: str, taken: Mapping[str, str]) -> Iterator[str]:
    """What the eviction API would say of the pods of all servers that go together.

    Evicted pods go one after the other, each when the one before runs elsewhere: a server needs one disruption then.
    """
    for budget in service.budgets:
        mine = [pod.name for pod in service.pods.get(name, ()) if budget.name in pod.budgets]
        count = _disruptions(service, budget, name, level)
        used = sum(_disruptions(service, budget, other, how) for other, how in taken.items() if other != name)
        if count and count + used > budget.disruptions_allowed:
            left = max(0, budget.disruptions_allowed - used)
            yield (
                f"the PodDisruptionBudget {budget.name} allows {left} more disruptions, and {len(mine)} of its pods "
                f"are here ({_names(mine)})"
            )


def _disruptions(service: Service, budget: PodBudget, name: str, level: str) -> int:
    """How many disruptions of a budget a server needs at once."""
    pods = [pod for pod in service.pods.get(name, ()) if budget.name in pod.budgets and _counts(pod, budget)]
    return len(pods) if level == "reboot" else min(len(pods), 1)


def _counts(pod: Pod, budget: PodBudget) -> bool:
    """Whether the loss of a pod is one of the disruptions; the rules of unhealthyPodEvictionPolicy."""
    if pod.ready:
        return True
    enough = budget.desired_healthy > 0 and budget.healthy >= budget.desired_healthy
    return not (budget.always_allow_unhealthy or enough)


def _etcd(service: Service, server: Server, lost: Collection[str]) -> Iterator[str]:
    if "control_plane" not in server.roles:
        return
    if service.etcd is None:
        yield "the members of etcd could not be read"
        return
    voters, learners = service.etcd.voters, service.etcd.learners
    if server.name not in voters:
        return
    gone = {*lost, server.name}
    # A learner becomes a voter as soon as it is in step, and may fail then: the quorum is of one member more.
    for members, word in ((voters, ""), ({**voters, **learners}, " once its learners vote")):
        quorum = len(members) // 2 + 1
        left = [name for name, healthy in members.items() if healthy and name not in gone]
        if members and len(left) < quorum:
            yield (
                f"etcd needs {quorum} of {len(members)} members{word}, and without {server.name} "
                f"{len(left)} would be healthy" + (f" ({_names(left)})" if left else "")
            )
            return


def _volumes(service: Service, name: str, lost: Collection[str]) -> Iterator[str]:
    for volume in service.volumes:
        if name not in volume.replicas:
            continue
        left = [other for other, healthy in volume.replicas.items() if healthy and other not in lost and other != name]
        if len(left) < volume.needed:
            yield (
                f"{volume.name} needs {volume.needed} healthy replicas, and without {name} {len(left)} would be left"
            )


def _names(names: Collection[str], limit: int = 5) -> str:
    shown = ", ".join(list(names)[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
