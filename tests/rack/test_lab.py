# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual rack itself, in a lab of its own beside the one that other tests use: it is built, left alone, healed,
made blank, and taken away without a trace."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rack

pytestmark = [pytest.mark.rack]

PREFIX = "kibantest"
BMCS = {"cp1": "192.0.2.11", "node1": "192.0.2.21", "node2": "192.0.2.22"}
SPACES = [f"{PREFIX}-{name}" for name in ("bmc", "control", "tor", "uplink")]
SEED = int(os.environ.get("KIBAN_SEED", str(random.SystemRandom().randrange(1_000_000))))


class Lab:
    def __init__(self, work: Path) -> None:
        self.work, self.directory = work, work / "lab"

    def command(self, state: str, *words: str) -> list[str]:
        return rack.command("lab", "-e", f"lab_state={state}", "-e", f"lab_prefix={PREFIX}", *words, control=False)

    def run(self, state: str, *words: str) -> dict[str, int]:
        """Counters of a run that ended well."""
        done = subprocess.run(
            self.command(state, *words),
            cwd=rack.ROOT,
            env=rack.environment(KIBAN_WORK=str(self.work)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return rack.recap(done.stdout)["localhost"]

    def pid(self, daemon: str) -> int:
        return int(json.loads((self.directory / f"run/{daemon}.json").read_text())["pid"])

    def virsh(self, *words: str) -> str:
        uri = f"qemu+unix:///system?socket={self.directory}/libvirt/run/libvirt/libvirt-sock"
        return subprocess.run(["virsh", "-q", "-c", uri, *words], capture_output=True, text=True, check=True).stdout

    def redfish(self, name: str, path: str, body: dict[str, Any] | None = None, password: str = "") -> tuple[int, Any]:
        """Status and content of a request to a BMC, made from the control host with the certificate verified."""
        secret = password or (self.directory / "bmc_password").read_text().strip()
        request = {
            "url": f"https://{BMCS[name]}/redfish/v1{path}",
            "ca": str(self.directory / "ca.pem"),
            "auth": b64encode(f"kiban:{secret}".encode()).decode(),
            "body": body,
        }
        answer = inside("control", REQUEST, json.dumps(request))
        return answer["status"], answer["content"]

    def system(self, name: str) -> str:
        _status, systems = self.redfish(name, "/Systems")
        assert len(systems["Members"]) == 1, "a BMC has one server"
        return str(systems["Members"][0]["@odata.id"]).removeprefix("/redfish/v1")

    def power(self, name: str) -> str:
        return str(self.redfish(name, self.system(name))[1]["PowerState"])


REQUEST = """
import json, ssl, sys, urllib.error, urllib.request
r = json.load(sys.stdin)
data = None if r["body"] is None else json.dumps(r["body"]).encode()
headers = {"Authorization": "Basic " + r["auth"], "Content-Type": "application/json"}
context = ssl.create_default_context(cafile=r["ca"])
try:
    with urllib.request.urlopen(urllib.request.Request(r["url"], data, headers), context=context, timeout=60) as answer:
        status, text = answer.status, answer.read().decode()
except urllib.error.HTTPError as problem:
    status, text = problem.code, problem.read().decode()
try:
    content = json.loads(text)
except ValueError:
    content = text
print(json.dumps({"status": status, "content": content}))
"""

SERVE = """
import hashlib, os, socket, sys
listener = socket.create_server((sys.argv[1], 9999))
print("ready", flush=True)
connection, _peer = listener.accept()
digest = hashlib.sha256()
for _number in range(200):
    block = os.urandom(1 << 20)
    digest.update(block)
    connection.sendall(block)
connection.close()
print(digest.hexdigest())
"""

FETCH = """
import hashlib, json, socket, sys, time
address, source = json.load(sys.stdin)
started = time.monotonic()
digest, size = hashlib.sha256(), 0
with socket.create_connection((address, 9999), timeout=30, source_address=(source, 0)) as connection:
    while block := connection.recv(1 << 18):
        digest.update(block)
        size += len(block)
print(json.dumps({"digest": digest.hexdigest(), "size": size, "seconds": time.monotonic() - started}))
"""

REACHES = """
import json, socket, sys
address, port = json.load(sys.stdin)
try:
    socket.create_connection((address, port), timeout=3).close()
    print("true")
except OSError:
    print("false")
"""


def inside(space: str, program: str, text: str) -> Any:
    words = ["ip", "netns", "exec", f"{PREFIX}-{space}", sys.executable, "-c", program]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


def routes(space: str) -> dict[str, str]:
    text = subprocess.run(
        ["ip", "-n", f"{PREFIX}-{space}", "-j", "route"], capture_output=True, text=True, check=True
    ).stdout
    return {route["dst"]: route.get("gateway", "") for route in json.loads(text)}


def machine(work: Path) -> dict[str, Any]:
    """What a lab could leave behind."""
    found: dict[str, Any] = {}
    for name, words in {
        "namespaces": ["ip", "-j", "netns", "list"],
        "links": ["ip", "-j", "link"],
        "mounts": ["findmnt", "-rno", "TARGET"],
    }.items():
        text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        if name == "mounts":
            found[name] = sorted(line for line in text.splitlines() if PREFIX in line or str(work) in line)
        else:
            key = "name" if name == "namespaces" else "ifname"
            found[name] = sorted(item[key] for item in json.loads(text or "[]"))
    found["namespaces"] = [name for name in found["namespaces"] if name.startswith(PREFIX)]
    found["processes"] = processes(work)
    found["sockets"] = sorted(
        str(path) for place in ("libvirt", "openvswitch", "frr") for path in Path("/run", place).glob("**/*")
    )
    return found


def processes(work: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_text().replace("\0", " ")
            if f"{work}/lab" in words:
                found.append(words)
    return sorted(found)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    work = tmp_path_factory.mktemp("work")
    built = Lab(work)
    before = machine(work)
    ready = rack.WORK / "lab/venv"
    if ready.is_dir():
        # The other lab's environment for BMCs: making one takes the longest, and is not what is tested here.
        built.directory.mkdir()
        (built.directory / "venv").symlink_to(ready)
    checked = built.run("present", "--check", "--diff")
    assert checked["changed"] > 0, "a dry run says that it would build the lab"
    assert machine(work) == before, "a dry run builds nothing"
    made = built.run("present")
    assert made["changed"] > 0
    try:
        yield built
    finally:
        built.run("absent")
    assert machine(work) == before
    assert not built.directory.exists()
    assert built.run("absent")["changed"] == 0


def test_servers_are_off_and_blank(lab: Lab) -> None:
    assert sorted(lab.virsh("list", "--all", "--name").split()) == sorted(BMCS)
    for name in BMCS:
        assert lab.power(name) == "Off"
        disks = sorted((lab.directory / "disks" / name).glob("*.qcow2"))
        assert len(disks) == 3
        for disk in disks:
            shown = subprocess.run(
                ["qemu-img", "map", "--output=json", str(disk)], capture_output=True, text=True, check=True
            ).stdout
            assert not any(part["data"] for part in json.loads(shown)), f"{disk} is not blank"


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    daemons = {path.stem: lab.pid(path.stem) for path in (lab.directory / "run").glob("*.json")}
    assert lab.run("present")["changed"] == 0
    assert daemons == {path.stem: lab.pid(path.stem) for path in (lab.directory / "run").glob("*.json")}


def test_a_bmc_shows_one_server_and_wants_the_password(lab: Lab) -> None:
    identities = {name: lab.system(name) for name in BMCS}
    assert len(set(identities.values())) == 3
    assert len(lab.redfish("node1", "/Managers")[1]["Members"]) == 1
    assert lab.redfish("node1", identities["node2"])[0] == 404
    assert lab.redfish("node1", identities["node1"], password="wrong")[0] == 401
    drives = lab.redfish("node1", f"{identities['node1']}/Storage/1")[1]["Drives"]
    assert [drive["@odata.id"].rpartition("/")[2] for drive in drives] == ["SYS-NODE1", "DATA-NODE1-1", "DATA-NODE1-2"]


def test_certificate_is_for_the_address_and_secrets_are_private(lab: Lab) -> None:
    context = ssl.create_default_context(cafile=str(lab.directory / "ca.pem"))
    assert len(context.get_ca_certs()) == 1
    for path in ("ca.key", "bmc_password", "htpasswd", "tls/cp1.key"):
        assert (lab.directory / path).stat().st_mode & 0o077 == 0, path
    secret = (lab.directory / "bmc_password").read_text().strip()
    assert len(secret) >= 20
    for path in [*lab.directory.glob("log/*"), *lab.directory.glob("run/*"), lab.directory / "bmc/bmcs.json"]:
        assert secret not in path.read_text(errors="replace"), path


@pytest.mark.parametrize(("space", "source", "server"), [("bmc", "192.0.2.11", "192.0.2.2")], ids=["bmc network"])
def test_tcp_goes_through_the_switch_whole(lab: Lab, space: str, source: str, server: str) -> None:
    words = ["ip", "netns", "exec", f"{PREFIX}-control", sys.executable, "-c", SERVE, server]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None and serving.stdout.readline() == "ready\n"
        got = inside(space, FETCH, json.dumps([server, source]))
        assert got["digest"] == serving.stdout.readline().strip()
    assert got["size"] == 200 << 20
    print(f"{got['size'] / got['seconds'] / 1e6:.0f} MB/s")


def test_networks_are_separate(lab: Lab) -> None:
    assert inside("control", REACHES, json.dumps(["192.0.2.11", 443])) is True
    assert inside("uplink", REACHES, json.dumps(["192.0.2.11", 443])) is False, "BMCs are not reached from outside"
    assert "default" not in routes("control")
    assert routes("uplink")["default"] == "203.0.113.1"


def test_the_switch_routes_pods_and_services(lab: Lab) -> None:
    found = routes("tor")
    assert found["10.244.11.0/24"] == found["10.96.0.0/16"] == "198.51.100.11"
    assert found["10.244.22.0/24"] == "198.51.100.22"


def test_what_breaks_is_healed(lab: Lab) -> None:
    for daemon in ("bmc-cp1", "libvirtd", "ovs-vswitchd", "staticd"):
        os.kill(lab.pid(daemon), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", f"{PREFIX}-bmc"], check=True)
    subprocess.run(["ip", "-n", f"{PREFIX}-tor", "link", "delete", "node1-p1"], check=True)
    (lab.directory / "disks/node2/1.qcow2").unlink()
    assert lab.run("present")["changed"] > 0
    assert [lab.power(name) for name in BMCS] == ["Off"] * 3
    assert routes("tor")["10.96.0.0/16"] == "198.51.100.11"
    assert lab.run("present")["changed"] == 0


def test_a_machine_that_booted_again_is_healed(lab: Lab) -> None:
    mark = (lab.directory / "disks/cp1/0.qcow2").stat().st_ino
    for path in (lab.directory / "run").glob("*.json"):
        os.kill(lab.pid(path.stem), signal.SIGKILL)
        # After a boot the process id may be somebody else's.
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "pid": os.getpid(), "boot": "another"}))
    for space in SPACES:
        subprocess.run(["ip", "netns", "delete", space], check=True)
    lab.run("present")
    assert [lab.power(name) for name in BMCS] == ["Off"] * 3
    assert (lab.directory / "disks/cp1/0.qcow2").stat().st_ino == mark, "disks are kept"


def test_blank_powers_off_and_empties(lab: Lab) -> None:
    disk = lab.directory / "disks/cp1/0.qcow2"
    subprocess.run(["qemu-io", "-c", "write -P 7 0 1M", str(disk)], check=True, capture_output=True)
    system = lab.system("cp1")
    for name in ("cp1", "node1"):
        assert lab.redfish(name, f"{lab.system(name)}/Actions/ComputerSystem.Reset", {"ResetType": "On"})[0] == 204
    assert lab.power("cp1") == "On"
    assert lab.run("present")["changed"] == 0, "a server that runs is left alone"
    assert lab.power("cp1") == "On"
    lab.run("blank")
    assert lab.power("cp1") == lab.power("node1") == "Off"
    assert lab.system("cp1") == system
    assert lab.run("blank")["changed"] == 0
    shown = subprocess.run(["qemu-img", "map", "--output=json", str(disk)], capture_output=True, text=True, check=True)
    assert not any(part["data"] for part in json.loads(shown.stdout))


def test_virtual_media_and_boot_override(lab: Lab, tmp_path: Path) -> None:
    image = tmp_path / "test.iso"
    image.write_bytes(os.urandom(1 << 20))
    system = lab.system("node2")
    media = f"{system}/VirtualMedia/Cd"
    words = ["ip", "netns", "exec", f"{PREFIX}-control", sys.executable, "-m", "http.server", "-d", str(tmp_path)]
    with subprocess.Popen(
        [*words, "--bind", "192.0.2.2", "8080"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as serving:
        try:
            deadline = time.monotonic() + 20
            while not inside("bmc", REACHES, json.dumps(["192.0.2.2", 8080])) and time.monotonic() < deadline:
                time.sleep(0.1)
            body = {"Image": "http://192.0.2.2:8080/test.iso", "Inserted": True}
            assert lab.redfish("node2", f"{media}/Actions/VirtualMedia.InsertMedia", body)[0] == 204
        finally:
            serving.terminate()
    assert lab.redfish("node2", media)[1]["Inserted"] is True
    kept = lab.directory / "media/node2.iso"
    assert hashlib.sha256(kept.read_bytes()).digest() == hashlib.sha256(image.read_bytes()).digest()
    assert str(kept) in lab.virsh("domblklist", "node2", "--inactive")
    assert lab.redfish("node2", f"{media}/Actions/VirtualMedia.EjectMedia", {})[0] == 204
    assert str(kept) not in lab.virsh("domblklist", "node2", "--inactive")


@pytest.mark.slow
def test_killed_runs_are_run_again(lab: Lab) -> None:
    print(f"KIBAN_SEED={SEED}")
    chance = random.Random(SEED)
    lab.run("absent")
    for _attempt in range(4):
        process = subprocess.Popen(
            lab.command("present"),
            cwd=rack.ROOT,
            env=rack.environment(KIBAN_WORK=str(lab.work)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=chance.uniform(2, 12))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    lab.run("present")
    assert [lab.power(name) for name in BMCS] == ["Off"] * 3
    assert lab.run("present")["changed"] == 0
    running = [line for line in processes(lab.work) if "ovs-vswitchd" in line]
    assert len(running) == 1, "no daemon runs twice"
