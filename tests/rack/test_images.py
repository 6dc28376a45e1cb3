# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The published images: what is in them, what is not, and that making one again gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.store import digest_of, key_of
from ansible_collections.kiban.baremetal.plugins.module_utils._image import Images
from ansible_collections.kiban.baremetal.plugins.modules import node_image

pytestmark = pytest.mark.rack

TOP = Path(__file__).parents[2]
WORK = Path(os.environ.get("KIBAN_WORK") or "~/.cache/kiban").expanduser()
ROOT_OFFSET = 257 << 20


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return json.loads((WORK / "image/manifest.json").read_text())


@pytest.fixture(scope="module")
def disk(manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The node image, decompressed."""
    raw = tmp_path_factory.mktemp("image") / "node.raw"
    packed = WORK / "image" / manifest["node"]["file"]
    subprocess.run(["zstd", "-q", "-d", "--sparse", str(packed), "-o", str(raw)], check=True)
    yield raw
    raw.unlink()


def debugfs(disk: Path, command: str) -> str:
    """What debugfs says about the root file system inside of the image."""
    argv = ["/usr/sbin/debugfs", "-R", command, f"{disk}?offset={ROOT_OFFSET}"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def kube_proxy(tmp_path: Path) -> Path:
    """The root of kube-proxy's image."""
    subprocess.run(["tar", "-xf", str(WORK / "bundle/images/kube-proxy.tar"), "-C", str(tmp_path)], check=True)
    root = tmp_path / "root"
    root.mkdir()

    def blob(digest: str) -> Path:
        return tmp_path / "blobs" / digest.replace(":", "/")

    [entry] = json.loads((tmp_path / "index.json").read_text())["manifests"]
    for layer in json.loads(blob(entry["digest"]).read_text())["layers"]:
        subprocess.run(["tar", "-xf", str(blob(layer["digest"])), "-C", str(root)], check=True)
    return root


def test_kube_proxy_recognizes_its_own_rules(kube_proxy: Path) -> None:
    """It asks nft what is there, when it starts and each hour. What it does not know by name it removes."""
    rules = (
        "add table ip t; add chain ip t c; "
        "add map ip t m { type ipv4_addr . inet_proto . inet_service : verdict; }; "
        "add element ip t m { 10.96.0.1 . tcp . 443 : goto c, 10.96.0.10 . udp . 53 : goto c }"
    )
    script = 'chroot "$1" nft "$2" && chroot "$1" nft -j list map ip t m'
    argv = ["unshare", "--net", "sh", "-c", script, "sh", str(kube_proxy), rules]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    elements = json.loads(said)["nftables"][1]["map"]["elem"]
    assert sorted(key["concat"] for key, _verdict in elements) == [["10.96.0.1", "tcp", 443], ["10.96.0.10", "udp", 53]]


def test_the_manifest_tells_the_truth(manifest: dict[str, Any], disk: Path) -> None:
    node = manifest["node"]
    packed = WORK / "image" / node["file"]
    assert (digest_of(packed), packed.stat().st_size) == (node["sha256"], node["size_bytes"])
    assert (digest_of(disk), disk.stat().st_size) == (node["raw_sha256"], node["raw_size_bytes"])
    initrd = WORK / "image" / manifest["ramdisk"]["dir"] / "initrd.zst"
    assert initrd.stat().st_size == manifest["ramdisk"]["initrd_bytes"] < 60_000_000


def test_the_disk_has_a_start_and_a_root_partition(disk: Path) -> None:
    said = subprocess.run(["/usr/sbin/sfdisk", "--json", str(disk)], check=True, capture_output=True).stdout
    parts = json.loads(said)["partitiontable"]["partitions"]
    assert [(part["name"], part["start"]) for part in parts] == [
        ("kiban-esp", 2048),
        ("kiban-root", ROOT_OFFSET // 512),
    ]
    entry = subprocess.run(
        ["mtype", "-i", f"{disk}@@1M", "::/loader/entries/kiban.conf"], check=True, capture_output=True, text=True
    ).stdout
    assert "root=PARTLABEL=kiban-root" in entry


def test_the_image_says_what_it_is(manifest: dict[str, Any], disk: Path) -> None:
    said = json.loads(debugfs(disk, "cat /etc/kiban/image.json"))
    assert said == {key: manifest["node"][key] for key in ("id", "kubernetes", "bundle")}


def test_nothing_belongs_to_one_server(disk: Path) -> None:
    assert debugfs(disk, "cat /etc/machine-id") == ""
    for path in ("/etc/hostname", "/etc/nvme/hostid", "/var/lib/dbus/machine-id", "/var/lib/systemd/random-seed"):
        assert "Inode" not in debugfs(disk, f"stat {path}"), path
    assert "ssh_host" not in debugfs(disk, "ls -p /etc/ssh")


def test_layers_are_kept_once(disk: Path) -> None:
    """Manifests and configurations stay, a layer only in its unpacked form."""
    blobs = debugfs(disk, "ls -p /var/lib/containerd/io.containerd.content.v1.content/blobs/sha256")
    sizes = [int(line.split("/")[6]) for line in blobs.splitlines() if line.count("/") > 6 and line.split("/")[6]]
    assert sizes
    assert max(sizes) < 100_000


@pytest.mark.slow
def test_made_again_the_node_image_is_the_same(manifest: dict[str, Any], tmp_path: Path) -> None:
    """From the same root and containers, in another place, under another name of the directory."""
    role = TOP / "roles/image"
    images = Images(str(WORK), str(role / "files"))
    item = images.store.get(_published_key(images, manifest["node"]["id"]))
    assert item is not None, "the published image is not in the store any more"
    inputs = json.loads((item.path / "item.json").read_text())["inputs"]
    root, containers = images.store.get(inputs["root"]), images.store.get(inputs["containers"])
    assert root is not None
    assert containers is not None
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    params = {
        "epoch": inputs["epoch"],
        "compression_level": defaults["image_node_compression_level"],
        "kernel_args": inputs["kernel_args"],
    }
    bundle = node_image.Bundle(WORK / "bundle")
    assert key_of(node_image.node_inputs(params, images, bundle, root)) == item.key, "inputs changed: make image first"
    node_image.build(params, images, bundle, root, containers, manifest["node"]["id"], tmp_path)
    made = hashlib.sha256((tmp_path / "node.raw.zst").read_bytes()).hexdigest()
    assert made == manifest["node"]["sha256"]


def _published_key(images: Images, identity: str) -> str:
    return next(path.name for path in images.store.root.iterdir() if path.name.startswith(identity))
