# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that a site has in its cluster, against those that are there. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["differences", "image_of", "key_of", "label"]

Key = tuple[str, str, str]


def key_of(obj: Mapping[str, Any]) -> Key:
    meta = obj["metadata"]
    return str(obj["kind"]), str(meta.get("namespace") or ""), str(meta["name"])


def label(obj: Mapping[str, Any]) -> str:
    kind, namespace, name = key_of(obj)
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def image_of(obj: Mapping[str, Any]) -> str:
    """The image of a workload's first container; empty where it has none."""
    containers = obj.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or [{}]
    return str(containers[0].get("image") or "")


def differences(
    wanted: Iterable[Mapping[str, Any]], live: Iterable[Mapping[str, Any]]
) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Each wanted object that is not there or differs: its label, and (field, what is there, what is wanted).

    Fields that a wanted object does not state are left to the API server and to others, as a server-side apply does. So
    are entries of a list whose entries have names.
    """
    there = {key_of(obj): obj for obj in live}
    found = []
    for obj in wanted:
        have = there.get(key_of(obj))
        fields = [("", "missing", "there")] if have is None else list(_differing("", have, obj))
        if fields:
            found.append((label(obj), fields))
    return found


def _differing(path: str, have: Any, want: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(want, Mapping) and isinstance(have, Mapping):
        for key, value in want.items():
            yield from _differing(f"{path}.{key}" if path else str(key), have.get(key), value)
    elif _named(want) and _named(have):
        by_name = {entry["name"]: entry for entry in have}
        for entry in want:
            yield from _differing(f"{path}[{entry['name']}]", by_name.get(entry["name"]), entry)
    elif isinstance(want, list) and isinstance(have, list) and len(want) == len(have):
        for number, (old, new) in enumerate(zip(have, want, strict=True)):
            yield from _differing(f"{path}[{number}]", old, new)
    elif have != want and not (have is None and want in ({}, [], "", None)):
        yield path, _short(have), _short(want)


def _named(value: Any) -> bool:
    """A list that a server-side apply merges by name, such as containers and ports."""
    entries: Sequence[Any] = value if isinstance(value, list) else []
    return bool(entries) and all(isinstance(entry, Mapping) and "name" in entry for entry in entries)


def _short(value: Any) -> str:
    text = "missing" if value is None else " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
