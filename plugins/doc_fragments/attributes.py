# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a module behaves towards check mode, diff mode, platforms and action groups."""

from __future__ import annotations


class ModuleDocFragment:
    # A module states `support` for check_mode and diff_mode, and overrides the platform where it is narrower.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
  diff_mode:
    description: Returns details on what has changed, or possibly needs changing in C(check_mode), when in diff mode.
  platform:
    description: Operating systems on which the module runs.
    platforms: posix
    support: full
"""

    # Read-only modules.
    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module changes nothing.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
"""

    ACTIONGROUP_BMC = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/kiban.baremetal.bmc) in C(module_defaults) to set the BMC options once for these modules.
    support: full
    membership:
      - kiban.baremetal.bmc
"""
