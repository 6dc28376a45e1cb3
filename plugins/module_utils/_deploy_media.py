# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""What one server gets beside the common deploy ramdisk: its network, its keys, its start entry."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Entry", "MediaError", "Server", "boot_entry", "digest", "entries", "newc", "problems"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LINE = re.compile(r"[^\x00-\x1f\x7f]*")
ROOT = "server"


class MediaError(Exception):
    """A sentence for a person: what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Server:
    """What the medium of one server is made from."""

    name: str
    address: str
    gateway: str = ""
    vlan: int | None = None
    mtu: int = 1500
    dns: list[str] = field(default_factory=list)
    authorized_keys: list[str] = field(default_factory=list)
    kernel_args: str = ""

    @property
    def host(self) -> str:
        """The address without the length of its network."""
        return self.address.split("/")[0]

    @property
    def principals(self) -> list[str]:
        """What clients may call the server when they check its certificate."""
        return [self.name, self.host]


@dataclass(frozen=True)
class Entry:
    """One directory (no data) or file of an archive."""

    path: str
    mode: int
    data: bytes | None = None


def problems(server: Server) -> list[str]:
    """Everything that is wrong with the description of a server."""
    found = []
    if not _NAME.fullmatch(server.name):
        found.append(f"name {server.name!r} is not a host name: lower case letters, digits, '-' and '.'")
    try:
        network = ipaddress.ip_interface(server.address).network
    except ValueError:
        network = None
    if network is None or "/" not in server.address:
        found.append(f"address {server.address!r} is not an address with the length of its network, like 192.0.2.21/24")
    for option, value in [("gateway", server.gateway), *(("dns", value) for value in server.dns)]:
        try:
            ipaddress.ip_address(value or "::")
        except ValueError:
            found.append(f"{option} {value!r} is not an IP address")
    if server.vlan is not None and not 1 <= server.vlan <= 4094:
        found.append(f"vlan {server.vlan} is not from 1 to 4094; leave it out when the port is untagged")
    if not 576 <= server.mtu <= 9216:
        found.append(f"mtu {server.mtu} is not from 576 to 9216")
    if not any(key.strip() for key in server.authorized_keys):
        found.append("authorized_keys is empty: nobody could log in to the ramdisk")
    if not all(_LINE.fullmatch(text.strip()) for text in [*server.authorized_keys, server.kernel_args]):
        found.append("a key or a kernel argument has more than one line")
    return found


def digest(server: Server, ramdisk_id: str, ca_public_key: str) -> str:
    """Digest over everything that the medium is made from, but for the host key that is made anew each time."""
    inputs: dict[str, Any] = {
        "server": vars(server),
        "ramdisk": ramdisk_id,
        "ca": ca_public_key.split()[:2],
        "format": 1,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _environment(server: Server) -> str:
    values = {
        "NAME": server.name,
        "ADDRESS": server.address,
        "GATEWAY": server.gateway,
        "VLAN": "" if server.vlan is None else str(server.vlan),
        "MTU": str(server.mtu),
        "DNS": " ".join(server.dns),
    }
    # The values have been checked: none of them can end the quotes.
    return "".join(f"{name}='{value}'\n" for name, value in values.items())


def entries(server: Server, ramdisk_id: str, key: bytes, public_key: bytes, certificate: bytes) -> list[Entry]:
    """The files of one server, under the directory that the first stage of the ramdisk copies over its root."""
    marker = json.dumps({"id": ramdisk_id, "name": server.name}) + "\n"
    keys = "".join(f"{line.strip()}\n" for line in server.authorized_keys)
    return [
        Entry(ROOT, 0o755),
        Entry(f"{ROOT}/etc", 0o755),
        Entry(f"{ROOT}/etc/kiban", 0o755),
        Entry(f"{ROOT}/etc/kiban/ramdisk", 0o644, marker.encode()),
        Entry(f"{ROOT}/etc/kiban/ramdisk.env", 0o644, _environment(server).encode()),
        Entry(f"{ROOT}/etc/ssh", 0o755),
        Entry(f"{ROOT}/etc/ssh/ssh_host_ed25519_key", 0o600, key),
        Entry(f"{ROOT}/etc/ssh/ssh_host_ed25519_key-cert.pub", 0o644, certificate),
        Entry(f"{ROOT}/etc/ssh/ssh_host_ed25519_key.pub", 0o644, public_key),
        Entry(f"{ROOT}/root", 0o700),
        Entry(f"{ROOT}/root/.ssh", 0o700),
        Entry(f"{ROOT}/root/.ssh/authorized_keys", 0o600, keys.encode()),
    ]


def newc(members: list[Entry]) -> bytes:
    """An archive in the format that the kernel unpacks at start ("newc"), all owned by root."""
    parts = []
    for number, member in enumerate([*members, Entry("TRAILER!!!", 0)], start=1):
        name = member.path.encode() + b"\0"
        data = member.data or b""
        kind = 0o040000 if member.data is None else 0o100000
        mode = 0 if member.path == "TRAILER!!!" else kind | member.mode
        links = 2 if member.data is None else 1
        fields = [number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0]
        head = b"070701" + b"".join(b"%08X" % value for value in fields) + name
        parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]
    archive = b"".join(parts)
    return archive + bytes(-len(archive) % 512)


def boot_entry(server: Server, common_args: str) -> str:
    """The start entry of systemd-boot: the common ramdisk and the part of the server, unpacked one after the other."""
    options = " ".join(f"{common_args} {server.kernel_args}".split())
    lines = [
        "title Kiban deploy ramdisk",
        "linux /kiban/vmlinuz",
        "initrd /kiban/initrd",
        "initrd /kiban/server",
        f"options {options}",
    ]
    return "\n".join(lines) + "\n"
