#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_image
short_description: Disk image that the nodes run
version_added: 0.1.0
description:
  - Makes a disk image for UEFI from Debian packages and the bundle. Container runtime, kubelet, container network
    plugins and all container images of the bundle are in it, so that a node needs no registry and no package mirror.
  - Nothing in it belongs to one server. Host name, network, SSH host key and machine ID are laid down when a server is
    installed.
  - The same inputs give the same bytes, and nothing is made twice. What is killed leaves nothing that looks finished.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
  - kiban.baremetal.image
attributes:
  check_mode:
    support: partial
    details:
      - In check mode the mirror is not asked, so O(refresh=true) has no effect.
  diff_mode:
    support: full
options:
  bundle:
    description: Directory of the bundle.
    type: path
    required: true
seealso:
  - module: kiban.baremetal.bundle
  - module: kiban.baremetal.image_write
"""

EXAMPLES = r"""
- name: Make the node image
  kiban.baremetal.node_image:
    work: ~/.cache/kiban
    bundle: ~/.cache/kiban/bundle
    recipes: "{{ role_path }}/files"
    packages: [linux-image-amd64, systemd-sysv, busybox-static, openssh-server, python3, systemd-boot-efi]
    kernel_args: console=ttyS0,115200 quiet
    compression_level: 9
"""

RETURN = r"""
node:
  description: The section C(node) of the manifest.
  returned: success, not in check mode when there is something to do
  type: dict
  contains:
    id:
      description: Digest over everything that it is made from. The image says it of itself in C(/etc/kiban/image.json).
      type: str
      sample: 9b0d5cf0a1b2c3d4
    file:
      description: Name of the compressed image under C(image).
      type: str
      sample: node-9b0d5cf0a1b2c3d4.raw.zst
    sha256:
      description: Digest of that file.
      type: str
      sample: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    size_bytes:
      description: Size of that file in bytes.
      type: int
      sample: 494602434
    raw_sha256:
      description: Digest of the image before compression.
      type: str
      sample: fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9
    raw_size_bytes:
      description: Size of the image before compression in bytes; a disk must be at least so large.
      type: int
      sample: 2020605952
    kubernetes:
      description: Version of the kubelet.
      type: str
      sample: v1.36.3
    bundle:
      description: ID of the bundle.
      type: str
      sample: dc746006152f09c6af585f41ae621e6a4ecd923940846cc10ce99fee7851baef
    kernel:
      description: Version of the Debian package of the kernel.
      type: str
      sample: 6.12.118-1
    root_partition:
      description: Number of the partition that holds the root file system.
      type: int
      sample: 2
    images:
      description: References of the container images in it.
      type: list
      elements: str
      sample: ["registry.k8s.io/pause:3.10.2"]
needs:
  description: Debian packages that are missing on this machine.
  returned: success
  type: list
  elements: str
  sample: [fdisk]
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._bolt import BoltError, settle
from ..module_utils._bundle.errors import BundleError
from ..module_utils._bundle.store import Facts, File, Item, digest_of, key_of
from ..module_utils._image import Debian, Images, debian_argument_spec, kernel_version, missing_tools, recipe_digest

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "sfdisk": "fdisk",
    "zstd": "zstd",
    "cpio": "cpio",
    "xz": "xz-utils",
    "modprobe": "kmod",
    "unshare": "util-linux",
}
DATABASES = ["io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db"]
# kubeadm's unit for the kubelet has this path.
PLACES = {"bin/kubelet": "usr/bin/kubelet"}


class Bundle:
    """What the image takes from the bundle."""

    def __init__(self, place: Path) -> None:
        self.place = place
        try:
            manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(f"there is no bundle in {place}. Run the playbook kiban.baremetal.bundle") from error
        self.identity: str = manifest["id"]
        self.packages: list[str] = [entry["name"] for entry in manifest["packages"]]
        self.entries: list[dict[str, Any]] = manifest["artifacts"]

    def files(self, *kinds: str) -> dict[str, str]:
        """Files of these kinds, and their digests."""
        return {entry["file"]: entry["sha256"] for entry in self.entries if entry["kind"] in kinds}

    def version(self, name: str) -> str:
        return next((entry["version"] for entry in self.entries if entry["name"] == name), "")

    def reference(self, name: str) -> str:
        return next((entry.get("reference", "") for entry in self.entries if entry["name"] == name), "")

    def check(self, files: dict[str, str]) -> None:
        """Nothing gets into an image that is not what the manifest says."""
        wrong = []
        for name, sha256 in sorted(files.items()):
            try:
                if digest_of(self.place / name) != sha256:
                    wrong.append(f"{name}: wrong checksum")
            except OSError as error:
                wrong.append(f"{name}: {error.strerror}")
        if wrong:
            raise BundleError(
                f"the bundle in {self.place} is not what its manifest says: {'; '.join(wrong)}. "
                "Run the playbook kiban.baremetal.bundle with bundle_verify=true"
            )


def target(file: str) -> str:
    """Where a program of the bundle goes in the image."""
    name = file.rsplit("/", 1)[-1]
    return PLACES.get(file) or (f"opt/cni/bin/{name}" if file.startswith("cni/") else f"usr/local/bin/{name}")


