#!/usr/bin/env python3
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of LVM's commands as volume-provisioner uses, on a JSON file: one volume group, extents of 4 MiB."""

from __future__ import annotations

import json
import sys
from pathlib import Path

STATE = Path(__file__).resolve().with_name("lvm.json")
EXTENT = 4 << 20


def main(command: str, args: list[str]) -> str:
    state = json.loads(STATE.read_text())
    volumes = state["volumes"]
    options = dict(word[2:].partition("=")[::2] for word in args if word.startswith("--"))
    group, _slash, name = next(word for word in args if not word.startswith("--")).partition("/")
    if group != state["name"]:
        raise SystemExit(f'Volume group "{group}" not found')
    extents = -(-int(options.get("size", "0b")[:-1]) // EXTENT)
    free = state["extents"] - sum(volume["extents"] for volume in volumes.values())
    if command == "vgs":
        return f"  {free * EXTENT}\n"
    if command == "lvs":
        found = volumes.get(options["select"].partition("=")[2])
        return f"  {found['extents'] * EXTENT};{','.join(found['tags'])}\n" if found else ""
    if command == "lvcreate":
        if extents > free or options["name"] in volumes:
            raise SystemExit("insufficient free space, or it exists")
        volumes[options["name"]] = {"extents": extents, "tags": [options["addtag"]]}
    elif command == "lvextend":
        volumes[name]["extents"] = extents
    elif command == "lvchange":
        tags = [tag for tag in volumes[name]["tags"] if tag != options["deltag"]]
        volumes[name]["tags"] = [*tags, options["addtag"]]
    elif command == "lvremove":
        del volumes[name]
    # In one step: the test looks at any moment.
    (new := STATE.with_suffix(".new")).write_text(json.dumps(state))
    new.rename(STATE)
    return ""


if __name__ == "__main__":
    sys.stdout.write(main(Path(sys.argv[0]).name, sys.argv[1:]))
