# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kiban.baremetal.plugins.plugin_utils._filters import image_references


def test_an_image_that_the_bundle_lacks_is_named() -> None:
    manifest = {
        "artifacts": [
            {"kind": "image", "name": "coredns", "reference": "x/coredns:v1"},
            {"kind": "file", "name": "traefik"},
        ]
    }
    assert image_references(manifest, ["coredns"]) == {"coredns": "x/coredns:v1"}
    with pytest.raises(
        AnsibleFilterError, match="has no image traefik, volume-provisioner: make bundle and node image"
    ):
        image_references(manifest, ["traefik", "coredns", "volume-provisioner"])


FILTERS: dict[str, tuple[Any, ...]] = {
    "fabric": ("switch_config", {}, "tor"),
    "lab": ("lab_layout", {}, {}),
    "sds": ("sds_manifests", {}, "nfs", {}),
    "select_disks": ("select_disks", [], {}, [], "data"),
    "select_pools": ("select_pools", [], {}),
    "site": ("sdn_capabilities", {}),
}


@pytest.mark.parametrize("file", sorted(FILTERS))
def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    module = importlib.import_module(f"ansible_collections.kiban.baremetal.plugins.filter.{file}")
    monkeypatch.setattr(module, "IMPORT_ERROR", ImportError("No module named 'netaddr'"))
    name, *arguments = FILTERS[file]
    with pytest.raises(AnsibleFilterError, match="a Python library is missing: No module named 'netaddr'"):
        module.FilterModule().filters()[name](*arguments)
