# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._filters import check_libraries

try:
    from ..plugin_utils._site import disks
    from ..plugin_utils._site.expressions import ExpressionError
except ImportError as error:
    IMPORT_ERROR: ImportError | None = error
else:
    IMPORT_ERROR = None


def select_disks(
    records: Sequence[Mapping[str, Any]],
    selector: Mapping[str, Any] | None,
    wipe: Iterable[str],
    purpose: str,
    exclude: Iterable[str] = (),
) -> dict[str, list[Any]]:
    check_libraries(IMPORT_ERROR)
    try:
        return disks.select_disks(records, selector, purpose=purpose, wipe=wipe, exclude=exclude)
    except ExpressionError as error:
        raise AnsibleFilterError(f"select_disks: the selector {error.message}; {error.hint}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AnsibleFilterError(f"select_disks: {error}") from error


def match_drives(records: Sequence[Mapping[str, Any]], drives: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    check_libraries(IMPORT_ERROR)
    try:
        return disks.match_drives(records, drives)
    except (TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"match_drives needs two lists of records: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"match_drives": match_drives, "select_disks": select_disks}
