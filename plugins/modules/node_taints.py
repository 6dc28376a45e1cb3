#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_taints
short_description: Taints of the nodes of a Kubernetes cluster
version_added: 0.1.0
description:
  - Puts taints on nodes. Taints that are not named stay, so those that Kubernetes and others set are left alone.
  - Not by server-side apply, which knows the taints of a node only as one whole list.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
  - kiban.baremetal.kube
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  taints:
    description:
      - Node name to a list of taints, each with C(key), C(value) and C(effect).
      - A node that does not exist is an error, and then none is changed.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Put the model's taints on a node
  kiban.baremetal.node_taints:
    kubeconfig: "{{ kiban_site_dir }}/kubeconfig"
    kubectl: "{{ kiban_work }}/bundle/bin/kubectl"
    taints:
      archive1:
        - {key: example.net/archive, value: "true", effect: NoSchedule}
"""

RETURN = r"""
changed_nodes:
  description: Nodes that were changed or, in check mode, would be.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._kubectl import Kubectl, KubeError, kube_argument_spec


def words(taint: dict[str, Any]) -> str:
    """As C(kubectl taint) takes it."""
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def missing(nodes: list[dict[str, Any]], wanted: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Node name to the taints that it lacks or has with another value."""
    have = {node["metadata"]["name"]: {words(t) for t in node["spec"].get("taints") or []} for node in nodes}
    absent = sorted(set(wanted) - set(have))
    if absent:
        raise KubeError(f"there is no node {', '.join(absent)}")
    lacking = {name: [words(t) for t in taints if words(t) not in have[name]] for name, taints in wanted.items()}
    return {name: taints for name, taints in lacking.items() if taints}


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(kube_argument_spec(), taints={"type": "dict", "required": True}), supports_check_mode=True
    )
    params = module.params
    kube = Kubectl(params["kubectl"], params["kubeconfig"])
    todo: dict[str, list[str]] = {}
    done: list[str] = []
    try:
        if params["taints"]:
            todo = missing(kube.get(["nodes", *sorted(params["taints"])]), params["taints"])
        for name, taints in sorted(todo.items()):
            if not module.check_mode:
                kube.run(["taint", "nodes", name, *taints, "--overwrite"])
            done.append(name)
    except KubeError as exc:
        before = f" Done before: {', '.join(done)}." if done else ""
        module.fail_json(msg=f"taints: {exc}{before}")
    diff = [{"header": name, "before": "", "after": "\n".join(taints) + "\n"} for name, taints in sorted(todo.items())]
    module.exit_json(changed=bool(done), changed_nodes=done, diff=diff)


if __name__ == "__main__":
    main()
