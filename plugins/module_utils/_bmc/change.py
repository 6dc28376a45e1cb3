# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""One comparison that yields `changed` and the diff, so that check mode and the real run cannot disagree."""

from __future__ import annotations

import dataclasses
import typing as t

__all__ = ("Change",)


@dataclasses.dataclass(frozen=True)
class Change:
    before: t.Mapping[str, t.Any]
    after: t.Mapping[str, t.Any]

    @property
    def changed(self) -> bool:
        return dict(self.before) != dict(self.after)

    def diff(self) -> dict[str, t.Any]:
        return {"before": dict(self.before), "after": dict(self.after)}
