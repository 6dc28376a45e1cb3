# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the virtual rack. The work is done in plugin_utils/_lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._filters import check_libraries

try:
    from ..plugin_utils._lab.layout import LayoutError, layout
    from ..plugin_utils._site.load import load_site
    from ..plugin_utils._site.model import SiteError
except ImportError as error:
    IMPORT_ERROR: ImportError | None = error
else:
    IMPORT_ERROR = None


def lab_layout(data: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    check_libraries(IMPORT_ERROR)
    try:
        return layout(load_site(data), settings)
    except (SiteError, LayoutError) as exc:
        raise AnsibleFilterError(f"no lab can be made of this site: {exc}") from exc


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"lab_layout": lab_layout}
