# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rack that stands for the lab's site model."""

from __future__ import annotations

import copy
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.kiban.baremetal.plugins.filter.lab import lab_layout
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import with_ipv6


@pytest.fixture(scope="module")
def model(checkout: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((checkout / "inventories/lab/site.yml").read_text()))


@pytest.fixture(scope="module")
def settings(checkout: Path) -> dict[str, Any]:
    defaults = yaml.safe_load((checkout / "roles/lab/defaults/main.yml").read_text())
    return {
        "directory": "/srv/lab",
        "prefix": "kiban",
        "vlans": defaults["lab_vlans"],
        "uplink": defaults["lab_uplink"],
        "hardware": defaults["lab_hardware"],
        "router_daemons": defaults["lab_router_daemons"],
        "firmware": defaults["lab_firmware"],
        "firmware_variables": defaults["lab_firmware_variables"],
    }


@pytest.fixture(scope="module")
def rack(model: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    return lab_layout(model, settings)


def ends(rack: dict[str, Any], space: str) -> dict[str, list[str]]:
    return {
        end["name"]: end["addresses"]
        for link in rack["network"]["links"]
        for end in link["ends"]
        if end["netns"] == f"kiban-{space}"
    }


def test_addresses_come_from_the_model(rack: dict[str, Any]) -> None:
    assert ends(rack, "control") == {"bmc0": ["192.0.2.2/24"], "node0": ["198.51.100.2/24"]}
    assert ends(rack, "bmc") == {"bmc0": ["192.0.2.11/24", "192.0.2.21/24", "192.0.2.22/24"]}
    assert ends(rack, "uplink") == {"uplink0": ["203.0.113.2/30"]}
    tor = ends(rack, "tor")
    assert (tor["vlan10"], tor["vlan20"], tor["uplink0"]) == (["192.0.2.1/24"], ["198.51.100.1/24"], ["203.0.113.1/30"])


def test_the_control_host_has_no_way_out(rack: dict[str, Any]) -> None:
    assert rack["network"]["routes"] == [{"netns": "kiban-uplink", "to": "default", "via": "203.0.113.1"}]
    forwarding = [
        space["name"] for space in rack["network"]["namespaces"] if space["sysctl"].get("net.ipv4.ip_forward") == "1"
    ]
    assert forwarding == ["kiban-tor"]


def test_every_port_of_the_switch_is_an_interface_in_its_namespace(rack: dict[str, Any]) -> None:
    interfaces = ends(rack, "tor")
    assert {port["name"] for port in rack["switches"][0]["ports"]} == set(interfaces) - {"vlan10", "vlan20", "uplink0"}
    vlans = {port["name"]: port["tag"] for port in rack["switches"][0]["ports"]}
    assert vlans["p-bmc"] == vlans["p-ctl-bmc"] == 10
    assert vlans["cp1-p1"] == vlans["node2-p2"] == vlans["p-ctl-node"] == 20


def test_hardware_follows_the_roles(rack: dict[str, Any]) -> None:
    servers = {server["name"]: server for server in rack["servers"]}
    assert (servers["cp1"]["memory_mib"], servers["node1"]["memory_mib"]) == (2560, 2048)
    assert [disk["serial"] for disk in servers["node1"]["disks"]] == ["SYS-NODE1", "DATA-NODE1-1", "DATA-NODE1-2"]
    assert [disk["bus"] for disk in servers["node1"]["disks"]] == ["virtio", "scsi", "nvme"]


def test_identities_are_stable_and_unique(
    model: dict[str, Any], settings: dict[str, Any], rack: dict[str, Any]
) -> None:
    again = lab_layout(model, settings)
    assert again == rack
    macs = [port["mac"] for server in rack["servers"] for port in server["ports"]]
    assert len(set(macs)) == len(macs) == 6
    assert len({server["uuid"] for server in rack["servers"]}) == 3
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs), "locally administered, not multicast"


def test_pods_and_services_are_routed(rack: dict[str, Any]) -> None:
    text = next(item["content"] for item in rack["files"] if item["path"].endswith("staticd.conf"))
    assert "ip route 10.244.21.0/24 198.51.100.21\n" in text
    assert "ip route 10.96.0.0/16 198.51.100.11\n" in text


