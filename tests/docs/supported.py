# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/supported.md: from the contract, its recorded results and the quirk table.

python -m tests.docs.supported            write the page
python -m tests.docs.supported --measure  hold the simulator's profiles and recorded trees against the contract first
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
RESULTS = CHECKOUT / "tests" / "docs" / "contract.json"
PAGE = CHECKOUT / "docs" / "supported.md"

HEAD = """# Is my server supported?

<!-- Made by `make supported` from the contract, tests/docs/contract.json and the quirk table. Do not edit. -->

Every server whose BMC keeps the contract below is. Makers are not asked for: what a BMC offers decides, and where one
differs from the specification, an entry of the quirk table says how. Ask your own servers, before or after you buy
them:

    make accept-tools
    ansible-playbook kiban.baremetal.accept -i inventories/mine

[accept.md](accept.md) says what that does. BMCs without Redfish: [driver ipmi](bmc.md#ipmi), for power, boot device,
sensors and log.

## The contract
One interoperability profile of the DMTF for each feature area, in `contract/`. Give them to your vendor:
`rf_interop_validator` checks them without this collection too. A site run needs **inventory**, **power**, **boot** and
**virtual media**; the other areas are for the modules that their purpose names.

| area | profile | what it is for |
|---|---|---|
"""

RESULT_HEAD = """
## Results
Held against the contract by `redfish_interop_validator` {validator}. *Recorded* is the resource tree of a real server,
read by others and served by the [simulator](simulator.md) with the behaviour of that maker; *synthetic* is a tree of
the simulator, so it shows what is known of such BMCs, not what yours has. A recorded tree has no log entries and no
headers, so what only those show was not seen. No real BMC was held against the contract by this project.

{table}
✓: keeps it. A number: so many requirements are not met; they are listed below. A module may serve such a BMC
nonetheless, where the quirk table knows another way.
"""

QUIRK_HEAD = """
## Makers and what differs
Each line is an entry of `module_utils/_bmc/quirk_table.py`. *Met*: this project ran against it. The others follow their
source.

| maker or product | behaviour | met |
|---|---|---|
"""


def page(results: dict[str, Any]) -> str:
    """The whole page; a pure function of the contract, the results and the quirks."""
    from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.quirk_table import QUIRKS
    from ansible_collections.kiban.baremetal.plugins.plugin_utils._contract import AREAS, profile_path

    text = HEAD
    for area in AREAS:
        path = profile_path(area)
        purpose = json.loads(path.read_text())["Purpose"]
        text += f"| {area.replace('_', ' ')} | [{path.name}](../contract/{path.name}) | {purpose} |\n"
    names = list(results["servers"])
    table = (
        "| BMC | " + " | ".join(area.replace("_", " ") for area in AREAS) + " |\n" + "|---" * (len(AREAS) + 1) + "|\n"
    )
    for name in names:
        cells = (results["servers"][name]["areas"][area]["problems"] for area in AREAS)
        table += f"| {name} | " + " | ".join(str(len(cell)) if cell else "✓" for cell in cells) + " |\n"
    text += RESULT_HEAD.format(validator=results["validator"], table=table)
    for name in names:
        found = {area: body["problems"] for area, body in results["servers"][name]["areas"].items() if body["problems"]}
        if found:
            text += f"\n**{name}** lacks\n"
        for area, problems in found.items():
            lacking = "; ".join(f"`{one}`" for one in problems)
            text += f"- {area.replace('_', ' ')}: {lacking}\n"
    text += QUIRK_HEAD
    for quirk in QUIRKS:
        match = ", ".join(f"{key} `{value}`" for key, value in quirk["match"].items()).replace("|", "\\|")
        text += (
            f"| {match} | {quirk['why']} [source]({_link(quirk['source'])}) | {'yes' if quirk['seen'] else 'no'} |\n"
        )
    return text


def _link(source: str) -> str:
    return next((word.rstrip(";,") for word in source.split() if word.startswith("http")), "bmc.md#quirks")


def measure(python: str, before: dict[str, Any]) -> dict[str, Any]:
    """Every profile of the simulator on a synthetic tree, and on its recorded one. What is not at hand stays."""
    import subprocess

    from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options
    from ansible_collections.kiban.baremetal.plugins.plugin_utils._contract import held_against
    from ansible_collections.kiban.baremetal.tests.simulator import Simulator
    from ansible_collections.kiban.baremetal.tests.simulator.profiles import PROFILES
    from ansible_collections.kiban.baremetal.tests.simulator.trees import why_not

    version = "import importlib.metadata as m; print(m.version('redfish_interop_validator'))"
    validator = subprocess.run([python, "-c", version], check=True, capture_output=True, text=True).stdout.strip()
    with contextlib.ExitStack() as stack:
        bmcs: dict[str, Simulator] = {}
        labels = []
        for name, profile in PROFILES.items():
            for tree in ("recorded", "synthetic"):
                if tree == "recorded" and not profile.tree:
                    continue
                label = f"{name} ({tree})" if profile.tree else name
                labels.append(label)
                if tree == "recorded" and why_not(profile.tree):
                    continue
                bmcs[label] = stack.enter_context(Simulator(name, tree=tree, power="On"))
        found = held_against(python, {label: Options(**bmc.options) for label, bmc in bmcs.items()})
        open_sessions = {label: bmc.open_sessions for label, bmc in bmcs.items() if bmc.open_sessions}
    assert not open_sessions, open_sessions
    servers = {label: {"areas": _areas(label, result)} for label, result in found.items()}
    kept = {label: before["servers"][label] for label in labels if label not in servers}
    return {"validator": validator, "servers": {label: {**servers, **kept}[label] for label in labels}}


def _areas(label: str, result: dict[str, Any]) -> dict[str, Any]:
    assert "failure" not in result, (label, result["failure"])
    return {
        area: {
            "passed": body["passed"],
            "problems": [f"{one['kind']}{one['property']}: {one['message']}" for one in body["problems"]],
        }
        for area, body in result["areas"].items()
    }


def validator_python() -> str | None:
    """A Python with the validator: named, or where `make accept-tools` puts one."""
    from ansible_collections.kiban.baremetal.plugins.plugin_utils._contract import find_python

    work = Path(os.environ.get("KIBAN_WORK") or Path.home() / ".cache" / "kiban")
    return find_python([os.environ.get("KIBAN_ACCEPT_PYTHON") or str(work / "accept" / "bin" / "python")])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true")
    sys.path.insert(0, str(CHECKOUT / ".ansible" / "collections"))
    if parser.parse_args().measure:
        python = validator_python()
        if python is None:
            print("No Python has redfish_interop_validator: make accept-tools", file=sys.stderr)
            return 1
        results = measure(python, json.loads(RESULTS.read_text()))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(json.loads(RESULTS.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
