# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded service trees of real BMCs, where they are at hand. They are no part of the project."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

from .messages import Json

# Given by KIBAN_BMC_TREES, else beside the checkout.
DIRECTORY = Path(os.environ.get("KIBAN_BMC_TREES", Path(__file__).resolve().parents[2].parent / "shared" / "bmc-trees"))


def why_not(name: str) -> str | None:
    """Why a recorded tree can't be had; None: it can."""
    if not name:
        return "there is no recorded tree of this kind"
    if not (DIRECTORY / f"{name}.json.zst").exists():
        return f"there is no {name}.json.zst in {DIRECTORY}; KIBAN_BMC_TREES names another place"
    return None if shutil.which("zstd") else "zstd is not installed, so recorded trees cannot be read"


@functools.cache
def load(name: str) -> dict[str, Json]:
    """The resources of a tree, for reading only. What was recorded as an error is what that BMC does not have."""
    packed = DIRECTORY / f"{name}.json.zst"
    raw = subprocess.run(["zstd", "-dc", packed], check=True, capture_output=True).stdout
    return {uri: body for uri, body in json.loads(raw).items() if isinstance(body, dict) and "error" not in body}
