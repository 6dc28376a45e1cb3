# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""JMESPath expressions of the site model: found wrong when the file is read, not when a server is at stake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jmespath
from jmespath import exceptions
from jmespath.functions import Functions

from .shape import nearest

__all__ = ["DISK_FIELDS", "ExpressionError", "check_expression", "check_selector", "predicate"]

DISK_FIELDS = frozenset(
    (
        "name",
        "path",
        "by_path",
        "serial_number",
        "wwn",
        "model",
        "capacity_bytes",
        "protocol",
        "media_type",
        "logical_block_bytes",
        "physical_block_bytes",
        "holders",
        "mounts",
        "partitions",
        "signatures",
        "kiban",
    )
)
"""Fields of a disk record, the same for disks seen by a server and by its BMC."""

_FORM = "numbers stand in backticks (`1000`), texts in single quotes ('NVMe')"


class ExpressionError(ValueError):
    """An expression is wrong. `hint` says what would be right."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def check_expression(text: str) -> Any:
    """Compile an expression and look at its function names; returns its syntax tree."""
    try:
        tree: Any = jmespath.compile(text).parsed
    except exceptions.JMESPathError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ExpressionError(f"is not a JMESPath expression ({reason})", _FORM) from error
    known = set(Functions.FUNCTION_TABLE)
    for node in _walk(tree):
        if node["type"] == "function_expression" and node["value"] not in known:
            raise ExpressionError(f"uses the unknown function {node['value']}()", nearest(node["value"], known))
    return tree


def check_selector(text: str) -> None:
    """Check a predicate over a disk record, and that it asks only for fields that such a record has."""
    tree = check_expression(text)
    for name in _fields(tree):
        if name not in DISK_FIELDS:
            hint = nearest(name, DISK_FIELDS)
            raise ExpressionError(f"asks for '{name}', which a disk record does not have", f"{hint} ({_FORM})")


def predicate(text: str) -> Any:
    """The compiled filter `[?text]`, to be searched in a list of records."""
    check_expression(text)
    return jmespath.compile(f"[?{text}]")


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("children", ()):
        if isinstance(child, dict):
            yield from _walk(child)


def _fields(node: dict[str, Any]) -> Iterable[str]:
    """Names of fields that are looked up in the record itself, not in a value inside it."""
    kind, children = node["type"], node.get("children", ())
    if kind == "field":
        return [node["value"]]
    if kind in (
        "subexpression",
        "pipe",
        "projection",
        "value_projection",
        "filter_projection",
        "index_expression",
        "flatten",
    ):
        children = children[:1]
    elif kind == "expref":
        children = ()
    return [name for child in children for name in _fields(child)]
