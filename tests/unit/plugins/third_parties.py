# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BMCs that others wrote, over libvirt's own test driver. `make third-parties` installs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]

# The test driver forgets everything with its last connection, so one is kept open in the process of the BMC.
KEEP_DOMAIN = """
import sys, libvirt
libvirt.registerErrorHandler(lambda *_: None, None)
keep = libvirt.open("test:///default")
for found in keep.listAllDomains():
    if found.isActive():
        found.destroy()
    found.undefine()
keep.defineXML(sys.argv[1])
"""


def interpreter(*modules: str) -> str | None:
    """A Python that has these modules: named, that of `make third-parties`, the lab's, this one, the system's."""
    work = Path(os.environ.get("KIBAN_WORK") or Path.home() / ".cache" / "kiban")
    own = [str(CHECKOUT / "build/third-parties/bin/python"), str(work / "lab/venv/bin/python"), sys.executable]
    for python in [*filter(None, [os.environ.get("KIBAN_SUSHY_PYTHON")]), *own, "/usr/bin/python3"]:
        try:
            command = [python, "-c", f"import {', '.join(modules)}"]
            test = subprocess.run(command, capture_output=True, timeout=60, check=False)
        except OSError:
            continue
        if test.returncode == 0:
            return python
    return None
