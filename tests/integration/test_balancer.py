# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MetalLB's programs with the rights, kinds and settings that the site gives them, and the FRR of a server.

A server, its two switches and a spine are network namespaces; on the server an API server, controller and speaker run
as plain processes, without any capability. The address of a Service has to arrive at the spine by both switches.
Needs root, FRR, and a bundle made with a site that has the load balancer.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import metallb
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.cluster import images_of, manifests
from ansible_collections.kiban.baremetal.tests.integration.kube_api import BUNDLE, take_program, write_kubeconfig
from ansible_collections.kiban.baremetal.tests.unit.plugins.plugin_utils._fabric.test_routed_servers import (
    SITE,
    WHY,
    rack,
    settled,
    ways,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import eventually

LACKING = [name for name in metallb.IMAGES if not (BUNDLE / f"images/{name}.tar").exists()]
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(bool(WHY or LACKING), reason=WHY or f"not in the bundle: {', '.join(LACKING)}"),
]
__all__ = ["rack"]

SERVICE: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}},
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "speaker-1", "namespace": metallb.NAMESPACE},
        "spec": {"nodeName": "node1", "containers": [{"name": "speaker", "image": "x"}]},
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]},
    },
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["10.244.21.7"], "nodeName": "node1", "conditions": {"ready": True}}],
    },
]


class Server:
    """The API server on a server of the rack, and what runs beside it."""

    def __init__(self, rack: SimpleNamespace, here: Path) -> None:
        self.space, self.here = rack.node1, here
        here.chmod(0o755)
        for image in ("etcd", "kube-apiserver", *metallb.IMAGES):
            take_program(BUNDLE / f"images/{image}.tar", image.removeprefix("metallb-"), here)
        subprocess.run(["openssl", "genrsa", "-out", here / "sa.key", "2048"], check=True, capture_output=True)
        (here / "tokens.csv").write_text("admin,admin,1,system:masters\n")
        self.kubeconfig = write_kubeconfig(here / "admin.conf", 6443, "admin")

    def start(self, *argv: str, **environment: str) -> None:
        with (self.here / f"{Path(argv[0]).name}.log").open("wb") as log:
            process = subprocess.Popen(
                self.space.argv(*argv), stdout=log, stderr=log, cwd=self.here, env={**os.environ, **environment}
            )
        self.space.processes.append(process)

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

    def run_as(self, account: str, *argv: str, **environment: str) -> None:
        """One of MetalLB's programs as nobody, with the rights of its service account."""
        token = self.kubectl("-n", metallb.NAMESPACE, "create", "token", account).strip()
        path = write_kubeconfig(self.here / f"{account}.conf", 6443, token)
        path.chmod(0o644)
        nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
        program = [str(self.here / account), *argv]
        self.start(
            "setpriv", *nobody, *program, KUBECONFIG=str(path), METALLB_NAMESPACE=metallb.NAMESPACE, **environment
        )


PROGRAMS = ("controller", "speaker")


@pytest.fixture
def server(rack: SimpleNamespace) -> Iterator[Server]:
    # Not under pytest's own directory, which nobody but its owner may enter.
    with tempfile.TemporaryDirectory(prefix="kbal") as directory:
        yield Server(rack, Path(directory))


def test_the_address_of_a_service_arrives_at_the_spine_and_leaves_it(rack: SimpleNamespace, server: Server) -> None:
    settled(rack)
    server.serve()
    objects = manifests(SITE, dict.fromkeys(images_of(SITE), "x:y"))
    kinds = [obj for obj in objects if obj["kind"] in ("Namespace", "CustomResourceDefinition")]
    server.apply(kinds)
    crds = [f"crd/{obj['metadata']['name']}" for obj in kinds if obj["kind"] != "Namespace"]
    server.kubectl("wait", "--for=condition=Established", "--timeout=60s", *crds)
    server.apply([obj for obj in objects if obj not in kinds])
    server.apply(SERVICE)
    # Two of them on one host: another port for the metrics of one.
    server.run_as("controller", "--port=7473", "--webhook-mode=disabled")
    who = {"METALLB_NODE_NAME": "node1", "METALLB_POD_NAME": "speaker-1"}
    server.run_as("speaker", "--port=7472", "--host=127.0.0.1", **who)

    def address() -> str:
        return server.kubectl("get", "service", "web", "--output=jsonpath={.status.loadBalancer.ingress[0].ip}")

    eventually(lambda: address() != "", 120)
    assert address() == "203.0.113.64"
    eventually(lambda: ways(rack, "spine1", address()) == 2, 60)
    server.kubectl("delete", "endpointslice", "web-1")
    eventually(lambda: ways(rack, "spine1", "203.0.113.64") == 0, 60)
