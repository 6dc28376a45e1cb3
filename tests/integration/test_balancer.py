# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MetalLB's programs with the rights, kinds and settings that the site gives them, and the FRR of a server.

A server, its two switches and a spine are network namespaces; on the server an API server, controller and speaker run
as plain processes, without any capability. The address of a Service has to arrive at the spine by both switches.
Needs root, FRR, and a bundle made with a site that has the load balancer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import metallb
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.cluster import images_of, manifests
from ansible_collections.kiban.baremetal.tests.integration.kube_api import BUNDLE
from ansible_collections.kiban.baremetal.tests.integration.server import Server
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


@pytest.fixture
def server(rack: SimpleNamespace) -> Iterator[Server]:
    # Not under pytest's own directory, which nobody but its owner may enter.
    with tempfile.TemporaryDirectory(prefix="kbal") as directory:
        images = {image: image.removeprefix("metallb-") for image in metallb.IMAGES}
        yield Server(rack.node1, Path(directory), images)


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
    where = {"METALLB_NAMESPACE": metallb.NAMESPACE}
    server.run_as(metallb.NAMESPACE, "controller", "--port=7473", "--webhook-mode=disabled", **where)
    who = {"METALLB_NODE_NAME": "node1", "METALLB_POD_NAME": "speaker-1", **where}
    server.run_as(metallb.NAMESPACE, "speaker", "--port=7472", "--host=127.0.0.1", **who)

    def address() -> str:
        return server.kubectl("get", "service", "web", "--output=jsonpath={.status.loadBalancer.ingress[0].ip}")

    eventually(lambda: address() != "", 120)
    assert address() == "203.0.113.64"
    eventually(lambda: ways(rack, "spine1", address()) == 2, 60)
    server.kubectl("delete", "endpointslice", "web-1")
    eventually(lambda: ways(rack, "spine1", "203.0.113.64") == 0, 60)
