# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sdn_bgp import (
    cni_config,
    networkd_files,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE


def site(**changes: Any) -> Site:
    node = {"cidr": "198.51.100.0/24", "gateway": "198.51.100.1", "mtu": 1500, **changes.pop("node", {})}
    network = {"mode": "active-backup", "members": ["en*", "eth*"], **changes.pop("network", {})}
    assert not changes
    return load_site(
        {
            "plugin": "kiban.baremetal.site",
            "site": {"name": "lab", "domain": "lab.kiban.test", "ntp": [], "dns": ["203.0.113.9", "203.0.113.10"]},
            "networks": {
                "bmc": {"cidr": "192.0.2.0/24"},
                "node": {key: value for key, value in node.items() if value is not None},
            },
            "deploy": {"address": "198.51.100.2", "bmc_address": "192.0.2.2", "port": 8080},
            "profiles": {
                "compute": {
                    "disks": {"system": {"select": "protocol == 'VirtIO'", "count": 1}},
                    "network": network,
                }
            },
            "racks": [
                {
                    "name": "a01",
                    "servers": [
                        {
                            "name": "cp1",
                            "roles": ["control_plane"],
                            "profile": "compute",
                            "bmc": "192.0.2.11",
                            "addresses": {"node": "198.51.100.11"},
                        },
                        {
                            "name": "node[1:2]",
                            "roles": ["worker"],
                            "profile": "compute",
                            "bmc": "192.0.2.21",
                            "addresses": {"node": "198.51.100.21"},
                        },
                    ],
                }
            ],
            "cluster": {
                "kubernetes": "v1.36.3",
                "sdn": {"driver": "bgp", "pods": "10.244.0.0/16", "services": "10.96.0.0/16"},
                "sds": [{"driver": "local"}],
            },
        }
    )


PORTS = """\
[Match]
Name=en* eth*
Type=ether
Kind=!*

[Link]
MTUBytes=1500
RequiredForOnline=no

[Network]
Bond=bond0
LinkLocalAddressing=no
"""

ADDRESSED = """\
[Link]
MTUBytes=1500

[Network]
Address=198.51.100.21/24
Gateway=198.51.100.1
DNS=203.0.113.9
DNS=203.0.113.10
LinkLocalAddressing=no
IPv6AcceptRA=no

[Route]
Destination=10.244.21.0/24
Type=unreachable
Metric=4096

[Route]
Destination=10.244.11.0/24
Gateway=198.51.100.11

[Route]
Destination=10.244.22.0/24
Gateway=198.51.100.22
"""


def test_untagged_server() -> None:
    model = site()
    assert networkd_files(model, model.server("node1")) == {
        "/etc/systemd/networkd.conf.d/10-kiban.conf": (
            "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\nManageForeignNextHops=no\n"
            "IPv4Forwarding=yes\n"
        ),
        "/etc/systemd/network/10-bond0.netdev": (
            "[NetDev]\nName=bond0\nKind=bond\nMTUBytes=1500\n\n[Bond]\nMode=active-backup\nMIIMonitorSec=100ms\n"
        ),
        "/etc/systemd/network/20-bond0-members.network": PORTS,
        "/etc/systemd/network/30-bond0.network": f"[Match]\nName=bond0\n\n{ADDRESSED}",
    }


def test_tagged_server_has_its_address_on_the_vlan_only() -> None:
    model = site(node={"vlan": 20})
    files = networkd_files(model, model.server("node1"))
    assert files["/etc/systemd/network/10-bond0.20.netdev"] == (
        "[NetDev]\nName=bond0.20\nKind=vlan\nMTUBytes=1500\n\n[VLAN]\nId=20\n"
    )
    assert files["/etc/systemd/network/30-bond0.network"] == (
        "[Match]\nName=bond0\n\n[Link]\nRequiredForOnline=no\n\n"
        "[Network]\nVLAN=bond0.20\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    )
    assert files["/etc/systemd/network/30-bond0.20.network"] == f"[Match]\nName=bond0.20\n\n{ADDRESSED}"


def test_no_gateway_no_default_route() -> None:
    model = site(node={"gateway": None})
    text = networkd_files(model, model.server("node1"))["/etc/systemd/network/30-bond0.network"]
    assert "Gateway=198.51.100.1\n" not in text
    assert "Destination=10.244.11.0/24\nGateway=198.51.100.11\n" in text


def test_mtu_reaches_bond_ports_and_pods() -> None:
    model = site(node={"mtu": 9000})
    server = model.server("cp1")
    files = networkd_files(model, server)
    for path in ("10-bond0.netdev", "20-bond0-members.network", "30-bond0.network"):
        assert "MTUBytes=9000\n" in files[f"/etc/systemd/network/{path}"]
    assert json.loads(cni_config(model, server))["plugins"][0]["mtu"] == 9000


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("active-backup", "[Bond]\nMode=active-backup\nMIIMonitorSec=100ms\n"),
        (
            "802.3ad",
            "[Bond]\nMode=802.3ad\nMIIMonitorSec=100ms\nLACPTransmitRate=fast\n"
            "TransmitHashPolicy=layer3+4\nMinLinks=1\n",
        ),
    ],
)
def test_bond_modes(mode: str, text: str) -> None:
    model = site(network={"mode": mode})
    netdev = networkd_files(model, model.server("cp1"))["/etc/systemd/network/10-bond0.netdev"]
    assert netdev.endswith(text)


