# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""What can go wrong with a BMC. Raised low, rendered once: each says what is wrong, where, and what to do."""

from __future__ import annotations

import typing as t

__all__ = (
    "BmcAuthError",
    "BmcBadAnswer",
    "BmcBusy",
    "BmcDenied",
    "BmcError",
    "BmcNotFound",
    "BmcNotOffered",
    "BmcOptionError",
    "BmcRefused",
    "BmcTaskFailed",
    "BmcTimeout",
    "BmcTlsError",
    "BmcUncertain",
    "BmcUnreachable",
    "BmcUnsupported",
)


class BmcError(Exception):
    """Base of all. `done` lists what had been changed on the BMC before it failed."""

    kind: t.ClassVar[str] = "error"

    def __init__(self, address: str, message: str, hint: str = "", request: str = "") -> None:
        super().__init__(message)
        self.address = address
        self.message = message
        self.hint = hint
        self.request = request
        self.done: list[str] = []

    def __str__(self) -> str:
        about = f"BMC {self.address}: " if self.address else ""
        parts = [f"{about}{self.message.rstrip('.')}."]
        if self.hint:
            parts.append(self.hint.rstrip(".") + ".")
        if self.done:
            parts.append("Already done before this: " + "; ".join(self.done) + ".")
        return " ".join(parts)

    def as_dict(self) -> dict[str, t.Any]:
        """For `failure` of a module's result: a playbook can branch on it."""
        return {
            "kind": self.kind,
            "address": self.address,
            "message": self.message,
            "hint": self.hint,
            "request": self.request,
            "status": None,
            "messages": [],
            "done": list(self.done),
        }


class BmcOptionError(BmcError):
    """An option makes no sense; nothing was sent."""

    kind = "option"


class BmcUnreachable(BmcError):
    """No connection, so nothing was sent."""

    kind = "unreachable"


class BmcTlsError(BmcError):
    """The certificate or the handshake is not acceptable, so nothing was sent."""

    kind = "tls"


class BmcUnsupported(BmcError):
    """The BMC offers no way to do it. Nothing was changed by the refused step."""

    kind = "unsupported"


class BmcBadAnswer(BmcError):
    """An answer that is not what Redfish says it should be."""

    kind = "bad_answer"


class BmcTimeout(BmcError):
    """Time ran out while reading, or while waiting for a state."""

    kind = "timeout"


class BmcUncertain(BmcTimeout):
    """A request that changes something was sent and its answer was lost: it may have worked or not."""

    kind = "uncertain"


class BmcTaskFailed(BmcError):
    """The BMC accepted the work and reports that it failed."""

    kind = "task_failed"

    def __init__(self, address: str, message: str, messages: t.Sequence[str] = (), **kwargs: str) -> None:
        super().__init__(address, message, **kwargs)
        self.messages = list(messages)

    def as_dict(self) -> dict[str, t.Any]:
        return {**super().as_dict(), "messages": self.messages}


class BmcRefused(BmcError):
    """The BMC answered with an HTTP error: it has not done what was asked."""

    kind = "refused"

    def __init__(
        self,
        address: str,
        message: str,
        status: int = 0,
        messages: t.Sequence[t.Mapping[str, t.Any]] = (),
        **kwargs: str,
    ) -> None:
        super().__init__(address, message, **kwargs)
        self.status = status
        self.messages = [dict(item) for item in messages]

    @property
    def message_ids(self) -> list[str]:
        """Bare names such as InsufficientPrivilege; registries and their versions differ between vendors."""
        return [str(item.get("MessageId") or "").rsplit(".", 1)[-1] for item in self.messages]

    def as_dict(self) -> dict[str, t.Any]:
        return {**super().as_dict(), "status": self.status, "messages": self.messages}


class BmcAuthError(BmcRefused):
    """User name or password is not accepted."""

    kind = "auth"


class BmcDenied(BmcAuthError):
    """403: the account is known, but may not do this."""


class BmcNotFound(BmcRefused):
    """404: the resource is not there."""

    kind = "not_found"


class BmcNotOffered(BmcRefused):
    """405 or 501: the resource is there, but the BMC does not do this with it."""

    kind = "unsupported"


class BmcBusy(BmcRefused):
    """429 or 503: the request was not taken up. `retry_after` is in seconds, None where the BMC named no time."""

    kind = "busy"
    retry_after: float | None = None
