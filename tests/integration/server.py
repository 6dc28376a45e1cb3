# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes API in a network namespace, from the bundle's own images, and programs with the rights of accounts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.kiban.baremetal.tests.integration.kube_api import BUNDLE, take_program, write_kubeconfig
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import Space, eventually


class Server:
    """The API server in a namespace, and programs of these images beside it."""

    def __init__(self, space: Space, here: Path, images: Mapping[str, str]) -> None:
        self.space, self.here = space, here
        here.chmod(0o755)
        for image, program in {"etcd": "etcd", "kube-apiserver": "kube-apiserver", **images}.items():
            take_program(BUNDLE / f"images/{image}.tar", program, here)
        subprocess.run(["openssl", "genrsa", "-out", here / "sa.key", "2048"], check=True, capture_output=True)
        (here / "tokens.csv").write_text("admin,admin,1,system:masters\n")
        self.kubeconfig = write_kubeconfig(here / "admin.conf", 6443, "admin")

    def start(self, *argv: str, log: str = "", **environment: str) -> subprocess.Popen[bytes]:
        with (self.here / f"{log or Path(argv[0]).name}.log").open("wb") as file:
            process = subprocess.Popen(
                self.space.argv(*argv), stdout=file, stderr=file, cwd=self.here, env={**os.environ, **environment}
            )
        self.space.processes.append(process)
        return process

    def serve(self) -> None:
        peers, clients = "http://127.0.0.1:2380", "http://127.0.0.1:2379"
        self.start(
            str(self.here / "etcd"),
            f"--data-dir={self.here / 'data'}",
            *(f"--{kind}-client-urls={clients}" for kind in ("listen", "advertise")),
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
        )
        self.start(
            str(self.here / "kube-apiserver"),
            f"--etcd-servers={clients}",
            *(f"--{kind}-address=127.0.0.1" for kind in ("bind", "advertise")),
            f"--cert-dir={self.here / 'certs'}",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={self.here / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            *(f"--service-account-{kind}-file={self.here / 'sa.key'}" for kind in ("key", "signing-key")),
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
        )
        eventually(lambda: self.kubectl("get", "--raw=/readyz", check=False) == "ok", 300)

    def kubectl(self, *args: str, stdin: str = "", check: bool = True) -> str:
        command = self.space.argv(BUNDLE / "bin/kubectl", f"--kubeconfig={self.kubeconfig}", *args)
        done = subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def apply(self, objects: list[dict[str, Any]]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "--validate=false", "--filename=-", stdin=text)

    def run_as(self, namespace: str, account: str, *argv: str, **environment: str) -> subprocess.Popen[bytes]:
        """The program with the name of a service account, as nobody, with the rights of that."""
        token = self.kubectl("-n", namespace, "create", "token", account).strip()
        path = write_kubeconfig(self.here / f"{account}.conf", 6443, token)
        path.chmod(0o644)
        nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
        program = [str(self.here / account), *argv]
        return self.start("setpriv", *nobody, *program, log=account, KUBECONFIG=str(path), **environment)
