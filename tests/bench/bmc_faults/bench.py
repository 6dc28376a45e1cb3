#!/usr/bin/env python3
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seeded fault runs of the bmc_* modules on simulated BMCs, until so many were made (2,000).

What a run is, and what it counts as a problem: tests/unit/plugins/fault_runs.py. Each problem is printed with its seed;
the last line printed is one JSON object. The exit status is 1 where there was a problem.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / ".ansible" / "collections"))

from ansible_collections.kiban.baremetal.tests.unit.plugins import fault_runs  # noqa: E402
from ansible_collections.kiban.baremetal.tests.unit.plugins.hurry import hurry  # noqa: E402


def main() -> int:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    hurry(SimpleNamespace(setattr=setattr))
    began = time.monotonic()
    runs: list[fault_runs.Run] = []
    for run in itertools.islice(fault_runs.many(range(first, first + 2 * wanted)), wanted):
        runs.append(run)
        if run.problems:
            print(run, flush=True)
        if len(runs) % 100 == 0:
            print(f"{len(runs)} runs, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    bad = [run for run in runs if run.problems]
    figures = {
        "runs": len(runs),
        "seconds": round(time.monotonic() - began, 1),
        "faults": sum(len(run.faults) for run in runs),
        "by_module": dict(sorted(Counter(run.module for run in runs).items())),
        "by_profile": dict(sorted(Counter(run.profile for run in runs).items())),
        "ended": dict(Counter(run.ended for run in runs).most_common()),
        "problems": sum(len(run.problems) for run in runs),
    }
    print(json.dumps(figures))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
