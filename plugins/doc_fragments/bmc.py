# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that all bmc_* modules share."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  address:
    description:
      - Where the BMC answers. A host name or IP address, V(host:port), or a URL such as V(https://192.0.2.11:8443).
      - A URL may go on to one system (V(https://192.0.2.11/redfish/v1/Systems/1)) where one BMC serves several.
    type: str
    required: true
    version_added: 0.1.0
  username:
    description:
      - Account on the BMC.
    type: str
    required: true
    version_added: 0.1.0
  password:
    description:
      - Password of O(username). It is tried once, so that a wrong one cannot lock the account.
    type: str
    required: true
    version_added: 0.1.0
  validate_certs:
    description:
      - Whether the certificate of the BMC must be valid for O(address) and signed by a trusted CA.
      - A pinned O(fingerprint) is checked whatever this option says.
    type: bool
    default: true
    version_added: 0.1.0
  ca_path:
    description:
      - File with the PEM certificates of the CAs that sign BMC certificates. The system's CAs are used where this is
        absent.
    type: path
    version_added: 0.1.0
  fingerprint:
    description:
      - SHA-256 fingerprint of the BMC's own certificate, in hexadecimal, with or without colons.
      - Where it is given, exactly this certificate is accepted and no CA is asked. For BMCs with a self-signed
        certificate.
    type: str
    version_added: 0.1.0
  timeout:
    description:
      - Seconds that one request to the BMC may take, its repetitions included.
    type: float
    default: 30
    version_added: 0.1.0
  driver:
    description:
      - Protocol that is spoken with the BMC.
      - V(ipmi) is for BMCs without Redfish, or with one that is broken. It has power, boot device, identity, sensors
        and the system event log; whatever else is asked for fails as C(unsupported).
      - V(ipmi) needs the program C(ipmitool) where the module runs. O(address) is a host or V(host:port) then (UDP, 623
        by default), and O(username) has to be an administrator. O(validate_certs), O(ca_path) and O(fingerprint) mean
        nothing, for IPMI has no certificates.
    type: str
    choices: [redfish, ipmi]
    default: redfish
    version_added: 0.1.0
  quirks_path:
    description:
      - JSON file with a site's own entries for the quirk table, for BMCs that differ from the specification in a way
        that this collection does not know yet. C(docs/bmc.md) says what it holds.
    type: path
    version_added: 0.1.0
notes:
  - Run these modules on a host that reaches the BMC network, usually the control host (C(delegate_to=localhost)).
  - A request that changes something is sent once. When its answer is lost, the state is read again instead of sending
    it again.
"""
