# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a blank rack to a cluster in one run of ansible-runner at high verbosity, and no secret in anything it leaves.

Takes about as long as `make site` on a blank rack: 8 to 15 minutes on two cores without KVM.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
from pathlib import Path

import pytest
import rack
import yaml

pytestmark = [pytest.mark.rack, pytest.mark.slow]

# kubeadm's token for joining, see k8s.io/cluster-bootstrap/token/api.
JOIN_TOKEN = re.compile(rb"\b[a-z0-9]{6}\.[a-z0-9]{16}\b")


class Processes(threading.Thread):
    """All command lines that are seen on the control host."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(entry.read_bytes())
                except OSError:
                    continue


def secrets() -> dict[str, bytes]:
    """What must not be seen anywhere, by what it is. Of keys, a line of the encoding that holds the private half."""

    def key(text: str) -> bytes:
        lines = [line for line in text.splitlines() if line and not line.startswith("-----")]
        # The first lines are the same in all keys of OpenSSH's format; the last of them may be the comment.
        return lines[3 if "OPENSSH" in text else -2].encode()

    found = {"BMC password": (rack.WORK / "lab/bmc_password").read_bytes().strip()}
    found["media token"] = (rack.SITE_DIR / "ssh/media_token").read_bytes().strip()
    for name in ("ca", "id_ed25519"):
        found[f"SSH key {name}"] = key((rack.SITE_DIR / "ssh" / name).read_text())
    user = yaml.safe_load((rack.SITE_DIR / "kubeconfig").read_text())["users"][0]["user"]
    found["kubeconfig"] = user["client-key-data"].encode()
    found["kubeconfig's key"] = key(base64.b64decode(user["client-key-data"]).decode())
    assert all(len(value) >= 16 for value in found.values())
    return found


def left_behind(artifacts: Path) -> dict[str, bytes]:
    """What the run left: its artifacts, the site directory without what is there to hold keys, logs, the servers."""
    keys = {rack.SITE_DIR / "kubeconfig", *(rack.SITE_DIR / "ssh").iterdir()}
    kept = [*artifacts.rglob("*"), *rack.SITE_DIR.rglob("*"), *(rack.WORK / "lab/log").rglob("*")]
    kept += [*(rack.WORK / "lab/console").rglob("*"), *(Path.home() / ".ansible").rglob("*")]
    found = {str(path): path.read_bytes() for path in kept if path.is_file() and path not in keys}
    look = (
        "journalctl --no-pager -o cat; ls -A /root/.ansible /tmp; cat /proc/[0-9]*/cmdline; find /root/.ansible /tmp "
    )
    look += "/var/tmp /var/log /etc/kubernetes/kiban -xdev -type f -not -path '*/journal/*' -exec cat {} + 2>/dev/null"
    for server in rack.SERVERS:
        text = rack.ssh(server, look + "; true", timeout=120)
        assert text, f"{server} does not answer"
        found[server] = text.encode()
    return found


def test_one_run_makes_the_cluster_and_tells_no_secret(tmp_path: Path) -> None:
    rack.blank()
    job = tmp_path / "job"
    job.mkdir()
    words = ["run", str(job), "-p", "kiban.baremetal.site", "--inventory", str(rack.ROOT / "inventories/lab")]
    words += ["--ident", "first", "--cmdline=-vvv --diff", "--quiet"]
    processes = Processes()
    processes.start()
    try:
        runner = [*rack.CONTROL, str(rack.BIN / "ansible-runner"), *words]
        done = subprocess.run(runner, env=rack.environment(ANSIBLE_LOG_PATH=str(job / "log")), check=False)
    finally:
        processes.over.set()
        processes.join()
    artifacts = job / "artifacts/first"
    output = (artifacts / "stdout").read_text()
    assert done.returncode == 0, output[-6000:]
    assert (artifacts / "status").read_text() == "successful"
    events = [json.loads(path.read_text()) for path in (artifacts / "job_events").glob("*.json")]
    assert {"runner_on_ok", "playbook_on_stats"} <= {event["event"] for event in events}
    assert "<198.51.100.11> SSH: EXEC" in output, "the run was to be at high verbosity"

    nodes = rack.ready_nodes()
    assert sorted(nodes) == sorted(rack.SERVERS)
    kept = (rack.SITE_DIR / "kubeconfig").read_bytes()
    assert b"\r" not in kept, "the kubeconfig came through a terminal"
    assert all(version.startswith("v1.36.") for version in nodes.values()), nodes

    places = left_behind(job)
    places |= {
        f"the command line of {line.split(bytes(1))[0].decode()}": line for line in sorted(processes.seen) if line
    }
    hidden = secrets()
    leaks = [f"{what} in {place}" for place, text in places.items() for what in hidden if hidden[what] in text]
    leaks += [f"a join token in {place}" for place, text in places.items() if JOIN_TOKEN.search(text)]
    assert not leaks, "\n".join(leaks)
