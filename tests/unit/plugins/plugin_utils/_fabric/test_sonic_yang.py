# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the driver for SONiC renders, judged by SONiC's own YANG models.

The models are no part of this collection. KIBAN_SONIC_YANG names a directory with them: from the repository
sonic-buildimage, what is in src/sonic-yang-models/yang-models, and the templates in yang-templates beside it, rendered
with yang_model_type=py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import parse, render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import sites, with_os

MODELS = os.environ.get("KIBAN_SONIC_YANG", "")
pytestmark = pytest.mark.skipif(
    not MODELS or not shutil.which("yanglint"), reason="KIBAN_SONIC_YANG names no models, or yanglint is not installed"
)

# Table: its module, and the keys of its lists by their number.
LISTS = {
    "BGP_GLOBALS": ("bgp-global", {1: ("LIST", "vrf_name")}),
    "BGP_GLOBALS_AF": ("bgp-global", {2: ("LIST", "vrf_name afi_safi")}),
    "BGP_GLOBALS_AF_NETWORK": ("bgp-global", {3: ("LIST", "vrf_name afi_safi ip_prefix")}),
    "BGP_NEIGHBOR": ("bgp-neighbor", {2: ("LIST", "vrf_name neighbor")}),
    "BGP_NEIGHBOR_AF": ("bgp-neighbor", {3: ("LIST", "vrf_name neighbor afi_safi")}),
    "BGP_PEER_GROUP": ("bgp-peergroup", {2: ("LIST", "vrf_name peer_group_name")}),
    "BGP_PEER_GROUP_AF": ("bgp-peergroup", {3: ("LIST", "vrf_name peer_group_name afi_safi")}),
    "DEVICE_NEIGHBOR_METADATA": ("device_neighbor_metadata", {1: ("LIST", "name")}),
    "INTERFACE": ("interface", {1: ("LIST", "name"), 2: ("IPPREFIX_LIST", "name ip-prefix")}),
    "LOOPBACK_INTERFACE": ("loopback-interface", {1: ("LIST", "name"), 2: ("IPPREFIX_LIST", "name ip-prefix")}),
    "MCLAG_DOMAIN": ("mclag", {1: ("LIST", "domain_id")}),
    "MCLAG_INTERFACE": ("mclag", {2: ("LIST", "domain_id if_name")}),
    "PORT": ("port", {1: ("LIST", "name")}),
    "PORTCHANNEL": ("portchannel", {1: ("LIST", "name")}),
    "PORTCHANNEL_MEMBER": ("portchannel", {2: ("LIST", "name port")}),
    "PREFIX": ("routing-policy-sets", {4: ("LIST", "name sequence_number ip_prefix masklength_range")}),
    "PREFIX_SET": ("routing-policy-sets", {1: ("LIST", "name")}),
    "ROUTE_MAP": ("route-map", {2: ("LIST", "name stmt_name")}),
    "ROUTE_MAP_SET": ("route-map", {1: ("LIST", "name")}),
    "VLAN": ("vlan", {1: ("LIST", "name")}),
    "VLAN_INTERFACE": ("vlan", {1: ("LIST", "name"), 2: ("IPPREFIX_LIST", "name ip-prefix")}),
    "VLAN_MEMBER": ("vlan", {2: ("LIST", "name port")}),
}
CONTAINERS = {"DEVICE_METADATA": "device_metadata", "LLDP": "lldp"}
NUMBERS = [
    "asn",
    "domain_id",
    "local_asn",
    "max_ebgp_paths",
    "min_links",
    "mtu",
    "sequence_number",
    "speed",
    "stmt_name",
    "vlanid",
]
TRUTHS = {
    "bfd": ("BGP_PEER_GROUP",),
    "capability_ext_nexthop": ("BGP_PEER_GROUP",),
    "enabled": ("LLDP",),
    "frr_mgmt_framework_config": ("DEVICE_METADATA",),
    "load_balance_mp_relax": ("BGP_GLOBALS",),
}


def value(table: str, field: str, text: str) -> Any:
    """JSON of YANG (RFC 7951) has numbers and truth values where config_db has texts."""
    if table in TRUTHS.get(field, ()):
        return text == "true"
    if isinstance(text, list):
        return text
    return int(text) if field in NUMBERS else text


