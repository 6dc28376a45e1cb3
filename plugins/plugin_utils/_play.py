# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What action plugins that work on a whole site in one process, and filters, have in common."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleFilterError

from ansible_collections.kiban.baremetal.plugins.module_utils._files import NotWritten, write_whole

from ._runs.leases import Leased
from ._site.load import load_site, load_text
from ._site.model import Site, SiteError

__all__ = ["lease_errors", "site_of_input", "site_of_play", "write_result"]


def site_of_play(task_vars: Mapping[str, Any]) -> tuple[Site, list[str]]:
    """The site, and the names of its servers that are among the hosts of the run."""
    hostvars = task_vars["hostvars"]
    names = [name for name in task_vars["ansible_play_hosts_all"] if "kiban_server" in hostvars[name]]
    if not names:
        raise AnsibleActionFail(
            "no server of the site is among the hosts of this run: look at --limit and the inventory"
        )
    try:
        return load_text(hostvars[names[0]]["kiban_site_json"]), names
    except SiteError as exc:
        raise AnsibleActionFail(str(exc)) from exc


def site_of_input(data: Mapping[str, Any] | str) -> Site:
    """The site that a filter is given: C(kiban_site_json), or as a structure C(kiban_site)."""
    try:
        return load_text(data) if isinstance(data, str) else load_site(data)
    except SiteError as exc:
        raise AnsibleFilterError(f"not a site model: {exc}") from exc


@contextmanager
def lease_errors(name: str) -> Iterator[None]:
    """What keeps a run from holding this server ends the task, with what to do."""
    try:
        yield
    except Leased as exc:
        raise AnsibleActionFail(f"{name}: {exc}. Run again when that is over") from exc
    except OSError as exc:
        raise AnsibleActionFail(f"{name}: {exc}") from exc


def write_result(path: str, content: Mapping[str, Any]) -> None:
    """Write it whole as JSON, in a directory that is made where it is missing: for nobody else."""
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    except OSError as exc:
        raise AnsibleActionFail(f"{path} can't be written: {exc}") from exc
    try:
        write_whole(path, json.dumps(content, indent=1) + "\n", mode=0o644)
    except NotWritten as exc:
        raise AnsibleActionFail(str(exc)) from exc
