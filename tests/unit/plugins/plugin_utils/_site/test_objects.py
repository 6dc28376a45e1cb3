# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.objects import differences


def obj(**rest: Any) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": "x", "namespace": "n"}, **rest}


@pytest.mark.parametrize(
    ("want", "have", "fields"),
    [
        pytest.param({"a": 1}, {"a": 1, "more": 2}, [], id="what the API server adds"),
        pytest.param({"a": {"b": "1"}}, {"a": {"b": "2"}}, [("s.a.b", "2", "1")], id="a field"),
        pytest.param({"a": {"b": "1"}}, {}, [("s.a", "missing", "{'b': '1'}")], id="a field that is gone"),
        pytest.param({"a": {}, "b": []}, {}, [], id="empty is not there"),
        pytest.param({"a": [1, 2]}, {"a": [2, 1]}, [("s.a[0]", "2", "1"), ("s.a[1]", "1", "2")], id="a list in order"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, [("s.a", "[1, 2]", "[1]")], id="a longer list"),
        pytest.param(
            {"c": [{"name": "x", "image": "i:2"}]},
            {"c": [{"name": "sidecar", "image": "s"}, {"name": "x", "image": "i:1", "more": 1}]},
            [("s.c[x].image", "i:1", "i:2")],
            id="by name, and somebody's own entry",
        ),
        pytest.param(
            {"c": [{"name": "x"}]}, {"c": [{"name": "y"}]}, [("s.c[x]", "missing", "{'name': 'x'}")], id="entry gone"
        ),
    ],
)
def test_fields(want: dict[str, Any], have: dict[str, Any], fields: list[tuple[str, str, str]]) -> None:
    found = differences([obj(s=want)], [obj(s=have)])
    assert found == ([("Deployment n/x", fields)] if fields else [])


def test_an_object_of_another_namespace_is_another() -> None:
    other = {**obj(), "metadata": {"name": "x", "namespace": "m"}}
    assert differences([obj()], [other]) == [("Deployment n/x", [("", "missing", "there")])]
