# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.


"""What opens the LUKS2 containers of pools besides their key, and whether it does. Changes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.kiban.baremetal.plugins.module_utils import _clevis, _disks, _layout, _luks_header
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_tools import LayoutError, run

__all__ = ["UNITS", "bindings", "units"]

UNITS = "/etc/systemd/system"


def bindings(head: bytes, wanted: _clevis.Unlock | None) -> tuple[_clevis.Binding, ...]:
    """Those in our key slots; one that is as wanted is tried."""
    header = _luks_header.luks_header(head)
    found = []
    for one in _clevis.bindings(header):
        if wanted and one.found and _clevis.fits(wanted, one.found):
            one = replace(one, works=_works(_clevis.compact(header["tokens"][str(one.token)]["jwe"]), wanted))
        found.append(one)
    return tuple(found)


def _works(jwe: str, wanted: _clevis.Unlock) -> bool | None:
    try:
        # The key that it prints goes nowhere.
        return bool(run("timeout", "120", "clevis", "decrypt", key=jwe))
    except LayoutError:
        # Only where all that it asks answers is it the binding that no longer works: the TPM's PCRs have changed, or
        # a server has lost its key.
        return False if _answers(wanted) else None


def _answers(wanted: _clevis.Unlock) -> bool:
    try:
        for server in wanted.tang:
            run("curl", "-sfg", "--max-time", "10", "-o", "/dev/null", f"{server.url}/adv")
        # A TPM counts power cuts as attempts at its keys, and after some of them answers nobody for a while.
        locked = run("tpm2_getcap", "properties-variable") if wanted.pcr_ids else ""
    except LayoutError:
        return False
    return not re.search(r"inLockout:\s*1", locked)


def units(pools: Sequence[str]) -> dict[str, str]:
    """Container to the text of its unit, of those that are enabled."""
    found = {}
    for file in _disks.listed(UNITS):
        name = file[len("kiban-luks-") : -len(".service")]
        if file == _clevis.unit_name(name) and any(_layout.is_mapping(name, pool, ()) for pool in pools):
            text = _disks.read_text(f"{UNITS}/{file}")
            device = text.rpartition("WantedBy=")[2].strip()
            found[name] = text if os.path.exists(f"{UNITS}/{device}.wants/{file}") else "is not enabled"
    return found
