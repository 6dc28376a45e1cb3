# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""The network of a BMC itself: its address, names, VLAN, name and time servers, and the protocols that it speaks."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from .change import Change
from .errors import BmcAuthError, BmcError, BmcOptionError, BmcUncertain, BmcUnsupported
from .resource import Json, Resources, dig, link
from .session import Session
from .wait import wait_for
from .write import perform, reporting

__all__ = ("Network", "NetworkPlan")

_EMPTY = ("", "0.0.0.0", "::", "(null)", None)
# An address that is not wanted any more may take a while until it stops to answer.
MOVE = 90.0


@dataclasses.dataclass(frozen=True)
class NetworkPlan:
    interface: str  # URIs
    protocol: str | None
    write: Json  # to the interface
    services: Json  # to the protocols
    moves_to: str | None  # the address at which the BMC answers afterwards, where this login goes to that interface
    change: Change


class Network:
    def __init__(self, resources: Resources, interface: str | None = None) -> None:
        self._resources = resources
        self._name = interface
        self.address = resources.address

    def read(self) -> Json:
        """What can be set, as it is; null where the BMC does not have it."""
        return {**_interface(self._interface(fresh=True)), **_services(self._protocol(fresh=True))}

    def plan(self, wanted: Json) -> NetworkPlan:
        """What has to be done; nothing is sent that changes something. `wanted` as `read` gives it, in part."""
        body, protocol = self._interface(fresh=True), self._protocol(fresh=True)
        now = {**_interface(body), **_services(protocol)}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        if "protocols" in wanted:
            unknown = [name for name in wanted["protocols"] if name not in now["protocols"]]
            if unknown:
                raise BmcUnsupported(
                    self.address,
                    f"it has no protocol {', '.join(unknown)} to switch",
                    hint=f"It has: {', '.join(sorted(now['protocols']))}",
                )
            wanted = {**wanted, "protocols": {**now["protocols"], **wanted["protocols"]}}
        change = {name: value for name, value in wanted.items() if now[name] != value}
        after = {**now, **change}
        write = self._write(change, after, body)
        services: Json = {}
        if "ntp_servers" in change:
            if not isinstance(protocol.get("NTP"), dict):
                raise BmcUnsupported(self.address, "it takes no time servers")
            services["NTP"] = {"ProtocolEnabled": bool(change["ntp_servers"]), "NTPServers": change["ntp_servers"]}
        for name, on in change.get("protocols", {}).items():
            if now["protocols"][name] != on:
                services[_property(protocol, name)] = {"ProtocolEnabled": on}
        own = now["address"] == self._resources.session.transport.endpoint.host
        moves = change.get("address") if own else None
        uri = protocol.get("@odata.id")
        before = {name: now[name] for name in wanted}
        shown = {name: after[name] for name in wanted}
        return NetworkPlan(
            str(body["@odata.id"]), str(uri) if uri else None, write, services, moves, Change(before, shown)
        )

    def apply(self, plan: NetworkPlan, timeout: float) -> None:
        """Do it. The protocols first, since the BMC may be gone from its address after that."""
        deadline = time.monotonic() + timeout
        with reporting([]) as done:
            if plan.services and plan.protocol:
                uri, what = plan.protocol, f"changed {', '.join(plan.services)}"

                def switched() -> bool:
                    body = self._resources.get(uri, fresh=True)
                    return all(_has(body, name, value) for name, value in plan.services.items())

                resources = self._resources
                perform(resources, lambda: resources.patch(uri, plan.services), uri, what, deadline, switched)
                done.append(what)
            if plan.write:
                self._patch(plan, deadline)

    def _patch(self, plan: NetworkPlan, deadline: float) -> None:
        uri, what = plan.interface, f"changed {', '.join(plan.write)} of {plan.interface.rsplit('/', 1)[-1]}"
        wanted = {name: value for name, value in plan.change.after.items() if name not in ("ntp_servers", "protocols")}

        def shows() -> bool:
            now = _interface(self._resources.get(uri, fresh=True))
            return all(now[name] == value for name, value in wanted.items())

        if plan.moves_to is None:
            perform(self._resources, lambda: self._resources.patch(uri, plan.write), uri, what, deadline, shows)
            return
        lost: BmcError | None = None
        try:
            self._resources.patch(uri, plan.write, timeout=10.0)
        except BmcUncertain as exc:
            lost = exc  # as is to be expected; the new address tells
        options = self._resources.session.options
        moved = dataclasses.replace(options, address=_with_host(options.address, self.address, plan.moves_to))

        def arrived() -> bool:
            try:
                with Session(moved) as session:
                    now = _interface(session.get(uri).json)
            except BmcAuthError:
                raise
            except BmcError:
                return False
            return all(now[name] == value for name, value in wanted.items())

        if wait_for(arrived, bool, min(MOVE, max(1.0, deadline - time.monotonic()))).ready:
            self._resources.session.move(moved)
            return
        if lost is None:
            lost = BmcUncertain(self.address, f"it took the address {plan.moves_to}, but does not answer there")
            lost.done = [what]
        lost.hint = f"Look whether it answers at {plan.moves_to} or still at {self.address}; name the one as address"
        raise lost

    # -- what to write, and where

    def _write(self, change: Json, after: Json, body: Json) -> Json:
        write: Json = {}
        modern = isinstance(body.get("DHCPv4"), dict)
        if "dhcp" in change and modern:
            write["DHCPv4"] = {"DHCPEnabled": change["dhcp"]}
        static = ("address", "netmask", "gateway")
        if any(name in change for name in static) or ("dhcp" in change and not modern):
            entry: Json = {"Address": after["address"], "SubnetMask": after["netmask"], "Gateway": after["gateway"]}
            if not modern:
                entry["AddressOrigin"] = "DHCP" if after["dhcp"] else "Static"
            if after["dhcp"]:
                if any(name in change for name in static):
                    raise BmcOptionError(self.address, "a fixed address needs dhcp: false")
                entry = {"AddressOrigin": "DHCP"}
            elif not (entry["Address"] and entry["SubnetMask"]):
                raise BmcOptionError(self.address, "without DHCP it needs an address and a netmask")
            write["IPv4StaticAddresses" if "IPv4StaticAddresses" in body else "IPv4Addresses"] = [
                {name: value for name, value in entry.items() if value is not None}
            ]
        if "dns_servers" in change:
            if "StaticNameServers" not in body:
                raise BmcUnsupported(
                    self.address,
                    "its interface takes no name servers by Redfish",
                    hint="They come from DHCP, or are set on its own page",
                )
            write["StaticNameServers"] = change["dns_servers"]
        if "hostname" in change:
            write["HostName"] = change["hostname"]
        if "vlan" in change:
            if not isinstance(body.get("VLAN"), dict):
                raise BmcUnsupported(self.address, "its interface has no VLAN")
            on = change["vlan"] != 0
            write["VLAN"] = {"VLANEnable": on, **({"VLANId": change["vlan"]} if on else {})}
        return write

    def _interface(self, fresh: bool = False) -> Json:
        found: list[Json] = []
        for manager in self._resources.needed_managers():
            uri = link(manager, "EthernetInterfaces")
            found.extend(self._resources.members(uri, needed=True) if uri else [])
        if self._name is not None:
            fits = [body for body in found if body.get("Id") == self._name]
        else:
            # The link to the host is no way to the network.
            fits = [b for b in found if not dig(b, "Links", "HostInterface") and b.get("InterfaceEnabled") is not False]
            host = self._resources.session.transport.endpoint.host
            fits = [body for body in fits if _interface(body)["address"] == host] or fits
        if len(fits) != 1:
            if not found:
                raise BmcUnsupported(self.address, "it shows no network interface of its own")
            raise BmcOptionError(
                self.address,
                f"{len(fits) or 'none'} of its interfaces can be meant",
                hint=f"Name one as interface: {', '.join(str(body.get('Id')) for body in found)}",
            )
        return self._resources.get(str(fits[0]["@odata.id"]), fresh)

    def _protocol(self, fresh: bool = False) -> Json:
        for manager in self._resources.needed_managers():
            uri = link(manager, "NetworkProtocol")
            if uri:
                return self._resources.get(uri, fresh)
        return {}


