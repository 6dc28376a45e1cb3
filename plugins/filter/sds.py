# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of storage drivers whose objects follow from the site model. The work is done in plugin_utils/_drivers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._filters import check_libraries, image_references

try:
    from ..plugin_utils._drivers import sds_ceph, sds_drivers
    from ..plugin_utils._play import site_of_input
    from ..plugin_utils._site.model import Site
except ImportError as error:
    IMPORT_ERROR: ImportError | None = error
else:
    IMPORT_ERROR = None


def _site(data: Mapping[str, Any] | str, driver: str) -> Site:
    check_libraries(IMPORT_ERROR)
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
    image = image_references(manifest, [sds_drivers.PROVISIONER])[sds_drivers.PROVISIONER]
    return sds_drivers.PROVISIONED[driver](site, image, pull_policy, default_class)


def sds_ceph_server(data: Mapping[str, Any] | str, server: str) -> dict[str, Any]:
    site = _site(data, sds_ceph.CAPABILITIES.driver)
    known = site.server(server)
    automount, *daemons = sds_ceph.services(site, known)
    return {
        "fsid": sds_ceph.fsid(site),
        "monitors": sds_ceph.monitors(site),
        "osds": sum(len(sds_ceph.devices(site, each)) for each in site.servers),
        "secret": sds_ceph.SECRET,
        "automount": automount,
        "daemons": daemons,
        "devices": sds_ceph.devices(site, known),
    }


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"sds_ceph_server": sds_ceph_server, "sds_manifests": sds_manifests}
