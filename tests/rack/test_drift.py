# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a finished rack: each kind of drift that is made by hand is named by the plan, mended by the site run, and gone.

`pytest -m rack tests/rack/test_drift.py`, 10 minutes. tests/integration/test_drift.py does the same, and kinds that
need other devices, on simulated servers.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import rack

pytestmark = [pytest.mark.rack, pytest.mark.slow]

CONF = "/etc/systemd/network"
# Who has it; what somebody types there, or as arguments of kubectl; the stage that names it, and what is said.
KINDS: dict[str, tuple[str, str | list[str], str, str]] = {
    "file content": ("node1", "echo 127.0.0.1 x > /etc/hosts", "host", "/etc/hosts"),
    "file mode": ("node1", "chmod 600 /etc/hostname", "host", "/etc/hostname"),
    "file gone": ("node1", "rm /etc/cni/net.d/10-kiban.conflist", "host", "/etc/cni/net.d/10-kiban.conflist"),
    "file is a link": (
        "node1",
        "mv /etc/machine-id /var/tmp/id && ln -s /var/tmp/id /etc/machine-id",
        "host",
        "/etc/machine-id",
    ),
    "authorized key": (
        "node1",
        "echo 'ssh-ed25519 AAAA somebody' >> /root/.ssh/authorized_keys",
        "host",
        "/root/.ssh/authorized_keys",
    ),
    "network file": ("node1", f"echo >> {CONF}/20-bond0-members.network", "host", f"{CONF}/20-bond0-members.network"),
    "MTU": ("node1", "ip link set bond0 mtu 1400", "host", "bond0: MTU 1400, not 1500"),
    "route": ("node1", "ip route del 10.244.22.0/24 via 198.51.100.22", "host", "route to 10.244.22.0/24"),
    "kubelet not enabled": ("node1", "systemctl disable kubelet", "host", "kubelet.service is active, not enabled"),
    "kubelet configuration": (
        "node1",
        "sed -i 's/^volumeStatsAggPeriod:.*/volumeStatsAggPeriod: 2m0s/' /var/lib/kubelet/config.yaml",
        "host",
        "volumeStatsAggPeriod: 2m0s",
    ),
    "label gone": ("node1", ["label", "node", "node1", "node-role.kubernetes.io/worker-"], "labels", "missing"),
    "kubelet stopped": ("node2", "systemctl stop kubelet", "host", "kubelet.service is inactive"),
    "runtime not enabled": ("node2", "systemctl disable containerd", "host", "containerd.service is active, not en"),
    "data disk not mounted": (
        "node2",
        "set -- /var/lib/kiban/local/*; umount $1",
        "disks",
        "not mounted: DATA-",
    ),
    "address of pods not routed": ("node2", "ip route del unreachable 10.244.22.0/24", "host", "route to 10.244.22.0"),
    "default route": ("node2", "ip route del default", "host", "default route by 198.51.100.1"),
    "resolvers": ("node2", "echo nameserver 192.0.2.53 > /etc/resolv.conf", "host", "/etc/resolv.conf"),
    "label of another value": (
        "node2",
        ["label", "--overwrite", "node", "node2", "node-role.kubernetes.io/worker=x"],
        "labels",
        "node-role.kubernetes.io/worker=x",
    ),
    "forwarding": (
        "cp1",
        "sed -i s/IPv4Forwarding=yes/IPv4Forwarding=no/ /etc/systemd/networkd.conf.d/10-kiban.conf",
        "host",
        "/etc/systemd/networkd.conf.d/10-kiban.conf",
    ),
    "bond in its file": ("cp1", f"sed -i s/100ms/200ms/ {CONF}/10-bond0.netdev", "host", f"{CONF}/10-bond0.netdev"),
    "taint gone": (
        "cp1",
        ["taint", "node", "cp1", "node-role.kubernetes.io/control-plane:NoSchedule-"],
        "labels",
        "node-role.kubernetes.io/control-plane=:NoSchedule",
    ),
    "version of cluster DNS": (
        "(cluster)",
        ["-n", "kube-system", "set", "image", "deployment/coredns", "coredns=registry.example.net/other:v1"],
        "services",
        "registry.example.net/other:v1",
    ),
    "configuration of cluster DNS": (
        "(cluster)",
        ["-n", "kube-system", "patch", "configmap", "coredns", "--type=merge", '-p={"data":{"Corefile":".:53 {}"}}'],
        "services",
        "data.Corefile",
    ),
    "Service of cluster DNS gone": (
        "(cluster)",
        ["-n", "kube-system", "delete", "service", "kube-dns"],
        "services",
        "Service kube-system/kube-dns",
    ),
    "rights of cluster DNS": (
        "(cluster)",
        ["patch", "clusterrole", "system:coredns", "--type=merge", '-p={"rules":[]}'],
        "services",
        "ClusterRole system:coredns",
    ),
    "version of the storage driver": (
        "(cluster)",
        [
            *("-n", "kiban-storage", "set", "image", "deployment/local-path-provisioner"),
            "local-path-provisioner=registry.example.net/other:v1",
        ],
        "services",
        "Deployment kiban-storage/local-path-provisioner",
    ),
}


def plan() -> dict[str, Any]:
    done = rack.playbook("plan")
    assert done.returncode == 0, done.stdout[-4000:]
    found: dict[str, Any] = json.loads((rack.SITE_DIR / "plan.json").read_text())
    return found


def mend() -> None:
    """The site run, and then nothing to do."""
    done = rack.playbook("site")
    assert done.returncode == 0, done.stdout[-6000:]
    after = plan()
    assert after["changes"] == [] and after["problems"] == [], after["summary"]


def test_what_was_changed_by_hand_is_named_and_mended() -> None:
    before = plan()
    assert before["changes"] == [] and before["problems"] == [], before["summary"]
    assert len(KINDS) >= 25
    for kind, (server, made, _stage, _text) in KINDS.items():
        if isinstance(made, list):
            rack.kubectl(*made)
        else:
            assert rack.ssh(server, f"set -e; {made}") is not None, f"{kind} could not be made on {server}"
    found = plan()
    missing = {}
    for kind, (server, _made, stage, text) in KINDS.items():
        said = [
            f"{c['what']}: {c['before']} -> {c['after']}"
            for c in found["changes"]
            if (c["server"], c["stage"]) == (server, stage)
        ]
        # A route that is not the first that is missing is only counted.
        if not any(text in line or ("route" in text and " more is missing" in line) for line in said):
            missing[kind] = said
    assert missing == {}
    stages = {stage for _server, _made, stage, _text in KINDS.values()}
    assert {change["stage"] for change in found["changes"]} == stages, "nothing else is named"
    assert all(change["disruption"] == "none" for change in found["changes"])
    mend()
    # The plan compares; the cluster must serve as well.
    for _try in range(60):
        if set(rack.ready_nodes()) == set(rack.SERVERS):
            break
        time.sleep(5)
    assert set(rack.ready_nodes()) == set(rack.SERVERS)


def test_a_server_that_was_powered_off_is_named_and_powered_on() -> None:
    assert rack.ssh("node2", "systemd-run --on-active=1 systemctl poweroff") is not None
    for _try in range(60):
        found = plan()
        if any(c["action"] == "disk" for c in found["changes"]):
            break
        time.sleep(5)
    on = [(c["server"], c["what"], c["before"], c["after"]) for c in found["changes"] if c["stage"] == "os"]
    assert on == [("node2", "power", "off", "on")]
    mend()
