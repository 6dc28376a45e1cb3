#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle
short_description: Build or download everything that a site runs
version_added: 0.1.0
description:
  - Makes a directory with every artifact of a release and a manifest of versions and checksums.
  - Results are kept by the digest of what they are made from, so that nothing is built or downloaded twice.
    What is killed leaves nothing that looks finished, and runs side by side do not disturb each other.
  - It runs on the control host and needs no container engine.
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
    details:
      - In check mode, O(state=present) and O(state=stored) return what is missing in RV(missing) and RV(needs).
  diff_mode:
    support: full
    details:
      - The diff lists the files of the bundle with their checksums.
options:
  state:
    description:
      - V(present) makes what is missing and puts the bundle directory together.
      - V(stored) only makes what is missing of O(artifacts), and leaves the bundle directory alone.
      - V(verified) reads every file of the bundle again, compares it with the manifest, and fails where they differ.
    type: str
    choices: [present, stored, verified]
    default: present
  work:
    description:
      - Directory of the work. Results are kept in C(store), the bundle is in C(bundle).
    type: path
    required: true
  recipe:
    description:
      - The content of C(bundle.yml), see the page about the bundle. Needed unless O(state=verified).
    type: dict
  locks:
    description:
      - Directory with a directory for each Go program, that holds its C(go.mod) and C(go.sum).
        Needed unless O(state=verified).
    type: path
  source:
    description:
      - V(modules) compiles from Go modules and takes files from Debian packages.
      - V(upstream) downloads the release files and images of their publishers.
    type: str
    choices: [modules, upstream]
    default: modules
  optional:
    description:
      - Names of optional artifacts that the bundle shall have too.
    type: list
    elements: str
    default: []
  artifacts:
    description:
      - Names of the artifacts to make. All that the bundle shall have if it is empty, and always with
        O(state=present).
    type: list
    elements: str
    default: []
  debian_mirror:
    description:
      - Address of a Debian mirror. If it is empty, the one that this machine uses is taken.
    type: str
    default: ""
  checksums:
    description:
      - Checksums that O(recipe) does not know, or other ones.
        The key is an address (and the value a SHA-256 in hexadecimal digits), or an image with its tag (and the value
        V(sha256:) and hexadecimal digits).
    type: dict
    default: {}
  mirrors:
    description:
      - Beginnings of addresses and image names, and what to put in their place, for sites with mirrors of their own.
        Checksums stay those of the publisher.
    type: dict
    default: {}
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Make the bundle from Go modules and Debian packages
  kiban.baremetal.bundle:
    work: ~/.cache/kiban
    recipe: "{{ lookup('ansible.builtin.file', 'bundle.yml') | from_yaml }}"
    locks: "{{ role_path }}/files/go"

- name: Check that nobody changed it
  kiban.baremetal.bundle:
    state: verified
    work: ~/.cache/kiban
"""

RETURN = r"""
id:
  description: Digest over the content of the bundle. The same artifacts have the same one, wherever they were made.
  returned: when O(state) is not V(stored), and nothing is missing
  type: str
  sample: 0c1b5c0ff0f3a1e7d4f4d2c4bb6d8b5d3b6a3f5e0f3a1e7d4f4d2c4bb6d8b5d3
manifest:
  description: Path of the manifest.
  returned: always
  type: str
  sample: /root/.cache/kiban/bundle/manifest.json
missing:
  description: Artifacts that are not in the store.
  returned: when O(state) is not V(verified)
  type: list
  elements: dict
  contains:
    name:
      description: Name of the artifact.
      type: str
    version:
      description: Its version.
      type: str
  sample: [{name: kubernetes, version: v1.36.3}]
needs:
  description: Debian packages that must be installed before the missing artifacts can be made.
  returned: when O(state) is not V(verified)
  type: list
  elements: str
  sample: [golang-go]
