# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._filters import check_libraries

try:
    from ..plugin_utils._site import storage as _storage
except ImportError as error:
    IMPORT_ERROR: ImportError | None = error
else:
    IMPORT_ERROR = None


def select_pools(records: Sequence[Mapping[str, Any]], storage: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    check_libraries(IMPORT_ERROR)
    try:
        return _storage.select_pools(records, storage)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AnsibleFilterError(f"select_pools: {error}") from error


def block_targets(
    remote: Mapping[str, Any] | None, secrets: Mapping[str, Mapping[str, str]]
) -> dict[str, list[dict[str, Any]]]:
    check_libraries(IMPORT_ERROR)
    try:
        return _storage.block_targets(remote, secrets)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AnsibleFilterError(f"block_targets: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"block_targets": block_targets, "select_pools": select_pools}
