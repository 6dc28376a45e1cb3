# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pauses of the BMC client that cost little: its clock goes on by all of a pause, of which only a part is slept."""

from __future__ import annotations

import importlib
import pkgutil
import time
from types import SimpleNamespace
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import _bmc

SPEED = 100.0


def hurry(monkeypatch: Any, speed: float = SPEED) -> None:
    """Answers may take as long as ever; only what the client sleeps is shorter."""
    skipped = 0.0

    def sleep(seconds: float) -> None:
        nonlocal skipped
        skipped += seconds - seconds / speed
        time.sleep(seconds / speed)

    fast = SimpleNamespace(monotonic=lambda: time.monotonic() + skipped, sleep=sleep, time=time.time)
    for found in pkgutil.iter_modules(_bmc.__path__):
        module = importlib.import_module(f"{_bmc.__name__}.{found.name}")
        if getattr(module, "time", None) is time:
            monkeypatch.setattr(module, "time", fast)