def _interface(body: Json) -> Json:
    dhcp = dig(body, "DHCPv4", "DHCPEnabled")
    current = _first(body.get("IPv4Addresses"))
    if not isinstance(dhcp, bool):
        dhcp = current.get("AddressOrigin") == "DHCP" if current else None
    static = _first(body.get("IPv4StaticAddresses"))
    shown = current if dhcp or not static.get("Address") else {**current, **static}
    servers = body.get("StaticNameServers") or body.get("NameServers")
    vlan = body.get("VLAN")
    return {
        "dhcp": dhcp,
        "address": _plain(shown.get("Address")),
        "netmask": _plain(shown.get("SubnetMask")),
        "gateway": _plain(shown.get("Gateway")) or _plain(current.get("Gateway")),
        "dns_servers": [item for item in servers if item not in _EMPTY] if isinstance(servers, list) else [],
        "hostname": _plain(body.get("HostName")),
        "vlan": (vlan.get("VLANId") if vlan.get("VLANEnable") else 0) if isinstance(vlan, dict) else None,
    }


def _services(body: Json) -> Json:
    ntp = body.get("NTP")
    servers = ntp.get("NTPServers") if isinstance(ntp, dict) and ntp.get("ProtocolEnabled") else []
    known = {
        name.lower(): value["ProtocolEnabled"]
        for name, value in body.items()
        if isinstance(value, dict) and isinstance(value.get("ProtocolEnabled"), bool) and name != "NTP"
    }
    return {
        "ntp_servers": [item for item in servers if item not in _EMPTY] if isinstance(servers, list) else [],
        "protocols": known,
    }


def _property(body: Json, name: str) -> str:
    return next(key for key in body if key.lower() == name)


def _has(body: Json, name: str, value: Json) -> bool:
    now = body.get(name)
    return isinstance(now, dict) and all(
        [item for item in now.get(k) or [] if item not in _EMPTY] == v if isinstance(v, list) else now.get(k) == v
        for k, v in value.items()
    )


def _first(value: t.Any) -> Json:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}


def _plain(value: t.Any) -> str | None:
    return None if value in _EMPTY else str(value)


def _with_host(address: str, shown: str, host: str) -> str:
    """The address option with another host, its scheme, port and path kept."""
    start = address.find(shown)
    port = shown.rsplit(":", 1)[1] if ":" in shown and not shown.endswith("]") else ""
    named = f"{host}:{port}" if port else host
    return named if start < 0 else address[:start] + named + address[start + len(shown) :]
