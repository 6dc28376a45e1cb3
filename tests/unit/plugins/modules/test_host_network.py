# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that a network change cuts off comes back: systemd-networkd runs in a namespace, its controller in another."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.module_utils._lldp import neighbors
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sdn_bgp import networkd_files
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE
from ansible_collections.kiban.baremetal.tests.unit.plugins.networkd_bench import Host, missing_networkd
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import (
    Bench,
    Space,
    eventually,
    missing_programs,
)

CHECKOUT = Path(__file__).resolve().parents[4]
WHY = missing_networkd("ethtool")
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]

UPLINK = "/etc/systemd/network/10-eno1.network"
MATCH = "[Match]\nName=eno1\n\n[Network]\n"
GOOD = f"{MATCH}Address=198.51.100.21/24\n"


@pytest.fixture(scope="module")
def rack() -> Iterator[SimpleNamespace]:
    with tempfile.TemporaryDirectory(prefix="khost") as directory:
        bench = Bench(Path(directory))
        try:
            host, controller = bench.add(Host, "host"), bench.add(Space, "control")
            bench.wire("control", "p1", "host", "eno1")
            controller.run("ip", "address", "add", "198.51.100.2/24", "dev", "p1")
            first = host.module(files=[{"path": UPLINK, "content": GOOD}])
            assert not first.get("failed"), first["msg"]
            host.module(state="confirmed")
            yield SimpleNamespace(host=host, controller=controller, first=first, directory=Path(directory))
        finally:
            bench.close()


def reached(rack: SimpleNamespace) -> bool:
    """Whether the controller gets through: a closed port answers too."""
    code = (
        "import socket\ntry: socket.create_connection(('198.51.100.21', 22), 1)\n"
        "except ConnectionRefusedError: print('yes')\nexcept OSError: pass\n"
    )
    return "yes" in rack.controller.run(sys.executable, "-c", code, check=False)


def test_a_second_run_changes_nothing(rack: SimpleNamespace) -> None:
    assert rack.first["changed"] and rack.first["pending"]
    eventually(lambda: reached(rack), 60)
    again = rack.host.module(files=[{"path": UPLINK, "content": GOOD}])
    assert (again["changed"], again["pending"], again["changed_paths"]) == (False, False, [])


def test_check_mode_writes_nothing(rack: SimpleNamespace) -> None:
    would = rack.host.module(check=True, files=[{"path": UPLINK, "content": MATCH}])
    assert (would["changed"], would["pending"]) == (True, False)
    assert rack.host.run("cat", UPLINK) == GOOD


def test_a_host_that_cuts_itself_off_comes_back(rack: SimpleNamespace) -> None:
    eventually(lambda: reached(rack), 60)
    bad = GOOD.replace("198.51.100.21", "203.0.113.21")
    answer = rack.host.module(files=[{"path": UPLINK, "content": bad}], confirm_seconds=10)
    assert not answer.get("failed"), answer["msg"]
    assert answer["changed"] and answer["pending"]
    since = time.monotonic()
    eventually(lambda: not reached(rack), 8)
    eventually(lambda: reached(rack), 60)
    print(f"back {time.monotonic() - since:.1f} s after the change, with confirm_seconds: 10")
    assert rack.host.run("cat", UPLINK) == GOOD
    late = rack.host.module(state="confirmed")
    assert "taken back before it was confirmed" in late["msg"]


BRIDGE = {
    "/etc/systemd/network/10-br0.netdev": "[NetDev]\nName=br0\nKind=bridge\n",
    UPLINK: f"{MATCH}Bridge=br0\n",
    "/etc/systemd/network/20-br0.network": GOOD.replace("eno1", "br0"),
}


def files(content: dict[str, str]) -> list[dict[str, str]]:
    return [{"path": path, "content": text} for path, text in content.items()]


@pytest.mark.skipif(bool(missing_programs("lldpd", "lldpcli")), reason="not installed: lldpd")
def test_the_switch_hears_a_host_that_is_told_to_speak(rack: SimpleNamespace) -> None:
    """What is rendered for ports of servers with cables is enough for the cabling check."""
    site = load_site(BASE)
    rendered = networkd_files(site, site.server("cp1"))["/etc/systemd/network/20-bond0-members.network"]
    spoken = next(line for line in rendered.splitlines() if line.startswith("EmitLLDP="))
    answer = rack.host.module(files=[{"path": UPLINK, "content": f"{GOOD}{spoken}\n"}])
    assert not answer.get("failed"), answer["msg"]
    rack.host.module(state="confirmed")
    socket, config = rack.controller.directory / "l.sock", rack.controller.directory / "lldpd.conf"
    config.write_text("configure lldp tx-interval 1\n")
    rack.directory.chmod(0o755)
    rack.controller.daemon("lldpd", "-d", "-u", socket, "-O", config, "-I", "p1", ready=socket)

    def heard() -> bool:
        told = json.loads(rack.controller.run("lldpcli", "-u", socket, "-f", "json0", "show", "neighbors"))
        name = os.uname().nodename
        return [(one["port"], one["device"], one["device_port"]) for one in neighbors(told)] == [("p1", name, "eno1")]

    eventually(heard, 60)


