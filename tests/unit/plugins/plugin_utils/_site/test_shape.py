# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped JSON Schema, and the documentation of its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.plain import parse
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.shape import (
    check_shape,
    fill_defaults,
    key_path,
    nearest,
    schema,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import site_vars

CHECKOUT = Path(__file__).resolve().parents[5]
SHIPPED = [CHECKOUT / "inventories" / name / "site.yml" for name in ("lab", "example")]


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_it_accepts_what_is_shipped(path: Path) -> None:
    data = yaml.safe_load(path.read_text("utf-8"))
    jsonschema.Draft202012Validator(schema()).validate(data)
    jsonschema.Draft202012Validator(schema()).validate(site_vars(load_site(data)))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_files_name_the_schema_for_editors(path: Path) -> None:
    line = path.read_text("utf-8").splitlines()[0]
    named = line.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == (CHECKOUT / "plugins/plugin_utils/_site/site.schema.json").resolve()


def parts(rules: Any) -> list[dict[str, Any]]:
    """Every schema in the schema, with its `properties` opened."""
    found = []
    if isinstance(rules, dict):
        found.append(rules)
        for value in rules.values():
            found += parts(value)
    elif isinstance(rules, list):
        for value in rules:
            found += parts(value)
    return found


def properties() -> dict[str, dict[str, Any]]:
    return {
        key: rule
        for part in parts(schema())
        if part.get("type") in ("object", ["object", "null"])
        for key, rule in part.get("properties", {}).items()
    }


def test_every_key_is_described() -> None:
    for key, rule in properties().items():
        name = rule.get("$ref", "").rsplit("/", 1)[-1]
        assert rule.get("description") or schema()["$defs"].get(name, {}).get("description"), key


def test_no_mapping_takes_any_key() -> None:
    """A typing error must never be taken for a key, except where keys are free."""
    mappings = [part for part in parts(schema()) if part.get("type") in ("object", ["object", "null"])]
    free = [part for part in mappings if "additionalProperties" not in part and part != {"type": "object"}]
    assert [part["description"] for part in free] == ["Fields of KubeletConfiguration."]


def test_every_key_is_in_the_documentation() -> None:
    text = (CHECKOUT / "docs" / "site-model.md").read_text("utf-8")
    assert [key for key in properties() if f"`{key}`" not in text] == []


def test_the_examples_of_the_documentation_load() -> None:
    text = (CHECKOUT / "docs" / "site-model.md").read_text("utf-8")
    blocks = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    whole = [block for block in blocks if "plugin: kiban.baremetal.site" in block]
    assert whole
    for block in whole:
        load_site(parse(block))


def test_defaults_of_mappings_are_filled_in_deep() -> None:
    filled = fill_defaults({"limits": {"joins": 1}, "cluster": {}})
    assert filled["limits"] == {
        "power_ons": 10,
        "rack_power_ons": None,
        "image_writes": 5,
        "joins": 1,
        "drain_timeout": 300,
        "max_unavailable": {},
    }
    assert filled["cluster"]["extra_args"]["etcd"] == {}


def test_defaults_are_not_shared() -> None:
    fill_defaults({})["limits"]["joins"] = 99
    assert fill_defaults({})["limits"]["joins"] == 5


def test_what_is_wrong_is_taken_out_and_the_rest_stays() -> None:
    data = {"site": {"name": "x", "domain": 5}, "racks": [3, {"name": "a", "servers": []}]}
    problems, pruned = check_shape(data)
    assert {"site.domain", "racks[0]"} <= {problem.path for problem in problems}
    assert pruned["site"] == {"name": "x"}
    assert pruned["racks"] == [None, {"name": "a", "servers": []}]
    assert data["racks"][0] == 3


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), "(file)"),
        (("racks", 0, "servers", 11, "bmc"), "racks[0].servers[11].bmc"),
        (("labels", "example.net/tier"), "labels['example.net/tier']"),
    ],
)
def test_key_path(path: tuple[str | int, ...], text: str) -> None:
    assert key_path(path) == text


def test_nearest() -> None:
    assert nearest("gatway", ["gateway", "cidr"]) == "did you mean 'gateway'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("zzz", []) == "there is none to refer to"
