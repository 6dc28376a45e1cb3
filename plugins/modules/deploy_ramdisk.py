#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deploy_ramdisk
short_description: Live system that deploys servers
version_added: 0.1.0
description:
  - Makes the kernel, the initramfs and the start partition of the deploy ramdisk from Debian packages. It is an
    ordinary Ansible host, with SSH and Python, that runs from memory.
  - Nothing in it belongs to one server; M(kiban.baremetal.deploy_media) adds that.
  - The same inputs give the same files, and nothing is made twice. What is killed leaves nothing that looks finished.
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
"""

EXAMPLES = r"""
- name: Make the deploy ramdisk
  kiban.baremetal.deploy_ramdisk:
    work: ~/.cache/kiban
    recipes: "{{ role_path }}/files"
    packages: [linux-image-amd64, busybox-static, kmod, udev, openssh-server, python3, systemd-boot-efi]
    kernel_args: console=ttyS0,115200 quiet
    compression_level: 19
"""

RETURN = r"""
ramdisk:
  description: The section C(ramdisk) of the manifest.
  returned: success, not in check mode when there is something to do
  type: dict
  contains:
    id:
      description: Digest over everything that it is made from.
      type: str
      sample: 1f3870be274f6c49
    dir:
      description: Directory of its files under C(image).
      type: str
      sample: ramdisk-1f3870be274f6c49
    initrd_bytes:
      description: Size of the compressed initramfs in bytes.
      type: int
      sample: 47975810
    kernel:
      description: Version of the Debian package of the kernel.
      type: str
      sample: 6.12.118-1
needs:
  description: Debian packages that are missing on this machine, for making the ramdisk or for serving it.
  returned: success
  type: list
  elements: str
  sample: [squashfs-tools]
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._bundle.errors import BundleError
from ..module_utils._bundle.store import Facts, Item, key_of
from ..module_utils._image import Debian, Images, debian_argument_spec, kernel_version, missing_tools, recipe_digest

FILES = ["vmlinuz", "initrd.zst", "systemd-bootx64.efi", "esp.img", "ramdisk.json"]
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "zstd": "zstd",
    "cpio": "cpio",
    "xz": "xz-utils",
    "modprobe": "kmod",
    # for the media that start it, and to serve them
    "xorriso": "xorriso",
    "ssh-keygen": "openssh-client",
    "nginx": "nginx-light",
}


def inputs_of(params: dict[str, Any], images: Images, root: Item) -> dict[str, Any]:
    return {
        "kind": "deploy-ramdisk",
        "root": root.key,
        "recipe": recipe_digest(images.recipes, ["deploy-ramdisk.sh", "ramdisk"]),
        "kernel_args": params["kernel_args"],
        "compression_level": params["compression_level"],
        "epoch": params["epoch"],
    }


def build(params: dict[str, Any], images: Images, root: Item, identity: str, place: Path) -> Facts:
    environment = {
        **images.environment(place),
        "ID": identity,
        "LEVEL": str(params["compression_level"]),
        "KERNEL_ARGS": params["kernel_args"],
        "SOURCE_DATE_EPOCH": str(params["epoch"]),
    }
    arguments = [str(root.path / "root.tar.zst"), str(place)]
    images.recipe("the deploy ramdisk", "deploy-ramdisk.sh", arguments, place, environment)
    return Facts(packages=root.packages, files=FILES)


def ensure(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    images = Images(params["work"], params["recipes"])
    debian = Debian.of(params, params["packages"])
    needs = missing_tools(TOOLS)
    root = images.known_root(debian)
    if check_mode:
        item = images.store.get(key_of(inputs_of(params, images, root))) if root else None
    else:
        if needs:
            raise BundleError(f"these Debian packages are missing: {', '.join(needs)}. Install them and run again")
        root, _made = images.root(debian, params["refresh"])
        inputs = inputs_of(params, images, root)
        identity = images.identity(key_of(inputs))
        source = root
        item, _made = images.store.ensure(
            "the deploy ramdisk", inputs, lambda place: build(params, images, source, identity, place)
        )
    if item is None:
        return {"changed": True, "needs": needs, "diff": {"before": "", "after": "a new deploy ramdisk\n"}}
    identity = images.identity(item.key)
    files = {f"ramdisk-{identity}/{name}": file for name, file in item.files.items()}
    data = {
        "id": identity,
        "dir": f"ramdisk-{identity}",
        "initrd_bytes": item.files["initrd.zst"].size_bytes,
        "kernel": kernel_version(item.packages),
    }
    changed, diff = images.publish("ramdisk", data, files, "ramdisk-*", check_mode)
    return {"changed": changed, "ramdisk": data, "needs": needs, "diff": diff}


def main() -> None:
    module = AnsibleModule(argument_spec=debian_argument_spec(), supports_check_mode=True)
    try:
        result = ensure(module.params, module.check_mode)
    except (BundleError, OSError) as exc:
        module.fail_json(msg=f"deploy ramdisk: {exc}")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
