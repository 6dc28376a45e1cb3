# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a kind of BMC behaves, as data. The defaults are what the Redfish specification says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


# Compared by identity, so that trees can be shared by profile although `shape` can't be hashed.
@dataclasses.dataclass(frozen=True, eq=False)
class Profile:
    """Times are in simulated seconds. A refusal is HTTP status, message id and text."""

    name: str = "well-behaved"
    # The recorded tree, taken where it is at hand; else a synthetic one of this shape (see synthetic.py).
    tree: str = ""
    shape: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    any_case: bool = False  # URIs are found whatever their case

    # -- sessions
    session_limit: int = 16
    session_timeout: int = 1800  # s of idleness; real seconds and those that a test adds
    session_exhausted: tuple[int, str, str] = (503, "SessionLimitExceeded", "")
    basic: bool = True  # basic authentication is allowed

    # -- ETags. etag: none, strong, weak, bare (no quotes), gzip (suffix as proxies make it), empty
    etag: str = "strong"
    # If-Match of PATCH and DELETE: ignored, checked (412), required (428, 412), dropped (without it: 200, no change)
    if_match: str = "checked"
    if_match_on: tuple[str, ...] = ("*",)  # on other resources If-Match is ignored
    if_match_missing: tuple[int, str, str] = (428, "PreconditionRequired", "")
    action_if_match_refused: tuple[str, ...] = ()  # actions to which If-Match is refused (412)

    # -- $expand: right, absent, ignored (advertised), refused (advertised, 501), cut (members without Id and Name),
    # short (the last member is missing)
    expand: str = "right"

    logs_expanded: bool = True  # a collection of log entries holds them, not links, as the specification says

    # -- the connection
    connection_requests: int | None = None  # a connection that was used so often is reset at its next request
    gzip_always: tuple[str, ...] = ()  # resources that are compressed whatever the client accepts
    identity_refused: tuple[str, ...] = ()  # resources that are 406 for a client that does not accept gzip

    # -- errors: list, object (ExtendedInfo is an object), plain (no JSON)
    errors: str = "list"

    # -- power
    power_seconds: float = 2.0  # from a reset to the state that it leads to
    post_seconds: float = 60.0  # from power on to the operating system
    post_refuses: tuple[int, str, str] | None = None  # PATCH of boot and BIOS settings during POST
    power_conflict: float = 0.0  # after power-off, On is refused for so long
    power_conflict_answer: tuple[int, str, str] = (409, "ActionParameterValueConflict", "")
    power_busy: float = 0.0  # after any power change, resets are refused for so long
    power_busy_answer: tuple[int, str, str] = (400, "InvalidOperationForSystemState", "")
    power_same: int = 204  # On while on, ForceOff while off: 204, 400 or 409
    boot_on_settings: bool = False  # the override is writable in the settings object of the system only
    boot_needs_mode: bool = False  # without BootSourceOverrideMode in the same PATCH the mode goes to Legacy

    # -- BIOS settings. bios_pending: modified (what differs), all, absent (no Attributes while nothing is pending)
    bios_pending: str = "modified"
    bios_needs_apply_time: bool = False  # without @Redfish.SettingsApplyTime no job is made and nothing is applied
    bios_locked_by_job: bool = False  # while a job waits, further changes are refused
    bios_seconds: float = 30.0

    # -- work that takes time. task_location: task, monitor, job (a maker's), none (202 without Location)
    task_location: str = "task"
    task_seconds: float = 20.0
    monitor: str = "{service}/TaskMonitors/{id}"
    task_first_state: str = "Running"
    task_hidden: float = 0.0  # a new task is 404 for so long
    task_purged: float | None = None  # so long after its end a task is 404
    retry_after: int | None = None  # of 202 answers, real seconds

    # -- volumes
    volume_requires: tuple[str, ...] = ("RAIDType", "Links/Drives")
    volume_status: int = 202  # or 201: made at once
    volume_apply_times: tuple[str, ...] = ("Immediate", "OnReset")  # the first is meant where none is given
    volume_delete_takes_apply_time: bool = True
    volume_name_max: int = 64
    volumes_need_power: bool = False  # no Storage while the server is off
    one_task_per_controller: bool = False

    # -- virtual media. media: action, patch
    media: str = "action"
    media_slots: str = ".*"  # slots whose Id fits take a URL
    media_rejects: tuple[str, ...] = ()
    media_requires: tuple[str, ...] = ()
    media_eject_action_when_empty: bool = True
    media_eject_seconds: float = 0.0  # so long after an eject the slot still shows its image, and refuses another

    # -- firmware
    firmware_push: str = "multipart"  # multipart, push (HttpPushUri), none
    firmware_staged: bool = False  # the task of host firmware ends when it is staged; a reset applies it

    # -- accounts: create, slots (PATCH of an empty one)
    accounts: str = "create"

    # -- the BMC itself
    restart_refused: float = 30.0  # connections are refused while it restarts
    restart_partial: float = 30.0  # and then its tree has gaps
    restart_gaps: tuple[str, ...] = ("/redfish/v1/Systems/*/*", "/redfish/v1/Chassis/*/*", "/redfish/v1/UpdateService*")
    gap: float = 0.0  # after a job so long 503 "not ready" for writes
    gap_answer: tuple[int, str, str] = (503, "ServiceTemporarilyUnavailable", "")
    rate: float | None = None  # requests a real second before 429
