# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program volume-provisioner, compiled from the bundle's recipe, against a real API server and scheduler."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.modules import kube_apply
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import sds_iscsi, sds_lvm, sds_nfs
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.integration.kube_api import CHECKOUT, Cluster
from ansible_collections.kiban.baremetal.tests.integration.volumes import account, claim, get, running, until

RunModule = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.slow

SITE = load_site(yaml.safe_load((CHECKOUT / "inventories/lab-storage/site.yml").read_text()))


def test_nfs(cluster: Cluster, run_module: RunModule, program: Path, tmp_path: Path) -> None:
    """A claim gets a directory, and takes it along; what is not ours is left alone."""
    export, log = tmp_path / "export", tmp_path / "log"
    export.mkdir()
    (export / "of-others").mkdir()
    applied = sds_nfs.manifests(SITE, "volume-provisioner:x")
    run_module(kube_apply, manifests=applied, **cluster.options)
    assert run_module(kube_apply, manifests=applied, **cluster.options)["changed"] is False
    config = account(cluster, "nfs-provisioner", "kiban-nfs", tmp_path)
    command = [program, "nfs", f"--kubeconfig={config}", "--server=198.51.100.22", "--export=/srv/volumes"]

    with running(log, *command, f"--root={export}"):
        wanted = [claim("shared", "kiban-nfs", "1Mi", "ReadWriteMany"), claim("huge", "kiban-nfs", "1Pi")]
        run_module(kube_apply, manifests=wanted, **cluster.options)
        bound = until(lambda: get(cluster, "pvc", "shared"), lambda found: found["status"].get("phase") == "Bound", log)
        name = bound["spec"]["volumeName"]
        volume = get(cluster, "pv", name)["spec"]
        assert volume["nfs"] == {"server": "198.51.100.22", "path": f"/srv/volumes/{name}"}
        assert volume["mountOptions"] == ["nfsvers=4.2", "hard"]
        assert (export / name).stat().st_mode & 0o777 == 0o777
        (export / name / "data").write_text("x")
        until(
            lambda: cluster.run("get", "events", "--output=json"),
            lambda text: "1Pi is asked for and 198.51.100.22:/srv/volumes has" in text,
            log,
        )
        assert get(cluster, "pvc", "huge")["status"]["phase"] == "Pending"
        run_module(kube_apply, manifests=wanted, state="absent", **cluster.options)
        until(lambda: get(cluster, "pv", name), lambda found: found is None, log)
    # Other tests leave claims of this class in the cluster, which get directories too.
    left = {path.name for path in export.iterdir()}
    assert "of-others" in left and not left & {name, f".removed-{name}"}


MIB = 1 << 20


def node(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def pod(name: str, on: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": on},
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": False,
            "containers": [{"name": "x", "image": "x", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}],
        },
    }


class Group:
    """A volume group that exists in a file, with commands that work on it."""

    def __init__(self, folder: Path, extents: int) -> None:
        self.folder = folder
        folder.mkdir()
        self.write({"name": "fast", "extents": extents, "volumes": {}})
        shutil.copy(CHECKOUT / "tests/integration/fake_lvm.py", folder / "fake_lvm.py")
        for name in ("vgs", "lvs", "lvcreate", "lvextend", "lvchange", "lvremove"):
            shutil.copy(folder / "fake_lvm.py", folder / name)
            (folder / name).chmod(0o755)

    def write(self, state: dict[str, Any]) -> None:
        (self.folder / "lvm.json").write_text(json.dumps(state))

    @property
    def volumes(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "lvm.json").read_text())["volumes"])