def to_yang(tables: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for table, entries in tables.items():
        module = CONTAINERS.get(table) or LISTS[table][0]
        place = found.setdefault(f"sonic-{module}:sonic-{module}", {}).setdefault(table, {})
        for key, entry in entries.items():
            fields = {field: value(table, field, text) for field, text in entry.items()}
            if table in CONTAINERS:
                place[key] = fields
                continue
            parts = key.split("|")
            suffix, names = LISTS[table][1][len(parts)]
            keys = {name: value(table, name, part) for name, part in zip(names.split(), parts, strict=True)}
            place.setdefault(f"{table}_{suffix}", []).append({**keys, **fields})
    return found


def judged(tables: dict[str, Any], directory: Path) -> subprocess.CompletedProcess[str]:
    file = directory / "config.json"
    file.write_text(json.dumps(to_yang(tables)))
    modules = {f"sonic-{LISTS[table][0]}" for table in LISTS} | {f"sonic-{name}" for name in CONTAINERS.values()}
    modules |= {"sonic-vrf", "sonic-vnet", "sonic-mirror-session", "sonic-route-map", "sonic-static-anycast-gateway"}
    paths = [f"{MODELS}/{module}.yang" for module in sorted(modules)]
    argv = ["yanglint", "-p", MODELS, "-t", "config", *paths, str(file)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)


def on_the_platform(tables: Any) -> dict[str, Any]:
    """With what the platform itself has in these tables."""
    ports = {name: {**entry, "lanes": name[8:], "speed": "100000"} for name, entry in tables.get("PORT", {}).items()}
    return {**tables, "PORT": ports}


@given(sites(systems=("sonic",)))
@settings(max_examples=200)
def test_they_accept_generated_sites(data: dict[str, Any]) -> None:
    data["fabric"] |= {"bfd_interval": 300, "bfd_multiplier": 3}
    with tempfile.TemporaryDirectory() as directory:
        for wanted in intents(load_site(data)).values():
            config = render("sonic", wanted)
            done = judged(on_the_platform(config.tables), Path(directory))
            assert done.returncode == 0, done.stderr
            # What they judged says the same as the model.
            assert parse("sonic", wanted.name, config) == wanted


def test_they_accept_the_example(checkout: Path, tmp_path: Path) -> None:
    site = load_site(yaml.safe_load((checkout / "inventories/example/site.yml").read_text()))
    switches = [switch.name for switch in site.switches if switch.os == "sonic"]
    assert switches
    for name in switches:
        done = judged(on_the_platform(render("sonic", intents(site)[name]).tables), tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mlag", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("links", [None, "10.255.0.0/28"], ids=["unnumbered", "numbered"])
def test_the_models_of_sonic_accept_it(mlag: bool, links: str | None, tmp_path: Path) -> None:
    data = with_os("sonic", mlag)
    data["fabric"]["links"] = links
    for wanted in intents(load_site(data)).values():
        tables = on_the_platform(render("sonic", wanted).tables)
        done = judged(tables, tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("table", "key", "entry", "named"),
    [
        ("VLAN_MEMBER", "Vlan20|Ethernet999", {"tagging_mode": "untagged"}, "Ethernet999"),
        ("VLAN_MEMBER", "Vlan20|Ethernet8", {"tagging_mode": "native"}, "native"),
        ("VLAN", "Vlan4095", {"vlanid": "4095"}, "4095"),
        ("PORT", "Ethernet0", {"mtu": "99999"}, "99999"),
        ("PORT", "Ethernet0", {"colour": "red"}, "colour"),
        ("PORTCHANNEL_MEMBER", "PortChannel99|Ethernet0", {}, "PortChannel99"),
        ("BGP_NEIGHBOR", "default|198.51.100.99", {"peer_group_name": "nobody"}, "nobody"),
        ("BGP_GLOBALS", "default", {"local_asn": "4294967296"}, "4294967296"),
        ("BGP_NEIGHBOR_AF", "default|198.51.100.11|ipv4_unicast", {"prefix_list_in": "nothing"}, "nothing"),
        ("PREFIX", "KIBAN-cp1|5|198.51.100.11/33|exact", {"action": "permit"}, "198.51.100.11/33"),
    ],
)
def test_they_refuse_what_is_wrong(table: str, key: str, entry: dict[str, Any], named: str, tmp_path: Path) -> None:
    tables = on_the_platform(render("sonic", intents(load_site(with_os("sonic")))["tor1"]).tables)
    assert judged(tables, tmp_path).returncode == 0
    there = tables.get(table, {})
    tables[table] = {**there, key: {**there.get(key, {}), **entry}}
    done = judged(tables, tmp_path)
    assert done.returncode != 0
    assert named in done.stderr
