# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import sds_nfs
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import node_files

CHECKOUT = Path(__file__).resolve().parents[5]
IMAGE = "kiban.baremetal/volume-provisioner:v0.1.0"
EXPORTS = "/etc/exports.d/kiban.exports"


def site(server: str = "node2", **more: Any) -> Site:
    data = yaml.safe_load((CHECKOUT / "inventories/lab-storage/site.yml").read_text())
    data["cluster"]["sds"][0] = {"driver": "nfs", "server": server, "export": "/srv/volumes", **more}
    return load_site(data)


def objects(of: Site, **settings: Any) -> dict[str, dict[str, Any]]:
    return {obj["kind"]: obj for obj in sds_nfs.manifests(of, IMAGE, **settings)}


def test_the_class_is_shared_and_can_do_what_the_table_says() -> None:
    found = objects(site(mount_options=["nfsvers=4.2", "hard"]))["StorageClass"]
    assert found["metadata"]["name"] == sds_nfs.CAPABILITIES.storage_class
    assert found["provisioner"] == sds_nfs.CAPABILITIES.provisioner
    assert found["mountOptions"] == ["nfsvers=4.2", "hard"]
    assert found["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    assert "allowVolumeExpansion" not in found
    assert "allowedTopologies" not in found
    second = objects(site(), default_class=False)["StorageClass"]
    assert second["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "false"


@pytest.mark.parametrize(
    ("server", "address"), [("node2", "198.51.100.22"), ("filer.example.net", "filer.example.net")]
)
def test_where_volumes_are_mounted_from(server: str, address: str) -> None:
    pod = objects(site(server))["Deployment"]["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "export", "nfs": {"server": address, "path": "/srv/volumes"}}]
    assert pod["containers"][0]["args"] == ["nfs", f"--server={address}", "--export=/srv/volumes"]
    assert {"name": "KUBERNETES_SERVICE_HOST", "value": "198.51.100.11"} in pod["containers"][0]["env"]


def test_only_the_servers_of_the_site_may_mount_and_only_what_is_mounted_is_exported() -> None:
    found = site()
    line = node_files(found, found.server("node2"), "key")[EXPORTS]
    path, *clients = line.split()
    assert path == "/srv/volumes"
    assert [client.split("(")[0] for client in clients] == ["198.51.100.11", "198.51.100.21", "198.51.100.22"]
    assert all("mountpoint" in client for client in clients)


def test_the_nfs_server_starts_nowhere_else() -> None:
    found = site()
    for name in ("cp1", "node1", "node2"):
        files = node_files(found, found.server(name), "key")
        condition = files["/etc/systemd/system/nfs-server.service.d/kiban.conf"]
        assert f"ConditionPathExists={EXPORTS}\n" in condition
        assert "/etc/systemd/system/rpcbind.socket.d/kiban.conf" in files
        assert (EXPORTS in files) is (name == "node2")
    filer = site("filer.example.net")
    assert EXPORTS not in node_files(filer, filer.server("node2"), "key")


def test_a_site_without_it_has_none_of_its_files() -> None:
    lab = load_site(yaml.safe_load((CHECKOUT / "inventories/lab/site.yml").read_text()))
    assert sds_nfs.node_files(lab, lab.server("node2")) == {}


def test_every_namespaced_object_is_in_the_drivers_namespace() -> None:
    for obj in sds_nfs.manifests(site(), IMAGE):
        if obj["kind"] in ("Namespace", "ClusterRole", "ClusterRoleBinding", "StorageClass"):
            assert "namespace" not in obj["metadata"], obj["kind"]
        else:
            assert obj["metadata"]["namespace"] == "kiban-nfs", obj["kind"]
