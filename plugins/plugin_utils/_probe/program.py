# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Runs on the servers: Python 3.9, standard library, one line of JSON, one process started, and one more with FRR.
# What Python loads takes most of the time: modules that load many others are kept out, or are for those who need them.

from __future__ import annotations

import fnmatch
import glob
import json
import os
import re
import stat
import sys
import time
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils._disk_health import health
from ansible_collections.kiban.baremetal.plugins.module_utils._disk_paths import (
    answers,
    joined,
    multipath_parts,
    network_paths,
    network_sessions,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.ceph import ceph, ceph_units
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.layouts import layouts
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.neighbors import neighbors
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.routing import FRR_CONF, routing
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.until import read_until

try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # hashlib loads OpenSSL
except ImportError:  # before Python 3.12
    from hashlib import sha256

PATHS: list[str] = []
LAYOUTS = False
CEPH_CONF = "/etc/ceph/ceph.conf"
LOCAL = "/var/lib/kiban/local/"
UNITS = (
    "containerd.service",
    "kubelet.service",
    "systemd-networkd.service",
    "systemd-timesyncd.service",
    "nfs-server.service",
    "frr.service",
)
NETWORK = "/etc/systemd/network"


def read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def attr(*parts: str) -> str | None:
    return " ".join(read("/".join(parts)).replace("\0", "").split()) or None


def load(path: str) -> Any:
    try:
        return json.loads(read(path))
    except ValueError:
        return None


def digest(path: str) -> str | None:
    """Checksum and mode; a link is not the file that it shows."""
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode):
            return "link" if stat.S_ISLNK(mode) else "special"
        with open(path, "rb") as file:
            return f"{sha256(file.read()).hexdigest()} {stat.S_IMODE(mode):04o}"
    except OSError:
        return None


def output(command: list[str], seconds: float = 20) -> str:
    """What a program writes; OSError where it can't, fails, or takes longer. The module subprocess loads many."""
    reader, writer = os.pipe()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    text, whole = read_until(reader, seconds)
    if not whole:
        os.kill(child, 9)
    os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(
            f"{command[0]} did not answer within {seconds} s" if code == -9 else f"{command[0]} failed: {code}"
        )
    return text.decode("utf-8", "replace")


def units(more: list[str]) -> dict[str, Any]:
    """How the services are, and which units have failed: by one process."""
    kinds = "--type=service,mount,timer,socket,automount"
    command = ["systemctl", "list-units", "--all", kinds, "--plain", "--no-legend", "--no-pager", "--full"]
    try:
        out = output(command)
    except OSError:
        return {"units": {}, "failed": []}
    rows = {words[0]: words for line in out.splitlines() if len(words := line.split()) > 3}
    found = {}
    for name in (*UNITS, *more):
        enabled = bool(glob.glob(f"/etc/systemd/system/*.wants/{name}"))
        # systemd forgets a unit that is not there and not asked for.
        _name, load, active = (rows.get(name) or [name, "unloaded", "inactive"])[:3]
        masked = os.path.realpath(f"/etc/systemd/system/{name}") == "/dev/null"
        found[name] = "masked" if masked or load == "masked" else active if enabled else f"{active}, not enabled"
    return {"units": found, "failed": sorted(name for name, words in rows.items() if words[2] == "failed")}


def sections(path: str) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []
    for line in read(path).splitlines():
        if line.startswith("["):
            found.append((line.strip("[] "), {}))
        elif "=" in line and found:
            key, _equals, value = line.partition("=")
            found[-1][1][key.strip()] = value.strip()
    return found


