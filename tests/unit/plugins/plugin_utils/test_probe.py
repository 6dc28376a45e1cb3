# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import hashlib
import http.server
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks, _gpt, _layout_read
from ansible_collections.kiban.baremetal.plugins.module_utils._disk_claim import directory_name
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds_ceph import CONFIG
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.ceph import ceph_units, in_child
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.layouts import cache_state, claim_of, thin
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.neighbors import neighbors
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.probe import COMMAND, script
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.program import output
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.routing import not_running, routing
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.expressions import DISK_FIELDS
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import MIB, Rack


def test_it_runs_from_standard_input(tmp_path: Path) -> None:
    path = tmp_path / 'it\'s "odd" \\ {name}'
    path.write_text("content")
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    text = script([str(path), str(link), str(tmp_path / "missing")])
    done = subprocess.run(
        [sys.executable, *COMMAND.split()[1:]], input=text, capture_output=True, text=True, check=True
    )
    [line] = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer["files"] == {
        str(path): hashlib.sha256(b"content").hexdigest() + " 0640",
        str(link): "link",
    }
    assert answer["where"] == "node" and answer["uptime"] > 0 and len(answer["boot_id"]) == 36
    assert answer["installed"] is None and answer["kubelet"]["configured"] is False
    assert isinstance(answer["disks"], list) and isinstance(answer["mounts"], list)


@pytest.mark.parametrize("layouts", [False, True])
def test_it_needs_no_more_than_python_39_and_its_library(layouts: bool) -> None:
    tree = ast.parse(script([CONFIG], layouts), feature_version=(3, 9))
    names = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    # Ceph's own library, on servers with a monitor.
    assert names - {"rados"} <= sys.stdlib_module_names
    # Its parts become one module: none of them takes a name of another.
    own = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(own) == len(set(own)) and not names & set(own)


def test_paths_are_data_not_code() -> None:
    evil = "'];import os;os._exit(7)#"
    tree = ast.parse(script([evil]))
    [assign] = [n for n in tree.body if isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == "PATHS"]
    assert assign.value and ast.literal_eval(assign.value) == [evil]


@pytest.mark.parametrize(("bus", "name"), [("virtio", "vda"), ("nvme", "nvme0n1"), ("scsi", "sda"), ("sata", "sda")])
def test_disks_are_described_as_disk_info_does(tmp_path: Path, bus: str, name: str) -> None:
    rack = Rack(tmp_path / "rack")
    rack.disk(name, "SERIAL", bus=bus)
    [expected] = _disks.list_disks(rack.system)
    [record] = probe(rack)["disks"]
    assert record.pop("claimed") is False and record.pop("readonly") is False and record.pop("uses") == []
    assert record.pop("unused_bytes") == 0 and record.pop("problems") == []
    assert record["serial_number"] == "SERIAL"
    assert {**record, "path": expected["path"]} == {key: expected[key] for key in record}
    # What a selector may ask for is there, but for what is on the disk.
    assert DISK_FIELDS - set(record) == {"by_path", "holders", "partitions", "signatures", "kiban"}


