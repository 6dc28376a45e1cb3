# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traefik with the objects, rights and command line that the site gives it, before a real application.

A node and a host outside are network namespaces. On the node an API server, Traefik and the application run as plain
processes, Traefik as nobody and without any capability; the host outside asks it by HTTP and by HTTPS.
Needs root, curl, and a bundle made with a site that has the ingress.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.modules import kube_apply
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import traefik
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.cluster import comparable, images_of, unwanted
from ansible_collections.kiban.baremetal.plugins.plugin_utils._readers.cluster import read_objects
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.objects import differences
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import site_vars
from ansible_collections.kiban.baremetal.tests.integration.kube_api import BUNDLE, CHECKOUT, Cluster
from ansible_collections.kiban.baremetal.tests.integration.server import Server
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import Space, eventually, missing_programs

RunModule = Callable[..., dict[str, Any]]

KINDS = BUNDLE / "objects/gateway-api.yaml"
LACKING = [str(file) for file in (BUNDLE / "images/traefik.tar", KINDS) if not file.exists()]
WHY = f"not in the bundle: {', '.join(LACKING)}" if LACKING else missing_programs("ip", "curl", "openssl", "setpriv")
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]

NODE, OUTSIDE, POD, BALANCED = "198.51.100.21", "198.51.100.99", "10.244.21.7", "203.0.113.130"
OTHER_POD = "10.244.21.8"
HOSTS = ("ingress.example.net", "route.example.net")


def site(ingress: dict[str, Any]) -> Site:
    data: dict[str, Any] = yaml.safe_load((CHECKOUT / "inventories/lab-fabric/site.yml").read_text())
    data["cluster"]["ingress"] = ingress
    return load_site(data)


SITE = site({"driver": "traefik", "address": BALANCED})


def wanted() -> list[dict[str, Any]]:
    return traefik.manifests(SITE, "traefik:x", traefik.definitions(KINDS.read_text()))


