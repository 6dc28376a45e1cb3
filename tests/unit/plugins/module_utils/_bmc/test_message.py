# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Error bodies in all their shapes."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.message import extended_info, one_sentence

GENERAL = {"MessageId": "Base.1.8.GeneralError", "Message": "A general error has occurred. See ExtendedInfo"}
BAD = {"MessageId": "X.1.Bad", "Message": "The value\n is bad.", "Severity": "Critical"}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (None, ""),
        ([], ""),
        ({}, ""),
        ({"error": None}, ""),
        ({"error": {"code": "X.1.Y", "message": "it is so"}}, "it is so [X.1.Y]"),
        ({"error": {"@Message.ExtendedInfo": [BAD]}}, "The value is bad [X.1.Bad]"),
        # an object instead of a list, and one without the error around it
        ({"error": {"@Message.ExtendedInfo": BAD}}, "The value is bad [X.1.Bad]"),
        ({"@Message.ExtendedInfo": [BAD]}, "The value is bad [X.1.Bad]"),
        # the general one says nothing, wherever it stands
        ({"error": {"code": "G", "message": "See ExtendedInfo", "@Message.ExtendedInfo": [GENERAL, BAD]}}, None),
        # only an id and arguments
        (
            {"error": {"@Message.ExtendedInfo": [{"MessageId": "iLO.2.1.Unsupported", "MessageArgs": ["Cd"]}]}},
            "iLO.2.1.Unsupported (Cd)",
        ),
        # the reason under the general name
        (
            {
                "error": {
                    "code": "Base.1.0.GeneralError",
                    "message": "no such volume",
                    "@Message.ExtendedInfo": [{"MessageId": "Base.1.0.GeneralError"}],
                }
            },
            "no such volume [Base.1.0.GeneralError]",
        ),
        ({"error": {"@Message.ExtendedInfo": ["plain words", 7, None]}}, "plain words"),
    ],
)
def test_shapes(body: Any, sentence: str | None) -> None:
    expected = "The value is bad [X.1.Bad]" if sentence is None else sentence
    assert one_sentence(extended_info(body)) == expected


def test_the_most_severe_comes_first() -> None:
    mild = {"MessageId": "X.1.Mild", "Message": "mild", "MessageSeverity": "Warning"}
    assert one_sentence(extended_info({"error": {"@Message.ExtendedInfo": [mild, BAD]}})).startswith("The value")


def test_a_long_message_is_cut() -> None:
    assert len(one_sentence([{"Message": "x" * 1000}])) <= 400
