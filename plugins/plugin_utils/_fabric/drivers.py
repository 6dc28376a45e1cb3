# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""The drivers by the name of their operating system, and what all of them can do."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from ...module_utils._switch_lines import Difference, difference, paths, tables_paths
from . import eos, linux, nxos, sonic
from .config import Config
from .intent import Intent

__all__ = ["DRIVERS", "Drift", "drift", "parse", "render"]

DRIVERS: dict[str, ModuleType] = {"linux": linux, "sonic": sonic, "eos": eos, "nxos": nxos}
"""A driver has `render(intent)`, `parse(name, config)`, and the dialects `LINES` and `TABLES` or None."""


@dataclass(frozen=True)
class Drift:
    """How a running configuration differs from what is wanted, in its tables and in its lines."""

    tables: Difference | None
    lines: Difference | None

    def _all(self, name: str) -> tuple[tuple[str, ...], ...]:
        return tuple(path for part in (self.tables, self.lines) if part for path in getattr(part, name))

    @property
    def add(self) -> tuple[tuple[str, ...], ...]:
        return self._all("add")

    @property
    def remove(self) -> tuple[tuple[str, ...], ...]:
        return self._all("remove")

    @property
    def foreign(self) -> tuple[tuple[str, ...], ...]:
        return self._all("foreign")


def render(os: str, intent: Intent) -> Config:
    """FabricError where the system has no way to say it."""
    rendered: Config = DRIVERS[os].render(intent)
    return rendered


def parse(os: str, name: str, config: Config) -> Intent:
    """The reverse, of a configuration that was rendered."""
    parsed: Intent = DRIVERS[os].parse(name, config)
    return parsed


def drift(os: str, wanted: Config, running: Config, exclusive: bool = False) -> Drift:
    """What to change in `running`; lines that the model does not know stay unless `exclusive`."""
    tables, lines = DRIVERS[os].TABLES, DRIVERS[os].LINES
    return Drift(
        tables
        and difference(tables_paths(wanted.tables, tables), tables_paths(running.tables, tables), tables, exclusive),
        lines and difference(paths(wanted.text, lines), paths(running.text, lines), lines, exclusive),
    )
