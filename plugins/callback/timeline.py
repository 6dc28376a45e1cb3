# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes when each task of a run began and ended on each host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: timeline
type: aggregate
short_description: Timeline of a run as JSON lines
version_added: 0.1.0
description:
  - Appends one JSON object a finished task and host to a file.
  - It holds no task arguments and no results, so no secrets. C(start) and C(end) are seconds since the epoch; C(cpu)
    are seconds of processor time that the run and its ended children have taken until then.
  - Does nothing when no file is set.
author:
  - The kiban.baremetal contributors (@kiban)
options:
  path:
    description: File to append to.
    type: path
    env:
      - name: KIBAN_TIMELINE
    ini:
      - section: callback_kiban_timeline
        key: path
"""

EXAMPLES = r"""
# export KIBAN_TIMELINE=/tmp/run.jsonl ANSIBLE_CALLBACKS_ENABLED=kiban.baremetal.timeline
# ansible-playbook kiban.baremetal.site -i inventories/lab
"""

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kiban.baremetal.timeline"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._began: dict[tuple[str, str], float] = {}
        self._play = ""

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play = play.get_name()

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._began[host.get_name(), task._uuid] = time.time()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write(result, "changed" if result._result.get("changed") else "ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write(result, "failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._write(result, "unreachable")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._write(result, "skipped")

    def _write(self, result: Any, status: str) -> None:
        path = self.get_option("path")
        if not path:
            return
        host, task = result._host.get_name(), result._task
        began = self._began.pop((host, task._uuid), None)
        if began is None:
            return
        entry = {
            "host": host,
            "play": self._play,
            "role": task._role.get_name() if task._role else None,
            "task": task.get_name(),
            "action": task.action,
            "status": status,
            "start": round(began, 3),
            "end": round(time.time(), 3),
            "cpu": round(sum(os.times()[:4]), 2),
        }
        with open(path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")
