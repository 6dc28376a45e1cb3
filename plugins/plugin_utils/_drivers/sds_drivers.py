# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every storage driver by its name, with what it can do."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._site.model import Site
from . import sds_ceph, sds_iscsi, sds_local, sds_lvm, sds_nfs
from .sds import Capabilities

__all__ = ["DRIVERS", "HOLDERS", "PROVISIONED", "PROVISIONER", "of_model"]

_ALL = (sds_ceph, sds_iscsi, sds_local, sds_lvm, sds_nfs)

DRIVERS: Mapping[str, Capabilities] = {each.CAPABILITIES.driver: each.CAPABILITIES for each in _ALL}

HOLDERS: Mapping[str, Callable[[Site], list[str]]] = {each.CAPABILITIES.driver: each.holders for each in _ALL}
"""By driver, which servers of a site that uses it may have its volumes on their disks."""

PROVISIONER = "volume-provisioner"
"""Image of the bundle that makes the volumes of these drivers."""

PROVISIONED: Mapping[str, Callable[..., list[dict[str, Any]]]] = {
    "ceph": sds_ceph.manifests,
    "iscsi": sds_iscsi.manifests,
    "lvm": sds_lvm.manifests,
    "nfs": sds_nfs.manifests,
}
"""Drivers whose objects all follow from the site model and this image, each with what renders them."""


def of_model(site: Site, images: Mapping[str, str]) -> list[dict[str, Any]]:
    """Objects of the drivers that a site uses, as far as the bundle has their images and no disk decides about them."""
    found = sds_local.of_model(images, site.cluster.endpoint) if sds_local.CAPABILITIES.used_by(site) else []
    for driver, render in PROVISIONED.items():
        if DRIVERS[driver].used_by(site) and PROVISIONER in images:
            found += render(site, images[PROVISIONER])
    return found
