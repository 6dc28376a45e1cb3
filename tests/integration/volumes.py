# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the program volume-provisioner share."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.kiban.baremetal.tests.integration.kube_api import Cluster

__all__ = ["account", "claim", "get", "running", "until"]


@contextmanager
def running(log: Path, *argv: str | Path, **env: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(list(map(str, argv)), stdout=output, stderr=output, env=os.environ | env)
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def until(look: Callable[[], Any], wanted: Callable[[Any], bool], log: Path, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while True:
        found = look()
        if wanted(found):
            return found
        assert time.monotonic() < end, f"{found}\n{log.read_text()[-3000:]}"
        time.sleep(0.3)


def get(cluster: Cluster, *args: str) -> Any:
    return json.loads(cluster.run("get", *args, "--output=json", "--ignore-not-found") or "null")


def account(cluster: Cluster, name: str, namespace: str, folder: Path) -> Path:
    """The way to the API server with the rights of the driver's own service account."""
    token = cluster.run("create", "token", name, f"--namespace={namespace}").strip()
    config = json.loads(cluster.kubeconfig.read_text())
    config["users"][0]["user"]["token"] = token
    path = folder / "account.conf"
    path.write_text(json.dumps(config))
    return path


def claim(name: str, storage_class: str, size: str, mode: str = "ReadWriteOnce") -> dict[str, Any]:
    spec = {"accessModes": [mode], "storageClassName": storage_class, "resources": {"requests": {"storage": size}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }
