# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""What a server says about itself, by one small program that is piped to its Python."""

from __future__ import annotations

from .probe import COMMAND, script

__all__ = ["COMMAND", "script"]
