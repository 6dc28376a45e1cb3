# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan is made of."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .model import Server, Site
from .state import HostState, SiteState

__all__ = ["CLUSTER", "DISRUPTIONS", "Change", "Finding", "Intent", "Notice", "Problem", "View"]

CLUSTER = "(cluster)"
"""Stands in the place of a server's name for what belongs to none."""

DISRUPTIONS = ("none", "reboot", "drain", "data")
"""In order: nothing stops, the server restarts, its pods move away, its system disk may be written."""


@dataclass(frozen=True)
class Intent:
    """What the plan compares with, besides the site model."""

    image_id: str
    """Identity of the node image that servers should run."""
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Server name to {path: sha256 and mode} of the files that make a host this very server."""
    kubelet_config: Mapping[str, Any] = field(default_factory=dict)
    """Fields of KubeletConfiguration that servers should have."""
    runtime: str = ""
    """Version of containerd in the bundle; empty where it is not known."""
    objects: tuple[Mapping[str, Any], ...] = ()
    """Objects of the cluster that the site brings, such as cluster DNS; what differs between servers left out."""
    media_prefix: str = ""
    """URL prefix of the deploy media that this site hands to BMCs."""


@dataclass(frozen=True)
class Finding:
    server: str


@dataclass(frozen=True)
class Change(Finding):
    """One difference that a run would mend."""

    stage: str
    action: str
    """How the stage acts, see C(plan.schema.json)."""
    what: str
    before: str
    after: str
    disruption: str = "none"


@dataclass(frozen=True)
class Problem(Finding):
    """Something that a run leaves alone and reports; it ends non-zero."""

    message: str


@dataclass(frozen=True)
class Notice(Finding):
    """A difference that is never mended unasked, e.g. another image version on a running server."""

    message: str


@dataclass(frozen=True)
class View:
    """All that a stage needs to compare one server."""

    site: Site
    server: Server
    intent: Intent
    state: SiteState
    host: HostState
    unseen: str = ""
    """Why the installed system is not known: it will be installed or booted first. Empty where it answers."""

    @property
    def controls(self) -> bool:
        return "control_plane" in self.server.roles

    def change(self, stage: str, action: str, what: str, before: str, after: str, disruption: str = "none") -> Change:
        return Change(self.server.name, stage, action, what, self.unseen or before, after, disruption)
