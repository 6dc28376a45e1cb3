# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module's main() with options, as Ansible would, and gives what it returned."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    def run(module: ModuleType, check_mode: bool = False, diff_mode: bool = False, **params: Any) -> dict[str, Any]:
        capsys.readouterr()
        options = {**params, "_ansible_check_mode": check_mode, "_ansible_diff": diff_mode}
        with patch_module_args(options), pytest.raises(SystemExit) as end:
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        # Ansible goes by `failed`; the exit status must say the same.
        assert bool(end.value.code) is bool(result.get("failed", False))
        return {"failed": False, **result}

    return run
