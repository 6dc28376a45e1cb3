# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._readers import strangers
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import site_vars
from ansible_collections.kiban.baremetal.tests.unit.plugins.plugin_utils._site.test_plan import site as plain


def test_who_answers_as_a_bmc_is_found_and_nobody_else(make_bmc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "_SECONDS", 0.5)
    bmc = make_bmc()
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as gone:
        refused = gone.getsockname()[1]
        gone.close()
        mute = f"127.0.0.1:{silent.getsockname()[1]}"
        found = strangers.find_bmcs([bmc.address, mute, f"127.0.0.1:{refused}"])
    assert list(found) == [bmc.address] and found[bmc.address]
    assert [str(call) for call in bmc.calls] == ["GET /redfish/v1/"]
    assert {name.lower(): value for name, value in bmc.calls[0].headers.items()}["host"] == bmc.address
    assert all("authorization" not in str(call.headers).lower() for call in bmc.calls), "no password is sent"


def test_nobody_is_asked_unless_the_model_says_where() -> None:
    assert strangers.elsewhere(plain()) == [] and strangers.find_bmcs([]) == {}


def test_bmcs_of_the_model_are_not_asked() -> None:
    asked = strangers.elsewhere(replace(plain(), discover=("192.0.2.10-12", "192.0.2.21")))
    assert asked == ["192.0.2.10", "192.0.2.12"]


def test_a_range_that_is_none_is_refused_by_its_place() -> None:
    data = {**site_vars(plain()), "discover": ["192.0.2.0/24", "192.0.2.40-11"]}
    with pytest.raises(SiteError) as caught:
        load_site(data)
    assert [problem.path for problem in caught.value.problems] == ["discover[1]"]