def test_a_rack_with_both_families(model: dict[str, Any], settings: dict[str, Any]) -> None:
    dual = lab_layout(with_ipv6(model), settings)
    assert ends(dual, "control")["node0"] == ["198.51.100.2/24", "2001:db8:1::2/64"]
    assert ends(dual, "tor")["vlan20"] == ["198.51.100.1/24", "2001:db8:1::1/64"]
    text = next(item["content"] for item in dual["files"] if item["path"].endswith("staticd.conf"))
    assert "ipv6 route fd00:10:244:15::/64 2001:db8:1::15\n" in text
    assert "ipv6 route fd00:10:96::/112 2001:db8:1::b\n" in text
    sysctl = {space["name"]: space["sysctl"] for space in dual["network"]["namespaces"]}
    assert sysctl["kiban-tor"] == {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}
    assert sysctl["kiban-control"] == {}
    assert "net.ipv6.conf.all.disable_ipv6" in sysctl["kiban-bmc"]


def test_a_fabric_with_both_families(checkout: Path, settings: dict[str, Any]) -> None:
    data = with_ipv6(yaml.safe_load((checkout / "inventories/lab-fabric/site.yml").read_text()))
    dual = lab_layout(data, settings)
    assert ends(dual, "uplink")["uplink0"] == ["203.0.113.22/29", "2001:db8:2::6/64"]
    via6 = "2001:db8:2::1"
    assert {"netns": "kiban-uplink", "to": "::/0", "via": via6} in dual["network"]["routes"]
    assert {"netns": "kiban-control", "to": "2001:db8:1::/64", "via": via6} in dual["network"]["routes"]
    sysctl = {space["name"]: space["sysctl"] for space in dual["network"]["namespaces"]}
    assert sysctl["kiban-spine1"]["net.ipv6.conf.all.forwarding"] == "1"
    assert "net.ipv6.conf.all.disable_ipv6" in sysctl["kiban-tor"]
    assert sysctl["kiban-uplink"] == {}


def test_daemons_start_after_what_they_require(rack: dict[str, Any]) -> None:
    seen: list[str] = []
    for daemon in rack["daemons"]:
        assert set(daemon.get("requires", [])) <= set(seen), daemon["name"]
        assert daemon["argv"][0].startswith("/")
        seen.append(daemon["name"])
    assert {"ovs-vswitchd", "zebra", "staticd", "libvirtd", "bmc-cp1", "bmc-node1", "bmc-node2"} <= set(seen)


def test_the_machine_keeps_its_own_libvirt(rack: dict[str, Any]) -> None:
    libvirtd = next(daemon for daemon in rack["daemons"] if daemon["name"] == "libvirtd")
    targets = {bind["target"]: bind["source"] for bind in libvirtd["binds"]}
    directories = {"/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt", "/run"}
    assert set(targets) == {*directories, "/etc/passwd", "/etc/group"}
    assert all(source.startswith("/srv/lab/") for source in targets.values())


def test_bmcs_are_told_of_their_server_only_and_no_secret(rack: dict[str, Any]) -> None:
    text = next(item["content"] for item in rack["files"] if item["path"].endswith("bmcs.json"))
    bmcs = json.loads(text)["bmcs"]
    assert bmcs["node2"]["address"] == "192.0.2.22"
    assert "password" not in text


def test_a_jumbo_network_is_jumbo_everywhere(model: dict[str, Any], settings: dict[str, Any]) -> None:
    changed = copy.deepcopy(model)
    changed["networks"]["node"]["mtu"] = 9000
    rack = lab_layout(changed, settings)
    mtus = {end["name"]: link["mtu"] for link in rack["network"]["links"] for end in link["ends"]}
    assert mtus["cp1-p1"] == mtus["node0"] == mtus["vlan20"] == 9000
    assert rack["servers"][0]["ports"][0]["mtu"] == 9000
    assert mtus["p-bmc"] == 1500


def test_long_names_give_short_interface_names(model: dict[str, Any], settings: dict[str, Any]) -> None:
    changed = copy.deepcopy(model)
    changed["racks"][0]["servers"][1]["name"] = "rack-worker-[1:2]"
    hardware = copy.deepcopy(settings["hardware"])
    hardware["default"]["disks"] = [{"bus": "virtio", "size_gib": 12, "serial": "S-{name}"}]
    rack = lab_layout(changed, {**settings, "hardware": hardware})
    taps = [port["tap"] for server in rack["servers"] for port in server["ports"]]
    assert len(set(taps)) == 6
    assert max(len(tap) for tap in taps) <= 15


