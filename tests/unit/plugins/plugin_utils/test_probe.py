# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import hashlib
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.probe import script
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import Rack


def test_it_runs_from_standard_input(tmp_path: Path) -> None:
    path = tmp_path / 'it\'s "odd" \\ {name}'
    path.write_text("content")
    text = script([str(path), str(tmp_path / "missing")])
    done = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, check=True)
    [line] = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer["files"] == {str(path): hashlib.sha256(b"content").hexdigest()}
    assert answer["where"] == "node" and answer["uptime"] > 0 and len(answer["boot_id"]) == 36
    assert answer["installed"] is None and answer["kubelet"]["configured"] is False
    assert isinstance(answer["disks"], list) and isinstance(answer["mounts"], list)


def test_it_needs_no_more_than_python_39_and_its_library() -> None:
    tree = ast.parse(script([]), feature_version=(3, 9))
    names = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert names <= sys.stdlib_module_names


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
    text = script([]).replace("/sys/", f"{rack.root}/sys/").replace('"/sys', f'"{rack.root}/sys')
    done = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, check=True)
    [record] = json.loads(done.stdout)["disks"]
    assert record.pop("claimed") is False and record["serial_number"] == "SERIAL"
    assert {**record, "path": expected["path"]} == {key: expected[key] for key in record}


METRICS = """\
# TYPE etcd_server_id gauge
etcd_server_id{server_id="bdae9bbc11dd390d"} 1
etcd_server_has_leader 1
etcd_server_is_leader 1
etcd_server_is_learner 0
etcd_network_known_peers{Local="bdae9bbc11dd390d",Remote="7da964032fddfa6f"} 1
etcd_network_known_peers{Local="bdae9bbc11dd390d",Remote="bdae9bbc11dd390d"} 1
"""


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
        done = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, check=True)
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
