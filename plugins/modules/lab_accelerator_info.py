#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_accelerator_info
short_description: Whether this machine can accelerate virtual servers
version_added: 0.1.0
description:
  - Tells whether KVM works here. A device node, and even a virtual machine that can be made, do not prove it, so the
    firmware that the virtual servers use is really started with KVM until it shows a sign of life.
options:
  accelerator:
    description:
      - V(auto) finds out; V(kvm) and V(tcg) are returned as they are.
    type: str
    choices: [auto, kvm, tcg]
    default: auto
  firmware:
    description: UEFI firmware to try.
    type: path
    default: /usr/share/OVMF/OVMF_CODE_4M.fd
  emulator:
    description: QEMU.
    type: path
    default: /usr/bin/qemu-system-x86_64
  cache:
    description: File that keeps the answer until the machine boots again.
    type: path
  timeout:
    description: Seconds that the firmware gets.
    type: float
    default: 20
extends_documentation_fragment:
  - kiban.baremetal.attributes
  - kiban.baremetal.attributes.info
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Find out whether KVM works
  kiban.baremetal.lab_accelerator_info:
  register: __accelerator
"""

RETURN = r"""
kvm:
  description: Whether KVM works.
  returned: always
  type: bool
  sample: false
reason:
  description: How that is known.
  returned: always
  type: str
  sample: /dev/kvm does not exist
"""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._files import write_whole
from ansible_collections.kiban.baremetal.plugins.module_utils._lab import read_text
from ansible_collections.kiban.baremetal.plugins.module_utils._lab_process import boot_id

DEVICE = "/dev/kvm"
GET_API_VERSION = 0xAE00
CREATE_VM = 0xAE01
API_VERSION = 12


def ask_kernel() -> str:
    """Why the kernel cannot make a virtual machine; empty when it can."""
    if not os.path.exists(DEVICE):
        return f"{DEVICE} does not exist"
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as problem:
        return f"{DEVICE} cannot be opened: {problem.strerror}"
    try:
        if fcntl.ioctl(fd, GET_API_VERSION) != API_VERSION:
            return f"{DEVICE} speaks another API version than {API_VERSION}"
        os.close(fcntl.ioctl(fd, CREATE_VM, 0))
    except OSError as problem:
        return f"{DEVICE} makes no virtual machine: {problem.strerror}"
    finally:
        os.close(fd)
    return ""


def try_firmware(emulator: str, firmware: str, timeout: float) -> str:
    """Why the firmware does not run with KVM; empty when it does. It clears its serial console when it has found its
    devices, which is late enough."""
    with tempfile.TemporaryDirectory() as scratch:
        serial, said = os.path.join(scratch, "serial"), os.path.join(scratch, "said")
        argv = [emulator, "-nodefaults", "-display", "none", "-machine", "q35,accel=kvm", "-cpu", "host", "-m", "256"]
        argv += ["-drive", f"if=pflash,format=raw,readonly=on,file={firmware}", "-serial", f"file:{serial}"]
        with open(said, "wb") as output, subprocess.Popen(argv, stdout=output, stderr=output) as qemu:
            try:
                deadline = time.monotonic() + timeout
                while time.monotonic() < deadline:
                    if os.path.exists(serial) and os.path.getsize(serial):
                        return ""
                    words = (read_text(said) or "").strip()
                    if "KVM internal error" in words or qemu.poll() is not None:
                        return f"the firmware does not run with KVM: {(words or 'QEMU ended').splitlines()[0]}"
                    time.sleep(0.05)
                return f"the firmware did not come up with KVM in {timeout:g} s"
            finally:
                qemu.kill()


def find_out(params: dict) -> dict:
    if params["accelerator"] != "auto":
        return {"kvm": params["accelerator"] == "kvm", "reason": "chosen"}
    key = [boot_id(), params["firmware"], params["emulator"]]
    try:
        known = json.loads(read_text(params["cache"] or "") or "{}")
    except ValueError:
        known = {}
    if known.get("key") == key:
        return {"kvm": known["kvm"], "reason": known["reason"]}
    reason = ask_kernel()
    if not reason and not shutil.which(params["emulator"]):
        # Nothing is kept: the answer is another one when QEMU is installed.
        return {"kvm": False, "reason": f"{params['emulator']} is not installed"}
    reason = reason or try_firmware(params["emulator"], params["firmware"], params["timeout"])
    answer = {"kvm": not reason, "reason": reason or "the firmware runs with KVM"}
    if params["cache"] and os.path.isdir(os.path.dirname(params["cache"])):
        write_whole(params["cache"], json.dumps({"key": key, **answer}))
    return answer


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "accelerator": {"type": "str", "choices": ["auto", "kvm", "tcg"], "default": "auto"},
            "firmware": {"type": "path", "default": "/usr/share/OVMF/OVMF_CODE_4M.fd"},
            "emulator": {"type": "path", "default": "/usr/bin/qemu-system-x86_64"},
            "cache": {"type": "path"},
            "timeout": {"type": "float", "default": 20},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **find_out(module.params))


if __name__ == "__main__":
    main()
