# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# The part of the probe that looks at FRR. It runs on the servers: Python 3.9, standard library.

from __future__ import annotations

from collections.abc import Callable

FRR_CONF = "/etc/frr/frr.conf"


def routing(text: str, output: Callable[[list[str]], str]) -> list[str]:
    """What is in FRR's file and not in what its daemons run with; of more than three lines the first three."""
    try:
        running = output(["vtysh", "-c", "show running-config"])
    except OSError as error:
        return [f"FRR does not tell its configuration: {error}"]
    return not_running(text, running)


def not_running(text: str, running: str) -> list[str]:
    """A line whose context is missing too is not told apart."""
    there = set(in_context(running))
    lost = [line for line in in_context(text) if line not in there and (len(line) == 1 or line[:-1] in there)]
    more = [f"and without {len(lost) - 3} more"] if len(lost) > 3 else []
    return [f"FRR runs without: {': '.join(line)}" for line in lost[:3]] + more


def in_context(text: str) -> list[tuple[str, ...]]:
    """Each line behind those that it is indented under."""
    found: list[tuple[str, ...]] = []
    above: list[tuple[int, str]] = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith(("!", "exit")) or line == "end":
            continue
        depth = len(raw) - len(raw.lstrip())
        while above and above[-1][0] >= depth:
            above.pop()
        above.append((depth, line))
        found.append(tuple(one for _depth, one in above))
    return found
