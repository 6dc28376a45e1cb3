#!/usr/bin/env python3
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scan of many simulated BMCs against bare clients that send the same requests in the same run on the same machine.

Beside it, on a few of the BMCs, the same data read by community.general.redfish_info. Client, bare client and BMCs are
processes of their own and share all cores. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
COLLECTIONS = ROOT / ".ansible" / "collections"
ANSIBLE = "12.3.0"  # community.general 11.4.2
COMMUNITY = ROOT / "build" / "bench-scan"
Json = dict[str, Any]


class Rack:
    """The BMCs."""

    def __init__(self, count: int, latency: float, profile: str, recorded: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, HERE / "rack.py", str(count), str(latency), profile, str(recorded)],
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.reach: Json = json.loads(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the simulated BMCs ended")
        return line

    def figures(self) -> Json:
        """CPU seconds so far, and what the recorded BMCs were asked since the last call."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: Json = json.loads(self._line())
        return found

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def client(kind: str, at_once: int, reach: Json) -> Json:
    done = subprocess.run(
        [sys.executable, HERE / "client.py", kind, str(at_once)],
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        input=json.dumps(reach),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: Json = json.loads(done.stdout)
    return found


def measured(rack: Rack, kind: str, at_once: int, reach: Json) -> tuple[Json, list[Json]]:
    before = rack.figures()["cpu"]
    found = client(kind, at_once, reach)
    after = rack.figures()
    found["rack_cpu"] = round(after["cpu"] - before, 2)
    print(json.dumps({kind: found}), flush=True)
    return found, after["bmcs"]


def have_community() -> str:
    """Have community.general below build; the package that brings it is large, so only its plugins are kept."""
    place = COMMUNITY / "ansible_collections" / "community" / "general"
    if not place.is_dir():
        with tempfile.TemporaryDirectory() as directory:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "download", "--no-deps"]
            done = subprocess.run([*pip, "-d", directory, f"ansible=={ANSIBLE}"], check=False)
            wheels = list(Path(directory).glob("ansible-*.whl"))
            if done.returncode or not wheels:
                return ""
            with zipfile.ZipFile(wheels[0]) as wheel:
                wanted = re.compile(r"ansible_collections/community/general/(plugins/|meta/runtime|MANIFEST)")
                wheel.extractall(COMMUNITY, [name for name in wheel.namelist() if wanted.match(name)])
    version: str = json.loads((place / "MANIFEST.json").read_text())["collection_info"]["version"]
    return version


def redfish_info(rack: Rack, count: int, forks: int) -> Json:
    """community.general.redfish_info for the same parts, in one playbook."""
    version = have_community()
    if not version:
        return {"missing": f"the package ansible {ANSIBLE}, which brings community.general, can't be had"}
    with tempfile.TemporaryDirectory() as directory:
        hosts = {f"bmc{number:02}": {"baseuri": a} for number, a in enumerate(rack.reach["addresses"][:count])}
        account = {name: rack.reach[name] for name in ("username", "password")}
        common = {**account, "ca": rack.reach["ca_path"], "ansible_python_interpreter": sys.executable}
        inventory = {"all": {"hosts": hosts, "vars": common}}
        (Path(directory) / "hosts.json").write_text(json.dumps(inventory))
        (Path(directory) / "ansible.cfg").write_text("")
        rack.figures()
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", "hosts.json", HERE / "redfish_info.yml"]
            + ["--forks", str(forks)],
            cwd=directory,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COMMUNITY), "ANSIBLE_CONFIG": "ansible.cfg"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        print(done.stdout[:3000], file=sys.stderr)
        return {"missing": f"the playbook ended with {done.returncode}"}
    bmcs = rack.figures()["bmcs"][:count]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "version": version,
        "bmcs": count,
        "forks": forks,
        "wall": round(wall, 2),
        "cpu": round(cpu, 2),
        "requests": max(one["requests"] for one in bmcs),
        "connections": max(one["connections"] for one in bmcs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bmcs", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.25, help="seconds that a BMC takes to answer")
    parser.add_argument("--at-once", type=int, default=500)
    parser.add_argument("--profile", default="dell-idrac9")
    parser.add_argument("--beside", type=int, default=20, help="BMCs for community.general.redfish_info; 0: without")
    parser.add_argument("--forks", type=int, default=20, help="forks of the playbook with redfish_info")
    options = parser.parse_args()
    beside = min(options.beside, options.bmcs)
    rack = Rack(options.bmcs, options.latency, options.profile, max(1, beside))
    try:
        warm = {**rack.reach, "addresses": rack.reach["addresses"][: max(1, beside)]}
        few, asked = measured(rack, "scan", options.at_once, warm)
        reach = {**rack.reach, "sent": asked[0]["sent"]}
        kinds = ("threads", "scan", "asyncio")
        found = {kind: measured(rack, kind, options.at_once, reach) for kind in kinds}
        community = redfish_info(rack, beside, options.forks) if beside else {"missing": "not asked for"}
    finally:
        rack.stop()
    scan, asked = found["scan"]
    bare = min((found[kind][0] for kind in ("threads", "asyncio")), key=lambda one: one["wall"])
    print(
        json.dumps(
            {
                "bmcs": options.bmcs,
                "latency": options.latency,
                "profile": options.profile,
                "tree": rack.reach["tree"],
                "at_once": options.at_once,
                "cores": os.cpu_count(),
                "wall": scan["wall"],
                "bare_wall": bare["wall"],
                "ratio_to_bare": round(scan["wall"] / bare["wall"], 2),
                "requests_per_server": scan["requests_max"],
                "open_sessions": sum(one["open_sessions"] for one in asked),
                "peak_rss_mb": scan["rss_mb"],
                "cpu": scan["cpu"],
                "rack_cpu": scan["rack_cpu"],
                "failures": scan["failures"],
                "bare": {kind: found[kind][0] for kind in ("threads", "asyncio")},
                "scan_of_few": {
                    "bmcs": beside,
                    "wall": few["wall"],
                    "cpu": few["cpu"],
                    "requests": few["requests_max"],
                },
                "redfish_info": community,
            }
        )
    )


if __name__ == "__main__":
    main()
