# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every refusal of a site file, by path and sentence; and what a good file becomes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import SiteError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import server_vars, site_vars
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import edited

SMALL = yaml.safe_load("""
plugin: kiban.baremetal.site
site: {name: lab, domain: lab.example.net}
networks:
  bmc: {cidr: 192.0.2.0/24}
  node: {cidr: 198.51.100.0/24, gateway: 198.51.100.1}
  storage: {cidr: 203.0.113.0/24}
deploy: {address: 198.51.100.2, bmc_address: 192.0.2.2}
profiles:
  compute:
    disks:
      system: {select: "protocol == 'VirtIO'"}
racks:
  - name: a01
    servers:
      - {name: cp1, roles: [control_plane], profile: compute, bmc: 192.0.2.11, addresses: {node: 198.51.100.11}}
      - {name: "node[1:2]", roles: [worker], profile: compute, bmc: 192.0.2.21, addresses: {node: 198.51.100.21}}
cluster:
  kubernetes: v1.36.3
  sdn: {driver: bgp, pods: 10.244.0.0/16, services: 10.96.0.0/16}
""")

CP = "racks.0.servers.0"
WORKERS = "racks.0.servers.1"


def changed(*edits: tuple[str, Any]) -> dict[str, Any]:
    return edited(SMALL, edits)


def refused(*edits: tuple[str, Any]) -> list[tuple[str, str, str]]:
    with pytest.raises(SiteError) as caught:
        load_site(changed(*edits))
    return [(problem.path, problem.message, problem.hint) for problem in caught.value.problems]


def server(name: str, last: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "roles": ["worker"],
        "profile": "compute",
        "bmc": f"192.0.2.{last}",
        "addresses": {"node": f"198.51.100.{last}"},
        **more,
    }


SELECT = "profiles.compute.disks.system.select"