def test_members_follow_the_profile() -> None:
    model = site(network={"members": ["ens1f*"]})
    assert (
        "Name=ens1f*\n" in networkd_files(model, model.server("cp1"))["/etc/systemd/network/20-bond0-members.network"]
    )


def test_routes_lead_to_every_other_server() -> None:
    model = site()
    for server in model.servers:
        text = networkd_files(model, server)["/etc/systemd/network/30-bond0.network"]
        ways = re.findall(r"\[Route\]\nDestination=(.*)\nGateway=(.*)\n", text)
        assert ways == [(other.pod_cidr, other.addresses["node"]) for other in model.servers if other is not server]


CONFLIST = """\
{
  "cniVersion": "1.0.0",
  "name": "kiban",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "mtu": 1500,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "ranges": [
          [
            {
              "subnet": "10.244.21.0/24"
            }
          ]
        ],
        "routes": [
          {
            "dst": "0.0.0.0/0"
          }
        ]
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
"""


def test_container_network() -> None:
    model = site()
    assert cni_config(model, model.server("node1")) == CONFLIST


STORAGE = """\
[Match]
Name=bond0.30

[Link]
MTUBytes=9000
RequiredForOnline=no

[Network]
Address=10.1.0.21/24
LinkLocalAddressing=no
IPv6AcceptRA=no
"""

SMALLER = """\
[Match]
Name=bond0

[Link]
MTUBytes=9000

[Network]
VLAN=bond0.30
LinkLocalAddressing=no
IPv6AcceptRA=no

[Address]
Address=198.51.100.21/24
AddPrefixRoute=no

[Route]
Destination=198.51.100.0/24
Scope=link
PreferredSource=198.51.100.21
MTUBytes=1500

[Route]
Gateway=198.51.100.1
MTUBytes=1500

[Route]
Destination=10.244.21.0/24
Type=unreachable
Metric=4096
"""


def test_other_networks_are_vlans_of_the_same_bond() -> None:
    """Storage takes larger packets than the untagged network of the nodes, which keeps its own size by its routes."""
    one = load_site(BASE)
    files = networkd_files(one, one.server("node1"))
    assert "Id=30" in files["/etc/systemd/network/10-bond0.30.netdev"]
    assert files["/etc/systemd/network/30-bond0.30.network"] == STORAGE
    assert files["/etc/systemd/network/30-bond0.network"].startswith(SMALLER)
    assert "MTUBytes=9000" in files["/etc/systemd/network/10-bond0.netdev"]
    assert "EmitLLDP=nearest-bridge" in files["/etc/systemd/network/20-bond0-members.network"]
    assert "/etc/systemd/network/10-bond0.30.netdev" not in networkd_files(one, one.server("cp1"))


def test_two_tagged_networks() -> None:
    data = {**BASE, "networks": {**BASE["networks"], "node": {**BASE["networks"]["node"], "untagged": False}}}
    one = load_site(data)
    files = networkd_files(one, one.server("node1"))
    assert "VLAN=bond0.20\nVLAN=bond0.30\n" in files["/etc/systemd/network/30-bond0.network"]
    assert "Address=198.51.100.21/24\nGateway=" in files["/etc/systemd/network/30-bond0.20.network"]
    assert "MTUBytes=1500" in files["/etc/systemd/network/30-bond0.20.network"]