def network() -> list[str]:
    """Where the kernel differs from what the files of systemd-networkd say; the files themselves are compared apart."""
    root = "/sys/class/net"
    devices = sorted(os.listdir(root)) if os.path.isdir(root) else []
    wrong: list[str] = []

    def size(device: str, wanted: str | None) -> None:
        have = attr(root, device, "mtu")
        if wanted and have != wanted:
            wrong.append(f"{device}: MTU {have}, not {wanted}")

    for path in sorted(glob.glob(f"{NETWORK}/*.netdev")):
        netdev = dict(sections(path))
        name, mode = netdev.get("NetDev", {}).get("Name", ""), netdev.get("Bond", {}).get("Mode")
        if name not in devices:
            wrong.append(f"{name}: not there")
            continue
        have = (attr(root, name, "bonding/mode") or "none").split()[0]
        if mode and have != mode:
            wrong.append(f"{name}: mode {have}, not {mode}")
    routes: set[tuple[int, int, int]] | None = None
    for path in sorted(glob.glob(f"{NETWORK}/*.network")):
        parts, match = sections(path), dict(sections(path)).get("Match", {})
        ports = match.get("Kind") == "!*"
        for device in devices:
            named = any(fnmatch.fnmatch(device, pattern) for pattern in match.get("Name", "").split())
            if not named or (ports and not os.path.exists(f"{root}/{device}/device")):
                continue
            size(device, dict(parts).get("Link", {}).get("MTUBytes"))
            bond = dict(parts).get("Network", {}).get("Bond")
            if bond and os.path.basename(os.path.realpath(f"{root}/{device}/master")) != bond:
                wrong.append(f"{device}: not in {bond}")
        if not any(name == "Route" or "Address" in values for name, values in parts):
            continue
        routes = kernel_routes() if routes is None else routes
        wrong += missing_routes(parts, routes)
    return wrong


def number(address: str) -> int:
    return int.from_bytes(map(int, address.split(".")), "big")


def kernel_routes() -> set[tuple[int, int, int]]:
    """(network, prefix length, gateway) of the main table; gateway 0: none, -1: unreachable."""
    found = set()
    for line in read("/proc/net/route").splitlines()[1:]:
        words = line.split()
        # The kernel tells them in the order of bytes of this machine.
        network, gateway, mask = (int.from_bytes(bytes.fromhex(words[place]), sys.byteorder) for place in (1, 2, 7))
        found.add((network, bin(mask).count("1"), -1 if int(words[3], 16) & 0x200 else gateway))
    return found


def missing_routes(parts: list[tuple[str, dict[str, str]]], routes: set[tuple[int, int, int]]) -> list[str]:
    wrong, missing = [], []
    own = re.findall(r"\|-- ([0-9.]+)\n[^\n]*host LOCAL", read("/proc/net/fib_trie"))
    for name, values in parts:
        address, gateway = values.get("Address"), values.get("Gateway")
        if address:
            ip, length = address.split("/")
            bits = number(ip) >> (32 - int(length)) << (32 - int(length)) if int(length) else 0
            # A single address brings no route to its network.
            if ip not in own or (length != "32" and (bits, int(length), 0) not in routes):
                wrong.append(f"address {address} is missing")
        if name == "Network" and gateway and (0, 0, number(gateway)) not in routes:
            missing.append(f"default route by {gateway}")
        if name == "Route" and ":" not in values.get("Destination", ":"):
            target, length = values["Destination"].split("/")
            by = -1 if values.get("Type") == "unreachable" else number(gateway) if gateway else 0
            if (number(target), int(length), by) not in routes:
                missing.append(f"route to {values['Destination']}" + (f" by {gateway}" if gateway else ""))
    more = f" and of {len(missing) - 1} more" if len(missing) > 1 else ""
    return wrong + [f"{missing[0]}{more} is missing"] if missing else wrong


def uses(names: list[str], mounts: list[tuple[str, str, bool]]) -> list[str]:
    """What uses a disk or one of its partitions, in words; mounts of the storage driver apart."""
    found = [at for device, at, _readonly in mounts if is_on(device, names) and not at.startswith(LOCAL)]
    patterns = [f"/sys/block/{name}/{middle}holders/*" for name in names for middle in ("", "*/")]
    holders = [os.path.basename(path) for pattern in patterns for path in glob.glob(pattern)]
    found += [f"held by {holder}" for holder in holders if holder not in names]
    swaps = [line.split()[0] for line in read("/proc/swaps").splitlines()[1:]]
    return found + [f"swap on {path}" for path in swaps if os.path.basename(path).startswith(tuple(names))]