def application(certificate: bytes, key: bytes) -> list[dict[str, Any]]:
    """A Service with one endpoint, and a way to it by an Ingress and by an HTTPRoute, both with and without TLS."""

    def of(api: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
        return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "default"}, **rest}

    gateway, secret = "gateway.networking.k8s.io/v1", {"certificateRefs": [{"name": "web"}]}
    data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}
    endpoints = of(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "web-1",
        addressType="IPv4",
        ports=[{"name": "http", "port": 8080}],
        endpoints=[{"addresses": [POD], "conditions": {"ready": True}}],
    )
    endpoints["metadata"]["labels"] = {"kubernetes.io/service-name": "web"}
    backend = {"service": {"name": "web", "port": {"name": "http"}}}
    rule = {"host": HOSTS[0], "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    listeners = [
        {"name": "http", "port": 80, "protocol": "HTTP"},
        {"name": "https", "port": 443, "protocol": "HTTPS", "tls": secret},
    ]
    route = {
        "parentRefs": [{"name": "web"}],
        "hostnames": [HOSTS[1]],
        "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
    }
    return [
        of("v1", "Secret", "web", type="kubernetes.io/tls", data=data),
        of("v1", "Service", "web", spec={"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}),
        endpoints,
        # Without a class: the cluster's default one is Traefik's.
        of("networking.k8s.io/v1", "Ingress", "web", spec={"tls": [{"secretName": "web"}], "rules": [rule]}),
        of(gateway, "Gateway", "web", spec={"gatewayClassName": traefik.CLASS, "listeners": listeners}),
        of(gateway, "HTTPRoute", "web", spec=route),
    ]


class Node:
    """A node with Traefik and an application, and a host outside."""

    def __init__(self, here: Path) -> None:
        self.here = here
        self.spaces = [Space(name, here) for name in ("node", "outside")]
        node, self.outside = self.spaces
        node.run("ip", "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", self.outside.netns)
        for space, address in ((node, NODE), (self.outside, OUTSIDE)):
            space.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
            space.run("ip", "link", "set", "eth0", "up")
        # The last one as a load balancer would have it.
        for address in (POD, OTHER_POD, BALANCED):
            node.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        self.outside.run("ip", "route", "add", BALANCED, "via", NODE)
        node.run("sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0")
        self.server = Server(node, here, {"traefik": "traefik", "agnhost": "agnhost"})

    def serve(self) -> None:
        """The API server with everything in it, the application, and Traefik by the command line of its pod."""
        self.server.serve()
        objects = wanted()
        first = [obj for obj in objects if obj["kind"] in ("Namespace", "CustomResourceDefinition")]
        self.server.apply(first)
        kinds = [f"crd/{obj['metadata']['name']}" for obj in first if obj["kind"] != "Namespace"]
        self.server.kubectl("wait", "--for=condition=Established", "--timeout=120s", *kinds)
        self.server.apply([obj for obj in objects if obj not in first])
        self.server.apply(application(*self.certificate()))
        self.server.start(str(self.here / "agnhost"), "netexec", "--http-port=8080", "--udp-port=-1")
        (pod,) = (obj["spec"]["template"]["spec"] for obj in objects if obj["kind"] == "Deployment")
        (container,) = pod["containers"]
        self.traefik = self.server.run_as(traefik.NAMESPACE, "traefik", *container["args"], HOME="/")

    def certificate(self) -> tuple[bytes, bytes]:
        names = ",".join(f"DNS:{name}" for name in HOSTS)
        files = [self.here / "web.crt", self.here / "web.key"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            + ["-subj", "/CN=web", "-addext", f"subjectAltName={names}", "-out", files[0], "-keyout", files[1]],
            check=True,
            capture_output=True,
        )
        return files[0].read_bytes(), files[1].read_bytes()

    def ask(self, url: str, host: str) -> tuple[int, str]:
        """Status and body, asked from outside with the certificate as the only one that is trusted."""
        names = [part for port in (80, 443) for part in ("--resolve", f"{host}:{port}:{BALANCED}")]
        options = ["--silent", "--max-time", "10", "--cacert", self.here / "web.crt", "--write-out", "\n%{http_code}"]
        body, _line, status = self.outside.run("curl", *options, *names, url, check=False).rpartition("\n")
        return int(status), body

    def close(self) -> None:
        print((self.here / "traefik.log").read_text()[-4000:])
        for space in reversed(self.spaces):
            space.close()


@pytest.fixture
def node() -> Iterator[Node]:
    # Not under pytest's own directory, which nobody but its owner may enter.
    with tempfile.TemporaryDirectory(prefix="king") as directory:
        made = Node(Path(directory))
        try:
            yield made
        finally:
            made.close()


def test_http_from_outside_reaches_the_application(node: Node) -> None:
    node.serve()
    ping = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", f"http://{NODE}:9000/ping"]
    eventually(lambda: node.server.space.run(*ping, check=False) == "200", 60)
    for host in HOSTS:
        for scheme in ("http", "https"):
            eventually(lambda url=f"{scheme}://{host}/hostname", host=host: node.ask(url, host)[0] == 200, 120)
        # The application is told who asks.
        assert node.ask(f"https://{host}/header?key=X-Forwarded-For", host) == (200, OUTSIDE)
    assert node.ask("http://other.example.net/", "other.example.net")[0] == 404
    # Its own port is for the kubelet and for who measures.
    metrics = node.server.space.run("curl", "--silent", f"http://{NODE}:9000/metrics")
    assert "traefik_entrypoint_requests_total" in metrics
    print(f"resident memory of Traefik: {resident(node.traefik.pid)} MiB")

    # What a load balancer gives to its Service, it says of what it serves.
    status = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": BALANCED}]}}})
    patch = ["patch", "service", traefik.CLASS, "--subresource=status", f"--patch={status}"]
    node.server.kubectl("-n", traefik.NAMESPACE, *patch)
    for what, path in (("ingress", ".status.loadBalancer.ingress[0].ip"), ("gateway", ".status.addresses[0].value")):
        eventually(
            lambda what=what, path=path: node.server.kubectl("get", what, "web", f"-o=jsonpath={{{path}}}") == BALANCED,
            60,
        )
    prove(node)
    log = (node.here / "traefik.log").read_text()
    assert "forbidden" not in log, log

    # Told to end, it is ready no more, and goes on serving while others stop sending to it.
    node.traefik.terminate()
    began = time.monotonic()
    eventually(lambda: node.server.space.run(*ping, check=False) != "200", 10)
    assert node.ask(f"http://{HOSTS[0]}/hostname", HOSTS[0])[0] == 200
    node.traefik.wait(45)
    assert time.monotonic() - began > 15


def prove(node: Node) -> None:
    """The check of the role verify, on the node, with a web application of two replicas."""
    labels = {"kubernetes.io/service-name": "web"}

    def of(api: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
        meta = {"name": name, "namespace": "kiban-verify", "labels": labels if kind == "EndpointSlice" else {}}
        return {"apiVersion": api, "kind": kind, "metadata": meta, **rest}

    objects = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kiban-verify"}}]
    objects.append(of("v1", "Service", "web", spec={"ports": [{"name": "http", "port": 80, "targetPort": "http"}]}))
    for pod, port in ((POD, 8081), (OTHER_POD, 8082)):
        endpoints = [{"addresses": [pod], "conditions": {"ready": True}}]
        ports = [{"name": "http", "port": port}]
        slice_of = {"addressType": "IPv4", "ports": ports, "endpoints": endpoints}
        objects.append(of("discovery.k8s.io/v1", "EndpointSlice", f"web-{port}", **slice_of))
        serve = f"hostname web-{port}; exec {node.here}/agnhost netexec --http-port={port} --udp-port=-1"
        node.server.start("unshare", "--uts", "sh", "-c", serve, log=f"web-{port}")
    node.server.apply(objects)
    inventory = {
        "outside": {"hosts": {"here": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}},
        "workers": {"hosts": {"node1": {"kiban_server": {"addresses": {"node": NODE}}}}},
    }
    api = {"kubeconfig": str(node.server.kubeconfig), "kubectl": str(BUNDLE / "bin/kubectl")}
    result = {"path": str(node.here / "verify.json")}
    modules = {"kube_apply": api, "kube_wait": api, "verify_result": result}
    begin = {"state": "started", "site": "x", "kubernetes": "x", "checks": ["ingress"]}
    check = {"name": "ingress", "tasks": "ingress.yml", "needs": []}
    play = {
        "hosts": "outside",
        "gather_facts": False,
        "module_defaults": {f"kiban.baremetal.{name}": options for name, options in modules.items()},
        "vars": {"kiban_site": site_vars(SITE), "_verify_check": check, "verify_pod_timeout": 60},
        "tasks": [
            {"kiban.baremetal.verify_result": begin},
            {"ansible.builtin.include_role": {"name": "kiban.baremetal.verify", "tasks_from": "check.yml"}},
            {"kiban.baremetal.verify_result": {"state": "finished"}},
        ],
    }
    for name, content in (("hosts.json", inventory), ("play.json", [play])):
        (node.here / name).write_text(json.dumps(content))
    command = node.server.space.argv(
        Path(sys.executable).with_name("ansible-playbook"), "-i", node.here / "hosts.json", node.here / "play.json"
    )
    environment = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PRIVATE KEY" not in done.stdout
    (proof,) = json.loads((node.here / "verify.json").read_text())["checks"]
    assert proof["detail"] == (
        "traefik, from outside, 40 of 40 requests each by both replicas: "
        "Ingress by HTTP; Ingress by HTTPS; HTTPRoute by HTTP; HTTPRoute by HTTPS"
    )


def resident(pid: int) -> int:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) // 1024


def verification(cluster: Cluster, run_module: RunModule) -> None:
    """What the role verify applies is as the API wants it."""
    text = (CHECKOUT / "roles/verify/templates/ingress.yaml.j2").read_text()
    settings = {
        "verify_namespace": "default",
        "_verify_ingress_domain": "v.test",
        "_verify_certificate": "x",
        "_verify_private_key": "y",
    }
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.filters["b64encode"] = lambda text: base64.b64encode(text.encode()).decode()
    rendered = environment.from_string(text).render(settings)
    for changed in (True, False):
        result = run_module(kube_apply, manifests=rendered, **cluster.options)
        assert (result["failed"], result["changed"]) == (False, changed), result.get("msg")


def test_a_changed_object_is_found_and_mended_and_all_goes_but_what_is_others(
    cluster: Cluster, run_module: RunModule
) -> None:
    images = {image: f"{image}:x" for image in images_of(SITE)}
    kinds = traefik.definitions(KINDS.read_text())
    every = comparable(SITE, images, kinds)
    options: dict[str, Any] = {"force_conflicts": True, **cluster.options}

    def differing() -> list[str]:
        live = read_objects(str(cluster.kubectl), str(cluster.kubeconfig), every, timeout=120)
        assert live is not None
        return [f"{name}: {field}" for name, fields in differences(every, live) for field, _have, _want in fields]

    first = run_module(kube_apply, manifests=list(every), **options)
    assert not first["failed"], first["msg"]
    assert run_module(kube_apply, manifests=list(every), **options)["changed"] is False
    assert differing() == []
    verification(cluster, run_module)

    route = "customresourcedefinition/httproutes.gateway.networking.k8s.io"
    cluster.run("annotate", route, "gateway.networking.k8s.io/bundle-version=v0.0.0", "--overwrite")
    cluster.run("-n", "traefik", "set", "image", "deployment/traefik", "traefik=other:y")
    cluster.run("-n", "traefik", "delete", "poddisruptionbudget", "traefik")
    cluster.run(
        "-n", "traefik", "patch", "service", "traefik", '--patch={"spec": {"externalTrafficPolicy": "Cluster"}}'
    )
    cluster.run("delete", "gatewayclass", "traefik")
    assert sorted(differing()) == [
        "CustomResourceDefinition httproutes.gateway.networking.k8s.io: "
        "metadata.annotations.gateway.networking.k8s.io/bundle-version",
        "Deployment traefik/traefik: spec.template.spec.containers[traefik].image",
        "GatewayClass traefik: ",
        "PodDisruptionBudget traefik/traefik: ",
        "Service traefik/traefik: spec.externalTrafficPolicy",
    ]
    mended = run_module(kube_apply, manifests=list(every), **options)
    assert len(mended["objects"]) == 5
    assert differing() == []

    secret = [obj for obj in application(b"", b"") if obj["kind"] == "Gateway"]
    run_module(kube_apply, manifests=secret, **options)
    gone = run_module(kube_apply, manifests=unwanted(site({})), state="absent", **cluster.options)
    assert not gone["failed"], gone["msg"]
    left = cluster.run("get", "namespaces,clusterroles,clusterrolebindings,ingressclasses,gatewayclasses", "-o=name")
    assert "traefik" not in left
    assert cluster.run("get", "gateways", "-o=name") == "gateway.gateway.networking.k8s.io/web\n"
