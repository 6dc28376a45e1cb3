#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_apply
short_description: Objects of a Kubernetes cluster, by server-side apply
version_added: 0.1.0
description:
  - Makes objects of a cluster as the manifests say (V(present)), or removes them (V(absent)).
  - The API server itself compares; C(changed) is true only where it would store something else than it has. Nothing is
    written where nothing differs.
  - Fields are owned by the field manager C(kiban). Fields that the manifests do not name are left alone.
  - Namespaces and custom resource definitions are applied before everything else, wherever they stand.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
  - kiban.baremetal.kube
attributes:
  check_mode:
    support: full
    details:
      - Objects whose namespace or kind is not there yet are predicted as created. So is everything where there is no
        kubeconfig yet or the API server does not answer; a warning then says so.
  diff_mode:
    support: full
    details:
      - Values of Secrets are masked.
options:
  state:
    description: Whether the objects are there.
    type: str
    choices: [present, absent]
    default: present
    version_added: 0.1.0
  manifests:
    description:
      - The objects. A string is read as YAML (with any number of documents) or JSON; a list holds a dictionary each.
    type: raw
    required: true
    version_added: 0.1.0
  force_conflicts:
    description:
      - Whether to take over fields that another field manager has set to something else. Otherwise this is an error.
    type: bool
    default: false
    version_added: 0.1.0
  timeout:
    description:
      - Seconds. How long a busy or absent API server is asked again, and how long a deletion may take.
    type: int
    default: 180
    version_added: 0.1.0
"""

EXAMPLES = r"""
- name: Apply the storage driver
  kiban.baremetal.kube_apply:
    kubeconfig: /root/site/kubeconfig
    manifests: "{{ lookup('ansible.builtin.template', 'storage.yaml.j2') }}"

- name: Remove a namespace and all that is in it
  kiban.baremetal.kube_apply:
    kubeconfig: /root/site/kubeconfig
    state: absent
    manifests:
      - {apiVersion: v1, kind: Namespace, metadata: {name: scratch}}
    timeout: 180
"""

RETURN = r"""
objects:
  description: What was changed, or would be in check mode. Objects that are as they should be are not in it.
  type: list
  elements: dict
  returned: always
  contains:
    kind:
      description: Kind of the object.
      type: str
    namespace:
      description: Its namespace; empty where the kind has none.
      type: str
    name:
      description: Its name.
      type: str
    action:
      description: What was done to it.
      type: str
      choices: [created, configured, deleted]
  sample: [{kind: Namespace, namespace: "", name: scratch, action: created}]
"""

import json
import os
import re
from dataclasses import dataclass, field

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._kubectl import (
    FIELD_MANAGER,
    HIDDEN,
    ApiUnreachable,
    Kubectl,
    KubeError,
    NotServed,
    kube_argument_spec,
    label,
    mask_object,
    secret_values,
)

# A prediction does not wait for a server that is down as long as a change would.
CHECK_TIMEOUT = 15
FIRST = ("Namespace", "CustomResourceDefinition")
# In the diff of a Secret only these lines keep their values; kubectl masks too, but not annotations.
SHOWN = ("apiVersion", "kind", "name", "namespace", "type", "immutable", "uid", "creationTimestamp", "resourceVersion")


@dataclass
class Change:
    objects: list[dict[str, str]] = field(default_factory=list)
    diff: list[str] = field(default_factory=list)

    def add(self, obj: dict, action: str, diff: str) -> None:
        meta = obj["metadata"]
        named = {"kind": obj["kind"], "namespace": meta.get("namespace") or "", "name": meta["name"], "action": action}
        self.objects.append(named)
        self.diff.append(diff)


def check_manifests(docs: list) -> list[dict]:
    """Refuses what is no list of objects, with a sentence that names the place."""
    kept = [doc for doc in docs if doc is not None]
    for place, doc in enumerate(kept, 1):
        if not isinstance(doc, dict):
            raise KubeError(f"manifests: document {place} is no object but a {type(doc).__name__}")
        for key in ("apiVersion", "kind"):
            if not doc.get(key):
                raise KubeError(f"manifests: document {place} has no {key}")
        if not (doc.get("metadata") or {}).get("name"):
            raise KubeError(f"manifests: document {place} ({doc['kind']}) has no metadata.name")
    return kept


def read_manifests(kube: Kubectl, manifests: object) -> list[dict]:
    if isinstance(manifests, dict):
        manifests = [manifests]
    if isinstance(manifests, list):
        return check_manifests(manifests)
    text = str(manifests)
    if not re.search(r"^\s*[^#\s-]", text, re.MULTILINE):
        return []
    return check_manifests(kube.read_yaml(text))


def mask_section(text: str) -> str:
    """One object's section of a diff; for a Secret without any value that could be secret."""
    if not re.search(r"^\+\+\+ v1\.Secret\.", text, re.MULTILINE):
        return text
    lines = []
    for line in text.splitlines():
        pair = re.match(r"([ +-]\s*)([^\s:]+):(\s+)(.+)$", line)
        header = line.startswith(("+++ ", "--- ", "@@ ")) or re.match(r"[ +-]\s*[^\s:]+:$", line)
        if header or (pair and (pair[2] in SHOWN or pair[4].startswith("'***") or pair[4] == "{}")):
            lines.append(line)
        else:
            lines.append(f"{pair[1]}{pair[2]}:{pair[3]}{HIDDEN}" if pair else line[:1] + HIDDEN)
    return "\n".join(lines)


