# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every network driver by its name, with what renders it. What else it is like says C(_site/model.py)."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from . import sdn_bgp, sdn_cilium

__all__ = ["DRIVERS", "IN_CLUSTER"]

DRIVERS: Mapping[str, ModuleType] = {"bgp": sdn_bgp, "cilium": sdn_cilium}

IN_CLUSTER: Mapping[str, ModuleType] = {"cilium": sdn_cilium}
"""Drivers with objects in the cluster, images of their own and a plugin of the container network."""
