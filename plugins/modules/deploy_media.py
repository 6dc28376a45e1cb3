#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deploy_media
short_description: Medium that starts the deploy ramdisk on one server
version_added: 0.1.0
description:
  - Makes an ISO image that UEFI firmware starts as a virtual CD or from a USB stick. It holds the deploy ramdisk and
    what only one server gets - its network configuration, an SSH host key with a certificate, and who may log in.
  - The host key is made anew for each image and its certificate is valid for one day. Both leave this machine inside of
    the image only, which therefore should be removed when it is not needed any more.
  - An image that was made from the same inputs stays as it is while its certificate is valid for two more hours.
  - Runs on the control host. Needs C(ssh-keygen), C(mcopy) (Debian package mtools) and C(xorriso).
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  state:
    description: Whether the image exists.
    type: str
    choices: [present, absent]
    default: present
  dest:
    description:
      - Path of the image. Beside it lies a file with C(.json) at the end of its name, that says what it was made from.
      - The directory must exist.
    type: path
    required: true
  ramdisk_dir:
    description: Directory of the deploy ramdisk, from C(ramdisk.dir) in the manifest of the images.
    type: path
  name:
    description: Name of the server.
    type: str
  address:
    description: Address of the server with the length of its network.
    type: str
  gateway:
    description:
      - Address of the gateway. The ramdisk takes the port whose side answers for it.
    type: str
    default: ""
  vlan:
    description: VLAN ID when the network is tagged on the ports of the server.
    type: int
  mtu:
    description: Largest packet of the network in bytes.
    type: int
    default: 1500
  dns:
    description: Addresses of name servers.
    type: list
    elements: str
    default: []
  authorized_keys:
    description: Public SSH keys that may log in as root.
    type: list
    elements: str
  host_key_ca:
    description: Path of the private key that signs the host key. Its public half lies beside it with C(.pub).
    type: path
  kernel_args:
    description:
      - Further kernel arguments, for example another console.
      - V(kiban.shell) starts a root shell on the console, without a password.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Make the deploy media of this server
  kiban.baremetal.deploy_media:
    dest: /srv/deploy/node1.iso
    ramdisk_dir: ~/.cache/kiban/image/ramdisk-1f3870be274f6c49
    name: node1
    address: 198.51.100.21/24
    gateway: 198.51.100.1
    authorized_keys: ["{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"]
    host_key_ca: ~/.cache/kiban/sites/lab/ssh/ca
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: Path of the image.
  returned: success
  type: str
  sample: /srv/deploy/node1.iso
valid_until:
  description: When the host certificate ends, in seconds since 1970.
  returned: O(state=present), not in check mode
  type: int
  sample: 1795646414
size_bytes:
  description: Size of the image in bytes.
  returned: O(state=present), not in check mode
  type: int
  sample: 71303168
ramdisk_id:
  description: Which ramdisk it starts.
  returned: O(state=present)
  type: str
  sample: 1f3870be274f6c49
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._deploy_media import MediaError, Server, boot_entry, digest, entries, newc, problems
from ..module_utils._files import write_whole

DAY = 24 * 3600
# An image must outlive the deployment that it is made for.
REST = 2 * 3600
PACKAGES = {"mcopy": "mtools", "xorriso": "xorriso", "ssh-keygen": "openssh-client"}


