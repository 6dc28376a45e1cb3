# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What arrived at a BMC, and what it answered."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bmc import Call
    from .faults import Fault


@dataclass
class Request:
    """`path` has the query. `body`: parsed JSON, else bytes, None where there is none. `status`: None while no whole
    answer was sent. `done`: the BMC did, or began, what was asked for, whether or not the answer arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int
    status: int | None = None
    done: bool = False
    answer: bytes | None = field(default=None, repr=False)
    fault: Fault | None = field(default=None, repr=False)

    @classmethod
    def of(cls, call: Call) -> Request:
        body: Any = call.data or None
        if call.data and "multipart" not in call.headers.get("content-type", ""):
            try:
                body = json.loads(call.data)
            except ValueError:
                body = call.data
        return cls(call.method, call.path, call.headers, body, call.connection)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_write(self) -> bool:
        """A request that changes something, sessions apart."""
        return self.method in ("POST", "PATCH", "PUT", "DELETE") and "/Sessions" not in self.path


def blind_repeats(requests: list[Request]) -> list[Request]:
    """POSTs that were sent again, the same, after one that may have been done, without any GET in between."""
    found = []
    last: Request | None = None
    for request in requests:
        if request.method == "GET":
            last = None
        elif request.method == "POST" and request.is_write:
            same = last is not None and (last.path, last.body) == (request.path, request.body)
            # 429 and 503 say that nothing was done.
            if same and last is not None and (last.done or last.status is None):
                found.append(request)
            last = request
    return found
