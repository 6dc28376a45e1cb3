# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option `files` of modules that lay down files."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  files:
    description: Files that shall exist. Directories on the way are made with mode V(0755).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path below the root.
        type: str
        required: true
      content:
        description: Text of the file. Exactly one of this and O(files[].link) is given.
        type: str
      link:
        description: Target of a symbolic link that the path shall be.
        type: str
      mode:
        description: Permissions in octal.
        type: str
        default: '0644'
      secret:
        description: Whether the content must not be shown.
        type: bool
        default: false
"""