def with_disk(**disk: str) -> dict[str, Any]:
    server = {"cpus": 1, "memory_mib": 1, "ports": 1, "disks": [{**disk, "size_gib": 1}]}
    return {"hardware": {"default": server}}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"vlans": {"bmc": 10}}, "'node'"),
        (with_disk(bus="ide", serial="x"), "ide"),
        (with_disk(bus="scsi", serial="a-serial-number-{name}"), "longer than 20"),
    ],
    ids=["no VLAN", "unknown bus", "long serial"],
)
def test_what_cannot_be_built_is_refused(
    model: dict[str, Any], settings: dict[str, Any], change: dict[str, Any], text: str
) -> None:
    with pytest.raises(AnsibleFilterError, match=text):
        lab_layout(model, {**settings, **change})


def test_a_bad_model_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="no lab can be made"):
        lab_layout({"site": {}}, settings)


def test_bmc_networks_hold_the_bmcs(rack: dict[str, Any]) -> None:
    for server in rack["servers"]:
        assert ipaddress.ip_address(server["bmc"]) in ipaddress.ip_network("192.0.2.0/24")


@pytest.fixture(scope="module")
def racks(checkout: Path, settings: dict[str, Any]) -> dict[str, Any]:
    return lab_layout(yaml.safe_load((checkout / "inventories/lab-fabric/site.yml").read_text()), settings)


def test_switches_of_the_model_are_namespaces_and_cables_are_bridges(racks: dict[str, Any]) -> None:
    assert {"tor1", "tor2", "spine1"} < set(racks["namespaces"])
    assert set(ends(racks, "tor1")) == {"swp1", "swp2", "swp3", "swp49"}
    cables = [set(bridge["members"]) for bridge in racks["network"]["bridges"] if bridge["name"] != "bmc"]
    assert {"tor1-swp49", "spine1-swp1"} in cables
    assert {"cp1-p1", "tor1-swp1"} in cables
    assert {"node2-p2", "tor2-swp3"} in cables
    assert len(cables) == 8
    assert {member for cable in cables for member in cable} < set(ends(racks, "tor"))
    sysctl = {space["name"]: space["sysctl"] for space in racks["network"]["namespaces"]}
    assert sysctl["kiban-tor2"]["net.ipv4.conf.all.arp_ignore"] == "1"
    assert "net.ipv4.ip_forward" not in sysctl["kiban-tor"]


def test_the_control_host_and_the_outside_are_behind_the_spine(racks: dict[str, Any]) -> None:
    assert ends(racks, "control") == {"bmc0": ["192.0.2.2/24"], "node0": ["203.0.113.18/29"]}
    assert ends(racks, "uplink") == {"uplink0": ["203.0.113.22/29"]}
    (spine,) = racks["switches"]
    assert spine["ports"] == [{"name": "p-control", "tag": 30}, {"name": "p-uplink", "tag": 30}]
    assert spine["netns"] == "kiban-spine1"
    assert not spine["exclusive"], "what the playbook fabric makes there stays"
    assert racks["network"]["routes"] == [
        {"netns": "kiban-uplink", "to": "default", "via": "203.0.113.17"},
        {"netns": "kiban-control", "to": "198.51.100.0/24", "via": "203.0.113.17"},
    ]


def test_daemons_of_several_switches_do_not_meet(racks: dict[str, Any]) -> None:
    names = [daemon["name"] for daemon in racks["daemons"]]
    assert len(set(names)) == len(names)
    assert {"tor1-zebra", "tor2-zebra", "spine1-ovs-vswitchd", "tor1-lldpd", "libvirtd", "bmc-cp1"} <= set(names)
    sockets = [daemon["ready_unix"] for daemon in racks["daemons"] if "ready_unix" in daemon]
    assert len(set(sockets)) == len(sockets)


def test_switches_that_the_lab_cannot_be_are_refused(checkout: Path, settings: dict[str, Any]) -> None:
    data = yaml.safe_load((checkout / "inventories/lab-fabric/site.yml").read_text())
    data["racks"][1]["switches"][0]["address"] = "192.0.2.5"
    lost = copy.deepcopy(data)
    lost["deploy"]["address"] = "203.0.113.200"
    with pytest.raises(AnsibleFilterError, match="the lab has no place for the control host"):
        lab_layout(lost, settings)
    data["racks"][1]["switches"][0] |= {"os": "eos", "cables": {}}
    for tor, number in ((0, 1), (1, 2)):
        data["racks"][0]["switches"][tor]["cables"] = {"swp49": f"spine1:Ethernet{number}"}
    with pytest.raises(AnsibleFilterError, match="switches run Linux, and spine1 do not"):
        lab_layout(data, settings)
