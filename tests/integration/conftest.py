# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Kubernetes API on loopback, from the bundle's own images: etcd, API server, controller manager, scheduler.

No node joins it, so nothing runs; but every object is validated, stored and compared as in a cluster.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible.plugins.loader import init_plugin_loader

if TYPE_CHECKING:
    from ansible_collections.kiban.baremetal.tests.integration.kube_api import Cluster

CHECKOUT = Path(__file__).resolve().parents[2]

init_plugin_loader([str(CHECKOUT / ".ansible" / "collections")])


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    from ansible_collections.kiban.baremetal.tests.integration.kube_api import (
        BUNDLE,
        PROGRAMS,
        Cluster,
        free_ports,
        take_program,
        wait_until_ready,
        write_kubeconfig,
    )

    if not (BUNDLE / "manifest.json").exists():
        pytest.skip(f"there is no bundle at {BUNDLE}: run `make bundle`")
    here = tmp_path_factory.mktemp("cluster")
    programs = {name: take_program(BUNDLE / f"images/{name}.tar", name, here) for name in PROGRAMS}
    client, peer, secure, manager, scheduler = free_ports(5)
    subprocess.run(["openssl", "genrsa", "-out", here / "sa.key", "2048"], check=True, capture_output=True)
    tokens = (
        "admin,admin,1,system:masters\nmanager,system:kube-controller-manager,2\nscheduler,system:kube-scheduler,3\n"
    )
    (here / "tokens.csv").write_text(tokens)
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *flags: str) -> subprocess.Popen[bytes]:
        with (here / f"{name}.log").open("wb") as log:
            started.append(subprocess.Popen([programs[name], *flags], stdout=log, stderr=log, cwd=here))
        return started[-1]

    def auth(user: str) -> list[str]:
        path = write_kubeconfig(here / f"{user}.conf", secure, user)
        return [f"--{kind}={path}" for kind in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")]

    try:
        peers, clients = f"http://127.0.0.1:{peer}", f"http://127.0.0.1:{client}"
        start(
            "etcd",
            f"--data-dir={here / 'data'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
        )
        server = start(
            "kube-apiserver",
            f"--etcd-servers={clients}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={secure}",
            f"--cert-dir={here / 'certs'}",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={here / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={here / 'sa.key'}",
            f"--service-account-signing-key-file={here / 'sa.key'}",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
            "--endpoint-reconciler-type=none",
            "--allow-privileged",
        )
        wait_until_ready(secure, server, here / "kube-apiserver.log")
        common = ["--bind-address=127.0.0.1", "--leader-elect=false"]
        start(
            "kube-controller-manager",
            *auth("manager"),
            *common,
            f"--secure-port={manager}",
            f"--service-account-private-key-file={here / 'sa.key'}",
            "--use-service-account-credentials",
        )
        start("kube-scheduler", *auth("scheduler"), *common, f"--secure-port={scheduler}")
        yield Cluster(write_kubeconfig(here / "admin.conf", secure, "admin"), BUNDLE / "bin/kubectl")
    finally:
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def run(module: ModuleType, check_mode: bool = False, **params: Any) -> dict[str, Any]:
        capsys.readouterr()
        options = {**params, "_ansible_check_mode": check_mode, "_ansible_diff": True}
        with patch_module_args(options), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return {"failed": False, **result}

    return run


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("go"):
        pytest.skip("there is no go command")
    made = tmp_path_factory.mktemp("program") / "volume-provisioner"
    env = os.environ | {"GOFLAGS": "-mod=readonly -trimpath -buildvcs=false", "CGO_ENABLED": "0", "GOWORK": "off"}
    source = CHECKOUT / "roles/bundle/files/go/volume-provisioner"
    subprocess.run(["go", "build", "-o", str(made), "."], cwd=source, env=env, check=True)
    return made
