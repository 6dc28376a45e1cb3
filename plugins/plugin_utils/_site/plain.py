# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""Data as plain Python values, whatever loaded them; and YAML text as such data, with duplicate keys told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from .model import Problem, SiteError
from .shape import key_path

__all__ = ["NotPlain", "parse", "plain"]

_DEPTH = 50

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class NotPlain(ValueError):
    """A value has no plain form."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Loader(_BASE):
    """YAML without dates: a word such as 2026-03-01 stays the text that it is."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _BASE.yaml_implicit_resolvers.items()
}


def plain(value: Any, path: tuple[str | int, ...] = ()) -> Any:
    """A copy that is only dict, list, str, int, float, bool and None: no subclasses that Ansible's loaders make."""
    if len(path) > _DEPTH:
        raise NotPlain(Problem(key_path(path[:5]), f"is nested more than {_DEPTH} deep", "is it an alias of itself?"))
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                hint = "put it in quotes" if key is not None else "remove the lone colon"
                raise NotPlain(Problem(key_path((*path, str(key))), f"the key {key!r} is not a text", hint))
        return {str.__str__(key): plain(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, (*path, number)) for number, item in enumerate(value)]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    raise NotPlain(Problem(key_path(path), f"is of the type {type(value).__name__}", "put the value in quotes"))


def parse(text: str) -> Any:
    """The data of a YAML text. SiteError if it is not YAML, or if a key is there twice."""
    try:
        # The C parser takes no subclass of str, which is what Ansible reads files into.
        loader = _Loader(str.__str__(text))
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            problems = list(_duplicates(node, ()))
            if problems:
                raise SiteError(problems)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "(file)"
        what = getattr(error, "problem", None) or "cannot be read"
        raise SiteError([Problem(where, f"is not valid YAML: {what}")]) from error


def _duplicates(node: Any, path: tuple[str | int, ...]) -> Any:
    if len(path) > _DEPTH:
        yield Problem(key_path(path[:5]), f"is nested more than {_DEPTH} deep", "is it an alias of itself?")
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _duplicates(item, (*path, number))
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, item in node.value:
            where = (*path, str(key.value) if isinstance(key, yaml.ScalarNode) else "?")
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    message = f"the key is there twice, in line {seen[key.value]} and in line {line}"
                    yield Problem(key_path(where), message, "remove one of them")
                seen.setdefault(key.value, line)
            yield from _duplicates(item, where)
