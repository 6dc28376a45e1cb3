# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests on the virtual rack share: running playbooks, and looking at servers from beside Ansible."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORK = Path(os.environ.get("KIBAN_WORK") or Path.home() / ".cache/kiban")
SITE_DIR = WORK / "sites/lab"
BIN = Path(sys.executable).parent
CONTROL = ["ip", "netns", "exec", "kiban-control"]
SERVERS = {"cp1": "198.51.100.11", "node1": "198.51.100.21", "node2": "198.51.100.22"}


def command(name: str, *words: str, inventory: str = "inventories/lab", control: bool = True) -> list[str]:
    play = [str(BIN / "ansible-playbook"), f"kiban.baremetal.{name}", "-i", inventory, *words]
    return [*CONTROL, *play] if control else play


def environment(**changes: str) -> dict[str, str]:
    plain = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    return {**os.environ, **plain, "PATH": f"{BIN}:{os.environ['PATH']}", **changes}


def playbook(
    name: str, *words: str, inventory: str = "inventories/lab", control: bool = True, **changes: str
) -> subprocess.CompletedProcess[str]:
    return run(command(name, *words, inventory=inventory, control=control), **changes)


def run(command: list[str], **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def ssh(server: str, script: str, timeout: float = 30) -> str | None:
    """What the script prints on a server, None when it can't be asked. The host key is verified."""
    options = ["BatchMode=yes", "ConnectTimeout=3", f"HostKeyAlias={server}", "IdentitiesOnly=yes", "LogLevel=ERROR"]
    options += ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={SITE_DIR}/known_hosts"]
    words = [*CONTROL, "ssh", "-F", "none", "-i", f"{SITE_DIR}/ssh/id_ed25519"]
    for option in options:
        words += ["-o", option]
    try:
        done = subprocess.run(
            [*words, f"root@{SERVERS[server]}", script],
            capture_output=True,
            text=True,
            # journals hold whatever programs print
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def kubectl(*words: str) -> str:
    kube = [str(WORK / "bundle/bin/kubectl"), "--kubeconfig", str(SITE_DIR / "kubeconfig"), "--request-timeout=60s"]
    done = subprocess.run([*CONTROL, *kube, *words], capture_output=True, text=True, check=True)
    return done.stdout


def ready_nodes() -> dict[str, str]:
    """Names of the Ready nodes, each with its kubelet's version."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    return {
        node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"]
        for node in nodes
        if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
    }


def recap(output: str) -> dict[str, dict[str, int]]:
    """The last lines of a run: counters by host."""
    found = {}
    for line in output.splitlines():
        host, separator, rest = line.partition(" : ok=")
        if separator:
            counters = ("ok=" + rest).split()
            found[host.strip()] = {key: int(value) for key, value in (item.split("=") for item in counters)}
    return found


def lab(state: str) -> None:
    done = playbook("lab", "-e", f"lab_state={state}", control=False)
    assert done.returncode == 0, done.stdout[-4000:]


def blank() -> None:
    """Servers off and empty, and no cluster that the control host would still know."""
    lab("blank")
    (SITE_DIR / "kubeconfig").unlink(missing_ok=True)


def variant(directory: Path, **bmc: object) -> str:
    """A copy of the lab's inventory with other BMC options for node2."""
    target = directory / "variant"
    shutil.copytree(ROOT / "inventories/lab", target)
    site = yaml.safe_load((target / "site.yml").read_text())
    servers = [server for server in site["racks"][0]["servers"] if not server["name"].startswith("node")]
    for number in (1, 2):
        addresses = {"node": f"198.51.100.2{number}"}
        server = {"name": f"node{number}", "roles": ["worker"], "profile": "compute", "addresses": addresses}
        servers.append({**server, "bmc": {"address": f"192.0.2.2{number}"}})
    servers[-1]["bmc"].update(bmc)
    site["racks"][0]["servers"] = servers
    (target / "site.yml").write_text(yaml.safe_dump(site, sort_keys=False))
    return str(target)
