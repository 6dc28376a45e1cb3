# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Runs on the servers: Python 3.9, standard library, one line of JSON, one process started at most.

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from typing import Any

PATHS: list[str] = []
LOCAL = "/var/lib/kiban/local/"


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
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def active(unit: str) -> bool:
    """A running service has processes in its control group; asking systemd would cost a process."""
    root = "/sys/fs/cgroup/system.slice/"
    return "populated 1" in read(f"{root}{unit}/cgroup.events") or bool(
        read(f"/sys/fs/cgroup/systemd/system.slice/{unit}/cgroup.procs")
    )


def failed() -> list[str]:
    command = ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager", "--full"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.split()[0] for line in out.splitlines() if line.strip()]


def etcd() -> dict[str, Any] | None:
    """What the member of etcd on this server says, from the metrics that kubeadm lets it give on loopback."""
    if not os.path.exists("/etc/kubernetes/manifests/etcd.yaml"):
        return None
    import http.client  # Takes a while, and few servers need it.

    found: dict[str, list[str]] = {}
    try:
        connection = http.client.HTTPConnection("127.0.0.1", 2381, timeout=5)
        connection.request("GET", "/metrics")
        for line in connection.getresponse().read().decode("utf-8", "replace").splitlines():
            match = re.match(r"etcd_(server_id|server_has_leader|server_is_learner|network_known_peers)\b(.*)", line)
            if match:
                found.setdefault(match.group(1), []).append(match.group(2))
        connection.close()
        peers = [
            match.group(1) for text in found["network_known_peers"] if (match := re.search(r'Remote="(\w+)"', text))
        ]
        return {
            "id": found["server_id"][0].split('"')[1],
            "has_leader": float(found["server_has_leader"][0]) == 1,
            "learner": float(found["server_is_learner"][0]) == 1,
            "members": peers,
        }
    except (OSError, http.client.HTTPException, KeyError, IndexError, ValueError):
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
    virtual = "/devices/virtual/" in real and "/nvme-subsystem/" not in real
    if not size or virtual or re.match(r"sr|fd", name) or attr(base, "hidden") == "1":
        return None
    vendor, protocol = attr(base, "device/vendor"), None
    if "/nvme" in real:
        protocol = "NVMe"
    elif re.search(r"/virtio\d+/block/", real):
        protocol = "VirtIO"
    elif vendor and not re.search(r"/usb|/mmc", real):
        protocol = "SATA" if vendor == "ATA" else "SAS" if "/end_device-" in real else "SCSI"
    rotational = {"0": "SSD", "1": "HDD"}.get(attr(base, "queue/rotational") or "")
    return {
        "name": name,
        "path": f"/dev/{name}",
        "serial_number": serial(base),
        "wwn": attr(base, "wwid") or attr(base, "device/wwid"),
        "model": attr(base, "device/model"),
        "capacity_bytes": size,
        "protocol": protocol,
        "media_type": None if protocol == "VirtIO" else rotational,
    }


def main() -> None:
    disks = [record for name in sorted(os.listdir("/sys/block")) if (record := disk(name))]
    below = {}
    for line in read("/proc/self/mountinfo").splitlines():
        words = line.split(" ")
        if words[4].startswith(LOCAL):
            below[os.path.realpath(f"/sys/dev/block/{words[2]}")] = words[4]
    for record in disks:
        own = [path for device, path in below.items() if f"/{record['name']}/" in f"{device}/"]
        record["mounts"], record["claimed"] = own, bool(own)
    image, ramdisk = load("/etc/kiban/image.json") or {}, attr("/usr/lib/kiban/ramdisk-id")
    in_ramdisk = bool(ramdisk) or os.path.exists("/etc/kiban/ramdisk")
    answer = {
        "where": "ramdisk" if in_ramdisk else "node",
        "name": os.uname().nodename,
        "boot_id": attr("/proc/sys/kernel/random/boot_id"),
        "uptime": float((read("/proc/uptime") or "0").split()[0]),
        "ramdisk_id": ramdisk,
        "image_id": image.get("image_id") or image.get("id"),
        "installed": load("/etc/kiban/installed.json"),
        "files": {path: value for path in PATHS if (value := digest(path))},
        "kubelet": {
            "active": active("kubelet.service"),
            "version": image.get("kubernetes"),
            "configured": os.path.exists("/etc/kubernetes/kubelet.conf"),
            # kubeadm writes admin.conf long before it is done; this marker is what node_membership leaves at the end.
            "initialised": os.path.exists("/etc/kubernetes/kiban/initialised"),
        },
        "etcd": etcd(),
        "containerd": {"active": active("containerd.service")},
        "failed": [] if in_ramdisk else failed(),
        "mounts": [record["serial_number"] for record in disks if record["claimed"]],
        "disks": disks,
    }
    json.dump(answer, sys.stdout, separators=(",", ":"))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
