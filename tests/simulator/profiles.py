# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of BMCs that can be simulated."""

from __future__ import annotations

from .profile import Profile

PROFILES: dict[str, Profile] = {"well-behaved": Profile()}
