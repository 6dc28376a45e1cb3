#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_membership
short_description: Membership of a server in a Kubernetes cluster, by kubeadm
version_added: 0.1.0
description:
  - Runs C(kubeadm init) or C(kubeadm join) on a server that is not a member yet, and nothing on one that is.
  - kubeadm runs as a transient systemd unit, so that it goes on when the control host is lost. The next run of this
    module waits for it instead of starting a second one.
  - An attempt that was cut off half-way is run again over what it left; kubeadm reuses certificates and data it finds.
  - Nothing is ever reset or removed by this module.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  state:
    description:
      - V(initialised) makes the server the first control-plane node of a new cluster.
      - V(joined) makes it a worker of an existing one.
    type: str
    choices: [initialised, joined]
    required: true
  config:
    description:
      - kubeadm's configuration file. It may hold a bootstrap token, so it is never shown, and removed after use.
    type: str
    required: true
  discovery:
    description: The kubeconfig without credentials that a joining server verifies the API server with.
    type: str
  patches:
    description: Files for kubeadm's patches directory C(/etc/kubernetes/kiban/patches), content by name.
    type: dict
    default: {}
  registered:
    description:
      - Whether the API knows the node. A server that is set up but whose Node object is gone gets its kubelet
        restarted, so that it registers again.
    type: bool
    default: true
  timeout:
    description: Seconds until kubeadm must have ended.
    type: int
    default: 900
"""

EXAMPLES = r"""
- name: Join
  kiban.baremetal.node_membership:
    state: joined
    config: "{{ _node_join_config }}"
    discovery: "{{ __node_token.discovery }}"
"""

RETURN = r"""
seconds:
  description: How long kubeadm ran.
  type: float
  returned: when kubeadm ran
log:
  description: The last lines that kubeadm wrote.
  type: list
  elements: str
  returned: when kubeadm ran
"""

import glob
import os
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._files import write_whole

DIRECTORY = "/etc/kubernetes/kiban"
DONE = {"initialised": f"{DIRECTORY}/initialised", "joined": f"{DIRECTORY}/joined"}
UNIT = "kiban-kubeadm.service"
# What a cut-off attempt leaves and a second one finds; see 'kubeadm init --help', preflight.
LEFT_BEHIND = {
    "initialised": [
        "DirAvailable--var-lib-etcd",
        "FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml",
        "FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml",
        "FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml",
        "FileAvailable--etc-kubernetes-manifests-etcd.yaml",
        "Port-6443",
        "Port-10250",
        "Port-10257",
        "Port-10259",
        "Port-2379",
        "Port-2380",
    ],
    "joined": [
        "FileAvailable--etc-kubernetes-kubelet.conf",
        "FileAvailable--etc-kubernetes-bootstrap-kubelet.conf",
        "FileAvailable--etc-kubernetes-pki-ca.crt",
        "Port-10250",
    ],
}


class MembershipError(Exception):
    def __init__(self, message: str, log: list[str]) -> None:
        super().__init__(message)
        self.log = log


def run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def unit_state() -> str:
    return run(["systemctl", "show", UNIT, "--property=ActiveState", "--value"]) or "inactive"


def unit_log() -> list[str]:
    lines = run(["journalctl", "--unit", UNIT, "--output=cat", "--lines=40", "--no-pager"]).splitlines()
    # A person needs the end; a join command line with a token must never get out.
    return [line for line in lines if "--token" not in line]


def kubeadm_command(state: str, again: bool) -> list[str]:
    verb = "init" if state == "initialised" else "join"
    command = ["kubeadm", verb, "--config", f"{DIRECTORY}/kubeadm.yaml"]
    if verb == "init":
        command.append("--skip-token-print")
    if again:
        command.append("--ignore-preflight-errors=" + ",".join(LEFT_BEHIND[state]))
    return command


def start(state: str, config: str, discovery: str, patches: dict[str, str]) -> None:
    again = os.path.exists(f"{DIRECTORY}/started")
    os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
    write_whole(f"{DIRECTORY}/kubeadm.yaml", config)
    if discovery:
        write_whole(f"{DIRECTORY}/discovery.yaml", discovery)
    os.makedirs(f"{DIRECTORY}/patches", mode=0o700, exist_ok=True)
    for name, text in patches.items():
        write_whole(f"{DIRECTORY}/patches/{os.path.basename(name)}", text)
    write_whole(f"{DIRECTORY}/started", "")
    subprocess.run(["systemctl", "reset-failed", UNIT], capture_output=True, check=False)
    # The marker is written by the unit itself: it says what kubeadm did even when nobody is left to ask.
    command = ["systemd-run", "--quiet", f"--unit={UNIT}", "--property=Type=oneshot", "--no-block"]
    command += [f"--property=ExecStartPost=/usr/bin/touch {DONE[state]}", *kubeadm_command(state, again)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MembershipError(f"systemd-run could not start kubeadm: {done.stderr.strip()}", [])


def wait(state: str, timeout: int) -> None:
    deadline = time.monotonic() + timeout
    while unit_state() in ("activating", "active", "deactivating"):
        if time.monotonic() > deadline:
            raise MembershipError(
                f"kubeadm has not ended after {timeout} s. It goes on in {UNIT}; run again to wait for it, or look at "
                f"'journalctl -u {UNIT}' on the server.",
                unit_log(),
            )
        time.sleep(1)
    if not os.path.exists(DONE[state]):
        raise MembershipError(
            "kubeadm failed: "
            + " / ".join(unit_log()[-6:])
            + f". The whole log: 'journalctl -u {UNIT}' on the server.",
            unit_log(),
        )


def forget_secrets() -> None:
    for name in ("kubeadm.yaml", "discovery.yaml"):
        for path in glob.glob(f"{DIRECTORY}/{name}*"):  # and what a killed run had half written
            os.unlink(path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["initialised", "joined"], "required": True},
            "config": {"type": "str", "required": True, "no_log": True},
            "discovery": {"type": "str"},
            "patches": {"type": "dict", "default": {}},
            "registered": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    params = module.params
    state = params["state"]
    running = unit_state() in ("activating", "active")
    if os.path.exists(DONE[state]) and not running:
        if params["registered"]:
            module.exit_json(changed=False)
        if not module.check_mode:
            module.run_command(["systemctl", "restart", "kubelet.service"], check_rc=True)
        module.exit_json(changed=True)
    if module.check_mode:
        module.exit_json(changed=True)
    began = time.monotonic()
    try:
        if not running:
            start(state, params["config"], params["discovery"] or "", params["patches"])
        wait(state, params["timeout"])
    except MembershipError as exc:
        module.fail_json(msg=str(exc), log=exc.log)
    except OSError as exc:
        module.fail_json(msg=f"can't run kubeadm: {exc}")
    finally:
        if unit_state() not in ("activating", "active"):
            forget_secrets()
    module.exit_json(changed=True, seconds=round(time.monotonic() - began, 1), log=unit_log()[-5:])


if __name__ == "__main__":
    main()