def test_a_new_link_goes_again_with_the_change(rack: SimpleNamespace) -> None:
    """The bridge is right, but nobody confirms it: the address returns to the port."""
    eventually(lambda: reached(rack), 60)
    answer = rack.host.module(files=files(BRIDGE), confirm_seconds=30)
    assert not answer.get("failed"), answer["msg"]
    eventually(lambda: "198.51.100.21" in rack.host.run("ip", "address", "show", "br0"), 25)
    refused = rack.host.module(files=files(BRIDGE))
    assert "waits for its confirmation" in refused["msg"]
    assert rack.host.module(state="reverted")["changed"]
    eventually(lambda: reached(rack), 60)
    assert "br0" not in rack.host.run("ip", "-brief", "link")
    assert "198.51.100.21" in rack.host.run("ip", "address", "show", "eno1")
    assert "20-br0.network" not in rack.host.run("ls", "/etc/systemd/network")


def test_a_confirmed_change_stays(rack: SimpleNamespace) -> None:
    eventually(lambda: reached(rack), 60)
    answer = rack.host.module(files=files(BRIDGE), confirm_seconds=5)
    assert not answer.get("failed"), answer["msg"]
    assert rack.host.module(state="confirmed")["changed"]
    time.sleep(6)
    eventually(lambda: reached(rack), 60)
    assert "198.51.100.21" in rack.host.run("ip", "address", "show", "br0")


def test_networkd_understands_what_is_rendered(rack: SimpleNamespace) -> None:
    """Bonds and VLANs may be missing in this kernel; keys and values that networkd does not know are in its log."""
    site = load_site(BASE)
    rendered = networkd_files(site, site.server("node1"))
    wanted = {path: text for path, text in rendered.items() if path.startswith("/etc/systemd/network/")}
    answer = rack.host.module(files=files(wanted), confirm_seconds=60)
    assert not answer.get("failed"), answer["msg"]
    assert rack.host.module(state="reverted")["changed"]
    log = (rack.host.directory / "networkd.log").read_text()
    assert not re.findall(r"(?i).*(?:unknown|ignoring|failed to parse).*", log)


def test_the_role_confirms_what_it_could_reach(rack: SimpleNamespace) -> None:
    """The part of the role host that changes the network, in the place of SSH by a way into the namespace."""
    place = rack.directory / "role"
    (place / "host_vars").mkdir(parents=True)
    (place / "site.yml").write_text(yaml.safe_dump(BASE, sort_keys=False))
    python = place / "python"
    python.write_text(f'#!/bin/sh\nexec {" ".join(rack.host.argv(sys.executable))} "$@"\n')
    python.chmod(0o755)
    variables = {"ansible_connection": "local", "ansible_python_interpreter": str(python), "host_confirm_seconds": 60}
    (place / "host_vars" / "cp1.yml").write_text(yaml.safe_dump({**variables, "host_authorized_key": "key"}))
    task = {"ansible.builtin.include_role": {"name": "kiban.baremetal.host", "tasks_from": "network.yml"}}
    (place / "play.yml").write_text(yaml.safe_dump([{"hosts": "cp1", "gather_facts": False, "tasks": [task]}]))

    def play() -> str:
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), "play.yml", "-i", "site.yml"]
        environment = {**os.environ, "ANSIBLE_CONFIG": f"{CHECKOUT}/ansible.cfg", "KIBAN_WORK": str(place / "work")}
        environment["ANSIBLE_COLLECTIONS_PATH"] = f"{CHECKOUT}/.ansible/collections"
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, cwd=place)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "changed=2" in play()
    assert "Address=198.51.100.11/24" in rack.host.run("cat", "/etc/systemd/network/30-bond0.network")
    assert not rack.host.module(check=True, state="confirmed")["pending"]
    assert "changed=0" in play()


def test_only_the_network_is_written(rack: SimpleNamespace) -> None:
    answer = rack.host.module(files=[{"path": "/etc/hostname", "content": "x"}])
    assert "not below /etc/systemd/" in answer["msg"]


def test_a_change_that_cannot_be_applied_is_taken_back(rack: SimpleNamespace) -> None:
    """Nothing reads files or restarts the service."""
    for program in ("networkctl", "systemctl"):
        path = rack.host.directory / program
        if path.exists():
            shutil.move(path, rack.directory / f"{program}.kept")
        path.write_text("#!/bin/sh\nexit 3\n")
        path.chmod(0o755)
    before = rack.host.run("cat", UPLINK)
    answer = rack.host.module(files=[{"path": UPLINK, "content": GOOD}])
    assert answer["msg"].startswith("the change was taken back")
    assert rack.host.run("cat", UPLINK) == before