def test_lvm(cluster: Cluster, run_module: RunModule, program: Path, tmp_path: Path) -> None:
    """Told capacity decides where pods go; volumes grow with their claims and end with them."""
    group, log = Group(tmp_path / "bin", 25), tmp_path / "log"
    applied = sds_lvm.manifests(SITE, "volume-provisioner:x", default_class=False)
    run_module(kube_apply, manifests=applied, **cluster.options)
    assert run_module(kube_apply, manifests=applied, **cluster.options)["changed"] is False
    run_module(kube_apply, manifests=[node("n1"), node("n2")], **cluster.options)
    # No kubelet keeps them Ready and says how many pods they take.
    for name in ("n1", "n2"):
        status = {"status": {"allocatable": {"pods": "10"}, "capacity": {"pods": "10"}}}
        cluster.run("patch", "node", name, "--subresource=status", "--type=merge", f"--patch={json.dumps(status)}")
    config = account(cluster, "lvm-provisioner", "kiban-lvm", tmp_path)
    command = [program, "lvm", f"--kubeconfig={config}", "--node=n1", "--volume-group=fast"]
    options = ["--class=kiban-lvm", "--namespace=kiban-lvm", "--root=/"]

    def told() -> str:
        found = get(cluster, "csistoragecapacity", "lvm-n1", "--namespace=kiban-lvm")
        return str(found and found["capacity"])

    with running(log, *command, *options, PATH=f"{group.folder}:{os.environ['PATH']}"):
        until(told, lambda room: room == "100Mi", log)
        wanted = [
            claim(name, "kiban-lvm", size) for name, size in (("here", "30Mi"), ("away", "30Mi"), ("big", "96Mi"))
        ]
        pods = [pod("here", "n1"), pod("away", "n2"), pod("big", "n1")]
        run_module(kube_apply, manifests=[*wanted[:1], *pods[:1]], **cluster.options)
        bound = until(lambda: get(cluster, "pvc", "here"), lambda found: found["status"].get("phase") == "Bound", log)
        name = bound["spec"]["volumeName"]
        volume = get(cluster, "pv", name)["spec"]
        assert volume["local"] == {"path": f"/dev/fast/{name}", "fsType": "ext4"}
        assert volume["capacity"] == {"storage": "32Mi"}, "whole extents"
        assert group.volumes == {name: {"extents": 8, "tags": ["kiban-volume"]}}
        until(told, lambda room: room == "68Mi", log)

        # One has no room on its node, the other node has no volume group.
        run_module(kube_apply, manifests=[*wanted[1:], *pods[1:]], **cluster.options)
        for each in ("big", "away"):
            until(
                lambda each=each: cluster.run("get", "pod", each, "--output=json"),
                lambda text: "enough free storage" in text,
                log,
            )

        wanted[0]["spec"]["resources"]["requests"]["storage"] = "62Mi"
        run_module(kube_apply, manifests=wanted[:1], **cluster.options)
        grown = until(lambda: get(cluster, "pvc", "here"), lambda found: "allocatedResources" in found["status"], log)
        assert grown["status"]["allocatedResources"] == {"storage": "64Mi"}
        assert grown["status"]["allocatedResourceStatuses"] == {"storage": "NodeResizePending"}
        assert group.volumes[name]["extents"] == 16
        until(lambda: get(cluster, "pv", name)["spec"]["capacity"], lambda found: found == {"storage": "64Mi"}, log)
        until(told, lambda room: room == "36Mi", log)

        # There is no kubelet to say that they have ended.
        cluster.run("delete", "pod", "here", "away", "big", "--force", "--grace-period=0")
        run_module(kube_apply, manifests=wanted, state="absent", **cluster.options)
        until(lambda: get(cluster, "pv", name), lambda found: found is None, log)
        assert group.volumes == {}
        until(told, lambda room: room == "100Mi", log)


def test_a_volume_that_was_cut_off_is_made_again_and_others_are_left_alone(
    cluster: Cluster, run_module: RunModule, program: Path, tmp_path: Path
) -> None:
    group, log = Group(tmp_path / "bin", 25), tmp_path / "log"
    run_module(kube_apply, manifests=sds_lvm.manifests(SITE, "x:y", default_class=False), **cluster.options)
    run_module(kube_apply, manifests=[node("n3"), claim("again", "kiban-lvm", "8Mi")], **cluster.options)
    uid = get(cluster, "pvc", "again")["metadata"]["uid"]
    left = {"extents": 5, "tags": ["kiban-new"]}
    others = {"extents": 3, "tags": []}
    group.write({"name": "fast", "extents": 25, "volumes": {f"pvc-{uid}": left, "theirs": others}})
    chosen = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n3"}}}
    cluster.run("patch", "pvc", "again", "--type=merge", f"--patch={json.dumps(chosen)}")
    config = account(cluster, "lvm-provisioner", "kiban-lvm", tmp_path)
    command = [program, "lvm", f"--kubeconfig={config}", "--node=n3", "--volume-group=fast"]
    options = ["--class=kiban-lvm", "--namespace=kiban-lvm", "--root=/"]
    with running(log, *command, *options, PATH=f"{group.folder}:{os.environ['PATH']}"):
        until(lambda: get(cluster, "pvc", "again"), lambda found: found["status"].get("phase") == "Bound", log)
        assert group.volumes == {f"pvc-{uid}": {"extents": 2, "tags": ["kiban-volume"]}, "theirs": others}
        run_module(kube_apply, manifests=[claim("again", "kiban-lvm", "8Mi")], state="absent", **cluster.options)
        until(lambda: group.volumes, lambda found: found == {"theirs": others}, log)


