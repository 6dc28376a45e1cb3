# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What filters have in common that needs no library but ansible-core."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

__all__ = ["check_libraries", "image_references"]


def check_libraries(error: ImportError | None) -> None:
    """Says which library is missing: of a file that cannot be imported Ansible says that it has no such filter."""
    if error is not None:
        raise AnsibleFilterError(f"a Python library is missing: {error}") from error


def image_references(manifest: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """By what names nodes know images of the bundle, by their names in it. C(manifest) is the bundle's."""
    known = {entry["name"]: entry["reference"] for entry in manifest["artifacts"] if entry["kind"] == "image"}
    missing = [name for name in names if name not in known]
    if missing:
        raise AnsibleFilterError(
            f"the bundle has no image {', '.join(missing)}: make bundle and node image again with the site's inventory"
        )
    return {name: known[name] for name in names}
