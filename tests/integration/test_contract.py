# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three storage drivers in one run of the playbook `verify`, one of which fails: see contract.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.tests.bench.scale.world import ALONE
from ansible_collections.kiban.baremetal.tests.integration.kube_api import BUNDLE


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace, which needs root")
def test_drivers_share_waits_and_one_cut_and_fail_alone() -> None:
    if not (BUNDLE / "manifest.json").exists():
        pytest.skip(f"there is no bundle at {BUNDLE}: run `make bundle`")
    command = [*ALONE, sys.executable, str(Path(__file__).with_name("contract.py"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip(), done.stderr[-3000:]
    assert json.loads(done.stdout.strip().splitlines()[-1])["wrong"] == {}
