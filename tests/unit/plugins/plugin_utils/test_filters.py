# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

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