# What is changed; where the problem is; what it says; what its hint says. Each makes exactly one problem.
REFUSALS: dict[str, tuple[list[tuple[str, Any]], str, str, str]] = {
    # Unknown keys
    "key at top": ([("rack", [])], "rack", "unknown key", "did you mean 'racks'?"),
    "key in site": ([("site.nptp", [])], "site.nptp", "unknown key", "did you mean 'ntp'?"),
    "key in network": ([("networks.node.gatway", "x")], "networks.node.gatway", "unknown key", "'gateway'"),
    "key far from any": ([("deploy.zzz", 1)], "deploy.zzz", "unknown key", "known: address, bmc_address, port"),
    "key in profile": ([("profiles.compute.disk", {})], "profiles.compute.disk", "unknown key", "'disks'"),
    "key in disks": ([("profiles.compute.disks.date", {})], "profiles.compute.disks.date", "unknown key", "'data'"),
    "key in server": ([(f"{CP}.node", "198.51.100.11")], "racks[0].servers[0].node", "unknown key", "known: "),
    "key in bmc": (
        [(f"{CP}.bmc", {"address": "192.0.2.11", "validate_cert": False})],
        "racks[0].servers[0].bmc.validate_cert",
        "unknown key",
        "did you mean 'validate_certs'?",
    ),
    "key in bmc_defaults": ([("bmc_defaults.username", "x")], "bmc_defaults.username", "unknown key", "known: "),
    "key in extra_args": (
        [("cluster.extra_args.apiserver", {})],
        "cluster.extra_args.apiserver",
        "unknown",
        "api_server",
    ),
    "key with blanks": ([("site.a b", 1)], "site['a b']", "unknown key", "known: "),
    # Missing keys
    "no site": ([("site", ...)], "site", "missing", "what the site is called"),
    "no node network": ([("networks.node", ...)], "networks.node", "missing", "the servers are in"),
    "no cidr": ([("networks.node.cidr", ...)], "networks.node.cidr", "missing", "for example 198.51.100.0/24"),
    "no system disk": ([("profiles.compute.disks", {})], "profiles.compute.disks.system", "missing", "node image"),
    "no bmc": ([(f"{CP}.bmc", ...)], "racks[0].servers[0].bmc", "missing", "for example 192.0.2.11"),
    "no bmc address": ([(f"{CP}.bmc", {})], "racks[0].servers[0].bmc.address", "missing", "192.0.2.11"),
    "no node address": ([(f"{CP}.addresses", {})], "racks[0].servers[0].addresses.node", "missing", "198.51.100.11"),
    "no name": ([(f"{WORKERS}.name", ...)], "racks[0].servers[1].name", "missing", "node[01:32]"),
    # Wrong types
    "text for mapping": ([("networks.storage", "x")], "networks.storage", "must be a mapping, is 'x'", ""),
    "mapping for list": ([("site.ntp", {})], "site.ntp", "must be a list, is a mapping", "time servers"),
    "text for number": ([("deploy.port", "8080")], "deploy.port", "must be a whole number, is '8080'", "TCP port"),
    "truth for number": ([("limits.joins", True)], "limits.joins", "must be a whole number, is true", ""),
    "fraction for number": ([("limits.joins", 2.0)], "limits.joins", "must be a whole number, is 2.0", ""),
    "text for truth": (
        [("bmc_defaults.validate_certs", "no")],
        "bmc_defaults.validate_certs",
        "must be true or false, is 'no'",
        "certificate",
    ),
    "number for serial": ([(f"{CP}.wipe", [123])], "racks[0].servers[0].wipe[0]", "must be a text, is 123", "quotes"),
    "text for wipe": ([(f"{CP}.wipe", "S1")], "racks[0].servers[0].wipe", "must be a list, is 'S1'", "serial"),
    "number for word": ([(f"{CP}.reinstall", 2)], "racks[0].servers[0].reinstall", "must be a text, is 2", "quotes"),
    "truth for word": (
        [(f"{CP}.reinstall", True)],
        "racks[0].servers[0].reinstall",
        "must be a text, is true",
        "quotes",
    ),
    "empty word": ([(f"{CP}.reinstall", "")], "racks[0].servers[0].reinstall", "must not be empty", "new word"),
    "list for bmc": ([(f"{CP}.bmc", [])], "racks[0].servers[0].bmc", "must be an IPv4 address, is a list", "mapping"),
    "number for argument": (
        [("cluster.extra_args.etcd.heartbeat-interval", 500)],
        "cluster.extra_args.etcd.heartbeat-interval",
        "must be a text, is 500",
        "quotes",
    ),
    "empty racks": ([("racks", [])], "racks", "must not be empty", ""),
    "empty roles": ([(f"{WORKERS}.roles", [])], "racks[0].servers[1].roles", "must not be empty", "worker"),
    "role twice": ([(f"{WORKERS}.roles", ["worker"] * 2)], "racks[0].servers[1].roles", "holds a value twice", ""),
    "unknown role": ([(f"{WORKERS}.roles", ["workr"])], "racks[0].servers[1].roles[0]", "'workr' is not", "'worker'"),
    # Limits
    "unknown group": (
        [("limits.max_unavailable", {"wokers": 1})],
        "limits.max_unavailable.wokers",
        "there is no group 'wokers'",
        "did you mean 'workers'?",
    ),
    "unknown rack of a budget": (
        [("limits.max_unavailable", {"rack_a02": 1})],
        "limits.max_unavailable.rack_a02",
        "there is no group",
        "did you mean 'rack_a01'?",
    ),
    "percentage without sign": (
        [("limits.max_unavailable", {"workers": "10"})],
        "limits.max_unavailable.workers",
        "'10' is not a number of servers or a percentage",
        "for example 10%",
    ),
    "more than all": ([("limits.max_unavailable", {"workers": "101%"})], "limits.max_unavailable.workers", "101%", ""),
    "less than none": ([("limits.max_unavailable", {"workers": -1})], "limits.max_unavailable.workers", "-1 is", "0"),
    "serial of none": ([("profiles.compute.serial", 0)], "profiles.compute.serial", "0 is out of range", "at least 1"),
    "too few watts": (
        [("profiles.compute.power_on_watts", 900), ("racks.0.power_on_watts", 800)],
        "racks[0].power_on_watts",
        "800 W do not start even one server of profile 'compute' (900 W)",
        "at least 900",
    ),
    # Numbers
    "limit of zero": ([("limits.power_ons", 0)], "limits.power_ons", "0 is out of range", "at least 1"),
    "vlan too high": (
        [("networks.node.vlan", 4095)],
        "networks.node.vlan",
        "4095 is out",
        "at least 1 and at most 4094",
    ),
    "mtu too low": ([("networks.node.mtu", 100)], "networks.node.mtu", "100 is out of range", "at least 1280"),
    "port too high": ([("deploy.port", 70000)], "deploy.port", "70000 is out of range", "at most 65535"),
    "two system disks": (
        [("profiles.compute.disks.system.count", 2)],
        "profiles.compute.disks.system.count",
        "2 is not supported",
        "must be 1",
    ),
    # Names
    "upper case": ([(f"{CP}.name", "CP1")], "racks[0].servers[0].name", "'CP1' is not a host name label", "node1"),
    "underscore": ([(f"{CP}.name", "cp_1")], "racks[0].servers[0].name", "'cp_1' is not a host name label", ""),
    "full name": ([(f"{CP}.name", "cp1.lab")], "racks[0].servers[0].name", "'cp1.lab' is not", "site.domain"),
    "line feed": ([(f"{CP}.name", "cp1\n")], "racks[0].servers[0].name", r"'cp1\n' is not a host name label", ""),
    "hyphen at end": ([(f"{WORKERS}.name", "node[1:2]-")], "racks[0].servers[1].name", "'node1-' is not", ""),
    "too long": ([(f"{CP}.name", "a" * 64)], "racks[0].servers[0].name", "is not a host name label", ""),
    "meaning for Ansible": ([(f"{CP}.name", "localhost")], "racks[0].servers[0].name", "meaning of its own", "another"),
    "site name as path": ([("site.name", "../x")], "site.name", "'../x' is not a host name label", "tokyo-1"),
    "bad domain": ([("site.domain", "-x")], "site.domain", "'-x' is not a lower case DNS domain", ""),
    "bad rack name": ([("racks.0.name", "a 1")], "racks[0].name", "'a 1' is not a name", "a01"),
    "bad profile name": ([("profiles.X", SMALL["profiles"]["compute"])], "profiles.X", "'X' is not a name", ""),
    "name twice": (
        [(f"{CP}.name", "node2")],
        "racks[0].servers[1].name",
        "the name 'node2' is used twice",
        "see racks[0].servers[0].name",
    ),
    "names of ranges twice": (
        [("racks.0.servers.2", server("node[1:2]", 31))],
        "racks[0].servers[2].name",
        "the name 'node1' is used twice (and 1 more names)",
        "see racks[0].servers[1].name",
    ),
    "rack twice": ([("racks.1", {"name": "a01", "servers": []})], "racks[1].name", "'a01' is used twice", "racks[0]"),
    "racks with one group": (
        [("racks.0.name", "a-1"), ("racks.1", {"name": "a_1", "servers": []})],
        "racks[1].name",
        "'a_1' and 'a-1' give the same group rack_a_1",
        "another name",
    ),
    # Ranges
    "range without end": (
        [(f"{WORKERS}.name", "node[1:]")],
        "racks[0].servers[1].name",
        "not a name with one range",
        "",
    ),
    "two ranges": ([(f"{WORKERS}.name", "n[1:2][1:2]")], "racks[0].servers[1].name", "not a name with one", "node[01"),
    "range backwards": ([(f"{WORKERS}.name", "n[3:1]")], "racks[0].servers[1].name", "runs backwards", "[1:3]"),
    "range of other width": ([(f"{WORKERS}.name", "n[01:100]")], "racks[0].servers[1].name", "widths", "[001:100]"),
    "range too long": ([(f"{WORKERS}.name", "n[0:99999]")], "racks[0].servers[1].name", "holds 100000 names", "10000"),
    "range past its network": (
        [(f"{WORKERS}.name", "node[1:20]"), (f"{WORKERS}.addresses.node", "198.51.100.240")],
        "racks[0].servers[1].addresses.node",
        "20 addresses from 198.51.100.240 on, but networks.node (198.51.100.0/24) ends at 198.51.100.254",
        "start at 198.51.100.235 or lower",
    ),
    "range of BMCs past its network": (
        [(f"{WORKERS}.name", "node[1:20]"), (f"{WORKERS}.bmc", "192.0.2.250")],
        "racks[0].servers[1].bmc",
        "20 servers need 20 addresses",
        "start at 192.0.2.235 or lower",
    ),
    "range of addresses": (
        [(f"{WORKERS}.bmc", "192.0.2.[21:22]")],
        "racks[0].servers[1].bmc",
        "'192.0.2.[21:22]' is not an IPv4 address",
        "write the first address only",
    ),
    "one fingerprint for a range": (
        [(f"{WORKERS}.bmc", {"address": "192.0.2.21", "fingerprint": "ab" * 32})],
        "racks[0].servers[1].bmc.fingerprint",
        "one fingerprint cannot be that of 2 BMCs",
        "separate entry",
    ),
    "bad fingerprint": (
        [(f"{CP}.bmc", {"address": "192.0.2.11", "fingerprint": "ab"})],
        "racks[0].servers[0].bmc.fingerprint",
        "'ab' is not a SHA-256 fingerprint",
        "certificate",
    ),
    # Networks
    "not a network": (
        [("networks.storage.cidr", "10.0.0.0")],
        "networks.storage.cidr",
        "'10.0.0.0' is not an IPv4",
        "",
    ),
    "network of IPv6": (
        [("networks.storage.cidr", "fd00::/64")],
        "networks.storage.cidr",
        "is not an IPv4 network",
        "",
    ),
    "host bits": (
        [("networks.storage.cidr", "203.0.113.7/24")],
        "networks.storage.cidr",
        "203.0.113.7/24 is an address inside a network",
        "203.0.113.0/24",
    ),
    "networks overlap": (
        [("networks.storage.cidr", "198.51.0.0/16")],
        "networks.storage.cidr",
        "198.51.0.0/16 overlaps networks.node.cidr (198.51.100.0/24)",
        "of its own",
    ),
    "pods overlap services": (
        [("cluster.sdn.services", "10.244.128.0/20")],
        "cluster.sdn.services",
        "10.244.128.0/20 overlaps cluster.sdn.pods (10.244.0.0/16)",
        "of its own",
    ),
    "pods overlap BMCs": (
        [("cluster.sdn.pods", "192.0.0.0/16")],
        "cluster.sdn.pods",
        "192.0.0.0/16 overlaps networks.bmc.cidr (192.0.2.0/24)",
        "of its own",
    ),
    "services overlap nodes": (
        [("cluster.sdn.services", "198.51.100.0/24")],
        "cluster.sdn.services",
        "overlaps networks.node.cidr",
        "of its own",
    ),
    "missing network": (
        [(f"{CP}.addresses.storag", "203.0.113.11")],
        "racks[0].servers[0].addresses.storag",
        "there is no network 'storag'",
        "did you mean 'storage'?",
    ),
    "BMC as address": (
        [(f"{CP}.addresses.bmc", "192.0.2.12")],
        "racks[0].servers[0].addresses.bmc",
        "a BMC is not an address of the server",
        "the server's `bmc`",
    ),
    "missing profile": (
        [(f"{CP}.profile", "compte")],
        "racks[0].servers[0].profile",
        "there is no profile 'compte'",
        "did you mean 'compute'?",
    ),
    # Addresses
    "not an address": ([(f"{CP}.bmc", "192.0.2.256")], "racks[0].servers[0].bmc", "'192.0.2.256' is not an IPv4", ""),
    "leading zero": ([(f"{CP}.bmc", "192.0.2.011")], "racks[0].servers[0].bmc", "'192.0.2.011' is not an IPv4", ""),
    "node address outside": (
        [(f"{CP}.addresses.node", "198.51.101.11")],
        "racks[0].servers[0].addresses.node",
        "198.51.101.11 is outside networks.node (198.51.100.0/24)",
        "from 198.51.100.1 to 198.51.100.254",
    ),
    "storage address outside": (
        [(f"{CP}.addresses.storage", "198.51.100.12")],
        "racks[0].servers[0].addresses.storage",
        "198.51.100.12 is outside networks.storage",
        "from 203.0.113.1",
    ),
    "BMC outside": ([(f"{CP}.bmc", "198.51.100.9")], "racks[0].servers[0].bmc", "outside networks.bmc", "192.0.2.1 "),
    "BMC in mapping outside": (
        [(f"{CP}.bmc", {"address": "198.51.100.9"})],
        "racks[0].servers[0].bmc.address",
        "outside networks.bmc",
        "192.0.2.1 ",
    ),
    "network address": (
        [(f"{CP}.bmc", "192.0.2.0")],
        "racks[0].servers[0].bmc",
        "is the network address",
        "192.0.2.1 ",
    ),
    "broadcast address": ([(f"{CP}.bmc", "192.0.2.255")], "racks[0].servers[0].bmc", "broadcast address", "192.0.2.1 "),
    "gateway outside": (
        [("networks.storage.gateway", "198.51.100.3")],
        "networks.storage.gateway",
        "198.51.100.3 is outside networks.storage (203.0.113.0/24)",
        "from 203.0.113.1 to 203.0.113.254",
    ),
    "control host outside, no gateway": (
        [("networks.node.gateway", ...), ("deploy.address", "203.0.113.2")],
        "deploy.address",
        "203.0.113.2 is outside networks.node (198.51.100.0/24), which has no gateway",
        "or a gateway in networks.node",
    ),
    "BMCs cannot reach the control host": (
        [("deploy.bmc_address", ...)],
        "deploy.bmc_address",
        "198.51.100.2 is outside networks.bmc (192.0.2.0/24), which has no gateway",
        "an address of the control host in 192.0.2.0/24",
    ),
    "address of two servers": (
        [(f"{CP}.addresses.node", "198.51.100.22")],
        "racks[0].servers[1].addresses.node",
        "198.51.100.22 of node2 is already the address of cp1",
        "see racks[0].servers[0].addresses.node",
    ),
    "BMC address twice": (
        [(f"{CP}.bmc", "192.0.2.21")],
        "racks[0].servers[1].bmc",
        "192.0.2.21 of the BMC of node1 is already the address of the BMC of cp1",
        "racks[0].servers[0].bmc",
    ),
    "ranges that meet": (
        [("racks.0.servers.2", server("x[1:2]", 21, bmc="192.0.2.31"))],
        "racks[0].servers[2].addresses.node",
        "198.51.100.21 of x1 is already the address of node1 (and 1 more in the same way)",
        "see racks[0].servers[1].addresses.node",
    ),
    "server at the gateway": (
        [(f"{WORKERS}.addresses.node", "198.51.100.1"), ("deploy.address", "198.51.100.9")],
        "racks[0].servers[1].addresses.node",
        "198.51.100.1 of node1 is already the address of the gateway of node",
        "networks.node.gateway",
    ),
    "server at the control host": (
        [(f"{CP}.addresses.node", "198.51.100.2")],
        "racks[0].servers[0].addresses.node",
        "198.51.100.2 of cp1 is already the address of the control host",
        "see deploy.address",
    ),
    "BMC at the control host": (
        [(f"{CP}.bmc", "192.0.2.2")],
        "racks[0].servers[0].bmc",
        "192.0.2.2 of the BMC of cp1 is already the address of the control host",
        "see deploy.bmc_address",
    ),
    "control host at the gateway": (
        [("deploy.address", "198.51.100.1")],
        "deploy.address",
        "198.51.100.1 of the control host is already the address of the gateway of node",
        "networks.node.gateway",
    ),
    # Pod ranges
    "pod network too small": (
        [("cluster.sdn.pods", "10.244.0.0/20")],
        "cluster.sdn.pods",
        "10.244.0.0/20 has 16 ranges of /24, and the server at 198.51.100.22 needs number 22",
        "a pod network of /19 or larger, or a node_prefix of 25 or more",
    ),
    "pod network smaller than one range": (
        [("cluster.sdn.pods", "10.244.0.0/26")],
        "cluster.sdn.pods",
        "one server's range (/24) is larger than the whole pod network 10.244.0.0/26",
        "larger pod network",
    ),
    # Expressions
    "selector does not parse": ([(SELECT, "protocol ==")], SELECT, "is not a JMESPath expression", "backticks"),
    "bare number": ([(SELECT, "capacity_bytes > 1000")], SELECT, "is not a JMESPath expression", "backticks (`1000`)"),
    "bare word": ([(SELECT, "protocol == NVMe")], SELECT, "asks for 'NVMe', which a disk record does", "single quotes"),
    "unknown field": ([(SELECT, "protocl == 'NVMe'")], SELECT, "asks for 'protocl'", "did you mean 'protocol'?"),
    "unknown function": ([(SELECT, "start_with(model, 'X')")], SELECT, "unknown function start_with()", "starts_with"),
    "selector breaks out": ([(SELECT, "protocol] | [?model")], SELECT, "is not a JMESPath expression", ""),
    "data selector": (
        [("profiles.compute.disks.data", {"select": "(protocol"})],
        "profiles.compute.disks.data.select",
        "is not a JMESPath expression",
        "",
    ),
    "expectation": ([("profiles.compute.expect", ["a ="])], "profiles.compute.expect[0]", "is not a JMESPath", "texts"),
    "baseline without version": (
        [("profiles.compute.firmware", [{"component": "BIOS"}])],
        "profiles.compute.firmware[0]",
        "needs either version or minimum",
        "minimum is the oldest",
    ),
    "baseline with both": (
        [("profiles.compute.firmware", [{"component": "BIOS", "version": "1", "minimum": "1"}])],
        "profiles.compute.firmware[0]",
        "needs either version or minimum",
        "version is exact",
    ),
    "baseline of nothing": (
        [("profiles.compute.firmware", [{"minimum": "1"}])],
        "profiles.compute.firmware[0].component",
        "missing",
        "firmware inventory",
    ),
    "BIOS attribute of no value": (
        [("profiles.compute.bios", {"ProcVirtualization": ["Enabled"]})],
        "profiles.compute.bios.ProcVirtualization",
        "a text or a whole number or true or false",
        "",
    ),
    "drive of two volumes": (
        [
            (
                "profiles.compute.volumes",
                {"a": {"raid_type": "RAID0", "drives": ["0"]}, "b": {"raid_type": "RAID1", "drives": ["1", "0"]}},
            )
        ],
        "profiles.compute.volumes.b.drives",
        "the drive 0 is in the volume a too",
        "one of them",
    ),
    # Drivers and versions
    "network driver": ([("cluster.sdn.driver", "bpg")], "cluster.sdn.driver", "'bpg' is not supported", "mean 'bgp'?"),
    "storage driver": (
        [("cluster.sds", [{"driver": "longhorn"}])],
        "cluster.sds[0].driver",
        "'longhorn' is not",
        "known: ceph, iscsi, local",
    ),
    "NFS without a server": (
        [("cluster.sds", [{"driver": "nfs", "export": "/srv/volumes"}])],
        "cluster.sds[0].server",
        "the driver 'nfs' needs it",
        "server: node3",
    ),
    "NFS export that is no path": (
        [("cluster.sds", [{"driver": "nfs", "server": "node1", "export": "srv"}])],
        "cluster.sds[0].export",
        "is not an absolute path",
        "/srv/volumes",
    ),
    "pool of nothing": (
        [("profiles.compute.storage", {"data": {"select": "`true`", "count": 1}})],
        "profiles.compute.storage.data",
        "needs either volumes or a filesystem",
        "volume_group",
    ),
    "volume group that is nowhere": (
        [("cluster.sds", [{"driver": "lvm", "volume_group": "data"}])],
        "cluster.sds[0].volume_group",
        "no profile of a server has a pool 'data'",
        "none to refer to",
    ),
    "volume group that is a file system": (
        [
            ("profiles.compute.storage", {"data": {"select": "`true`", "count": 1, "filesystem": "ext4"}}),
            ("cluster.sds", [{"driver": "lvm", "volume_group": "data"}]),
        ],
        "cluster.sds[0].volume_group",
        "the pool 'data' is one file system",
        "leave its filesystem out",
    ),
    "option of another storage driver": (
        [("cluster.sds", [{"driver": "local", "export": "/srv/volumes"}])],
        "cluster.sds[0].export",
        "the driver 'local' does not take it",
        "no options",
    ),
    "storage driver twice": (
        [("cluster.sds", [{"driver": "local"}, {"driver": "local"}])],
        "cluster.sds[1].driver",
        "the driver 'local' is used twice",
        "once",
    ),
    "BMC driver": (
        [("bmc_defaults.driver", "telnet")],
        "bmc_defaults.driver",
        "'telnet' is not supported",
        "known: ipmi, redfish",
    ),
    "bond mode": (
        [("profiles.compute.network.mode", "active")],
        "profiles.compute.network.mode",
        "'active' is not supported",
        "did you mean 'active-backup'?",
    ),
    "version without v": (
        [("cluster.kubernetes", "1.36.3")],
        "cluster.kubernetes",
        "'1.36.3' is not a full",
        "v1.36.3",
    ),
    "version without patch": (
        [("cluster.kubernetes", "v1.36")],
        "cluster.kubernetes",
        "'v1.36' is not a full",
        "v1.36.3",
    ),
    "version as number": ([("cluster.kubernetes", 1.36)], "cluster.kubernetes", "must be a full version", "v1.36.3"),
    # Roles and the API server
    "no control plane": (
        [(f"{CP}.roles", ["worker"])],
        "racks",
        "no server has the role control_plane",
        "roles: [control_plane]",
    ),
    "two control-plane servers": (
        [(f"{WORKERS}.name", "cp2"), (f"{WORKERS}.roles", ["control_plane"])],
        "racks[0].servers[1].roles",
        "2 servers have the role control_plane (cp1, cp2); more than one is not supported yet",
        "to one server",
    ),
    "a range of control-plane servers": (
        [(f"{CP}.name", "cp[1:3]")],
        "racks[0].servers[0].roles",
        "3 servers have the role control_plane (cp1, cp2, cp3); more than one is not supported yet",
        "to one server",
    ),
    "endpoint of nobody": (
        [("cluster.endpoint", "198.51.100.77")],
        "cluster.endpoint",
        "198.51.100.77 is not an address of the control-plane server cp1",
        "one of: 198.51.100.11",
    ),
    "endpoint of another": (
        [("cluster.endpoint", "198.51.100.21")],
        "cluster.endpoint",
        "198.51.100.21 is not an address of the control-plane server cp1 but of node1",
        "one of: 198.51.100.11",
    ),
    "endpoint by name": ([("cluster.endpoint", "api.lab")], "cluster.endpoint", "'api.lab' is not an IPv4 address", ""),
    # Labels and taints
    "label key": (
        [(f"{CP}.labels", {"a b": "x"})],
        "racks[0].servers[0].labels['a b']",
        "not a Kubernetes label key",
        "tier",
    ),
    "label value": (
        [(f"{CP}.labels", {"a": "x y"})],
        "racks[0].servers[0].labels.a",
        "not a Kubernetes label value",
        "",
    ),
    "label number": ([(f"{CP}.labels", {"a": 1})], "racks[0].servers[0].labels.a", "must be a Kubernetes label", ""),
    "taint effect": (
        [(f"{CP}.taints", [{"key": "a", "effect": "NoSchedul"}])],
        "racks[0].servers[0].taints[0].effect",
        "'NoSchedul' is not supported",
        "did you mean 'NoSchedule'?",
    ),
    "taint twice": (
        [(f"{CP}.taints", [{"key": "a", "effect": "NoExecute"}, {"key": "a", "value": "b", "effect": "NoExecute"}])],
        "racks[0].servers[0].taints[1]",
        "a taint a:NoExecute is there already",
        "once",
    ),
    # The file as a whole
    "key is a number": ([("networks", {1: {}})], "networks.1", "the key 1 is not a text", "quotes"),
    "other plugin": ([("plugin", "x.y.z")], "plugin", "'x.y.z' is not supported", "must be kiban.baremetal.site"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case: str) -> None:
    edits, path, message, hint = REFUSALS[case]
    problems = refused(*edits)
    assert [problem[0] for problem in problems] == [path], problems
    assert message in problems[0][1]
    assert hint in problems[0][2]


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_not_a_mapping(data: Any) -> None:
    with pytest.raises(SiteError) as caught:
        load_site(data)
    assert caught.value.problems[0].path == "(file)"
    assert "must be a mapping" in caught.value.problems[0].message


def test_an_empty_file_names_everything_that_is_missing() -> None:
    with pytest.raises(SiteError) as caught:
        load_site({})
    paths = {problem.path for problem in caught.value.problems if problem.message == "missing"}
    assert paths == {"site", "networks", "deploy", "profiles", "racks", "cluster"}


def test_all_problems_at_once() -> None:
    """Problems of shape do not hide those of meaning, and neither hides its own kind."""
    problems = refused(
        ("networks.node.gatway", "198.51.100.1"),
        ("limits.joins", 0),
        ("deploy.port", "x"),
        (f"{CP}.profile", "compte"),
        (f"{CP}.bmc", "198.51.100.9"),
        (f"{WORKERS}.addresses.node", "198.51.100.2"),
        (SELECT, "protocl == 'x'"),
        ("cluster.kubernetes", "1.36"),
        ("cluster.sdn.services", "10.244.0.0/24"),
    )
    assert {path for path, _message, _hint in problems} == {
        "networks.node.gatway",
        "limits.joins",
        "deploy.port",
        "racks[0].servers[0].profile",
        "racks[0].servers[0].bmc",
        "racks[0].servers[1].addresses.node",
        SELECT,
        "cluster.kubernetes",
        "cluster.sdn.services",
    }


def test_a_network_that_is_wrong_is_still_there_to_refer_to() -> None:
    problems = refused(("networks.node.cidr", "nonsense"))
    assert [path for path, _message, _hint in problems] == ["networks.node.cidr"]


def test_the_error_reads_as_lines() -> None:
    with pytest.raises(SiteError) as caught:
        load_site(changed(("limits.joins", 0), ("site.nptp", [])))
    assert str(caught.value).splitlines() == [
        "limits.joins: 0 is out of range; at least 1",
        "site.nptp: unknown key; did you mean 'ntp'?",
    ]


def test_defaults() -> None:
    site = load_site(SMALL)
    assert (site.limits.power_ons, site.limits.image_writes, site.limits.joins) == (10, 5, 5)
    assert site.deploy.port == 8080
    assert site.cluster.endpoint == "198.51.100.11"
    assert site.cluster.sds == ()
    assert site.networks["node"].mtu == 1500
    assert site.networks["node"].vlan is None
    assert site.profiles["compute"].network.mode == "active-backup"
    assert site.profiles["compute"].network.members == ("en*", "eth*")
    assert site.profiles["compute"].disks["system"].count == 1
    assert "data" not in site.profiles["compute"].disks
    bmc = site.server("cp1").bmc
    assert (bmc.driver, bmc.validate_certs, bmc.ca_path, bmc.fingerprint, bmc.timeout) == (
        "redfish",
        True,
        None,
        None,
        30,
    )


def test_ranges_count_up_together() -> None:
    site = load_site(changed((f"{WORKERS}.name", "node[08:11]"), (f"{WORKERS}.addresses.storage", "203.0.113.50")))
    workers = site.with_role("worker")
    assert [server.name for server in workers] == ["node08", "node09", "node10", "node11"]
    assert [server.bmc.address for server in workers] == [f"192.0.2.{last}" for last in range(21, 25)]
    assert [server.addresses["node"] for server in workers] == [f"198.51.100.{last}" for last in range(21, 25)]
    assert [server.addresses["storage"] for server in workers] == [f"203.0.113.{last}" for last in range(50, 54)]
    assert [server.pod_cidr for server in workers] == [f"10.244.{last}.0/24" for last in range(21, 25)]


def test_a_servers_own_bmc_option_wins() -> None:
    site = load_site(
        changed(
            ("bmc_defaults", {"ca_path": "/ca.pem", "timeout": 60}),
            (f"{CP}.bmc", {"address": "192.0.2.11", "ca_path": None, "validate_certs": False}),
        )
    )
    assert site.server("cp1").bmc.ca_path is None
    assert site.server("cp1").bmc.validate_certs is False
    assert site.server("cp1").bmc.timeout == 60
    assert site.server("node1").bmc.ca_path == "/ca.pem"
    assert site.server("node1").bmc.validate_certs is True


def test_fingerprints_have_one_form() -> None:
    shown = ":".join(["AB"] * 32)
    site = load_site(changed((f"{CP}.bmc", {"address": "192.0.2.11", "fingerprint": shown})))
    assert site.server("cp1").bmc.fingerprint == "ab" * 32


def test_paths_are_resolved_by_the_caller() -> None:
    site = load_site(changed(("bmc_defaults", {"ca_path": "ca.pem"})), lambda path: f"/etc/{path}")
    assert site.server("node2").bmc.ca_path == "/etc/ca.pem"


def test_a_control_host_beyond_a_gateway() -> None:
    site = load_site(
        changed(
            ("networks.bmc.gateway", "192.0.2.1"), ("deploy.address", "203.0.113.200"), ("deploy.bmc_address", None)
        )
    )
    assert site.deploy.bmc_address == "203.0.113.200"


FULL: list[tuple[str, Any]] = [
    ("site.ntp", ["ntp.example.net"]),
    ("site.dns", ["198.51.100.5"]),
    ("bmc_defaults", {"ca_path": "/ca.pem", "validate_certs": False, "timeout": 5}),
    ("networks.node.vlan", 20),
    ("profiles.compute.expect", ["memory.total_mib > `1`"]),
    ("profiles.compute.firmware", [{"component": "BIOS", "minimum": "2.19"}]),
    ("profiles.compute.disks.data", {"select": "protocol == 'NVMe'", "count": 2}),
    ("profiles.compute.network", {"mode": "802.3ad"}),
    ("profiles.compute.serial", "25%"),
    ("profiles.compute.volumes", {"system": {"raid_type": "RAID1", "drives": ["0", "1"]}}),
    ("profiles.compute.bios", {"ProcVirtualization": "Enabled", "BootRetries": 3, "QuietBoot": True}),
    ("profiles.compute.power_on_watts", 800),
    ("racks.0.power_on_watts", 4000),
    ("limits", {"rack_power_ons": 2, "max_unavailable": {"rack": 1, "profile_compute": "20%"}}),
    (f"{WORKERS}.wipe", ["S1"]),
    (f"{WORKERS}.reinstall", "again"),
    (f"{WORKERS}.labels", {"example.net/a": "b"}),
    (f"{WORKERS}.taints", [{"key": "a", "effect": "NoExecute"}]),
    ("racks.1", {"name": "a02", "servers": [server("x", 90, bmc={"address": "192.0.2.90", "fingerprint": "AB" * 32})]}),
    ("cluster.sds", [{"driver": "local"}, {"driver": "nfs", "server": "node1", "export": "/srv/volumes"}]),
    (
        "cluster.extra_args",
        {"etcd": {"a": "b"}, "kubelet_config": {"maxPods": 200, "nested": {"list": [1, 2.5, None]}}},
    ),
]


@pytest.mark.parametrize("edits", [[], FULL], ids=["small", "full"])
def test_the_normal_form_is_the_same_site(edits: list[tuple[str, Any]]) -> None:
    site = load_site(changed(*edits))
    normal = json.loads(json.dumps(site_vars(site)))
    assert load_site(normal) == site
    assert site_vars(load_site(normal)) == normal


def test_server_vars() -> None:
    site = load_site(changed(*FULL))
    given = json.loads(json.dumps(server_vars(site, site.server("node2"))))
    assert given == {
        "name": "node2",
        "rack": "a01",
        "roles": ["worker"],
        "profile": {
            "name": "compute",
            "expect": ["memory.total_mib > `1`"],
            "firmware": [{"component": "BIOS", "version": None, "minimum": "2.19"}],
            "disks": {
                "system": {"select": "protocol == 'VirtIO'", "count": 1},
                "data": {"select": "protocol == 'NVMe'", "count": 2},
            },
            "network": {"mode": "802.3ad", "members": ["en*", "eth*"]},
            "serial": "25%",
            "bios": {"ProcVirtualization": "Enabled", "BootRetries": 3, "QuietBoot": True},
            "volumes": {"system": {"raid_type": "RAID1", "drives": ["0", "1"], "controller": None}},
            "power_on_watts": 800,
        },
        "bmc": {
            "address": "192.0.2.22",
            "driver": "redfish",
            "validate_certs": False,
            "ca_path": "/ca.pem",
            "fingerprint": None,
            "timeout": 5,
        },
        "addresses": {"node": "198.51.100.22"},
        "unit": None,
        "cables": {},
        "pod_cidr": "10.244.22.0/24",
        "pod_cidr6": None,
        "labels": {"example.net/a": "b"},
        "taints": [{"key": "a", "value": "", "effect": "NoExecute"}],
        "wipe": ["S1"],
        "reinstall": "again",
    }


def test_a_wipe_method_reaches_the_role() -> None:
    site = load_site(changed(*FULL, ("profiles.compute.disks.data.wipe_method", "nvme_format")))
    given = server_vars(site, site.server("node2"))["profile"]["disks"]
    assert given["data"]["wipe_method"] == "nvme_format" and "wipe_method" not in given["system"]
    edit = ("profiles.compute.disks.data", {"select": "a", "wipe_method": "hammer"})
    assert refused(edit)[0][0] == "profiles.compute.disks.data.wipe_method"


def test_the_input_is_left_alone() -> None:
    data = changed(*FULL)
    before = copy.deepcopy(data)
    load_site(data)
    assert data == before


def test_unknown_server() -> None:
    with pytest.raises(KeyError):
        load_site(SMALL).server("nobody")


@pytest.mark.parametrize("make", [dict, lambda value: {**value, "x": value}], ids=["plain", "alias"])
def test_data_that_holds_itself(make: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    data: dict[str, Any] = {}
    data["site"] = data
    with pytest.raises(SiteError, match="nested more than"):
        load_site(make(data))
