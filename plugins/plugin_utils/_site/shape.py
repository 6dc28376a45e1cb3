# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""The shape of a site file: JSON Schema checks, told as sentences, and the defaults that the schema states."""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema import validators

from .model import Problem

__all__ = ["check_shape", "fill_defaults", "key_path", "nearest", "schema"]

_SCHEMA_FILE = Path(__file__).with_name("site.schema.json")
_PLAIN_KEY = re.compile(r"^[A-Za-z0-9_-]+$")
_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "empty",
}

Path_ = tuple[str | int, ...]


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema that ships with the collection. Do not change the result."""
    loaded: dict[str, Any] = json.loads(_SCHEMA_FILE.read_text(encoding="utf-8"))
    return loaded


def key_path(path: Iterable[str | int]) -> str:
    """`racks[0].servers[1].bmc`: the way to a value, as a person would write it."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.match(part):
            text += f".{part}" if text else part
        else:
            text += f"['{part}']"
    return text or "(file)"


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or else all of them."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(words) if words else "there is none to refer to"


def check_shape(data: Any) -> tuple[list[Problem], Any]:
    """All problems of shape, and a copy of the data without the values that have one.

    What is left has the right types everywhere, so the checks of meaning can run on it at once.
    """
    errors = sorted(_validator().iter_errors(data), key=lambda error: [str(part) for part in error.absolute_path])
    problems: list[Problem] = []
    pruned = copy.deepcopy(data)
    for error in errors:
        for path, problem in _explain(error):
            problems.append(problem)
            pruned = _prune(pruned, path)
    return problems, pruned


def fill_defaults(data: Any, part: dict[str, Any] | None = None) -> Any:
    """A copy of valid data in which every key that the schema gives a default is present."""
    rules = _resolve(schema() if part is None else part)
    if isinstance(data, dict):
        known = rules.get("properties", {})
        others = rules.get("additionalProperties")
        filled = {
            key: fill_defaults(value, known.get(key, others if isinstance(others, dict) else {}))
            for key, value in data.items()
        }
        for key, rule in known.items():
            rule = _resolve(rule)
            if "default" in rule and filled.get(key) is None:
                filled[key] = fill_defaults(copy.deepcopy(rule["default"]), rule)
        return filled
    if isinstance(data, list):
        return [fill_defaults(item, rules.get("items", {})) for item in data]
    return data


def _resolve(rules: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference; keys beside it win."""
    while "$ref" in rules:
        name = rules["$ref"].rsplit("/", 1)[-1]
        rules = {**schema()["$defs"][name], **{key: value for key, value in rules.items() if key != "$ref"}}
    return rules


@cache
def _validator() -> Any:
    def pattern(validator: Any, rule: str, value: Any, rules: Any) -> Iterator[jsonschema.ValidationError]:
        # `$` of Python also matches before a last line feed; that of JSON Schema does not.
        if isinstance(value, str) and ("\n" in value or not re.search(rule, value)):
            yield jsonschema.ValidationError("pattern")

    base = jsonschema.Draft202012Validator
    types = base.TYPE_CHECKER.redefine(
        "integer", lambda _checker, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return validators.extend(base, {"pattern": pattern}, type_checker=types)(_inline(schema()))


def _inline(rules: Any) -> Any:
    """Rules without references: looking one up for each value takes longer than checking the value."""
    if isinstance(rules, dict):
        return {key: _inline(value) for key, value in _resolve(rules).items() if key != "$defs"}
    if isinstance(rules, list):
        return [_inline(item) for item in rules]
    return rules


def _explain(error: Any) -> Iterator[tuple[Path_, Problem]]:
    """One schema error as problems, each with the path of the value that is wrong."""
    path, value, rule = tuple(error.absolute_path), error.instance, error.validator_value
    rules = _described(error)
    kind = error.validator
    if kind == "additionalProperties":
        for key in sorted(set(value) - set(rules.get("properties", {}))):
            where = (*path, key)
            yield where, Problem(key_path(where), "unknown key", nearest(key, rules.get("properties", {})))
        return
    if kind == "required":
        for key in rule:
            if key not in value and error.message.startswith(repr(key)):
                told = _resolve(rules.get("properties", {}).get(key, {}))
                yield (), Problem(key_path((*path, key)), "missing", _about(told))
        return
    if "propertyNames" in error.absolute_schema_path:
        where = (*path, value)
        yield (
            where,
            Problem(key_path(where), f"{_show(value)} is not {rules.get('title', 'a valid name')}", _about(rules)),
        )
        return
    yield path, Problem(key_path(path), *_sentence(kind, rule, value, rules))


def _sentence(kind: str, rule: Any, value: Any, rules: dict[str, Any]) -> tuple[str, str]:
    if kind == "type":
        kinds = [rule] if isinstance(rule, str) else [name for name in rule if name != "null"]
        wanted = rules.get("title", " or ".join(_WORDS[name] for name in kinds))
        quote = "string" in kinds and isinstance(value, int | float)
        hint = "put it in quotes" if quote and not rules.get("pattern") else _about(rules)
        return f"must be {wanted}, is {_show(value)}", hint
    if kind in ("enum", "const"):
        known = [str(item) for item in (rule if kind == "enum" else [rule])]
        return f"{_show(value)} is not supported", nearest(str(value), known) if kind == "enum" else f"must be {rule}"
    if kind == "pattern":
        ranged = "[" in value and "IPv4 address" in rules.get("title", "")
        hint = "write the first address only: it counts up with the names" if ranged else _about(rules)
        return f"{_show(value)} is not {rules.get('title', 'valid')}", hint
    if kind in ("minimum", "maximum"):
        limits = [f"at least {rules['minimum']}"] if "minimum" in rules else []
        limits += [f"at most {rules['maximum']}"] if "maximum" in rules else []
        return f"{value} is out of range", " and ".join(limits)
    if kind in ("minItems", "minLength", "minProperties"):
        return "must not be empty", _about(rules)
    if kind == "maxLength":
        return f"is longer than {rule} characters", ""
    if kind == "uniqueItems":
        return "holds a value twice", "remove the second one"
    return str(kind), ""


def _described(error: Any) -> dict[str, Any]:
    """The rules an error came from, with the description of the place that refers to them."""
    rules: Any = schema()
    told: dict[str, Any] = {}
    for step in list(error.absolute_schema_path)[:-1]:
        if isinstance(rules, dict) and step not in rules:
            rules = _resolve(rules)
        rules = rules[step]
        if step in ("properties", "propertyNames", "additionalProperties", "items"):
            told = {}
        if isinstance(rules, dict):
            told.update({key: rules[key] for key in ("description", "examples") if key in rules and key not in told})
    return {**error.schema, **told}


def _about(rules: dict[str, Any]) -> str:
    example = rules.get("examples", [None])[0]
    told = str(rules.get("description", "")).rstrip(".")
    told = told[:1].lower() + told[1:] if not told[1:2].isupper() else told
    if example is None:
        return told
    shown = example if isinstance(example, str) else json.dumps(example)
    return f"{told}, for example {shown}" if told else f"for example {shown}"


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _prune(data: Any, path: Path_) -> Any:
    """Take the value at `path` out; items of lists become None, so that the places of the others stay."""
    if not path:
        return data if isinstance(data, dict) else {}
    place = data
    for part in path[:-1]:
        try:
            place = place[part]
        except (KeyError, IndexError, TypeError):
            return data
    if isinstance(place, dict):
        place.pop(path[-1], None)
    elif isinstance(place, list) and isinstance(path[-1], int):
        place[path[-1]] = None
    return data