lines:
  description: One line for each artifact, which says what was done and how long it took.
  returned: when O(state) is not V(verified)
  type: list
  elements: str
  sample: ["kubernetes v1.36.3: programs built in 401.2 s"]
files:
  description: Files of the bundle that changed.
  returned: when O(state=present)
  type: list
  elements: str
  sample: [bin/kubelet]
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._bundle.builder import Builder, Settings
from ..module_utils._bundle.errors import BundleError, disk_trouble
from ..module_utils._bundle.manifest import describe, put_together, read, verify
from ..module_utils._bundle.recipe import Artifact, Recipe
from ..module_utils._bundle.store import Item, Store, locked


def listing(manifest: dict[str, Any] | None) -> str:
    entries = manifest["artifacts"] if manifest else []
    return "".join(f"{entry['sha256']}  {entry['file']}\n" for entry in entries)


def look(builder: Builder, wanted: list[Artifact]) -> dict[str, Item | None]:
    """What is there of the artifacts; what is wrong with any of them, all at once."""
    found, problems = {}, []
    for artifact in wanted:
        try:
            found[artifact.name] = builder.find(artifact)
        except BundleError as error:
            problems.append(str(error))
    if problems:
        raise BundleError("\n".join(problems))
    return found


def make(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """What is missing, then the bundle directory."""
    work = Path(params["work"])
    recipe = Recipe.load(params["recipe"], params["optional"])
    settings = Settings(
        source=params["source"],
        locks=Path(params["locks"]),
        debian_mirror=params["debian_mirror"] or None,
        checksums=params["checksums"],
        mirrors=params["mirrors"],
    )
    builder = Builder(recipe, Store(work / "store"), settings)
    whole = params["state"] == "present"
    wanted = recipe.wanted(None if whole else params["artifacts"])
    found = look(builder, wanted)
    missing = [artifact for artifact in wanted if found[artifact.name] is None]
    result: dict[str, Any] = {
        "changed": bool(missing),
        "manifest": str(work / "bundle" / "manifest.json"),
        "missing": [{"name": artifact.name, "version": artifact.version} for artifact in missing],
        "needs": builder.needs(missing),
        "lines": [],
        "files": [],
    }
    items = {artifact.name: item for artifact in wanted if (item := found[artifact.name])}
    for artifact in wanted:
        if artifact.name in items:
            builder.note(artifact, items[artifact.name])
        elif not check:
            items[artifact.name] = builder.make(artifact)
    result["lines"] = [str(step) for step in builder.steps]
    if missing and check:
        return result
    if whole:
        with disk_trouble("bundle", work), locked(work / "bundle.lock"):
            old = read(work / "bundle")
            manifest, files = describe(recipe, params["source"], items)
            result["files"] = put_together(work / "bundle", manifest, files, check)
        result["id"] = manifest["id"]
        result["changed"] = result["changed"] or bool(result["files"])
        result["diff"] = {"before": listing(old), "after": listing(manifest)}
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["present", "stored", "verified"], "default": "present"},
            "work": {"type": "path", "required": True},
            "recipe": {"type": "dict"},
            "locks": {"type": "path"},
            "source": {"choices": ["modules", "upstream"], "default": "modules"},
            "optional": {"type": "list", "elements": "str", "default": []},
            "artifacts": {"type": "list", "elements": "str", "default": []},
            "debian_mirror": {"type": "str", "default": ""},
            "checksums": {"type": "dict", "default": {}},
            "mirrors": {"type": "dict", "default": {}},
        },
        required_if=[("state", "present", ("recipe", "locks")), ("state", "stored", ("recipe", "locks"))],
        supports_check_mode=True,
    )
    try:
        if module.params["state"] == "verified":
            bundle = Path(module.params["work"]) / "bundle"
            found = verify(bundle)
            module.exit_json(changed=False, id=found["id"], manifest=str(bundle / "manifest.json"))
        module.exit_json(**make(module.params, module.check_mode))
    except BundleError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
