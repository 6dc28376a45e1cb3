#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_write
short_description: System disk that holds a node image
version_added: 0.1.0
description:
  - Streams a zstd-compressed raw disk image from a web server to the disk with a given serial number, and lets its last
    partition grow to the end of the disk.
  - Everything is decided before the first write. A disk that is in use is always refused; a disk that holds anything is
    refused unless O(wipe) says that it may be lost.
  - A run that is killed leaves a disk that is marked as half-written and does not boot. Running again writes it anew.
  - Works only in the deploy ramdisk. Needs C(zstd), C(wipefs) and C(blkid) there.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
    details:
      - Nothing is downloaded, so that a disk that is too small is not noticed.
  diff_mode:
    support: full
options:
  state:
    description: The disk holds the image.
    type: str
    choices: [present]
    default: present
  url:
    description: Where the image is, C(http) or C(https).
    type: str
    required: true
  ca_path:
    description:
      - File with the certificate authorities that the web server's certificate is checked against.
      - Without it those of the system count.
    type: path
  sha256:
    description: SHA-256 of the compressed file, in hexadecimal.
    type: str
    required: true
  image_id:
    description: Identity of the image. A disk that holds it, complete, is left alone.
    type: str
    required: true
  token:
    description:
      - Any word. A disk that was written with another word counts as different, so a new word means to write again.
      - Writing over a complete system disk needs O(wipe) in any case.
    type: str
    default: ''
  serial_number:
    description: Serial number of the disk.
    type: str
    required: true
  wipe:
    description: Whether what is on the disk may be lost. The caller has decided that for this very disk.
    type: bool
    default: false
  timeout:
    description: Seconds without data after which the download counts as broken. It is tried again once, from the start.
    type: int
    default: 60
seealso:
  - module: kiban.baremetal.disk_info
  - module: kiban.baremetal.node_root
"""

EXAMPLES = r"""
- name: Write the node image
  kiban.baremetal.image_write:
    url: http://198.51.100.2:8080/node.raw.zst
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    image_id: 3f1c0a
    serial_number: SYS-NODE1
"""

RETURN = r"""
path:
  description: Device node of the disk.
  returned: success
  type: str
  sample: /dev/vda
image_id:
  description: Identity of the image on the disk.
  returned: success
  type: str
bytes_written:
  description: Bytes that were written to the disk. Blocks of zeros are left out where the disk has zeroed itself.
  returned: when the image was written
  type: int
image_bytes:
  description: Size of the image in bytes, uncompressed.
  returned: when the image was written
  type: int
download_bytes:
  description: Bytes that came over the network.
  returned: when the image was written
  type: int
seconds:
  description: How long it took.
  returned: when the image was written
  type: float
attempts:
  description: How often the download was begun.
  returned: when the image was written
  type: int
zeroed_by_disk:
  description: Whether the disk zeroed itself, so that blocks of zeros did not have to be written.
  returned: when the image was written
  type: bool
"""

import dataclasses
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks, _image_writer

# A writer that outlived its killed run, or a slow one of another run, is waited for this long (seconds).
PATIENCE = 1800.0
# One of these exists in the deploy ramdisk and nowhere else.
RAMDISK_MARKERS = ("/etc/kiban/ramdisk", "/usr/lib/kiban/ramdisk-id")


def run(request: _image_writer.Request, serial_number: str, check_mode: bool) -> dict[str, Any]:
    if not any(os.path.exists(path) for path in RAMDISK_MARKERS):
        raise _disks.DiskError(
            f"this host is not in the deploy ramdisk ({RAMDISK_MARKERS[0]} is missing): an image is never written "
            "under a running system. Boot the server from the deploy medium first"
        )
    if not request.url.startswith(("http://", "https://")):
        raise _disks.DiskError(f"url must begin with http:// or https://, not {request.url!r}")
    if len(request.sha256) != 64 or set(request.sha256.lower()) - set("0123456789abcdef"):
        raise _disks.DiskError(f"sha256 must be 64 hexadecimal digits, not {request.sha256!r}")
    if check_mode:
        return decide_and_write(request, serial_number, True)
    # Decided under the lock: nobody else of us writes between the decision and the first write.
    with _disks.locked(_disks.find_path(serial_number), PATIENCE):
        return decide_and_write(request, serial_number, False)


def decide_and_write(request: _image_writer.Request, serial_number: str, check_mode: bool) -> dict[str, Any]:
    record = _disks.find_disk(serial_number)
    result: dict[str, Any] = {"changed": False, "path": record["path"], "image_id": request.image_id}
    if _image_writer.already_there(record, request):
        return result
    if reason := _image_writer.refusal(record, request):
        raise _image_writer.ImageError(f"disk {serial_number}: {reason}")
    result["changed"] = True
    result["diff"] = {"before": before(record), "after": f"{record['path']}: image {request.image_id}\n"}
    if not check_mode:
        result.update(dataclasses.asdict(_image_writer.write_image(record, request)))
    return result


def before(record: dict[str, Any]) -> str:
    mark = record["kiban"] or {}
    if mark.get("purpose") == "system":
        state = "image" if mark["complete"] else "half-written image"
        return f"{record['path']}: {state} {mark['image_id'] or 'of unknown identity'}\n"
    return "".join(f"{line}\n" for line in _disks.not_blank(record)) or f"{record['path']}: blank\n"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present"], "default": "present"},
            "url": {"type": "str", "required": True},
            "ca_path": {"type": "path"},
            "sha256": {"type": "str", "required": True},
            "image_id": {"type": "str", "required": True},
            "token": {"type": "str", "default": "", "no_log": False},
            "serial_number": {"type": "str", "required": True},
            "wipe": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    names = ("url", "sha256", "image_id", "token", "wipe", "ca_path", "timeout")
    request = _image_writer.Request(**{name: module.params[name] for name in names})
    try:
        result = run(request, module.params["serial_number"], module.check_mode)
    except (_disks.DiskError, _image_writer.ImageError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
