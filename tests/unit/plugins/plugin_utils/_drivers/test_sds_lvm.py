# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import sds_lvm
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site

CHECKOUT = Path(__file__).resolve().parents[5]


def site() -> Site:
    return load_site(yaml.safe_load((CHECKOUT / "inventories/lab-storage/site.yml").read_text()))


def objects() -> dict[str, dict[str, Any]]:
    return {obj["kind"]: obj for obj in sds_lvm.manifests(site(), "volume-provisioner:x", default_class=False)}


def test_it_runs_where_the_volume_group_is() -> None:
    assert sds_lvm.holders(site()) == ["cp1", "node1"]
    pod = objects()["DaemonSet"]["spec"]["template"]["spec"]
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["cp1", "node1"]
    assert "--volume-group=fast" in pod["containers"][0]["args"]


def test_the_scheduler_looks_at_the_room_that_is_told() -> None:
    found = objects()
    can = sds_lvm.CAPABILITIES
    assert found["CSIDriver"]["metadata"]["name"] == found["StorageClass"]["provisioner"] == can.provisioner
    assert found["CSIDriver"]["spec"]["storageCapacity"] is can.capacity_told is True
    assert found["StorageClass"]["volumeBindingMode"] == "WaitForFirstConsumer"
    assert found["StorageClass"]["allowVolumeExpansion"] is can.expansion is True
    assert f"--class={can.storage_class}" in found["DaemonSet"]["spec"]["template"]["spec"]["containers"][0]["args"]


def test_every_namespaced_object_is_in_the_drivers_namespace() -> None:
    for obj in sds_lvm.manifests(site(), "volume-provisioner:x"):
        if obj["kind"] in ("Namespace", "ClusterRole", "ClusterRoleBinding", "CSIDriver", "StorageClass"):
            assert "namespace" not in obj["metadata"], obj["kind"]
        else:
            assert obj["metadata"]["namespace"] == "kiban-lvm", obj["kind"]
