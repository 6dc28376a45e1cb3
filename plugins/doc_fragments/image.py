# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of the modules that make images from Debian packages."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  state:
    description: Whether the image is made and published.
    type: str
    choices: [present]
    default: present
  work:
    description:
      - Directory of the work. Results are kept in C(store), the images are in C(image) with their C(manifest.json).
    type: path
    required: true
  recipes:
    description: Directory of the recipes, C(files) of the role P(kiban.baremetal.image#role).
    type: path
    required: true
  packages:
    description: Debian packages of the image, beside those that every Debian system has.
    type: list
    elements: str
    required: true
  suite:
    description: Debian release.
    type: str
    default: trixie
  components:
    description: Components of the archive, for example V(non-free-firmware).
    type: list
    elements: str
    default: [main]
  mirror:
    description: Address of a Debian mirror. If it is empty, C(mmdebstrap) takes its default.
    type: str
    default: ""
  keyring:
    description: File with the keys of the archive. If it is empty, C(mmdebstrap) finds it.
    type: str
    default: ""
  epoch:
    description: Time that files get which have none of their own, in seconds since 1970.
    type: int
    default: 1754697600
  refresh:
    description:
      - Look for newer package versions on the mirror, and make the image anew when there are some.
      - Without it the versions stay those of the first time, for as long as the result is in the store.
    type: bool
    default: false
  kernel_args:
    description: Kernel arguments.
    type: str
    required: true
  compression_level:
    description: Level of C(zstd). More is smaller and slower to make.
    type: int
    required: true
"""