def is_on(device: str, names: list[str]) -> bool:
    """Whether a device of sysfs is one of these disks or a partition of it."""
    return any(f"/{name}/" in f"{device}/" for name in names)


def etcd() -> dict[str, Any] | None:
    """What the member of etcd on this server says, from the metrics that kubeadm lets it give on loopback."""
    if not os.path.exists("/etc/kubernetes/manifests/etcd.yaml"):
        return None
    import socket  # Few servers need it. Nor is http.client loaded, which takes longer than all the rest.

    found: dict[str, list[str]] = {}
    try:
        with socket.socket() as connection:
            connection.settimeout(5)
            connection.connect(("127.0.0.1", 2381))
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            with connection.makefile("rb") as file:
                answer = file.read().decode("utf-8", "replace")
        for line in answer.splitlines():
            match = re.match(r"etcd_(server_id|server_has_leader|server_is_learner|network_known_peers)\b(.*)", line)
            if match:
                found.setdefault(match.group(1), []).append(match.group(2))
        peers = [
            match.group(1) for text in found["network_known_peers"] if (match := re.search(r'Remote="(\w+)"', text))
        ]
        return {
            "id": found["server_id"][0].split('"')[1],
            "has_leader": float(found["server_has_leader"][0]) == 1,
            "learner": float(found["server_is_learner"][0]) == 1,
            "members": peers,
        }
    except (OSError, KeyError, IndexError, ValueError):
        return None


def serial(base: str) -> str | None:
    try:
        with open(f"{base}/device/vpd_pg80", "rb") as file:
            page = file.read()
    except OSError:
        page = b""
    text = page[4 : 4 + int.from_bytes(page[2:4], "big")].decode("ascii", "replace").strip("\0 ")
    return attr(base, "serial") or attr(base, "device/serial") or text or None


def disk(name: str) -> dict[str, Any] | None:
    base, real = f"/sys/block/{name}", os.path.realpath(f"/sys/block/{name}")
    size = int(attr(base, "size") or 0) * 512
    virtual = "/devices/virtual/" in real and not re.search(r"/nvme-(subsystem|fabrics)/", real)
    if not size or virtual or re.match(r"sr|fd", name) or attr(base, "hidden") == "1":
        return None
    vendor, protocol = attr(base, "device/vendor"), None
    paths = network_paths("/sys", name)
    if paths:
        protocol = "iSCSI" if paths[0]["transport"] == "iscsi" else "NVMeOverFabrics"
    elif "/nvme" in real:
        protocol = "NVMe"
    elif re.search(r"/virtio\d+/block/", real):
        protocol = "VirtIO"
    elif vendor and not re.search(r"/usb|/mmc", real):
        protocol = "SATA" if vendor == "ATA" else "SAS" if "/end_device-" in real else "SCSI"
    rotational = {"0": "SSD", "1": "HDD"}.get(attr(base, "queue/rotational") or "")
    return {
        "name": name,
        "path": f"/dev/{name}",
        "paths": paths,
        "serial_number": serial(base),
        "wwn": attr(base, "wwid") or attr(base, "device/wwid"),
        "model": attr(base, "device/model"),
        "capacity_bytes": size,
        "protocol": protocol,
        "media_type": None if protocol == "VirtIO" else rotational,
        "logical_block_bytes": int(attr(base, "queue/logical_block_size") or 512),
        "physical_block_bytes": int(attr(base, "queue/physical_block_size") or 0) or None,
        "removable": attr(base, "removable") == "1",
        "unused_bytes": unused(base, size),
        "problems": problems(base, name, protocol),
    }


def unused(base: str, size: int) -> int:
    """Bytes behind the last partition; 0 where there is none."""
    parts = [os.path.dirname(path) for path in glob.glob(f"{base}/*/partition")]
    ends = [int(attr(path, "start") or 0) + int(attr(path, "size") or 0) for path in parts]
    return size - max(ends) * 512 if ends else 0


