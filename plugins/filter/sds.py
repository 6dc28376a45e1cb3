# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of storage drivers whose objects follow from the site model. The work is done in plugin_utils/_drivers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from ..plugin_utils._drivers import sds_lvm, sds_nfs
    from ..plugin_utils._play import site_of_input
    from ..plugin_utils._site.model import Site
except ImportError as error:
    IMPORT_ERROR: ImportError | None = error
else:
    IMPORT_ERROR = None

_IMAGE = "volume-provisioner"


def _site(data: Mapping[str, Any] | str, driver: str) -> Site:
    if IMPORT_ERROR is not None:
        raise AnsibleFilterError(f"a Python library is missing: {IMPORT_ERROR}") from IMPORT_ERROR
    site = site_of_input(data)
    if driver not in {sds.driver for sds in site.cluster.sds}:
        raise AnsibleFilterError(f"the site does not use the storage driver {driver}: see cluster.sds in its file")
    return site


def sds_manifests(
    data: Mapping[str, Any] | str,
    driver: str,
    manifest: Mapping[str, Any],
    pull_policy: str = "IfNotPresent",
    default_class: bool = True,
) -> list[dict[str, Any]]:
    site = _site(data, driver)
    images = {entry["name"]: entry["reference"] for entry in manifest["artifacts"] if entry["kind"] == "image"}
    if _IMAGE not in images:
        raise AnsibleFilterError(
            f"the bundle has no image {_IMAGE}: make bundle and node image again with the inventory of this site"
        )
    return _RENDER[driver](site, images[_IMAGE], pull_policy, default_class)


_RENDER = {} if IMPORT_ERROR else {"lvm": sds_lvm.manifests, "nfs": sds_nfs.manifests}


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"sds_manifests": sds_manifests}
