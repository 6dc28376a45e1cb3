# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role sds_local. The work is done in plugin_utils/_drivers/sds_local.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._drivers import sds_local


def manifests(
    nodes: Mapping[str, Sequence[str]],
    images: Mapping[str, str],
    api_host: str,
    api_port: int = 6443,
    pull_policy: str = "IfNotPresent",
    default_class: bool = True,
) -> list[dict[str, Any]]:
    missing = [name for name in ("provisioner", "helper") if not images.get(name)]
    if missing:
        raise AnsibleFilterError(f"no image is named for the {' and the '.join(missing)} of the storage driver")
    chosen = sds_local.Images(images["provisioner"], images["helper"])
    return sds_local.manifests(nodes, chosen, api_host, api_port, pull_policy, default_class)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "sds_local_manifests": manifests,
            "sds_local_paths": sds_local.mounted_paths,
            "sds_local_with_unread": sds_local.with_unread_nodes,
        }
