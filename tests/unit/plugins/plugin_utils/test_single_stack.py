# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site without IPv6 is rendered byte for byte as it was before there was any."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.kiban.baremetal.tests.unit.plugins.renderings import SUMS, sums


def test_a_site_without_ipv6_is_rendered_as_ever(checkout: Path) -> None:
    """After a change that is meant for all sites: python -m ansible_collections...tests.unit.plugins.renderings ."""
    assert sums(checkout) == json.loads(SUMS.read_text("utf-8"))
