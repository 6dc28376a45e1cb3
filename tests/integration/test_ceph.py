# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Ceph cluster of real daemons on three servers, made by the code of the modules and the files of the driver."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.module_utils._ceph import (
    FILESYSTEM,
    CephError,
    entities,
    keyring,
    new_key,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._ceph_cluster import (
    ensure_cluster,
    forget_osds,
    health_of,
    not_serving,
    quorum_missing,
    wait_for,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._ceph_monitor import ensure_monitor
from ansible_collections.kiban.baremetal.plugins.module_utils._ceph_osd import BOOTSTRAP, ensure_osd
from ansible_collections.kiban.baremetal.plugins.modules import kube_apply
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import sds_ceph
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.probe import part
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.ceph import (
    differences_of_ceph,
    notices_of_ceph,
    volumes_of_ceph,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.changes import Intent, View
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.disruption import Service, admit
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import HostState, SiteState
from ansible_collections.kiban.baremetal.tests.integration.ceph_servers import PLACE, Server, environment, why_not
from ansible_collections.kiban.baremetal.tests.integration.kube_api import CHECKOUT, Cluster
from ansible_collections.kiban.baremetal.tests.integration.volumes import account, claim, get, until

RunModule = Callable[..., dict[str, Any]]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")]

# A range of loopback that nobody else uses.
SITE = load_site(
    yaml.safe_load((CHECKOUT / "inventories/lab-ceph/site.yml").read_text().replace("198.51.100.", "127.45.100."))
)
FSID, MONITORS = sds_ceph.fsid(SITE), sds_ceph.monitors(SITE)
DEVICE = "/dev-of-osd"
SIZE = 1 << 30
# Of this machine's disk little may be free.
ROOM = "[mon]\nmon_data_avail_warn = 1\nmon_data_avail_crit = 0\n"


class Rack:
    def __init__(self, place: Path) -> None:
        self.keys = {name: new_key() for name in entities(list(MONITORS))}
        self.servers = {
            server.name: Server(server.name, place / server.name, sds_ceph.ceph_conf(SITE, server) + ROOM)
            for server in SITE.servers
        }
        self.osds: dict[str, tuple[int, str]] = {}

    def monitor(self, name: str) -> list[str]:
        server = self.servers[name]
        made = ensure_monitor(server.host, name, FSID, MONITORS, self.keys)
        server.host.write(BOOTSTRAP, keyring({"client.bootstrap-osd": self.keys["client.bootstrap-osd"]}, False))
        return made

    def start(self, name: str) -> None:
        for kind in ("mon", "mgr", "mds"):
            self.servers[name].start(kind, name)

    def disk(self, name: str) -> None:
        """A blank disk in the place of the one that is there."""
        place = self.servers[name].place / DEVICE.lstrip("/")
        place.unlink(missing_ok=True)
        with place.open("wb") as handle:
            handle.truncate(SIZE)

    def osd(self, name: str) -> bool:
        osd = ensure_osd(self.servers[name].host, FSID, DEVICE)
        assert osd.id is not None and osd.uuid is not None
        self.osds[name] = osd.id, osd.uuid
        if f"osd.{osd.id}" not in self.servers[name].running:
            self.servers[name].start("osd", str(osd.id))
        return osd.changed

    def present(self) -> dict[str, list[str]]:
        return {name: [uuid] for name, (_number, uuid) in self.osds.items()}

    def ceph(self, *args: str, on: str = "cp1") -> Any:
        return self.servers[on].host.ceph(*args)

    def wait(self, told: str = "", on: str = "cp1", seconds: int = 240) -> None:
        """Until Ceph says that nothing is wrong, or says this."""

        def missing() -> str:
            found = health_of(self.ceph("health", "detail", on=on))
            there = any(line.startswith(told) for line in found) if told else not found
            return "" if there else "; ".join(found) or "HEALTH_OK"

        wait_for(missing, seconds)


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    found = Rack(tmp_path_factory.mktemp("ceph"))
    try:
        yield found
    finally:
        for server in found.servers.values():
            server.lose_power()
            for disk in (DEVICE, "/second"):
                (server.place / disk.lstrip("/")).unlink(missing_ok=True)


def put(rack: Rack, name: str, content: bytes, on: str = "cp1") -> None:
    server = rack.servers[on]
    (server.place / "tmp" / name).write_bytes(content)
    server.host.call("rados", "--pool=volumes.data", "put", name, f"/tmp/{name}")


def got(rack: Rack, name: str, on: str = "cp1") -> str:
    server = rack.servers[on]
    server.host.call("rados", "--pool=volumes.data", "get", name, f"/tmp/{name}.back")
    return hashlib.sha256((server.place / "tmp" / f"{name}.back").read_bytes()).hexdigest()


def asked(rack: Rack, name: str) -> HostState:
    """What the plan's probe says of Ceph on a server, by the server's own Python."""
    units = dict.fromkeys(
        [*sds_ceph.services(SITE, SITE.server(name)), *map("ceph-osd@{}.service".format, range(9))], "active"
    )
    probe = CHECKOUT / "plugins/plugin_utils/_probe"
    parts = "".join(part(probe / name) for name in ("until.py", "ceph.py"))
    text = f"from __future__ import annotations\n{parts}\nprint(json.dumps(ceph({name!r}, {units!r})))\n"
    return HostState(where="node", ceph=json.loads(rack.servers[name].host.call("python3", "-", data=text)))


def looked_at(rack: Rack, *names: str) -> tuple[dict[str, HostState], dict[str, tuple[str, ...]]]:
    """Servers as the plan sees them, and who of the workers must not restart now."""
    hosts = {name: asked(rack, name) for name in names}
    service = Service(volumes=volumes_of_ceph(SITE, hosts))
    return hosts, admit(SITE, service, [("node1", "data"), ("node2", "data")])[1]


CONTENT = bytes(range(256)) * 4096 * 16
SUM = hashlib.sha256(CONTENT).hexdigest()


def test_a_cluster_forms(rack: Rack) -> None:
    for name in rack.servers:
        assert f"monitor {name}" in rack.monitor(name)
        assert rack.monitor(name) == []
        rack.start(name)
    host = rack.servers["cp1"].host
    wait_for(lambda: quorum_missing(host), 60)
    for name in rack.servers:
        rack.disk(name)
        assert rack.osd(name)
        assert not rack.osd(name), "what is there is kept"
    assert ensure_cluster(host, rack.keys, 3)
    assert ensure_cluster(host, rack.keys, 3) == []
    wait_for(lambda: not_serving(host), 120)
    rack.wait()
    put(rack, "first", CONTENT)
    assert got(rack, "first") == SUM
    assert forget_osds(host, rack.present()) == ([], {})
    hosts, refused = looked_at(rack, *rack.servers)
    assert notices_of_ceph(SITE, hosts) == []
    for name, state in hosts.items():
        assert [*differences_of_ceph(View(SITE, SITE.server(name), Intent(""), SiteState(), state))] == [
            "there is no OSD on /dev/osd/block"
        ], "files stand for the devices here"
    # The second one would leave one copy of three.
    assert [*refused] == ["node2"] and "placement groups of Ceph needs 2" in "; ".join(refused["node2"])


# What a pod does in a volume, by the client's library: this machine's kernel has no CephFS.
WRITER = """
import cephfs, json
fs = cephfs.LibCephFS(conffile="/etc/ceph/ceph.conf", auth_id="volumes", conf={"keyring": "/etc/ceph/volumes.keyring"})
fs.mount(b"/", b"volumes")
fs.mkdir(b"/pvc-1", 0o777)
fs.setxattr(b"/pvc-1", b"ceph.quota.max_bytes", b"8388608", 0)
file, written, why = fs.open(b"/pvc-1/data", "w", 0o644), 0, ""
try:
    while written < 64 << 20:
        written += fs.write(file, b"x" * (1 << 20), written)
        fs.fsync(file, 0)
except cephfs.Error as exc:
    why = type(exc).__name__
fs.close(file)
print(json.dumps({"written": written, "why": why, "kept": fs.stat(b"/pvc-1/data").st_size}))
fs.unmount()
"""


def test_a_volume_ends_soon_after_its_size(rack: Rack) -> None:
    """With the one key that every server has."""
    server = rack.servers["node2"]
    text = keyring({"client.volumes": rack.keys["client.volumes"]}, with_caps=False)
    server.host.write("/etc/ceph/volumes.keyring", text, daemons=False)
    found = json.loads(server.host.call("python3", "-", data=WRITER))
    assert found["why"] == "DiskQuotaExceeded"
    assert 8 << 20 <= found["kept"] < 64 << 20, found
    code, _out, err = server.host.run(
        ["ceph", "--name=client.volumes", "--keyring=/etc/ceph/volumes.keyring", "auth", "ls"]
    )
    assert code, "it reads no keys"
    assert rack.keys["client.admin"] not in err


LOOK = """
import os
for name in sorted(os.listdir("/mnt")):
    if name.startswith("pvc-"):
        path = f"/mnt/{name}"
        print(name, oct(os.stat(path).st_mode & 0o777), os.getxattr(path, "ceph.quota.max_bytes").decode())
"""


def test_volumes_of_pods(rack: Rack, cluster: Cluster, run_module: RunModule, program: Path, tmp_path: Path) -> None:
    """A claim gets a directory that ends at its size and grows, by the provisioner on the file system."""
    if not Path(os.environ[PLACE], "usr/bin/ceph-fuse").exists():
        pytest.skip(f"{os.environ[PLACE]} has no ceph-fuse, and this machine's kernel has no CephFS")
    server, log = rack.servers["node1"], tmp_path / "log"
    text = keyring({"client.volumes": rack.keys["client.volumes"]}, with_caps=False)
    server.host.write("/etc/ceph/volumes.keyring", text, daemons=False)
    applied = sds_ceph.manifests(SITE, "volume-provisioner:x")
    run_module(kube_apply, manifests=applied, **cluster.options)
    assert run_module(kube_apply, manifests=applied, **cluster.options)["changed"] is False
    shutil.copy(program, server.place / "tmp/volume-provisioner")
    config = account(cluster, "ceph-provisioner", "kiban-ceph", server.place / "tmp")
    (server.place / "mnt").mkdir()
    # One process tree, for others do not see what is mounted in it.
    script = f"""
    ceph-fuse --id=volumes --keyring=/etc/ceph/volumes.keyring --client_fs={FILESYSTEM} /mnt || exit 1
    /tmp/volume-provisioner ceph --kubeconfig=/tmp/{config.name} --export={sds_ceph.MOUNT} --root=/mnt &
    provisioner=$!
    while sleep 0.5; do
      if [ -e /tmp/look ]; then
        python3 -c "$LOOK" > /tmp/seen 2>&1
        rm /tmp/look
      fi
      if [ -e /tmp/end ]; then kill $provisioner; umount -l /mnt; exit 0; fi
    done"""

    def seen() -> str:
        (server.place / "tmp/look").touch()
        wait_for(lambda: "not yet" if (server.place / "tmp/look").exists() else "", 60, pause=0.3)
        return (server.place / "tmp/seen").read_text()

    def events() -> str:
        return cluster.run("get", "events", "--output=json")

    with log.open("wb") as output:
        process = subprocess.Popen(
            server.command(["bash", "-c", script]), stdout=output, stderr=output, env={**environment(), "LOOK": LOOK}
        )
    try:
        wanted = [claim("shared", "kiban-ceph", "4Mi", "ReadWriteMany"), claim("huge", "kiban-ceph", "1Pi")]
        run_module(kube_apply, manifests=wanted, **cluster.options)
        bound = until(
            lambda: get(cluster, "pvc", "shared"), lambda found: found["status"].get("phase") == "Bound", log, 120
        )
        name = bound["spec"]["volumeName"]
        volume = get(cluster, "pv", name)["spec"]
        assert volume["local"] == {"path": f"{sds_ceph.MOUNT}/{name}"}
        assert volume["accessModes"] == ["ReadWriteMany"] and volume["capacity"] == {"storage": "4Mi"}
        assert f"{name} 0o777 {4 << 20}" in seen()
        until(events, lambda text: "1Pi is asked for and the file system has" in text, log)
        assert get(cluster, "pvc", "huge")["status"]["phase"] == "Pending"
        wanted[0]["spec"]["resources"]["requests"]["storage"] = "9Mi"
        run_module(kube_apply, manifests=wanted[:1], **cluster.options)
        until(lambda: get(cluster, "pv", name)["spec"]["capacity"], lambda found: found == {"storage": "9Mi"}, log)
        assert get(cluster, "pvc", "shared")["status"]["capacity"] == {"storage": "9Mi"}
        assert f"{name} 0o777 {9 << 20}" in seen()
        run_module(kube_apply, manifests=wanted, state="absent", **cluster.options)
        until(lambda: get(cluster, "pv", name), lambda found: found is None, log)
        assert name not in seen()
    finally:
        (server.place / "tmp/end").touch()
        assert process.wait(60) == 0, log.read_text()


def test_a_disk_is_replaced(rack: Rack) -> None:
    """Pulled while the cluster runs, and a blank one put in its place."""
    host, old = rack.servers["cp1"].host, rack.osds["node1"][0]
    rack.servers["node1"].kill(f"osd.{old}")
    rack.disk("node1")
    rack.wait("OSD_DOWN")
    put(rack, "while one was gone", CONTENT[::-1])
    assert rack.osd("node1")
    assert rack.osds["node1"][0] != old
    assert not (rack.servers["node1"].place / f"var/lib/ceph/osd/ceph-{old}").exists()
    # Kept as long as its copies are not made anew, then forgotten.
    done, _kept = forget_osds(host, rack.present(), check_mode=True)
    assert f"OSD {old} out" in done

    def left() -> str:
        _done, kept = forget_osds(host, rack.present())
        return "; ".join(kept.values())

    wait_for(left, 180)
    assert old not in [osd["osd"] for osd in rack.ceph("osd", "dump")["osds"]]
    rack.wait()
    assert got(rack, "first") == SUM
    assert got(rack, "while one was gone") == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_a_server_is_lost_and_comes_back(rack: Rack) -> None:
    rack.servers["cp1"].lose_power()
    rack.wait("MON_DOWN", on="node1")
    hosts, refused = looked_at(rack, "node1", "node2")
    assert any("MON_DOWN" in notice.message for notice in notices_of_ceph(SITE, hosts))
    assert [*refused] == ["node1", "node2"]
    put(rack, "without one server", CONTENT, on="node1")
    assert got(rack, "first", on="node1") == SUM
    rack.start("cp1")
    rack.osd("cp1")
    rack.wait(on="node1")
    assert got(rack, "without one server") == SUM


def test_a_server_is_installed_anew(rack: Rack) -> None:
    """Its system disk is blank, its data disk is not: monitor and keys are made again, the OSD is recognised."""
    server, before = rack.servers["node2"], rack.osds["node2"]
    server.lose_power()
    rack.wait("OSD_DOWN")
    for folder in ("mon", "mgr", "mds", "osd", "bootstrap-osd"):
        shutil.rmtree(server.place / "var/lib/ceph" / folder)
    for folder in ("mon", "osd"):
        (server.place / "var/lib/ceph" / folder).mkdir()
    assert "monitor node2" in rack.monitor("node2")
    rack.start("node2")
    assert rack.osd("node2")
    assert rack.osds["node2"] == before
    assert not rack.osd("node2")
    rack.wait()
    assert len(rack.ceph("quorum_status", on="node2")["quorum_names"]) == 3
    assert got(rack, "first", on="node2") == SUM


def test_the_whole_rack_loses_its_power(rack: Rack) -> None:
    put(rack, "before the cut", CONTENT)
    for server in rack.servers.values():
        server.lose_power()
    for name in rack.servers:
        assert rack.monitor(name) == []
        rack.start(name)
    for name in rack.servers:
        assert not rack.osd(name)
    rack.wait()
    for name in ("first", "before the cut", "without one server"):
        assert got(rack, name) == SUM


def test_what_is_not_ours_is_refused(rack: Rack) -> None:
    host = rack.servers["cp1"].host
    other = rack.servers["cp1"].place / "other"
    with other.open("wb") as handle:
        handle.truncate(64 << 20)
    subprocess.run(["mke2fs", "-q", "-F", str(other)], check=True)
    before = hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(CephError, match=r"holds something: .*ext"):
        ensure_osd(host, FSID, "/other")
    assert hashlib.sha256(other.read_bytes()).hexdigest() == before
    with pytest.raises(CephError, match="of the Ceph cluster"):
        ensure_osd(host, "11111111-2222-3333-4444-555555555555", DEVICE)
    with pytest.raises(CephError, match="is not there"):
        ensure_osd(host, FSID, "/nowhere")
    with pytest.raises(CephError, match="holds a monitor of the cluster"):
        ensure_monitor(host, "cp1", "11111111-2222-3333-4444-555555555555", MONITORS, rack.keys)


def test_a_killed_run_is_run_again(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more disk; the run dies after the cluster has given the OSD its number, and once more in the middle of it."""
    server = rack.servers["node1"]
    with (server.place / "second").open("wb") as handle:
        handle.truncate(SIZE)
    call, dead = server.host.call, []

    def dies(*argv: str, **more: Any) -> str:
        if argv[0] == "ceph-osd":
            if dead:
                call(*argv, **more)
                label = server.place / "second"
                with label.open("r+b") as handle:
                    handle.write(b"half")
            dead.append(argv)
            raise KeyboardInterrupt
        return call(*argv, **more)

    monkeypatch.setattr(server.host, "call", dies)
    for _time in range(2):
        with pytest.raises(KeyboardInterrupt):
            ensure_osd(server.host, FSID, "/second")
    monkeypatch.undo()
    osd = ensure_osd(server.host, FSID, "/second")
    assert osd.id is not None
    assert [known["osd"] for known in rack.ceph("osd", "dump")["osds"]].count(osd.id) == 1
    assert len(rack.ceph("osd", "dump")["osds"]) == 4
    server.start("osd", str(osd.id))
    rack.wait()
