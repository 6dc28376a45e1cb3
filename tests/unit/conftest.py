# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every unit test stands on: Ansible's own loader finds the collection in the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader
from hypothesis import settings

# A busy machine stops for a quarter of a second now and then: a time limit for one example measures that, not the code.
settings.register_profile("kiban", deadline=None)
settings.load_profile("kiban")

CHECKOUT = Path(__file__).resolve().parents[2]

init_plugin_loader([str(CHECKOUT / ".ansible" / "collections")])


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The directory of galaxy.yml."""
    return CHECKOUT
