# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Where Open vSwitch, FRR and lldpd are on a switch."""

    DOCUMENTATION = r"""
options:
  database:
    description: UNIX socket of C(ovsdb-server).
    type: path
    default: /run/openvswitch/db.sock
  bridge:
    description: Bridge of Open vSwitch that the ports are in.
    type: str
    default: br0
  frr_run_dir:
    description: Directory of the sockets of FRR's daemons.
    type: path
    default: /run/frr
  lldp_socket:
    description: UNIX socket of C(lldpd).
    type: path
    default: /run/lldpd.socket
  state_dir:
    description:
      - Directory for what takes an unconfirmed change back. It has to be empty after a reboot, since FRR starts with
        its last confirmed configuration then.
    type: path
    default: /run/kiban-switch
requirements:
  - Open vSwitch and FRR 8.4 or newer on the switch
"""
