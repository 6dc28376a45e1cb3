# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: not an interface, may change in any release.
# Compares the network namespaces of the virtual rack with what is wanted, and changes what differs.

from __future__ import annotations

import hashlib
import json
import os
import typing as t
from dataclasses import dataclass, field

from ansible_collections.kiban.baremetal.plugins.module_utils._lab import (
    LabError,
    in_netns,
    netns_path,
    read_text,
    run,
)

__all__ = ["Bridge", "End", "Link", "Namespace", "Network", "Route", "parse_features"]

# A packet that a userspace switch takes from one interface and puts into another must be complete: no checksum and
# no segmentation left for hardware. Otherwise ping works and TCP does not.
FEATURES = {
    "tx-checksumming": "tx",
    "tcp-segmentation-offload": "tso",
    "generic-segmentation-offload": "gso",
    "generic-receive-offload": "gro",
}


@dataclass
class Namespace:
    name: str
    sysctl: dict[str, str] = field(default_factory=dict)


@dataclass
class End:
    """One end of a link: an interface in a namespace."""

    name: str
    netns: str
    addresses: list[str] = field(default_factory=list)
    keep_addresses: bool = False

    def mac(self) -> str:
        """A link that is made again keeps its hardware addresses, or neighbours would not find it for ten seconds."""
        digest = hashlib.sha256(f"{self.netns}/{self.name}".encode()).hexdigest()
        return ":".join(["02", *(digest[at : at + 2] for at in range(0, 10, 2))])


@dataclass
class Link:
    """A pair of virtual Ethernet ends, or a tap when there is no second end."""

    ends: list[End]
    mtu: int = 1500


@dataclass
class Bridge:
    """A cable between its ports, or a simple switch. It hands LLDP on, which bridges otherwise keep to themselves."""

    name: str
    netns: str
    members: list[str]


@dataclass
class Route:
    netns: str
    to: str
    via: str


def parse_features(text: str) -> set[str]:
    """Names of the offloads that are on, from C(ethtool -k); those that cannot be changed do not count."""
    enabled = set()
    for line in text.splitlines():
        name, _colon, value = line.strip().partition(": ")
        if name in FEATURES and value.split()[:1] == ["on"] and "[fixed]" not in value:
            enabled.add(name)
    return enabled


