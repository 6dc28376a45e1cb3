# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each kind of drift that is made by hand is named by the plan, mended by the site run, and gone: see drift.py."""

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
def test_each_kind_of_drift_is_named_and_mended_and_nothing_else() -> None:
    if not (BUNDLE / "manifest.json").exists():
        pytest.skip(f"there is no bundle at {BUNDLE}: run `make bundle`")
    command = [*ALONE, sys.executable, str(Path(__file__).with_name("drift.py")), "--mend"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip(), done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["wrong"] == {}
    assert found["kinds"] >= 40 and found["mended"] >= 25
