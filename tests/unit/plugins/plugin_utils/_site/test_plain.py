# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML as plain data."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.plain import NotPlain, parse, plain


def problems(text: str) -> list[str]:
    with pytest.raises(SiteError) as caught:
        parse(text)
    return [str(problem) for problem in caught.value.problems]


def test_duplicate_keys_by_path_and_line() -> None:
    text = "a:\n  b: 1\n  c: 2\n  b: 3\nl:\n  - {x: 1, x: 2}\na: {}\n"
    assert problems(text) == [
        "a.b: the key is there twice, in line 2 and in line 4; remove one of them",
        "l[0].x: the key is there twice, in line 6 and in line 6; remove one of them",
        "a: the key is there twice, in line 1 and in line 7; remove one of them",
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: [1", "line 2, column "),
        ("a: b: c", "line 1, column "),
        ("a: *x", "line 1, column 4"),
        ("a: !x 1", "line 1"),
    ],
)
def test_not_yaml(text: str, where: str) -> None:
    assert problems(text)[0].startswith(where)
    assert "is not valid YAML" in problems(text)[0]


def test_dates_stay_texts() -> None:
    assert parse("reinstall: 2026-03-01") == {"reinstall": "2026-03-01"}


def test_anchors_and_merges() -> None:
    text = "base: &base {a: 1, b: 2}\nuse: {<<: *base, b: 3}\n"
    assert parse(text)["use"] == {"a": 1, "b": 3}


@pytest.mark.parametrize("text", ["a: &a [*a]", "&a a: {b: *a}", "a: &a {b: *a}"])
def test_what_holds_itself_ends_in_a_sentence(text: str) -> None:
    try:
        plain(parse(text))
    except (SiteError, NotPlain) as error:
        assert "nested more than" in str(error)


def test_nothing() -> None:
    assert parse("") is None
    assert parse("---\n# only a comment\n") is None


def test_plain_drops_what_ansible_adds(tmp_path: Any) -> None:
    """Ansible's loader gives tagged subclasses; the model is made of plain values whoever loaded the file."""
    path = tmp_path / "x.yml"
    path.write_text("a: {b: [text, 1, 1.5, true, null]}\n")
    value = plain(DataLoader().load_from_file(str(path)))
    assert value == {"a": {"b": ["text", 1, 1.5, True, None]}}
    assert [type(item) for item in value["a"]["b"]] == [str, int, float, bool, type(None)]
    assert [type(key) for key in value] == [str]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": {1: 2}}, "a.1: the key 1 is not a text; put it in quotes"),
        ({"a": {None: 2}}, "a.None: the key None is not a text; remove the lone colon"),
        ({"a": [{1, 2}]}, "a[0]: is of the type set; put the value in quotes"),
    ],
)
def test_what_has_no_plain_form(value: Any, text: str) -> None:
    with pytest.raises(NotPlain) as caught:
        plain(value)
    assert str(caught.value) == text
