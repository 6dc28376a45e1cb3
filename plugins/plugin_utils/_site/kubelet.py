# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's configuration: what the model says of it, and what a server has. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import yaml

from .model import Site

__all__ = ["differing_fields", "kubelet_config", "merged_config"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def kubelet_config(site: Site) -> dict[str, Any]:
    """Fields of KubeletConfiguration that the site wants. All else is kubeadm's."""
    return {"cgroupDriver": "systemd", **site.cluster.extra_args.get("kubelet_config", {})}


def differing_fields(text: str, wanted: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(path of the field, what the file has, what is wanted) where they differ."""
    have = _parsed(text)
    return list(_differing("", have if isinstance(have, Mapping) else {}, wanted))


def merged_config(text: str, wanted: Mapping[str, Any]) -> str:
    """The file with the wanted fields in it and all others as they were."""
    have = _parsed(text)
    return str(yaml.safe_dump(_merged(have if isinstance(have, Mapping) else {}, wanted), sort_keys=True))


@lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """Most servers of a site have the very same file."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _merged(have: Any, wanted: Any) -> Any:
    if not isinstance(have, Mapping) or not isinstance(wanted, Mapping):
        return wanted
    return {**have, **{key: _merged(have.get(key), value) for key, value in wanted.items()}}


def _differing(path: str, have: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key, want in wanted.items():
        name, got = f"{path}{key}", have.get(key)
        if isinstance(want, Mapping) and isinstance(got, Mapping):
            yield from _differing(f"{name}.", got, want)
        elif not _same(got, want):
            yield name, "missing" if got is None else str(got), str(want)


def _same(have: Any, want: Any) -> bool:
    """As kubeadm and the kubelet read them: C(1m) is C(1m0s), and a field that is left out is empty."""
    if have == want and isinstance(have, bool) == isinstance(want, bool):
        return True
    if have is None:
        return want in (0, "", [], {}, None) or _seconds(want) == 0
    seconds = _seconds(want)
    return seconds is not None and seconds == _seconds(have)


def _seconds(value: Any) -> float | None:
    """Of a duration as Go writes it."""
    if not isinstance(value, str) or not re.fullmatch(f"(?:{_DURATION.pattern})+", value):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(value))
