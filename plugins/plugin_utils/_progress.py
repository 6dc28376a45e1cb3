# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each server is in a run, as lines for a person. Pure: the clock is given."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONTROL", "Board", "clock"]

CONTROL = "(control host)"
"""Name of the line for what is done once for all servers."""


def clock(seconds: float) -> str:
    """C(1:23), or C(1:02:03) from an hour on."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


@dataclass
class _Row:
    stage: str = ""
    task: str = ""
    since: float = 0.0
    busy: bool = False
    end: str = ""
    """How it ended, for a server that will do nothing more: C(failed)."""


class Board:
    """One row a server: its stage, what it does or waits for, and for how long."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}

    def begin(self, server: str, stage: str, task: str, now: float) -> None:
        self._rows[server] = _Row(stage, task, now, True)

    def done(self, server: str, now: float) -> float:
        """The server has ended its task; returns the seconds that it took."""
        row = self._rows.setdefault(server, _Row(since=now))
        took = now - row.since
        row.since, row.busy = now, False
        return took

    def failed(self, server: str, now: float, word: str = "failed") -> None:
        self.done(server, now)
        self._rows[server].end = word

    def next_play(self) -> None:
        """Servers that were done drop out; those that failed stay to be seen."""
        self._rows = {name: row for name, row in self._rows.items() if row.end}

    def lines(self, now: float, columns: int, rows: int) -> list[str]:
        """At most C(rows) lines of at most C(columns) characters: who works first, then who waits, then who failed."""
        names = sorted(self._rows, key=lambda name: (bool(self._rows[name].end), not self._rows[name].busy))
        shown = names if len(names) <= rows else names[: max(0, rows - 1)]
        width = max((len(name) for name in shown), default=0)
        stages = max((len(self._rows[name].stage) for name in shown), default=0)
        text = []
        for name in shown:
            row = self._rows[name]
            what = row.task if row.busy else f"{row.end}: {row.task}" if row.end else "waits for the others"
            text.append(f"{name:{width}}  {row.stage:{stages}}  {clock(now - row.since):>7}  {what}"[:columns].rstrip())
        if len(shown) < len(names) and rows > 0:
            busy = sum(1 for name in names[len(shown) :] if self._rows[name].busy)
            text.append(f"and {len(names) - len(shown)} more, {busy} of them at work"[:columns])
        return text
