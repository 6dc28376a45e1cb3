# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write go/<name>/{go.mod,go.sum,tools.go} anew from bundle.yml: relock.py [NAME ...]

Run it after changing a version in bundle.yml, read the diff, commit it with the change.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "plugins" / "module_utils"))

from _bundle.golang import complete  # noqa: E402


def go(*argv: str, cwd: Path) -> str:
    env = os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    done = subprocess.run(["go", *argv], cwd=cwd, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"relock: go {' '.join(argv)} failed in {cwd}")
    return done.stdout


def describe(module: str, version: str, cwd: Path) -> tuple[dict[str, Any], str]:
    """The publisher's own go.mod of a module, and go.sum."""
    found = json.loads(go("mod", "download", "-json", f"{module}@{version}", cwd=cwd))
    sums = Path(found["Dir"], "go.sum")
    described = json.loads(go("mod", "edit", "-json", found["GoMod"], cwd=cwd))
    return described, sums.read_text(encoding="utf-8") if sums.exists() else ""


def replaces(described: dict[str, Any], staging: str | None) -> dict[str, str]:
    """Replacements of the publisher hold only in its own module: take them over; staged modules get theirs."""
    found = {}
    for entry in described.get("Replace") or []:
        old, new = entry["Old"]["Path"], entry["New"]
        if new.get("Version"):
            found[old] = f"{new['Path']} {new['Version']}"
        elif staging and new["Path"].startswith("./staging/"):
            found[old] = f"{old} {staging}"
    return found


def aligned(other: str) -> tuple[dict[str, str], dict[str, str]]:
    """The versions that another artifact is built with: what both use is then compiled once."""
    described = json.loads(go("mod", "edit", "-json", str(HERE / "go" / other / "go.mod"), cwd=HERE))
    return {entry["Path"]: entry["Version"] for entry in described["Require"]}, replaces(described, None)


def relock(name: str, version: str, recipe: dict[str, Any]) -> None:
    folder = HERE / "go" / name
    folder.mkdir(parents=True, exist_ok=True)
    required = {m: v.format(version=version) for m, v in recipe.get("require", {}).items()}
    language, godebug, replaced, sums = "1.26.0", [], dict(recipe.get("replace", {})), ""
    for module, wanted in required.items():
        described, own = describe(module, wanted, folder.parent)
        sums += own
        language = described.get("Go", language)
        godebug = [f"godebug {g['Key']}={g['Value']}" for g in described.get("GoDebug") or []] or godebug
        replaced = replaces(described, recipe.get("staging")) | replaced
    minimum: dict[str, str] = {}
    if "align" in recipe:
        minimum, others = aligned(recipe["align"])
        replaced = others | replaced
    lines = [f"module kiban.test/bundle/{name}", "", f"go {language}", "", *godebug, ""]
    lines += ["require (", *(f"{m} {v}" for m, v in (minimum | required).items()), ")"]
    lines += ["replace (", *(f"{old} => {new}" for old, new in sorted(replaced.items())), ")"]
    (folder / "go.mod").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # The database of checksums does not know every fork that a publisher builds with. `mod tidy` drops the rest.
    (folder / "go.sum").write_text("".join(f"{line}\n" for line in sorted(set(sums.splitlines()))), encoding="utf-8")
    imports = sorted(set(recipe["programs"].values()) - {"."})
    if imports:
        body = "".join(f'\t_ "{path}"\n' for path in imports)
        (folder / "tools.go").write_text(
            f"//go:build tools\n\n// Written by relock.py.\npackage tools\n\nimport (\n{body})\n", encoding="utf-8"
        )
    if recipe.get("partial"):
        with tempfile.TemporaryDirectory() as scratch:
            source = complete(name, recipe, folder, "go", Path(scratch))
            go("mod", "tidy", cwd=source)
            for file in ("go.mod", "go.sum"):
                shutil.copyfile(source / file, folder / file)
    elif recipe["programs"]:
        go("mod", "tidy", cwd=folder)
    else:
        go("mod", "edit", "-fmt", cwd=folder)
        (folder / "go.sum").unlink()
        go("mod", "download", *required, cwd=folder)
    if minimum:
        described = json.loads(go("mod", "edit", "-json", cwd=folder))
        used = {entry["Path"] for entry in described["Require"]}
        unused = [f"-dropreplace={old}" for old in replaced if old not in used]
        go("mod", "edit", *unused, cwd=folder)
        go("mod", "tidy", cwd=folder)


def main() -> None:
    bundle = yaml.safe_load((HERE / "bundle.yml").read_text(encoding="utf-8"))
    names = sys.argv[1:]
    for artifact in bundle["artifacts"]:
        recipe = artifact.get("modules", {}).get("go")
        if recipe and (not names or artifact["name"] in names):
            print(f"relock: {artifact['name']} {artifact['version']}", flush=True)
            relock(artifact["name"], str(artifact["version"]), recipe)


if __name__ == "__main__":
    main()
