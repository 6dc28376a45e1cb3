# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Read the error bodies of BMCs, which differ in shape, into one list of messages and one sentence."""

from __future__ import annotations

import re
import typing as t

__all__ = ("extended_info", "hide_credentials", "one_sentence")

_SEVERITY = {"critical": 3, "warning": 2, "ok": 1}


def extended_info(body: t.Any) -> list[dict[str, t.Any]]:
    """All messages of an answer, most severe first. Some BMCs send one object instead of a list."""
    if not isinstance(body, dict):
        return []
    found: list[dict[str, t.Any]] = []
    error = body.get("error")
    holders = [error, body] if isinstance(error, dict) else [body]
    for holder in holders:
        info = holder.get("@Message.ExtendedInfo")
        items = info if isinstance(info, list) else [info]
        for item in items:
            if isinstance(item, dict):
                found.append({key: item[key] for key in _KEYS if item.get(key) not in (None, "", [])})
            elif isinstance(item, str) and item:
                found.append({"Message": item})
    if isinstance(error, dict):
        own = {"MessageId": error.get("code"), "Message": error.get("message")}
        own = {key: str(value) for key, value in own.items() if value}
        if own and all(own.get("Message") != item.get("Message") for item in found):
            found.append(own)
    return sorted((item for item in found if item), key=_rank)


_KEYS = ("MessageId", "Message", "MessageArgs", "Severity", "MessageSeverity", "Resolution", "RelatedProperties")


def _rank(item: t.Mapping[str, t.Any]) -> tuple[bool, int]:
    severity = str(item.get("MessageSeverity") or item.get("Severity") or "").lower()
    # "General error, see ExtendedInfo" says nothing, so it goes last; some BMCs put the real reason under that name.
    general = str(item.get("MessageId") or "").endswith(("GeneralError", "ExtendedInfo", "ExtendedError"))
    text = str(item.get("Message") or "").lower()
    says_nothing = general and (not text or "general error" in text or "extendedinfo" in text)
    return (says_nothing, -_SEVERITY.get(severity, 0))


def one_sentence(messages: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """What the BMC says about the failure, for a person. Empty when it says nothing."""
    if not messages:
        return ""
    first = messages[0]
    message_id = str(first.get("MessageId") or "").strip()
    text = str(first.get("Message") or "").strip()
    if not text:
        args = first.get("MessageArgs")
        extra = f" ({', '.join(str(item) for item in args)})" if isinstance(args, list) and args else ""
        return message_id + extra
    text = " ".join(text.split())
    if len(text) > 400:
        text = text[:397] + "..."
    return f"{text.rstrip('.')} [{message_id}]" if message_id else text.rstrip(".")


def hide_credentials(text: str) -> str:
    """URLs without the user name and password that they may hold."""
    return re.sub(r"//[^/@\s]*@", "//", text)
