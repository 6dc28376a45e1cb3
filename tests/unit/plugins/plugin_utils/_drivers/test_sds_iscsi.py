# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import sds_iscsi
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site, SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import node_files

CHECKOUT = Path(__file__).resolve().parents[5]


def site(**sds: Any) -> Site:
    data = yaml.safe_load((CHECKOUT / "inventories/lab-storage/site.yml").read_text())
    data["cluster"]["sds"] = [{"driver": "iscsi", "server": "node1", "volume_group": "fast", **sds}]
    return load_site(data)


def args(made: Site) -> list[str]:
    found = {one["kind"]: one for one in sds_iscsi.manifests(made, "volume-provisioner:x")}
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "node1"}
    return list(pod["containers"][0]["args"])


def test_the_provisioner_runs_on_the_server_and_lets_the_nodes_of_the_site_in() -> None:
    assert args(site()) == [
        "iscsi",
        "--volume-group=fast",
        "--namespace=kiban-iscsi",
        "--portals=198.51.100.21:3260",
        "--initiators=" + ",".join(f"iqn.1993-08.org.debian:01:{name}.lab-storage.kiban.test" for name in NAMES),
        "--root=/node",
    ]
    paths = ["198.51.100.21:3260", "198.51.100.21:3261"]
    assert f"--portals={','.join(paths)}" in args(site(portals=paths))


NAMES = ("cp1", "node1", "node2")


def test_it_may_read_secrets_of_its_own_namespace_alone() -> None:
    for one in sds_iscsi.manifests(site(), "x"):
        if one["kind"] in ("Role", "ClusterRole"):
            reads = any("secrets" in rule["resources"] for rule in one["rules"])
            assert reads is (one["kind"] == "Role")


def test_each_server_is_called_as_the_target_knows_it() -> None:
    made = site()
    for server in made.servers:
        files = node_files(made, server, "key")
        assert sds_iscsi.initiator(made, server) in files["/etc/iscsi/initiatorname.iscsi"]
        assert "no_path_retry queue" in files["/etc/multipath.conf"]


@pytest.mark.parametrize(
    ("sds", "words"),
    [
        ({"server": "node9"}, "'node9' is no server of the site"),
        ({"server": None}, "the driver 'iscsi' needs it"),
        ({"volume_group": "export"}, "is one file system"),
        ({"portals": ["x"]}, "address:port"),
        ({"mount_options": ["hard"]}, "does not take it"),
    ],
)
def test_what_does_not_fit_is_refused(sds: dict[str, Any], words: str) -> None:
    with pytest.raises(SiteError, match=words):
        site(**sds)


def test_two_programs_do_not_write_one_multipath_conf() -> None:
    data = yaml.safe_load((CHECKOUT / "inventories/lab-storage/site.yml").read_text())
    data["cluster"]["sds"] = [{"driver": "iscsi", "server": "node1", "volume_group": "fast"}]
    target = {"target": "iqn.2003-01.org.example:array1", "portals": ["192.0.2.10"]}
    used = data["racks"][0]["servers"][0]["profile"]
    data["profiles"][used]["block_storage"] = {"nvme_of": {}, "iscsi": {"array1": target}}
    with pytest.raises(SiteError, match=f"profiles.{used}.block_storage.iscsi: not with the storage driver 'iscsi'"):
        load_site(data)
    data["cluster"]["sds"] = [{"driver": "lvm", "volume_group": "fast"}]
    assert load_site(data).profiles[used].block_storage
