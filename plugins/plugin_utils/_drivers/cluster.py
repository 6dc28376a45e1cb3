# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site brings into its cluster besides storage: DNS, network driver, policies, load balancer, ingress."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._site.model import Site
from . import cluster_dns, metallb, policies, traefik
from .sdn_drivers import IN_CLUSTER
from .sds_drivers import PROVISIONED, PROVISIONER, of_model

__all__ = ["artifacts", "comparable", "images_of", "manifests", "unwanted"]


def artifacts(site: Site) -> list[str]:
    """Optional artifacts of the bundle that the site needs."""
    provisioned = any(sds.driver in PROVISIONED for sds in site.cluster.sds)
    network = IN_CLUSTER.get(site.cluster.sdn.driver)
    plugin = [network.PLUGIN] if network else []
    kinds = [traefik.DEFINITIONS] if site.cluster.ingress.driver else []
    return plugin + images_of(site)[1:] + kinds + ([PROVISIONER] if provisioned else [])


def images_of(site: Site) -> list[str]:
    """Names of the images that C(manifests) needs."""
    network = IN_CLUSTER.get(site.cluster.sdn.driver)
    found = ["coredns"] + (list(network.IMAGES) if network else [])
    found += [policies.IMAGE] if site.cluster.sdn.policies else []
    found += list(metallb.IMAGES) if site.cluster.load_balancer else []
    return found + ([traefik.IMAGE] if site.cluster.ingress.driver else [])


def manifests(site: Site, images: Mapping[str, str], kinds: Iterable[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Every object. C(images): by what references nodes know the images, by name. C(kinds): of the Gateway API."""
    found = cluster_dns.manifests(site, images["coredns"])
    if network := IN_CLUSTER.get(site.cluster.sdn.driver):
        found += network.manifests(site, images)
    if site.cluster.sdn.policies:
        found += policies.manifests(images[policies.IMAGE], site.cluster.endpoint)
    if site.cluster.load_balancer:
        found += metallb.manifests(site, images)
    if site.cluster.ingress.driver:
        found += traefik.manifests(site, images[traefik.IMAGE], kinds)
    return found


def comparable(
    site: Site, images: Mapping[str, str], kinds: Sequence[dict[str, Any]] = ()
) -> tuple[dict[str, Any], ...]:
    """What a run applies to the cluster, storage too, as far as it does not follow from the disks of the servers."""
    # Without the bundle nothing is known to differ.
    found = manifests(site, images, kinds) if images.keys() >= set(images_of(site)) else []
    return tuple(map(_without_role_variables, found + of_model(site, images)))


def unwanted(site: Site) -> list[dict[str, Any]]:
    """Every object that C(manifests) would have if the model asked for more; its names count, not its content.

    Not the kinds of the Gateway API: with them the Gateways and routes of others would go.
    """
    found = [] if site.cluster.sdn.policies else policies.manifests("", site.cluster.endpoint)
    if not site.cluster.load_balancer:
        found += metallb.manifests(site, dict.fromkeys(metallb.IMAGES, ""))
    elif not any(":" in pool for pool in site.cluster.pools):
        found.append(metallb.pool6())
    for name, network in IN_CLUSTER.items():
        if name != site.cluster.sdn.driver:
            found += network.manifests(site, dict.fromkeys(network.IMAGES, "")) + network.definitions()
    if not site.cluster.ingress.driver:
        found += traefik.manifests(site, "")
    return found


def _without_role_variables(obj: dict[str, Any]) -> dict[str, Any]:
    """An object of a driver without what a role's own variables, or the disks of the servers, decide."""
    if "template" in obj.get("spec", {}) and obj["metadata"].get("labels", {}).get("app.kubernetes.io/part-of"):
        template = obj["spec"]["template"]
        template["metadata"].pop("annotations", None)
        for container in template["spec"]["containers"]:
            container.pop("imagePullPolicy", None)
    if obj["kind"] == "StorageClass":
        del obj["metadata"]["annotations"]
    return obj
