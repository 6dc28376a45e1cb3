# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redfish service that behaves like real BMCs, for tests. docs/simulator.md tells how to use it."""

from __future__ import annotations

from .faults import Fault
from .profile import Profile
from .profiles import PROFILES
from .record import Request
from .simulator import PASSWORD, USERNAME, Fleet, Simulator

__all__ = ("PASSWORD", "PROFILES", "USERNAME", "Fault", "Fleet", "Profile", "Request", "Simulator")
