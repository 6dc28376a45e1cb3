# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# A part of the probe that goes to servers of sites with Ceph: Python 3.9, standard library, and Ceph's own library on
# servers with a monitor. That one asks in a child, which is ended when the cluster does not answer.

from __future__ import annotations

import glob
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.until import read_until

CEPH = "/var/lib/ceph"
ADMIN = "/etc/ceph/ceph.client.admin.keyring"
SECONDS = 25


def ceph(name: str, enabled: dict[str, str]) -> dict[str, Any]:
    """What there is of Ceph on this server and, where it has a monitor, what the cluster says of itself."""
    blocks = {path.split("/")[-2]: os.readlink(path) for path in glob.glob(f"{CEPH}/osd/ceph-*/block")}
    found: dict[str, Any] = {
        "monitor": os.path.isdir(f"{CEPH}/mon/ceph-{name}"),
        "osds": {device: int(home.partition("-")[2]) for home, device in sorted(blocks.items())},
        "units": enabled,
    }
    return {**found, **in_child(asked, SECONDS)} if os.path.exists(ADMIN) else found


def ceph_units(name: str) -> list[str]:
    """Services that must run, as far as this server has something for them."""
    daemons = [f"ceph-{kind}@{name}.service" for kind in ("mon", "mgr", "mds")]
    osds = sorted(path.rpartition("-")[2] for path in glob.glob(f"{CEPH}/osd/ceph-*"))
    return ["var-lib-kiban-ceph.automount", *daemons, *(f"ceph-osd@{number}.service" for number in osds)]


def in_child(what: Callable[[], Iterator[dict[str, Any]]], seconds: float) -> dict[str, Any]:
    """The answers of a function that may hang in C code, taken together: from a process that can be ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            try:
                for answer in what():
                    os.write(writer, json.dumps(answer).encode() + b"\n")
                last = {"error": ""}
            except Exception as exc:
                last = {"error": f"{type(exc).__name__}: {exc}"}
            os.write(writer, json.dumps(last).encode() + b"\n")
        finally:
            os._exit(0)
    os.close(writer)
    text, _whole = read_until(reader, seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    found: dict[str, Any] = {"error": f"no answer within {seconds:.0f} s"}
    for line in text.split(b"\n")[:-1]:
        found.update(json.loads(line))
    return found


def asked() -> Iterator[dict[str, Any]]:
    import site

    site.main()  # It is among the distribution's packages, which are not looked for otherwise.
    import rados  # type: ignore[import-not-found, unused-ignore]

    cluster = rados.Rados(conffile="/etc/ceph/ceph.conf", name="client.admin", conf={"rados_mon_op_timeout": "10"})
    cluster.connect(timeout=10)

    def ask(send: Any, **command: Any) -> Any:
        code, out, said = send(json.dumps({**command, "format": "json"}), b"")
        if code:
            raise OSError(code, said)
        return json.loads(out)

    health = ask(cluster.mon_command, prefix="health", detail="detail")
    dump, tree = (ask(cluster.mon_command, prefix=f"osd {what}") for what in ("dump", "tree"))
    hosts = {
        number: node["name"] for node in tree["nodes"] if node["type"] == "host" for number in node.get("children", ())
    }
    yield {
        "quorum": ask(cluster.mon_command, prefix="quorum_status")["quorum_names"],
        "health": [
            [code, check["summary"]["message"], [line["message"] for line in check["detail"][:3]]]
            for code, check in sorted(health["checks"].items())
            if not check.get("muted")
        ],
        "cluster_osds": [
            {"id": osd["osd"], "uuid": osd["uuid"], "host": hosts.get(osd["osd"], ""), "up": osd["up"], "in": osd["in"]}
            for osd in dump["osds"]
        ],
    }
    # Without a manager this has no answer.
    groups: dict[Any, int] = {}
    pools = {pool["pool"]: pool for pool in dump["pools"]}
    for pg in ask(cluster.mgr_command, prefix="pg dump", dumpcontents=["pgs_brief"])["pg_stats"]:
        pool, states = pools[int(pg["pgid"].partition(".")[0])], pg["state"].split("+")
        on = [hosts.get(number, "") for number in pg["acting"] if number in hosts]
        # Which of its copies is behind is not told here.
        behind = "active" not in states or ("degraded" in states and len(on) >= pool["size"])
        key = (pool["min_size"] + behind, tuple(sorted(on)))
        groups[key] = groups.get(key, 0) + 1
    yield {"groups": [[count, needed, list(on)] for (needed, on), count in sorted(groups.items())]}
