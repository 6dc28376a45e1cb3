# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that turns a scan into a piece of site model. The work is done in plugin_utils/_site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..plugin_utils._site.discover import discover


def site_draft(found: Sequence[Mapping[str, Any]], servers: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    # Not asdict(): it would copy the containers of ansible-core that the records are in.
    return dict(vars(discover(found, servers)))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"site_draft": site_draft}
