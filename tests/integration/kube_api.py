# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a Kubernetes API on loopback, from the bundle's own images."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import tarfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
BUNDLE = Path(os.environ.get("KIBAN_WORK") or Path.home() / ".cache/kiban") / "bundle"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def take_program(image: Path, name: str, into: Path) -> Path:
    """A program out of an OCI archive: the first file of its name in any layer."""
    with tarfile.open(image) as archive:

        def blob(digest: str) -> Any:
            return archive.extractfile(f"blobs/{digest.replace(':', '/')}")

        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
        manifest = json.load(blob(index["manifests"][0]["digest"]))
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=blob(layer["digest"])) as files:
                for entry in files:
                    if entry.isfile() and os.path.basename(entry.name) == name:
                        path = into / name
                        path.write_bytes(files.extractfile(entry).read())  # type: ignore[union-attr]
                        path.chmod(0o755)
                        return path
    raise LookupError(f"{image} has no program {name}")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _number in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@dataclass
class Cluster:
    kubeconfig: Path
    kubectl: Path

    @property
    def options(self) -> dict[str, str]:
        return {"kubeconfig": str(self.kubeconfig), "kubectl": str(self.kubectl)}

    def run(self, *args: str, stdin: str = "") -> str:
        command = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", *args]
        return subprocess.run(command, check=True, capture_output=True, text=True, input=stdin).stdout


def write_kubeconfig(path: Path, port: int, token: str) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}}
        ],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    path.write_text(json.dumps(config))
    return path


def wait_until_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    context = ssl._create_unverified_context()
    request = urllib.request.Request(f"https://127.0.0.1:{port}/readyz", headers={"Authorization": "Bearer admin"})
    end = time.monotonic() + 600
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=2, context=context) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"the API server did not become ready: {log.read_text()[-2000:]}")