def split_diff(text: str) -> dict[str, tuple[str, bool]]:
    """kubectl's diff, cut into one section a file: C(group.version.kind.namespace.name) -> (text, is it new)."""
    sections = {}
    for part in re.split(r"^diff .*\n", text, flags=re.MULTILINE)[1:]:
        head = re.match(r"--- \S*/([^/\t\n]+)(?:\t.*)?\n\+\+\+ \S*/([^/\t\n]+)(?:\t.*)?\n", part)
        if head:
            body = part[head.end() :].rstrip("\n")
            sections[head[2]] = (f"--- {head[1]} (live)\n+++ {head[2]} (wanted)\n{body}", body.startswith("@@ -0,0 "))
    return {name: (mask_section(section), new) for name, (section, new) in sections.items()}


def file_name(doc: dict) -> re.Pattern:
    """How kubectl names the object's file; an object without a namespace may have got one from the kubeconfig."""
    meta = doc["metadata"]
    kind = re.escape(".".join([*doc["apiVersion"].split("/"), doc["kind"]]))
    space = re.escape(meta["namespace"]) if meta.get("namespace") else r"[^.]*"
    return re.compile(rf"{kind}\.{space}\.{re.escape(meta['name'])}$")


def created_diff(doc: dict) -> str:
    body = json.dumps(mask_object(doc), indent=2, sort_keys=True).splitlines()
    return "\n".join([f"+++ {label(doc)} (wanted)", *(f"+{line}" for line in body)])


class Present:
    def __init__(self, kube: Kubectl, check: bool, force: bool) -> None:
        self.kube = kube
        self.check = check
        self.flags = ["--server-side", f"--field-manager={FIELD_MANAGER}", f"--force-conflicts={str(force).lower()}"]

    def ensure(self, docs: list[dict]) -> Change:
        change = Change()
        for batch in ([d for d in docs if d["kind"] in FIRST], [d for d in docs if d["kind"] not in FIRST]):
            if not batch:
                continue
            before = len(change.objects)
            self.compare(batch, change)
            if len(change.objects) > before and not self.check:
                self.apply(batch)
        return change

    def compare(self, docs: list[dict], change: Change) -> None:
        try:
            out = self.kube.run(["diff", *self.flags, "--concurrency=8", "--filename=-"], docs, ok=(0, 1))
        except NotServed:
            if not self.check:
                raise
            # What a real run makes just before is missing in check mode: look at each object by itself.
            if len(docs) == 1:
                change.add(docs[0], "created", created_diff(docs[0]))
            else:
                for doc in docs:
                    self.compare([doc], change)
            return
        sections = split_diff(out.stdout) if out.rc == 1 else {}
        for doc in docs:
            wanted = file_name(doc)
            for name, (text, new) in sections.items():
                if wanted.match(name):
                    change.add(doc, "created" if new else "configured", text)

    def apply(self, docs: list[dict]) -> None:
        # The server knows its fields; kubectl would first fetch megabytes of schema to say the same.
        self.kube.run(["apply", *self.flags, "--validate=false", "--filename=-"], docs)
        definitions = [f"crd/{doc['metadata']['name']}" for doc in docs if doc["kind"] == "CustomResourceDefinition"]
        if definitions:
            wait = f"--timeout={int(self.kube.timeout)}s"
            self.kube.run(["wait", "--for=condition=Established", wait, *definitions])


def remove(kube: Kubectl, docs: list[dict], check: bool) -> Change:
    change, found = Change(), []
    for doc in reversed(docs):
        try:
            out = kube.run(["get", "--ignore-not-found", "--output=name", "--filename=-"], [doc])
        except NotServed:
            continue
        if out.stdout.strip():
            found.append(doc)
            change.add(doc, "deleted", f"--- {label(doc)} (live)")
    if found and not check:
        wait = f"--timeout={int(kube.timeout)}s"
        kube.run(["delete", "--ignore-not-found", "--wait", wait, "--filename=-"], found)
    return change


def predicted(docs: list[dict], state: str) -> Change:
    """What check mode says of a cluster that does not answer."""
    change = Change()
    for doc in docs if state == "present" else []:
        change.add(doc, "created", created_diff(doc))
    return change


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            kube_argument_spec(),
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            manifests={"type": "raw", "required": True},
            force_conflicts={"type": "bool", "default": False},
            timeout={"type": "int", "default": 180},
        ),
        supports_check_mode=True,
        no_log=True,  # keeps the manifests, which may hold Secrets, out of the system log
    )
    params = module.params
    manifests = params["manifests"]
    # The same for the copy of the options that goes back with the result.
    params["manifests"] = "not shown: may hold Secrets"
    check = module.check_mode
    kube = Kubectl(params["kubectl"], params["kubeconfig"], timeout=CHECK_TIMEOUT if check else params["timeout"])
    try:
        docs = read_manifests(kube, manifests)
        kube.secrets = secret_values(docs)
        if not os.path.exists(params["kubeconfig"]):
            if not check:
                raise KubeError(f"There is no kubeconfig at {params['kubeconfig']}: the cluster is not formed yet.")
            module.warn(f"No kubeconfig at {params['kubeconfig']} yet: every object counts as missing.")
            change = predicted(docs, params["state"])
        elif params["state"] == "present":
            change = Present(kube, check, params["force_conflicts"]).ensure(docs)
        else:
            change = remove(kube, docs, check)
    except ApiUnreachable as exc:
        if not check:
            module.fail_json(msg=str(exc))
        module.warn(f"{exc}. Every object counts as missing.")
        change = predicted(docs, params["state"])
    except KubeError as exc:
        module.fail_json(msg=str(exc))
    result = {"changed": bool(change.objects), "objects": change.objects}
    if module._diff:
        result["diff"] = {"prepared": "\n".join(change.diff) + "\n" if change.diff else ""}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