def problems(base: str, name: str, protocol: str | None) -> list[str]:
    """What the disk says against itself; one that the kernel has given up is not asked, since it would not answer."""
    if attr(base, "removable") == "1" or attr(base, "device/state") not in ("live", "running", None):
        return []
    said = health(f"/dev/{name}", protocol)
    return said["problems"] if said else []


def lost(disks: list[dict[str, Any]]) -> list[str]:
    """Serial numbers, as names of directories, of disks that were claimed on this server and are not there."""
    lines = [line.split() for line in read("/etc/fstab").splitlines()]
    claimed = [words[1][len(LOCAL) :] for words in lines if len(words) > 1 and words[1].startswith(LOCAL)]
    there = {re.sub(r"[^A-Za-z0-9._-]", "_", record["serial_number"] or "") for record in disks}
    return [name for name in claimed if name not in there]


def main() -> None:
    disks = joined("/sys", "/dev", [record for name in sorted(os.listdir("/sys/block")) if (record := disk(name))])
    mounts = []
    for line in read("/proc/self/mountinfo").splitlines():
        words = line.split(" ")
        device = os.path.realpath(f"/sys/dev/block/{words[2]}")
        if device.startswith("/sys/devices/"):
            mounts.append((device, words[4], "ro" in words[5].split(",")))
    for record in disks:
        names = [record["name"], *(multipath_parts("/sys", record["name"]).values() if record["paths"] else ())]
        own = [(at, ro) for device, at, ro in mounts if at.startswith(LOCAL) and is_on(device, names)]
        record["mounts"], record["claimed"] = [at for at, _readonly in own], bool(own)
        record["readonly"], record["uses"] = any(readonly for _at, readonly in own), uses(names, mounts)
    image, ramdisk = load("/etc/kiban/image.json") or {}, attr("/usr/lib/kiban/ramdisk-id")
    in_ramdisk = bool(ramdisk) or os.path.exists("/etc/kiban/ramdisk")
    with_ceph, node = CEPH_CONF in PATHS and not in_ramdisk, os.uname().nodename
    services = {"units": {}, "failed": []} if in_ramdisk else units(ceph_units(node) if with_ceph else [])
    answer = {
        "where": "ramdisk" if in_ramdisk else "node",
        "name": node,
        "uuid": (attr("/sys/class/dmi/id/product_uuid") or "").lower() or None,
        "time": time.time(),
        "boot_id": attr("/proc/sys/kernel/random/boot_id"),
        "uptime": float((read("/proc/uptime") or "0").split()[0]),
        "ramdisk_id": ramdisk,
        "image_id": image.get("image_id") or image.get("id"),
        "installed": load("/etc/kiban/installed.json"),
        "files": {path: value for path in PATHS if (value := digest(path))},
        "kubelet": {
            "version": image.get("kubernetes"),
            "configured": os.path.exists("/etc/kubernetes/kubelet.conf"),
            "config": read("/var/lib/kubelet/config.yaml"),
            # kubeadm writes admin.conf long before it is done; this marker is what node_membership leaves at the end.
            "initialised": os.path.exists("/etc/kubernetes/kiban/initialised"),
        },
        "etcd": etcd(),
        "mounts": [record["serial_number"] for record in disks if record["claimed"]],
        "disks": disks,
        "lost": lost(disks),
        "layouts": layouts([one for one in disks if answers(one)], read) if LAYOUTS else None,
        "sessions": network_sessions("/sys") if LAYOUTS else None,
        **services,
        "ceph": ceph(node, services["units"]) if with_ceph else None,
        "network": [] if in_ramdisk else network(),
        # Servers with cables tell their ports to switches.
        "neighbors": neighbors() if any("EmitLLDP=" in read(path) for path in glob.glob(f"{NETWORK}/*")) else [],
        "routing": routing(read(FRR_CONF), output) if FRR_CONF in PATHS and not in_ramdisk else [],
    }
    json.dump(answer, sys.stdout, separators=(",", ":"))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