def probe(rack: Rack, *changes: tuple[str, str], layouts: bool = False) -> Any:
    text = script([], layouts).replace("/sys/", f"{rack.root}/sys/").replace('"/sys', f'"{rack.root}/sys')
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    done = subprocess.run(
        [sys.executable, *COMMAND.split()[1:]], input=text, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_claimed_disks_that_are_gone(tmp_path: Path) -> None:
    rack = Rack(tmp_path / "rack")
    rack.disk("sda", "odd/serial 1", bus="scsi")
    lines = [f"PARTUUID=x /var/lib/kiban/local/{directory_name(name)} ext4 x 0 2" for name in ("odd/serial 1", "GONE")]
    (tmp_path / "fstab").write_text("\n".join(["/dev/vda2 / ext4 x 0 1", "# x", "", *lines]))
    assert probe(rack, ("/etc/fstab", str(tmp_path / "fstab")))["lost"] == ["GONE"]


def test_what_is_unused_behind_the_last_partition(tmp_path: Path) -> None:
    rack = Rack(tmp_path / "rack")
    rack.disk("nvme0n1", "GROWN", mib=128, bus="nvme")
    rack.partition("nvme0n1", 1, 2048, 2048)
    rack.partition("nvme0n1", 2, 4096, 60 * 2048)
    assert probe(rack)["disks"][0]["unused_bytes"] == 66 * MIB


ANSWER = """
def answer(fd, request, argument):
    import ctypes
    ctypes.memmove(struct.unpack_from("=Q", argument, 24)[0], b"\\4", 1)
    return 0
"""


@pytest.mark.parametrize(("state", "asked"), [("live", True), ("dead", False)])
def test_disks_that_say_they_fail(tmp_path: Path, state: str, asked: bool) -> None:
    rack = Rack(tmp_path / "rack")
    rack.disk("nvme0n1", "FAILING", bus="nvme", device__state=state)
    changes = (("/dev/", f"{rack.root}/dev/"), ("fcntl.ioctl(", "answer("), ("PATHS: list", f"{ANSWER}\n\nPATHS: list"))
    [record] = probe(rack, *changes)["disks"]
    assert record["problems"] == (["errors of the medium have made it unreliable"] if asked else [])


METRICS = """\
# TYPE etcd_server_id gauge
etcd_server_id{server_id="bdae9bbc11dd390d"} 1
etcd_server_has_leader 1
etcd_server_is_leader 1
etcd_server_is_learner 0
etcd_network_known_peers{Local="bdae9bbc11dd390d",Remote="7da964032fddfa6f"} 1
etcd_network_known_peers{Local="bdae9bbc11dd390d",Remote="bdae9bbc11dd390d"} 1
"""


def test_it_loads_few_modules() -> None:
    """On an emulated server each of these takes longer than most of what the program does."""
    text = script([]) + "\nprint(*sys.modules)\n"
    done = subprocess.run(
        [sys.executable, *COMMAND.split()[1:]], input=text, capture_output=True, text=True, check=True
    )
    heavy = {"email", "http", "site", "socket", "subprocess", "typing"} | (
        {"hashlib"} if sys.version_info >= (3, 12) else set()
    )
    assert not heavy & {*done.stdout.splitlines()[-1].split()}


def test_the_output_of_a_program() -> None:
    assert output(["printf", "%0300000d", "7"]).endswith("7"), "more than a pipe holds"
    with pytest.raises(OSError, match="false failed: 1"):
        output(["false"])
    with pytest.raises(OSError, match=r"sleep did not answer within 0\.1 s"):
        output(["sleep", "60"], 0.1)
    with pytest.raises(OSError, match="No such file"):
        output(["/nowhere/program"])


def ask_etcd(tmp_path: Path, metrics: str) -> Any:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(metrics.encode())

        def log_message(self, *_args: object) -> None:
            pass

    manifest = tmp_path / "etcd.yaml"
    manifest.touch()
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        text = script([]).replace("/etc/kubernetes/manifests/etcd.yaml", str(manifest))
        text = text.replace("2381", str(server.server_port))
        done = subprocess.run(
            [sys.executable, *COMMAND.split()[1:]], input=text, capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout)["etcd"]


def test_a_member_of_etcd_is_asked(tmp_path: Path) -> None:
    """As etcd 3.6 writes its metrics."""
    assert ask_etcd(tmp_path, METRICS) == {
        "id": "bdae9bbc11dd390d",
        "has_leader": True,
        "learner": False,
        "members": ["7da964032fddfa6f", "bdae9bbc11dd390d"],
    }
    assert ask_etcd(tmp_path, METRICS.replace("learner 0", "learner 1"))["learner"] is True


def test_a_member_that_answers_something_else_is_not_known(tmp_path: Path) -> None:
    assert ask_etcd(tmp_path, "etcd_server_has_leader 1\n") is None


NETDEV = "[NetDev]\nName=bond0\nKind=bond\nMTUBytes=1400\n"
BOND = """\
[Match]
Name=bond0

[Link]
MTUBytes=1400

[Network]
Address=198.51.100.11/24
Gateway=198.51.100.1

[Route]
Destination=10.244.11.0/24
Type=unreachable
Metric=4096

[Route]
Destination=10.244.12.0/24
Gateway=198.51.100.12

[Route]
Destination=10.244.13.0/24
Gateway=198.51.100.13
"""
SETUP = """\
mount -t sysfs sysfs /sys
ip link add bond0 type veth peer name port0
ip link set port0 up
ip link set bond0 mtu 1400 up
ip addr add 198.51.100.11/24 dev bond0
ip route add default via 198.51.100.1
ip route add unreachable 10.244.11.0/24 metric 4096
ip route add 10.244.12.0/24 via 198.51.100.12
ip route add 10.244.13.0/24 via 198.51.100.13
ip addr add 203.0.113.11/32 dev lo
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace, which needs root")
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("true", []),
        ("ip route del 10.244.13.0/24", ["route to 10.244.13.0/24 by 198.51.100.13 is missing"]),
        ("ip route del unreachable 10.244.11.0/24", ["route to 10.244.11.0/24 is missing"]),
        ("ip route del default", ["default route by 198.51.100.1 is missing"]),
        ("ip addr del 203.0.113.11/32 dev lo", ["address 203.0.113.11/32 is missing"]),
        ("ip link set bond0 mtu 1300", ["bond0: MTU 1300, not 1400"]),
        (
            "ip addr del 198.51.100.11/24 dev bond0; ip addr add 198.51.100.11/25 dev bond0",
            ["address 198.51.100.11/24 is missing", "default route by 198.51.100.1 and of 2 more is missing"],
        ),
        ("ip route flush root 10.244.8.0/21", ["route to 10.244.11.0/24 and of 2 more is missing"]),
        ("ip link del bond0", ["bond0: not there", "address 198.51.100.11/24 is missing"]),
        ("ip route add 192.0.2.0/24 via 198.51.100.9; ip link add more type veth peer name more1", []),
    ],
)
def test_a_running_network_that_is_not_as_its_files_say(tmp_path: Path, command: str, expected: list[str]) -> None:
    (tmp_path / "10-bond0.netdev").write_text(NETDEV)
    (tmp_path / "30-bond0.network").write_text(BOND)
    (tmp_path / "30-lo.network").write_text("[Match]\nName=lo\n\n[Network]\nAddress=203.0.113.11/32\n")
    program = tmp_path / "program.py"
    program.write_text(script([]).replace("/etc/systemd/network", str(tmp_path)))
    steps = f"set -e; {SETUP}\n{command}\n{sys.executable} {program}"
    done = subprocess.run(["unshare", "-n", "-m", "sh", "-c", steps], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this kernel makes no such network: {done.stderr[-200:]}")
    found = json.loads(done.stdout)["network"]
    assert found == expected or (command == "ip link del bond0" and found[:2] == expected)


@pytest.mark.parametrize("block", [512, 4096])
@pytest.mark.parametrize(
    ("labels", "mark", "claim"),
    [
        ([_disks.DATA_LABEL], b"", {"purpose": "data", "site": "tokyo"}),
        (["boot", _disks.ROOT_LABEL], b"", {"purpose": "system", "site": "tokyo"}),
        ([_layout_read.LABEL], b"", None),
        ([_disks.DATA_LABEL, "other"], b"", None),
        ([], _disks.CLAIM_MARK, {"purpose": "data", "site": "osaka"}),
        ([], _disks.IMAGE_MARK, {"purpose": "system", "site": "osaka"}),
        ([], b"", None),
    ],
)
def test_disks_that_are_claimed_and_not_mounted(
    tmp_path: Path, labels: list[str], mark: bytes, claim: dict[str, str] | None, block: int
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(MIB))
    with open(path, "r+b") as file:
        if labels:
            table = _gpt.new_table(64 * MIB, block, labels[0], str(uuid.uuid4()), str(uuid.uuid4()))
            more = [replace(table.partitions[0], number=number + 1, label=name) for number, name in enumerate(labels)]
            offset, data = replace(table, partitions=tuple(more)).layout().primary
            file.seek(offset)
            file.write(data)
            file.seek(_disks.RECORD_OFFSET)
            file.write(_disks.record_bytes(_disks.RECORD_MARK, {"site": "tokyo"}))
        if mark:
            file.seek(0)
            file.write(_disks.record_bytes(mark, {"site": "osaka"}))
    assert claim_of({"path": str(path), "logical_block_bytes": block}) == claim


TOKEN = {"type": "clevis", "keyslots": ["30"]}
RECORD = {"site": "lab", "storage": "fast", "disk": "x", "id": "y", "made": ["array", "group"], "serial_number": "A"}


MATES = {"mates": ["A", "GONE"], "cache": ["C"]}


def test_pools_are_looked_at_where_asked_only(tmp_path: Path) -> None:
    rack = Rack(tmp_path / "rack")
    path = rack.disk("sda", "A", bus="scsi")
    rack.disk("sdb", "B", bus="scsi")
    with open(path, "r+b") as file:
        for mark, offset, data, size in (
            (_disks.RECORD_MARK, _disks.RECORD_OFFSET, RECORD, _disks.RECORD_SIZE),
            (_layout_read.MATES_MARK, _layout_read.MATES_OFFSET, MATES, _layout_read.MATES_SIZE),
        ):
            file.seek(offset)
            file.write(_disks.record_bytes(mark, data, size))
    array = rack.root / "sys/devices/virtual/block/md127"
    (rack.root / "sys/block/md127").symlink_to(array)
    values = {"array_state": "clean", "level": "raid1", "raid_disks": "2", "degraded": "1", "sync_action": "recover"}
    values |= {
        "sync_completed": "100 / 800",
        "dev-sda1/state": "in_sync",
        "dev-sda1/block/size": "9",
        "dev-sdc1/state": "",
    }
    for key, value in values.items():
        rack.attribute(array / "md", key, f"{value}\n".encode())
    for number, (name, more) in enumerate({"fast-data": {}, "other": {"dm/suspended": "1"}}.items()):
        base = rack.root / f"sys/devices/virtual/block/dm-{number}"
        (rack.root / f"sys/block/dm-{number}").symlink_to(base)
        for key, value in {"dm/name": name, "dm/suspended": "0", "size": "2048", **more}.items():
            rack.attribute(base, key, f"{value}\n".encode())
    (rack.root / "sys/dev/block").mkdir(parents=True)
    (rack.root / "sys/dev/block/252:0").symlink_to(rack.root / "sys/devices/virtual/block/dm-0")
    rack.mount("252:0", "/dev/mapper/fast-data", "/srv/data")
    tokens = {"0": {"type": "systemd-tpm2", "keyslots": ["1"]}, "1": {**TOKEN, "jwe": {"protected": "p", "tag": "t"}}}
    area = json.dumps({"keyslots": {"0": {"area": "secret"}, "30": {"area": "secret"}}, "tokens": tokens}).encode()
    head = b"LUKS\xba\xbe\x00\x02" + (16384).to_bytes(8, "big")
    (rack.root / "dev/sda1").write_bytes(head.ljust(4096, b"\0") + area.ljust(12288, b"\0"))
    block = bytearray(1 << 20)
    struct.pack_into("<I", block, 1024 + 4, 200)
    struct.pack_into("<I", block, 1024 + 0x18, 2)
    (rack.root / "dev/dm-0").write_bytes(block)
    changes = (("/proc/self", f"{rack.root}/proc/self"), ('"/dev/', f'"{rack.root}/dev/'))
    answer = probe(rack, *changes, layouts=True)["layouts"]
    assert answer == {
        "claims": {},
        "disks": {"sda": {"pool": "fast", "site": "lab", "made": ["array", "group"], **MATES}},
        "arrays": [
            {
                "pool": "fast",
                "node": "md127",
                "state": "clean",
                "slots": 2,
                "degraded": 1,
                "members": {"sda1": "in_sync", "sdc1": "gone"},
                "sync": "recover 12 %",
            }
        ],
        "volumes": {"fast-data": MIB, "other": MIB},
        "suspended": ["other"],
        "thin": {},
        "caches": {},
        "luks": {"sda1": {"keyslots": {"0": {}, "30": {}}, "tokens": {"1": {**TOKEN, "jwe": {"protected": "p"}}}}},
        "mounts": {"/srv/data": ["fast-data", MIB, 200 * 4096]},
    }
    # Sites without pools send, and run, no more than before.
    assert probe(rack)["layouts"] is None
    assert "secret" not in json.dumps(answer) and "luks_header" not in script([])
    assert "mates" not in script([]) and "mates" in script([], layouts=True)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1 11/1024 40/3200 - rw no_discard_passdown queue_if_no_space - 1024", [1, 1, "rw"]),
        (
            "2 990/1000 3200/3200 77 out_of_data_space discard_passdown error_if_no_space - 1024",
            [100, 99, "out_of_data_space"],
        ),
        ("Fail", [0, 0, "Fail"]),
        ("", []),
    ],
)
def test_how_full_a_thin_pool_is(line: str, told: list[Any]) -> None:
    """Lines as the kernel's document of dm-thin has them."""
    assert thin(line) == told


@pytest.mark.parametrize(
    ("line", "state"),
    [
        (
            "8 26/2048 128 9/8768 0 26 0 0 0 9 0 2 metadata2 writethrough 2 migration_threshold 2048 mq 2 x 0 rw - ",
            "writethrough",
        ),
        ("8 26/2048 128 9/8768 0 26 0 0 0 9 0 1 writeback 2 migration_threshold 2048 smq 0 rw - ", "writeback"),
        ("Fail", "Fail"),
        ("119/1024 1351/4800 - ro discard_passdown queue_if_no_space needs_check 256", None),
        ("", None),
    ],
)
def test_what_a_cache_does(line: str, state: str | None) -> None:
    """Lines as Linux 6.12 told them."""
    assert cache_state(line) == state


FRR_FILE = """\
vni 4097
router bgp 4200000021
 neighbor 198.51.100.11 peer-group KIBAN-NODES
 address-family l2vpn evpn
  advertise-all-vni
 exit-address-family
exit
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "!\nfrr version 10.3\nhostname node1\n", []),
        ("vni 4097\n", "", ["FRR runs without: vni 4097"]),
        ("4200000021", "65000", ["FRR runs without: router bgp 4200000021"]),
        ("  advertise-all-vni\n", "", ["router bgp 4200000021: address-family l2vpn evpn: advertise-all-vni"]),
        (" address-family l2vpn evpn\n  adv", "  adv", ["router bgp 4200000021: address-family l2vpn evpn"]),
        (FRR_FILE, "", ["vni 4097", "router bgp"]),
        ("exit\n", "", []),
    ],
)
def test_what_frr_does_not_run_with(old: str, new: str, said: list[str]) -> None:
    running = FRR_FILE.replace(old, new, 1) if old else new + FRR_FILE
    found = not_running(FRR_FILE, running)
    assert len(found) == len(said)
    assert all(part in line for line, part in zip(found, said, strict=True)), found


def test_much_that_frr_does_not_run_with_is_counted() -> None:
    assert not_running("a\nb\nc\nd\ne\n", "c\n")[2:] == ["FRR runs without: d", "and without 1 more"]


def test_frr_that_does_not_answer_is_no_frr_that_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    [said] = routing(FRR_FILE, output)
    assert said.startswith("FRR does not tell its configuration:")


def test_who_has_no_frr_is_not_asked_for_it() -> None:
    text = script([])
    done = subprocess.run(
        [sys.executable, *COMMAND.split()[1:]], input=text, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["routing"] == []


# What systemd-networkd 257 answered in a namespace with an lldpd at the other end of each port.
NEIGHBORS = {
    "InterfaceIndex": 2,
    "InterfaceName": "eno1",
    "Neighbors": [
        {
            "ChassisID": "22:5e:2f:1c:82:1e",
            "RawChassisID": [4, 34, 94, 47, 28, 130, 30],
            "PortID": "swp1",
            "RawPortID": [5, 115, 119, 112, 49],
            "PortDescription": "KIBAN node1 eno1",
            "SystemName": "tor1",
            "EnabledCapabilities": 128,
        },
        {
            "ChassisID": "22:5e:2f:1c:82:1f",
            "RawChassisID": [4, 34, 94, 47, 28, 130, 31],
            "PortID": "22:5e:2f:1c:82:1f",
            "RawPortID": [3, 34, 94, 47, 28, 130, 31],
            "PortDescription": "swp2",
        },
    ],
}


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        ({"parameters": {"Neighbors": [NEIGHBORS]}}, [("eno1", "tor1", "swp1"), ("eno1", None, "swp2")]),
        ({"parameters": {"Neighbors": []}}, []),
        ({"error": "org.varlink.service.MethodNotFound", "parameters": {"method": "x"}}, []),
        (None, []),
    ],
)
def test_the_neighbours_of_ports(answer: Any, heard: list[Any], tmp_path: Path) -> None:
    path = str(tmp_path / "varlink")
    assert neighbors(path) == []
    asked = []

    def serve(listening: socket.socket) -> None:
        client, _address = listening.accept()
        with client:
            asked.append(json.loads(client.recv(65536)[:-1])["method"])
            said = json.dumps(answer).encode() + b"\0" if answer is not None else b"{"
            client.sendall(said[:20])
            time.sleep(0.05)
            client.sendall(said[20:])

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        found = neighbors(path)
        thread.join(10)
    assert asked == ["io.systemd.Network.GetLLDPNeighbors"]
    assert [(one["port"], one["device"], one["device_port"]) for one in found] == heard


def test_what_may_hang_is_asked_in_a_child() -> None:
    def hangs() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        time.sleep(60)

    def fails() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise OSError(5, "it is broken")

    long = {"a": "x" * 300_000}
    assert in_child(lambda: iter([{"a": 1}, {"b": 2}]), 10) == {"a": 1, "b": 2, "error": ""}
    assert in_child(lambda: iter([long]), 10) == {**long, "error": ""}, "more than a pipe holds"
    assert in_child(fails, 10) == {"a": 1, "error": "OSError: [Errno 5] it is broken"}
    assert in_child(hangs, 1) == {"a": 1, "error": "no answer within 1 s"}


def test_a_site_with_ceph_asks_for_its_services_and_others_do_not() -> None:
    assert {"var-lib-kiban-ceph.automount", "ceph-mon@node1.service"} <= {*ceph_units("node1")}
    for paths, asked in (([CONFIG], True), ([], False)):
        text = script(paths)
        assert ("def ceph(" in text) is asked
        done = subprocess.run(
            [sys.executable, *COMMAND.split()[1:]], input=text, capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)["ceph"]
        assert (found is not None) is asked
        if asked:
            assert found["monitor"] is False and found["osds"] == {} and "error" not in found
