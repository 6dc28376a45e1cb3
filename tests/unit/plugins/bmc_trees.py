# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded service trees of real BMCs, where this machine has them. They are not part of the collection."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

Tree = dict[str, dict[str, Any]]

_CHECKOUT = Path(__file__).resolve().parents[3]
DIRECTORY = Path(os.environ.get("KIBAN_BMC_TREES", _CHECKOUT.parent / "shared" / "bmc-trees"))
NAMES = sorted(path.name.removesuffix(".json.zst") for path in DIRECTORY.glob("*.json.zst"))
# HPE answers whatever the case of a URI, and its links rely on it.
ANY_CASE = ("hpe-dl380a-ilo6",)


@functools.cache
def load(name: str) -> Tree:
    """The resources of a tree, to be read only. What was recorded as an error is what that BMC does not have."""
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed, so recorded trees cannot be read")
    raw = subprocess.run(["zstd", "-dc", DIRECTORY / f"{name}.json.zst"], check=True, capture_output=True).stdout
    return {uri: body for uri, body in json.loads(raw).items() if isinstance(body, dict) and "error" not in body}