class Network:
    def __init__(
        self,
        namespaces: list[Namespace],
        links: list[Link],
        routes: list[Route],
        check: bool,
        bridges: t.Sequence[Bridge] = (),
    ) -> None:
        self.namespaces, self.links, self.routes, self.check = namespaces, links, routes, check
        self.bridges = bridges
        self.actions: list[str] = []
        self._seen: dict[str, dict[str, dict[str, t.Any]]] = {}

    def absent(self) -> None:
        for namespace in self.namespaces:
            path = netns_path(namespace.name)
            if not self._missing(namespace.name):
                self._do(f"delete namespace {namespace.name}", ["ip", "netns", "delete", namespace.name])
            elif os.path.exists(path):
                self.actions.append(f"remove {path}: no namespace is there")
                if not self.check:
                    os.unlink(path)

    def present(self) -> None:
        for namespace in self.namespaces:
            self._namespace(namespace)
        for link in self.links:
            self._link(link)
        for bridge in self.bridges:
            self._bridge(bridge)
        for route in self.routes:
            self._route(route)

    def _do(self, what: str, argv: list[str], netns: str | None = None) -> None:
        self.actions.append(what)
        if not self.check:
            with in_netns(netns):
                run(argv)

    def _missing(self, netns: str) -> bool:
        return not _is_namespace(netns)

    def _namespace(self, wanted: Namespace) -> None:
        path = netns_path(wanted.name)
        if self._missing(wanted.name):
            # A file without a namespace on it is what a crash leaves; ip refuses to reuse it.
            if os.path.exists(path) and not self.check:
                os.unlink(path)
            self._do(f"add namespace {wanted.name}", ["ip", "netns", "add", wanted.name])
        self._setting(wanted, "up", "lo")
        for key, value in wanted.sysctl.items():
            self._setting(wanted, key, value)

    def _setting(self, wanted: Namespace, key: str, value: str) -> None:
        if key == "up":
            if "UP" not in self._interfaces(wanted.name).get(value, {}).get("flags", []):
                self._do(f"{wanted.name}: set {value} up", ["ip", "link", "set", value, "up"], wanted.name)
            return
        path = f"/proc/sys/{key.replace('.', '/')}"
        current = None
        if not self._missing(wanted.name):
            with in_netns(wanted.name):
                current = (read_text(path) or "").strip()
        if current != value:
            self.actions.append(f"{wanted.name}: set {key} = {value}")
            if not self.check:
                with in_netns(wanted.name), open(path, "w", encoding="ascii") as stream:
                    stream.write(value)

    def _interfaces(self, netns: str, again: bool = False) -> dict[str, dict[str, t.Any]]:
        if again or netns not in self._seen:
            self._seen[netns] = {}
            if not self._missing(netns):
                found = json.loads(run(["ip", "-n", netns, "-json", "address", "show"]) or "[]")
                self._seen[netns] = {item["ifname"]: item for item in found if item}
        return self._seen[netns]

    def _link(self, link: Link) -> None:
        there = [end.name in self._interfaces(end.netns) for end in link.ends]
        if not all(there):
            for end, exists in zip(link.ends, there):
                if exists:
                    self._do(f"{end.netns}: delete stray {end.name}", ["ip", "link", "delete", end.name], end.netns)
            self._add(link)
            for end in link.ends:
                self._interfaces(end.netns, again=True)
        for end in link.ends:
            self._end(end, link.mtu)

    def _add(self, link: Link) -> None:
        one = link.ends[0]
        if len(link.ends) == 1:
            self._do(
                f"{one.netns}: add tap {one.name}", ["ip", "tuntap", "add", "dev", one.name, "mode", "tap"], one.netns
            )
            return
        two = link.ends[1]
        argv = ["ip", "link", "add", one.name, "netns", one.netns, "address", one.mac(), "type", "veth"]
        self._do(
            f"add link {one.netns}/{one.name} - {two.netns}/{two.name}",
            [*argv, "peer", "name", two.name, "netns", two.netns, "address", two.mac()],
        )

    def _end(self, end: End, mtu: int) -> None:
        state = self._interfaces(end.netns).get(end.name, {})
        where = f"{end.netns}/{end.name}"
        if state.get("mtu") != mtu:
            self._do(f"{where}: set mtu {mtu}", ["ip", "link", "set", end.name, "mtu", str(mtu)], end.netns)
        enabled = self._features(end) if state else set(FEATURES)
        if enabled:
            argv = ["ethtool", "-K", end.name]
            for name in sorted(enabled):
                argv += [FEATURES[name], "off"]
            self._do(f"{where}: turn offloads off", argv, end.netns)
        if "UP" not in state.get("flags", []):
            self._do(f"{where}: set up", ["ip", "link", "set", end.name, "up"], end.netns)
        have = {
            f"{item['local']}/{item['prefixlen']}"
            for item in state.get("addr_info", [])
            if item.get("family") == "inet" or item.get("scope") == "global"
        }
        for address in end.addresses:
            if address not in have:
                command = ["ip", "address", "add", address, "dev", end.name]
                self._do(f"{where}: add address {address}", command, end.netns)
        for address in sorted(have.difference(end.addresses)) if not end.keep_addresses else ():
            self._do(f"{where}: drop address {address}", ["ip", "address", "del", address, "dev", end.name], end.netns)

    def _features(self, end: End) -> set[str]:
        with in_netns(end.netns):
            return parse_features(run(["ethtool", "-k", end.name]))

    def _bridge(self, bridge: Bridge) -> None:
        there = self._interfaces(bridge.netns)
        where = f"{bridge.netns}/{bridge.name}"
        if bridge.name not in there:
            # Bit 14: LLDP's destination address.
            options = ["group_fwd_mask", str(1 << 14), "mcast_snooping", "0"]
            argv = ["ip", "link", "add", bridge.name, "type", "bridge", *options]
            self._do(f"add bridge {where}", argv, bridge.netns)
        if "UP" not in there.get(bridge.name, {}).get("flags", []):
            self._do(f"{where}: set up", ["ip", "link", "set", bridge.name, "up"], bridge.netns)
        for name in bridge.members:
            if there.get(name, {}).get("master") != bridge.name:
                argv = ["ip", "link", "set", name, "master", bridge.name]
                self._do(f"{where}: plug {name} in", argv, bridge.netns)

    def _route(self, route: Route) -> None:
        have = []
        if not self._missing(route.netns):
            family = ["-6"] if ":" in route.to else []
            have = json.loads(run(["ip", "-n", route.netns, *family, "-json", "route", "show", route.to]) or "[]")
        if not any(item and item.get("gateway") == route.via for item in have):
            what = f"{route.netns}: route {route.to} via {route.via}"
            self._do(what, ["ip", "route", "replace", route.to, "via", route.via], route.netns)


def _is_namespace(name: str) -> bool:
    """True when a namespace is mounted there: an empty file of that name has the device of its directory."""
    try:
        return os.stat(netns_path(name)).st_dev != os.stat(os.path.dirname(netns_path(name))).st_dev
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise LabError(f"network namespace {name} cannot be read: {problem.strerror}") from problem