def containers_inputs(params: dict[str, Any], images: Images, bundle: Bundle) -> dict[str, Any]:
    tools = {name: sha256 for name, sha256 in bundle.files("program").items() if name in ("bin/containerd", "bin/ctr")}
    return {
        "kind": "containers",
        "tools": tools,
        "images": bundle.files("image"),
        "recipe": recipe_digest(images.recipes, ["import-images.sh"]),
        "epoch": params["epoch"],
    }


def node_inputs(params: dict[str, Any], images: Images, bundle: Bundle, root: Item) -> dict[str, Any]:
    return {
        "kind": "node-image",
        "root": root.key,
        "bundle": bundle.identity,
        "containers": key_of(containers_inputs(params, images, bundle)),
        "recipe": recipe_digest(images.recipes, ["node-image.sh", "node"]),
        "kernel_args": params["kernel_args"],
        "compression_level": params["compression_level"],
        "epoch": params["epoch"],
    }


def import_containers(params: dict[str, Any], images: Images, bundle: Bundle, place: Path) -> Facts:
    bundle.check({**bundle.files("image"), **bundle.files("program")})
    archives = [str(bundle.place / name) for name in sorted(bundle.files("image"))]
    arguments = [str(bundle.place / "bin"), str(place / "containerd"), *archives]
    images.recipe("the container images", "import-images.sh", arguments, place, images.environment(place))
    for name in DATABASES:
        try:
            settle(place / "containerd" / name, params["epoch"])
        except BoltError as error:
            raise BundleError(f"the container images: {name}: {error}") from error
    return Facts(files=[])


def build(
    params: dict[str, Any], images: Images, bundle: Bundle, root: Item, containers: Item, identity: str, place: Path
) -> Facts:
    programs = bundle.files("program", "cni")
    bundle.check(programs)
    environment = {
        **images.environment(place),
        "ID": identity,
        "KUBERNETES": bundle.version("kubelet"),
        "PAUSE": bundle.reference("pause"),
        "BUNDLE_ID": bundle.identity,
        "LEVEL": str(params["compression_level"]),
        "KERNEL_ARGS": params["kernel_args"],
        "SOURCE_DATE_EPOCH": str(params["epoch"]),
    }
    lines = "".join(f"{name} {target(name)}\n" for name in sorted(programs))
    (place / "programs").write_text(lines, encoding="utf-8")
    arguments = [str(root.path / "root.tar.zst"), str(containers.path / "containerd"), str(bundle.place), str(place)]
    images.recipe("the node image", "node-image.sh", arguments, place, environment)
    (place / "programs").unlink()
    return Facts(packages=root.packages, files=["node.raw.zst", "figures.json"])


def describe(bundle: Bundle, item: Item, identity: str) -> tuple[dict[str, Any], dict[str, File]]:
    file = item.files["node.raw.zst"]
    figures = json.loads(item.files["figures.json"].path.read_text(encoding="utf-8"))
    name = f"node-{identity}.raw.zst"
    data = {
        "id": identity,
        "file": name,
        "sha256": file.sha256,
        "size_bytes": file.size_bytes,
        "raw_size_bytes": figures["raw_size_bytes"],
        "raw_sha256": figures["raw_sha256"],
        "kubernetes": bundle.version("kubelet"),
        "bundle": bundle.identity,
        "kernel": kernel_version(item.packages),
        "root_partition": 2,
        "images": sorted(entry["reference"] for entry in bundle.entries if entry["kind"] == "image"),
    }
    return data, {name: file}


def ensure(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    images = Images(params["work"], params["recipes"])
    needs = missing_tools(TOOLS)
    nothing = {"changed": True, "needs": needs, "diff": {"before": "", "after": "a new node image\n"}}
    try:
        bundle = Bundle(Path(params["bundle"]))
    except BundleError:
        if check_mode:  # a run without check mode would have made it before
            return nothing
        raise
    debian = Debian.of(params, [*params["packages"], *bundle.packages])
    root = images.known_root(debian)
    if check_mode:
        item = images.store.get(key_of(node_inputs(params, images, bundle, root))) if root else None
    else:
        if needs:
            raise BundleError(f"these Debian packages are missing: {', '.join(needs)}. Install them and run again")
        root, _made = images.root(debian, params["refresh"])
        item = _make(params, images, bundle, root)
    if item is None:
        return nothing
    data, files = describe(bundle, item, images.identity(item.key))
    changed, diff = images.publish("node", data, files, "node-*.raw.zst", check_mode)
    return {"changed": changed, "node": data, "needs": needs, "diff": diff}


def _make(params: dict[str, Any], images: Images, bundle: Bundle, root: Item) -> Item:
    inputs = node_inputs(params, images, bundle, root)
    identity = images.identity(key_of(inputs))

    def fill(place: Path) -> Facts:
        containers, _made = images.store.ensure(
            "the container images",
            containers_inputs(params, images, bundle),
            lambda inner: import_containers(params, images, bundle, inner),
        )
        return build(params, images, bundle, root, containers, identity, place)

    return images.store.ensure("the node image", inputs, fill)[0]


def main() -> None:
    module = AnsibleModule(
        argument_spec={**debian_argument_spec(), "bundle": {"type": "path", "required": True}}, supports_check_mode=True
    )
    try:
        result = ensure(module.params, module.check_mode)
    except (BundleError, OSError) as exc:
        module.fail_json(msg=f"node image: {exc}")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