def run(argv: list[str]) -> None:
    environment = {**os.environ, "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}
    try:
        subprocess.run(argv, check=True, capture_output=True, env=environment, stdin=subprocess.DEVNULL)
    except FileNotFoundError as exc:
        raise MediaError(f"{argv[0]} is missing. Install the Debian package {PACKAGES[argv[0]]}") from exc
    except subprocess.CalledProcessError as exc:
        said = (exc.stderr or exc.stdout).decode(errors="replace").strip()[-500:]
        raise MediaError(f"{argv[0]} ended with {exc.returncode}: {said}") from exc


def read(path: str, what: str, hint: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise MediaError(f"{what} cannot be read: {path}: {exc.strerror}. {hint}") from exc


def standing(dest: str, inputs: str, now: float) -> dict[str, Any] | None:
    """What is known of the image at dest, if it can be used as it is."""
    try:
        known = json.loads(Path(f"{dest}.json").read_text(encoding="utf-8"))
        size = os.stat(dest).st_size
        fits = known["inputs"] == inputs and known["size_bytes"] == size and known["valid_until"] >= now + REST
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if fits else None


def make(server: Server, params: dict[str, Any], ramdisk: dict[str, str], inputs: str) -> dict[str, Any]:
    dest, now = params["dest"], int(time.time())
    new = os.path.join(os.path.dirname(dest), f".{os.path.basename(dest)}.new")
    # The description goes first and comes last: an image without one is made again.
    for path in (f"{dest}.json", new):
        Path(path).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="kiban-media-") as place:
        key = os.path.join(place, "key")
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", server.name, "-f", key])
        run(
            ["ssh-keygen", "-q", "-h", "-s", params["host_key_ca"], "-I", f"{server.name} deploy ramdisk"]
            + ["-n", ",".join(server.principals), "-V", "-5m:+1d", f"{key}.pub"]
        )
        keys = [Path(key + end).read_bytes() for end in ("", ".pub", "-cert.pub")]
        Path(place, "server").write_bytes(newc(entries(server, ramdisk["id"], *keys)))
        Path(place, "kiban.conf").write_text(boot_entry(server, ramdisk["kernel_args"]), encoding="utf-8")
        esp = os.path.join(place, "esp.img")
        shutil.copyfile(os.path.join(params["ramdisk_dir"], "esp.img"), esp)
        run(["mcopy", "-i", esp, os.path.join(place, "server"), "::/kiban/server"])
        run(["mcopy", "-i", esp, os.path.join(place, "kiban.conf"), "::/loader/entries/kiban.conf"])
        try:
            run(
                ["xorriso", "-as", "mkisofs", "-quiet", "-V", "KIBAN", "-o", new, "-e", "esp.img", "-no-emul-boot"]
                + ["-isohybrid-gpt-basdat", "-graft-points", f"/esp.img={esp}"]
            )
            os.chmod(new, 0o640)
            os.replace(new, dest)
        finally:
            Path(new).unlink(missing_ok=True)
    known = {
        "inputs": inputs,
        "valid_until": now + DAY,
        "size_bytes": os.stat(dest).st_size,
        "ramdisk_id": ramdisk["id"],
    }
    write_whole(f"{dest}.json", json.dumps(known) + "\n", mode=0o644)
    return known


def present(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    fields = ("name", "address", "vlan", "mtu", "dns", "authorized_keys", "gateway", "kernel_args")
    server = Server(**{name: params[name] for name in fields})
    wrong = problems(server)
    if wrong:
        raise MediaError("; ".join(wrong))
    hint = "Run the playbook kiban.baremetal.image"
    ramdisk = json.loads(read(os.path.join(params["ramdisk_dir"], "ramdisk.json"), "the deploy ramdisk", hint))
    ca = read(
        f"{params['host_key_ca']}.pub", "the public key of the authority", "host_key_ca must name its private key"
    )
    inputs = digest(server, ramdisk["id"], ca)
    known = standing(params["dest"], inputs, time.time())
    result: dict[str, Any] = {"changed": known is None, "path": params["dest"], "ramdisk_id": ramdisk["id"]}
    if known is None:
        result["diff"] = {"before": "", "after": f"{params['dest']}: ramdisk {ramdisk['id']} for {server.name}\n"}
        if not check_mode:
            known = make(server, params, ramdisk, inputs)
    if known is not None:
        result.update(valid_until=known["valid_until"], size_bytes=known["size_bytes"])
    return result


def absent(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    dest = params["dest"]
    there = [path for path in (dest, f"{dest}.json") if os.path.lexists(path)]
    if not check_mode:
        for path in there:
            os.unlink(path)
    return {
        "changed": bool(there),
        "path": dest,
        "diff": {"before": "".join(f"{path}\n" for path in there), "after": ""},
    }


def main() -> None:
    needed = ["ramdisk_dir", "name", "address", "authorized_keys", "host_key_ca"]
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "dest": {"type": "path", "required": True},
            "ramdisk_dir": {"type": "path"},
            "name": {"type": "str"},
            "address": {"type": "str"},
            "gateway": {"type": "str", "default": ""},
            "vlan": {"type": "int"},
            "mtu": {"type": "int", "default": 1500},
            "dns": {"type": "list", "elements": "str", "default": []},
            "authorized_keys": {"type": "list", "elements": "str", "no_log": False},
            "host_key_ca": {"type": "path", "no_log": False},
            "kernel_args": {"type": "str", "default": ""},
        },
        required_if=[("state", "present", needed)],
        supports_check_mode=True,
    )
    do = present if module.params["state"] == "present" else absent
    try:
        result = do(module.params, module.check_mode)
    except MediaError as exc:
        module.fail_json(msg=f"deploy media {module.params['dest']}: {exc}")
    except OSError as exc:
        module.fail_json(msg=f"deploy media {module.params['dest']}: {exc.filename or ''}: {exc.strerror}")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