TELLS = """#!/bin/sh
# As much of kiban-block-target as volume-provisioner uses: what is offered is a directory of copies.
here=$(dirname "$0")/offered
if [ "$1" = --withdraw ]; then rm "$here/$(basename "$2")"; else cp "$1" "$here/"; fi
"""


def test_iscsi(cluster: Cluster, run_module: RunModule, program: Path, tmp_path: Path) -> None:
    """A claim gets a volume, a target and a password, and takes all of them along. LVM and LIO are played."""
    group, log, offers = Group(tmp_path / "bin", 25), tmp_path / "log", tmp_path / "offers"
    (group.folder / "offered").mkdir()
    (tells := group.folder / "kiban-block-target").write_text(TELLS)
    tells.chmod(0o755)
    data = yaml.safe_load((CHECKOUT / "inventories/lab-storage/site.yml").read_text())
    portals = ["198.51.100.21:3260", "198.51.100.21:3261"]
    chosen = {"driver": "iscsi", "server": "node1", "volume_group": "fast", "portals": portals}
    data["cluster"]["sds"] = [chosen]
    applied = sds_iscsi.manifests(load_site(data), "volume-provisioner:x", default_class=False)
    run_module(kube_apply, manifests=applied, **cluster.options)
    assert run_module(kube_apply, manifests=applied, **cluster.options)["changed"] is False
    config = account(cluster, "iscsi-provisioner", "kiban-iscsi", tmp_path)
    (container,) = next(one for one in applied if one["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"]
    options = [word for word in container["args"] if not word.startswith("--root=")]
    places = ["--root=/", f"--offers={offers}", f"--program={tells}", f"--kubeconfig={config}"]

    with running(log, program, *options, *places, PATH=f"{group.folder}:{os.environ['PATH']}"):
        wanted = [claim("moving", "kiban-iscsi", "30Mi"), claim("large", "kiban-iscsi", "1Ti")]
        run_module(kube_apply, manifests=wanted, **cluster.options)
        bound = until(lambda: get(cluster, "pvc", "moving"), lambda found: found["status"].get("phase") == "Bound", log)
        name = bound["spec"]["volumeName"]
        volume = get(cluster, "pv", name)["spec"]
        assert volume["capacity"] == {"storage": "32Mi"}, "whole extents"
        assert volume["iscsi"] == {
            "targetPortal": portals[0],
            "portals": portals[1:],
            "iqn": f"iqn.2003-01.org.linux-iscsi.kiban:{name}",
            "lun": 0,
            "fsType": "ext4",
            "chapAuthSession": True,
            "secretRef": {"name": name, "namespace": "kiban-iscsi"},
            "iscsiInterface": "default",
        }
        secret = get(cluster, "secret", name, "--namespace=kiban-iscsi")
        password = base64.b64decode(secret["data"]["node.session.auth.password"]).decode()
        assert secret["type"] == "kubernetes.io/iscsi-chap" and len(password) >= 20
        (told,) = json.loads((group.folder / f"offered/{name}.json").read_text())["targets"]
        assert (told["portals"], told["luns"]) == (portals, [{"device": f"/dev/fast/{name}"}])
        assert [one["name"].rpartition(":")[2].partition(".")[0] for one in told["initiators"]] == [
            "cp1",
            "node1",
            "node2",
        ]
        assert {one["chap"]["password"] for one in told["initiators"]} == {password}
        assert (offers / f"{name}.json").stat().st_mode & 0o077 == 0
        assert password not in log.read_text()
        until(
            lambda: cluster.run("get", "events", "--output=json"),
            lambda text: "has no room for 1099511627776" in text,
            log,
        )
        run_module(kube_apply, manifests=wanted, state="absent", **cluster.options)
        until(lambda: get(cluster, "pv", name), lambda found: found is None, log)
    assert group.volumes == {} and not list(offers.iterdir()) and not list((group.folder / "offered").iterdir())
    assert get(cluster, "secret", name, "--namespace=kiban-iscsi") is None
