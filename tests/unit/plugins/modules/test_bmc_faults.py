# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever fails, nothing is done twice, nothing is hidden, and the next run ends well. See fault_runs.py."""

from __future__ import annotations

import os

import pytest

from ansible_collections.kiban.baremetal.tests.unit.plugins.fault_runs import many
from ansible_collections.kiban.baremetal.tests.unit.plugins.hurry import hurry

# How many seeds `make unit` tries; tests/bench/bmc_faults tries 2,000 runs.
SEEDS = int(os.environ.get("KIBAN_FAULT_SEEDS", "60"))
# Those that found something once: an ejection that was done and answered with HTTP 500.
FOUND = (1229, 1316)


def test_seeded_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    runs = list(many((*range(SEEDS), *FOUND)))
    assert len(runs) > SEEDS // 2
    bad = [run for run in runs if run.problems]
    assert not bad, "\n".join(map(str, bad))
