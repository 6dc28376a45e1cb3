# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One line a server: its stage, for how long, and what it waits for."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: One line a server with its stage, time and what it waits for
version_added: 0.1.0
description:
  - On a terminal, the last lines of the screen show where each server is, and are kept up to date. What is above stays.
  - Elsewhere, such as in a file or a CI job, it writes a plain line when a server begins a stage, and when a task has
    changed something or took a while.
  - Failures, warnings, differences and what C(debug) says are written out as by the default callback. Nothing of that
    is ever hidden or overwritten.
  - The recap names the servers that failed or were changed, and counts the others.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as stdout callback in the configuration
"""

EXAMPLES = r"""
# ANSIBLE_STDOUT_CALLBACK=kiban.baremetal.progress ansible-playbook kiban.baremetal.site -i inventories/lab
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default

from ..plugin_utils._progress import CONTROL, Board, clock
from ..plugin_utils._site.show import folded

_LONG = 2.0
"""Seconds from which a task that changed nothing is worth a plain line."""


class CallbackModule(Default):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "kiban.baremetal.progress"

    def __init__(self) -> None:
        super().__init__()
        self._board = Board()
        self._play_name = ""
        self._stages: dict[str, str] = {}
        self._began = time.monotonic()
        self._screen = _Screen(self._board) if _is_terminal() else None
        if self._screen:
            self._screen.take_over(self._display)

    # -- what is shown as the default callback does

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if ignore_errors:
            self._board.done(self._name(result.host, result.task), time.monotonic())
        else:
            self._board.failed(self._name(result.host, result.task), time.monotonic())
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._board.failed(self._name(result.host, result.task), time.monotonic(), "unreachable")
        super().v2_runner_on_unreachable(result)

    # -- what is shown in short

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play = play
        self._play_name = play.get_name().strip()
        self._stages.clear()
        self._board.next_play()
        self._say(f"== {self._play_name}")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        # For the banner that the default callback puts before a failure.
        self._task_type_cache[task._uuid] = "TASK"
        self._last_task_name = None if self._play and self._play.strategy == "free" else task.get_name().strip()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self._task_type_cache[task._uuid] = "RUNNING HANDLER"

    def v2_playbook_on_cleanup_task_start(self, task: Any) -> None:
        self._task_type_cache[task._uuid] = "CLEANUP TASK"

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """An empty group is what a run with little to do is made of."""

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        name, stage = self._name(host, task), task._role.get_name().split(".")[-1] if task._role else self._play_name
        self._board.begin(name, stage, task.name or task.action, time.monotonic())
        if self._stages.get(name) != stage:
            self._stages[name] = stage
            if name != CONTROL:
                self._line(f"{name}: {stage}")

    def v2_runner_on_ok(self, result: Any) -> None:
        name = self._name(result.host, result.task)
        took = self._board.done(name, time.monotonic())
        changed = bool(result.result.get("changed"))
        self._handle_warnings_and_exception(result)
        if result.task.action in ("debug", "ansible.builtin.debug") and "msg" in result.result:
            for line in _texts(result.result["msg"]):
                self._say(line)
        elif changed or took >= _LONG:
            word = "changed" if changed else "ok"
            self._line(f"{name}: {result.task.name or result.task.action}: {word} ({clock(took)})")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._board.done(self._name(result.host, result.task), time.monotonic())
        self._handle_warnings_and_exception(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        self._handle_warnings_and_exception(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        self._handle_warnings_and_exception(result)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        pass

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if self._screen:
            self._screen.end()
        sums = {host: stats.summarize(host) for host in sorted(stats.processed)}
        bad = {host: s for host, s in sums.items() if s["failures"] or s["unreachable"]}
        changed = [host for host, s in sums.items() if s["changed"] and host not in bad]
        self._say(
            f"== {clock(time.monotonic() - self._began)}: {len(sums)} hosts, {len(changed)} changed, {len(bad)} failed"
        )
        if changed:
            self._say(f"changed: {folded(changed)}")
        if bad:
            self._say(f"failed: {folded(bad, limit=len(bad))}", color="red")

    # -- how

    def _name(self, host: Any, task: Any) -> str:
        name = str(host.get_name())
        return CONTROL if name == "localhost" or task.run_once else name

    def _say(self, text: str, color: str | None = None) -> None:
        self._display.display(text, color=color)

    def _line(self, text: str) -> None:
        """Only where nobody sees the board."""
        if not self._screen:
            self._say(f"{clock(time.monotonic() - self._began):>7}  {text}")


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _texts(message: Any) -> Iterator[str]:
    for item in message if isinstance(message, list) else [message]:
        yield from str(item).splitlines()


class _Screen:
    """The board at the lower end of a terminal, drawn by a thread so that the time goes on.

    Every other output of Ansible comes through the display of this process, also that of its workers. It is made to
    take the board away first; so nothing is ever drawn over it.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._lock = threading.RLock()
        self._drawn = 0
        self._pid = os.getpid()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def take_over(self, display: Any) -> None:
        show: Callable[..., None] = display.display

        def shown(*args: Any, **options: Any) -> None:
            # Workers are forks that send their output here, and must not touch the screen or the lock.
            if os.getpid() != self._pid:
                show(*args, **options)
                return
            with self._away():
                show(*args, **options)

        display.display = shown
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(5)
        with self._away():
            pass

    @contextmanager
    def _away(self) -> Iterator[None]:
        with self._lock:
            self._write(f"\x1b[{self._drawn}A\x1b[J" if self._drawn else "")
            self._drawn = 0
            yield

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            with self._lock:
                size = shutil.get_terminal_size()
                lines = self._board.lines(time.monotonic(), size.columns - 1, min(size.lines - 2, size.lines * 2 // 3))
                up = f"\x1b[{self._drawn}A" if self._drawn else ""
                # The rest of each line and of the old board goes only after the new text is there: no flicker.
                self._write(f"\r{up}" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
                self._drawn = len(lines)

    def _write(self, text: str) -> None:
        """Past Python's buffer: its lock could be held by this thread just when a worker is forked."""
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]
