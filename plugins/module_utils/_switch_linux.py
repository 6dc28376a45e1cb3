# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: not an interface, may change in any release.

"""A switch of Open vSwitch and FRR: its configuration as tables and lines, and the commands that change it."""

from __future__ import annotations

import json
import os
import subprocess
import typing as t
from dataclasses import dataclass

__all__ = ["Switch", "SwitchError", "ovs_steps"]

Tables = t.Dict[str, t.Dict[str, t.Dict[str, t.Any]]]  # noqa: UP006  (evaluated by Python 3.9 in a cast)
_VLAN = "kiban-vlan-"


class SwitchError(Exception):
    """The switch cannot be read or changed; the message is for a person."""


def run(argv: t.Sequence[str]) -> str:
    env = dict(os.environ, LC_ALL="C", PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    try:
        done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False, timeout=60)
    except FileNotFoundError:
        raise SwitchError(f"{argv[0]} is not installed on this switch") from None
    except subprocess.TimeoutExpired:
        raise SwitchError(f"{' '.join(argv[:6])}: no answer in 60 s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise SwitchError(f"{' '.join(argv[:6])}: exit status {done.returncode}: {' / '.join(said[-4:])}")
    return done.stdout


@dataclass(frozen=True)
class Switch:
    database: str
    bridge: str
    datapath_type: str
    frr_run_dir: str

    @property
    def vsctl(self) -> list[str]:
        return ["ovs-vsctl", f"--db=unix:{self.database}", "--timeout=20"]

    @property
    def vtysh(self) -> list[str]:
        return ["vtysh", "--vty_socket", self.frr_run_dir]

    def _rows(self, table: str) -> list[dict[str, t.Any]]:
        out = json.loads(run([*self.vsctl, "--format=json", "list", table]))
        return [{head: _plain(cell) for head, cell in zip(out["headings"], row)} for row in out["data"]]

    def tables(self, links: t.Iterable[str]) -> Tables:
        """What the bridge is like; of `links`, ports outside of it, the MTU."""
        found: Tables = {"VLAN": {}, "PORT": {}, "MEMBER": {}, "LINK": {}}
        interfaces = {row["_uuid"]: row for row in self._rows("Interface")}
        ports = {row["_uuid"]: row for row in self._rows("Port")}
        for bridge in self._rows("Bridge"):
            if bridge["name"] != self.bridge:
                continue
            for key, name in bridge["external_ids"].items():
                if key.startswith(_VLAN):
                    found["VLAN"][key[len(_VLAN) :]] = {"name": name}
            for uuid in _list(bridge["ports"]):
                if ports[uuid]["name"] != self.bridge:
                    _read_port(found, ports[uuid], [interfaces[item] for item in _list(ports[uuid]["interfaces"])])
        mtus = {
            item["ifname"]: item["mtu"] for item in json.loads(run(["ip", "-json", "link", "show"]) or "[]") if item
        }
        found["LINK"] = {name: {"mtu": mtus[name]} for name in links if name in mtus}
        missing = sorted(set(links) - set(mtus))
        if missing:
            raise SwitchError(f"this switch has no port {', '.join(missing)}")
        return found

    def has_bridge(self) -> bool:
        return self.bridge in run([*self.vsctl, "list-br"]).split()

    def frr(self) -> str:
        return run([*self.vtysh, "-c", "show running-config"])

    def show(self, what: str) -> t.Any:
        """An answer of FRR in JSON."""
        return json.loads(run([*self.vtysh, "-c", f"show {what} json"]) or "{}")

    def check_frr(self, path: str) -> None:
        """FRR's own parser reads the commands of a file without running them."""
        run(["vtysh", "-C", "-f", path])


def _plain(cell: t.Any) -> t.Any:
    """A cell of ovs-vsctl: sets of one come as the element, sets of none as None."""
    if isinstance(cell, list) and len(cell) == 2:
        kind, value = cell
        if kind == "uuid":
            return value
        if kind == "map":
            return dict(value)
        if kind == "set":
            return [_plain(item) for item in value] or None
    return cell


def _list(value: t.Any) -> list[t.Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _read_port(found: Tables, port: dict[str, t.Any], interfaces: list[dict[str, t.Any]]) -> None:
    entry: dict[str, t.Any] = {}
    bond = len(interfaces) > 1 or port["lacp"] is not None
    own = port["external_ids"] if bond else interfaces[0]["external_ids"]
    for field, value in (
        ("description", own.get("description")),
        ("mtu", interfaces[0]["mtu_request"]),
        ("mode", port["vlan_mode"]),
        ("tag", port["tag"]),
        ("trunks", _list(port["trunks"]) or None),
        ("lacp", port["lacp"]),
        ("members", sorted(item["name"] for item in interfaces) if bond else None),
        ("type", interfaces[0]["type"] if interfaces[0]["type"] == "internal" else None),
    ):
        if value is not None:
            entry[field] = value
    found["PORT"][port["name"]] = entry
    for item in interfaces if bond else ():
        member = {"description": item["external_ids"].get("description"), "mtu": item["mtu_request"]}
        found["MEMBER"][item["name"]] = {
            **{field: value for field, value in member.items() if value is not None},
            "lag": port["name"],
        }


def ovs_steps(bridge: str, before: Tables, after: Tables) -> list[list[str]]:
    """Arguments of ovs-vsctl that lead from one set of tables to another; each is one step of one transaction."""
    steps: list[list[str]] = []
    old, new = before["PORT"], after["PORT"]
    for name in sorted(set(old) - set(new)):
        steps.append(["del-port", bridge, name])
    for name, entry in new.items():
        shape = ("members", "type", "lacp")
        same = name in old and all(old[name].get(field) == entry.get(field) for field in shape)
        if not same:
            if name in old:
                steps.append(["del-port", bridge, name])
            steps += _create(bridge, name, entry)
        if not same or old[name] != entry:
            steps += _settings(name, entry)
        for member in entry.get("members", ()):
            told = after["MEMBER"].get(member, {})
            if not same or before["MEMBER"].get(member) != told:
                steps.append(_interface(member, told))
    for number in sorted(set(before["VLAN"]) - set(after["VLAN"])):
        steps.append(["remove", "bridge", bridge, "external_ids", f"{_VLAN}{number}"])
    for number, entry in after["VLAN"].items():
        if before["VLAN"].get(number) != entry:
            steps.append(["set", "bridge", bridge, f"external_ids:{_VLAN}{number}={_quoted(entry['name'])}"])
    return steps


def _create(bridge: str, name: str, entry: dict[str, t.Any]) -> list[list[str]]:
    members = entry.get("members") or [name]
    label = name.replace(".", "_").replace("-", "_")
    steps = []
    for place, member in enumerate(members):
        kind = [f"type={entry['type']}"] if "type" in entry else []
        steps.append([f"--id=@i{place}_{label}", "create", "interface", f"name={_quoted(member)}", *kind])
    interfaces = ",".join(f"@i{place}_{label}" for place in range(len(members)))
    lacp = [f"lacp={entry['lacp']}", "bond_mode=balance-tcp"] if "lacp" in entry else []
    steps.append([f"--id=@p_{label}", "create", "port", f"name={_quoted(name)}", f"interfaces=[{interfaces}]", *lacp])
    steps.append(["add", "bridge", bridge, "ports", f"@p_{label}"])
    return steps


def _settings(name: str, entry: dict[str, t.Any]) -> list[list[str]]:
    steps = []
    for column, field in (("vlan_mode", "mode"), ("tag", "tag"), ("trunks", "trunks")):
        if field in entry:
            value = entry[field]
            told = "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
            steps.append(["set", "port", name, f"{column}={told}"])
        else:
            steps.append(["clear", "port", name, column])
    if "members" in entry:
        steps.append(["set", "port", name, f"external_ids:description={_quoted(entry.get('description', ''))}"])
    else:
        steps.append(_interface(name, entry))
    return steps


def _interface(name: str, entry: dict[str, t.Any]) -> list[str]:
    mtu = f"mtu_request={entry['mtu']}" if "mtu" in entry else "mtu_request=[]"
    return ["set", "interface", name, mtu, f"external_ids:description={_quoted(entry.get('description', ''))}"]


def _quoted(text: str) -> str:
    return json.dumps(text)
