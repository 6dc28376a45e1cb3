# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's BMC sets before a system starts: BIOS attributes and RAID volumes, against the profile. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .changes import Change, View
from .stages import HARDWARE
from .state import BmcState

__all__ = ["bios", "hardware_notices", "volumes"]


def bios(view: View, bmc: BmcState, restart: bool) -> Iterator[Change]:
    """What differs. C(restart): nothing else of the run restarts the server, so this has to."""
    found, wanted = bmc.bios, view.site.profiles[view.server.profile].bios
    if found is None:
        return
    later = [name for name in wanted if name in found.current and not _same(found.current[name], wanted[name])]
    names = [name for name in wanted if name in later or not _same(found.pending.get(name, wanted[name]), wanted[name])]
    if names:
        before = ", ".join(
            f"{name}: {found.current.get(name)}"
            + (f" ({found.pending[name]} after the next reset)" if name in found.pending else "")
            for name in names
        )
        after = ", ".join(f"{name}: {wanted[name]}" for name in names)
        action, disruption = ("restart", "reboot") if restart and later else ("write", "none")
        yield Change(view.server.name, HARDWARE, action, "BIOS", before, after, disruption)


def volumes(view: View, bmc: BmcState) -> Iterator[Change]:
    """Volumes to be made. Only where the server is installed afterwards: of no other it is known that it holds nothing
    on these drives.
    """
    wanted = {one.name: one for one in view.site.profiles[view.server.profile].volumes}
    for name in bmc.raid.missing if bmc.raid else ():
        after = f"{wanted[name].raid_type} of {', '.join(wanted[name].drives)}"
        yield Change(view.server.name, HARDWARE, "volumes", f"volume {name}", "missing", after, "data")


def hardware_notices(view: View, bmc: BmcState, installs: bool) -> Iterator[str]:
    """What is not compared, and what no run mends."""
    yield from _bios_notices(view, bmc)
    if bmc.raid is None:
        return
    if bmc.raid.missing and not installs:
        yield (
            f"its controller has no volume {', '.join(bmc.raid.missing)}. It is made before the server is installed: "
            "set a new word in its 'reinstall'"
        )
    for name, why in bmc.raid.wrong.items():
        yield f"its volume {name} is left as it is: {why}"
    if bmc.raid.foreign:
        yield f"its controller has volumes that the profile does not know: {', '.join(bmc.raid.foreign)}. Kept"


def _bios_notices(view: View, bmc: BmcState) -> Iterator[str]:
    found, wanted = bmc.bios, view.site.profiles[view.server.profile].bios
    if found is None:
        return
    if found.error:
        yield f"its BIOS attributes can't be read, so the profile's are not compared: {found.error}"
        return
    unknown = [name for name in wanted if name not in found.current]
    if unknown:
        yield f"its BIOS has no attribute {', '.join(unknown)}; bmc_bios without attributes shows those that it has"


def _same(have: Any, want: Any) -> bool:
    """As bmc_bios compares: in the type that the attribute has."""
    return str(have).lower() == str(want).lower() if isinstance(have, bool) else str(have) == str(want)
