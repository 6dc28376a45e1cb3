# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that a test asks for: which request they hit, and what happens to it."""

from __future__ import annotations

import copy
import datetime
import email.utils
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .messages import Json, Reply, error_body, message
from .tree import matches

if TYPE_CHECKING:
    from .bmc import Bmc, Call


@dataclass
class Fault:
    """See `Simulator.fault`. `hits`: how many requests it met."""

    method: str = "*"
    path: str = "*"
    nth: int = 1
    times: int | None = 1
    status: int | None = None
    body: Any = None
    said: tuple[str, ...] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    retry_after: int | float | str | datetime.datetime | None = None
    delay: float = 0.0
    drop: str | None = None
    work: bool = False
    refuse: float | None = None
    change: Callable[[Json], None] | None = None
    when: Callable[[Call], bool] | None = None
    seen: int = 0
    hits: int = 0

    def meets(self, bmc: Bmc, call: Call) -> bool:
        """Whether it hits this request; counts."""
        if self.method not in ("*", call.method) or not matches(self.path, call.uri, bmc.tree.base.any_case):
            return False
        if self.when is not None and not self.when(call):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True

    @property
    def spent(self) -> bool:
        return self.hits > 0 if self.times is None else self.hits >= self.times

    @property
    def does_the_work(self) -> bool:
        """Whether the BMC does what was asked for."""
        return self.work or (self.status is None and self.refuse is None and self.drop != "before")

    def reply(self, bmc: Bmc) -> Reply | None:
        """The answer instead of the BMC's own; None: its own."""
        if self.status is None:
            return None
        body = self.body
        if body is None and self.said is not None:
            body = error_body(message(self.said[0], *self.said[2:], text=self.said[1] or None))
        elif body is None and self.status >= 400:
            body = error_body(message("GeneralError"))
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = self._retry_after()
        return Reply(self.status, body, headers)

    def changed(self, reply: Reply) -> Reply:
        """The answer with its body changed as the test wants it."""
        body = json.loads(reply.body) if isinstance(reply.body, bytes) else copy.deepcopy(reply.body)
        if isinstance(body, dict) and self.change is not None:
            self.change(body)
        return Reply(reply.status, body, reply.headers)

    def _retry_after(self) -> str:
        value = self.retry_after
        if isinstance(value, datetime.datetime):
            return email.utils.format_datetime(value.astimezone(datetime.UTC), usegmt=True)
        return str(value)
