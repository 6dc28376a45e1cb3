#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: server_boot
short_description: Boot a server from deploy media or its disk, and wait until it answers
version_added: 0.1.0
description:
  - Inserts or ejects virtual media, sets the boot override, powers on or restarts, and waits for SSH, in one task. So a
    C(throttle) on the task limits how many servers are booting at once; C(limits.rack_power_ons) and C(power_on_watts)
    of the site model limit it for each rack, over all runs on this control host.
  - Before it boots a server it takes a lease on it, which ends with the run. A server that another run has is refused.
  - Runs on the control host, for a server of an inventory that M(kiban.baremetal.plan) works with. The address and
    options of the BMC come from C(kiban_server), user and password from C(kiban_bmc_username) and
    C(kiban_bmc_password), and the keys from C(kiban_site_dir).
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  source:
    description:
      - What to boot from. V(virtual_media) inserts O(image) first, V(disk) ejects all media first.
      - V(none) touches neither power nor media and only waits.
    type: str
    choices: [virtual_media, disk, none]
    required: true
  image:
    description: URL of the image to insert. Required with O(source=virtual_media).
    type: str
  system:
    description: Which system has to answer, the deploy V(ramdisk) or the installed V(node).
    type: str
    choices: [ramdisk, node]
    required: true
  restart:
    description:
      - How a server that is on is restarted. V(graceful) has its operating system shut down, and fails if that does not
        end within O(bmc_timeout) seconds.
    type: str
    choices: [graceful, forced]
    default: forced
  timeout:
    description: Seconds until the system must have answered.
    type: int
    default: 600
  bmc_timeout:
    description: Seconds that each step of the BMC may take.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Boot the deploy media
  kiban.baremetal.server_boot:
    source: virtual_media
    image: http://192.0.2.2:8080/0123456789abcdef/node1.iso
    system: ramdisk
  throttle: 10
"""

RETURN = r"""
seconds:
  description: Time from the first request to the answer over SSH.
  type: float
  returned: success
failure:
  description: What the BMC said, for a playbook to branch on.
  type: dict
  returned: when the BMC refused or did not answer
"""
