# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.filter.sds import sds_ceph_server
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import sds_ceph
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site, SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import node_files

CHECKOUT = Path(__file__).resolve().parents[5]
UNITS = "/etc/systemd/system"


def data() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHECKOUT / "inventories/lab-ceph/site.yml").read_text())
    return found


def site() -> Site:
    return load_site(data())


def test_the_configuration_has_the_monitors_and_where_the_server_is() -> None:
    conf = configparser.ConfigParser()
    conf.read_string(sds_ceph.ceph_conf(site(), site().server("node1")))
    assert conf["global"]["mon_host"] == (
        "[v2:198.51.100.11:3300/0] [v2:198.51.100.21:3300/0] [v2:198.51.100.22:3300/0]"
    )
    assert conf["global"]["public_addr"] == "198.51.100.21"
    assert conf["osd"]["crush_location"] == "root=default rack=a01 host=node1"
    for who in ("cluster", "service", "client"):
        assert conf["global"][f"auth_{who}_required"] == "cephx"
    assert int(conf["osd"]["osd_memory_target"]) >= 896 << 20, "Ceph takes no less"


def test_the_cluster_is_known_by_the_name_of_the_site() -> None:
    other = data()
    other["site"]["name"] = "another"
    assert sds_ceph.fsid(site()) == sds_ceph.fsid(site()) != sds_ceph.fsid(load_site(other))


def test_what_a_server_has_of_it_is_in_its_files_and_nothing_of_it_is_secret() -> None:
    found = site()
    for server in found.servers:
        files = node_files(found, server, "key")
        assert files[sds_ceph.CONFIG] == sds_ceph.ceph_conf(found, server)
        mount = files[f"{UNITS}/var-lib-kiban-ceph.mount"]
        assert "What=198.51.100.11:3300,198.51.100.21:3300,198.51.100.22:3300:/\n" in mount
        assert f"secretfile={sds_ceph.SECRET}" in mount and "secret=" not in mount.replace("secretfile=", "")
        assert f"Where={sds_ceph.MOUNT}\n" in files[f"{UNITS}/var-lib-kiban-ceph.automount"]
        assert sds_ceph.SECRET not in files
    lab = load_site(yaml.safe_load((CHECKOUT / "inventories/lab/site.yml").read_text()))
    assert sds_ceph.node_files(lab, lab.server("node2")) == {}
    assert sds_ceph.monitors(lab) == {} and sds_ceph.services(lab, lab.server("node2")) == []


def test_a_servers_part() -> None:
    values = data()
    values["cluster"]["sds"][0]["monitors"] = ["node2"]
    part = sds_ceph_server(values, "node1")
    assert part["devices"] == ["/dev/osd/block"] and part["osds"] == 3
    assert part["daemons"] == [] and part["automount"] == "var-lib-kiban-ceph.automount"
    assert sds_ceph_server(values, "node2")["daemons"] == [
        f"ceph-{kind}@node2.service" for kind in ("mon", "mgr", "mds")
    ]
    assert part["monitors"] == {"node2": "198.51.100.22"}


def test_the_objects() -> None:
    objects = sds_ceph.manifests(site(), "x:y")
    found = {obj["kind"]: obj for obj in objects}
    assert found["StorageClass"]["metadata"]["name"] == sds_ceph.CAPABILITIES.storage_class
    assert found["StorageClass"]["provisioner"] == sds_ceph.CAPABILITIES.provisioner
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "volumes", "hostPath": {"path": sds_ceph.MOUNT, "type": "Directory"}}]
    # Without it the pod would see the file system only if it was mounted before the pod started.
    assert pod["containers"][0]["volumeMounts"][0]["mountPropagation"] == "HostToContainer"
    spaces = {obj["metadata"]["namespace"] for obj in objects if "namespace" in obj["metadata"]}
    assert spaces == {"kiban-ceph"}


@pytest.mark.parametrize(
    ("sds", "pool", "says"),
    [
        ({"monitors": ["node1", "node9", "cp1"]}, {}, "'node9' is no server of the site"),
        ({"monitors": ["node1", "node2"]}, {}, "2 monitors survive no more losses than one less"),
        ({"monitors": []}, {}, "the driver 'ceph' needs it"),
        ({"osds": ["fast"]}, {}, "no profile of a server has a pool 'fast' under storage"),
        ({"volume_group": "osd"}, {}, "the driver 'ceph' does not take it"),
        ({}, {"count": 2}, "an OSD is a pool of one disk"),
        ({}, {"volumes": {"block": {"filesystem": "ext4"}}}, "an OSD is a pool of one disk"),
        ({}, {"volumes": {"one": {"size": "1GiB"}, "block": {}}}, "an OSD is a pool of one disk"),
    ],
)
def test_a_model_that_cannot_be_is_refused(sds: dict[str, Any], pool: dict[str, Any], says: str) -> None:
    values = data()
    values["cluster"]["sds"][0] |= sds
    values["profiles"]["compute"]["storage"]["osd"] |= pool
    with pytest.raises(SiteError) as refused:
        load_site(values)
    assert says in str(refused.value)
