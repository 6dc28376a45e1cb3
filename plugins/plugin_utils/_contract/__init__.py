# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this collection needs of a BMC, as interoperability profiles of the DMTF, and how BMCs are held against them."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options

__all__ = ["AREAS", "ContractError", "find_python", "held_against", "profile_path"]

_COLLECTION = Path(__file__).resolve().parents[3]
_PROGRAM = Path(__file__).resolve().parent / "validate.py"
_AT_ONCE = 8


def _area(path: Path) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", path.name.split(".")[0].removeprefix("Kiban")).lower()


_PATHS = {_area(path): path for path in sorted((_COLLECTION / "contract").glob("Kiban*.json"))}
AREAS = tuple(_PATHS)
"""Names of the feature areas, each with a profile of its own."""


class ContractError(Exception):
    """The check could not be made at all."""


def profile_path(area: str) -> Path:
    return _PATHS[area]


def find_python(candidates: Sequence[str]) -> str | None:
    """The first Python that has the validator; the one that runs this comes last."""
    for python in [*candidates, sys.executable]:
        try:
            command = [python, "-c", "import redfish_interop_validator"]
            tried = subprocess.run(command, check=False, capture_output=True, timeout=120)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if tried.returncode == 0:
            return python
    return None


def held_against(python: str, servers: Mapping[str, Options]) -> dict[str, dict[str, Any]]:
    """By server: C(areas) with C(fits), C(passed) and C(problems) each, and C(requests); or C(failure).

    The validator has an interpreter of its own; passwords go to it over a pipe.
    """
    # Where Ansible has the collection: .../ansible_collections/kiban/baremetal.
    job = {
        "collections": _importable(),
        "profiles": [str(path) for path in _PATHS.values()],
        "servers": {name: asdict(options) for name, options in servers.items()},
        "at_once": _AT_ONCE,
    }
    ended = subprocess.run(
        [python, "-I", str(_PROGRAM)], input=json.dumps(job), check=False, capture_output=True, text=True
    )
    if ended.returncode:
        last = next((line for line in reversed(ended.stderr.splitlines()) if line.strip()), "it said nothing")
        raise ContractError(f"the validator of {python} broke off: {last}")
    found: dict[str, dict[str, Any]] = json.loads(ended.stdout)
    return {name: _by_area(result) for name, result in found.items()}


def _importable() -> str:
    package = __name__.split(".")
    here = Path(sys.modules[__name__].__file__ or "")
    return str(here.parents[len(package)])


def _by_area(result: dict[str, Any]) -> dict[str, Any]:
    if "failure" in result:
        return result
    areas = {
        area: {**result["profiles"][path.name], "fits": not result["profiles"][path.name]["problems"]}
        for area, path in _PATHS.items()
    }
    return {"areas": areas, "requests": result["requests"], "root": result["root"]}
