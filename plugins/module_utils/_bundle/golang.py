# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Programs from Go modules. The lock files decide what is compiled: go.sum holds the digest of every module."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import BundleError
from .process import run
from .recipe import Artifact, fill_in
from .store import Facts, Store

__all__ = ["build", "complete", "find_go", "inputs", "program_file", "toolchain"]

_PLACES = ["/usr/local/go/bin", "/usr/lib/go/bin"]
_FLAGS = "-mod=readonly -trimpath -buildvcs=false"


def find_go(version: str | None = None) -> str | None:
    """A `go` command of this version, or of any."""
    for place in [*os.environ.get("PATH", "").split(os.pathsep), *_PLACES]:
        command = shutil.which("go", path=place)
        if command and (version is None or _version(command) == f"go{version}"):
            return command
    return None


def _version(command: str) -> str:
    try:
        return run("go", [command, "env", "GOVERSION"], Path("/"), env=_environment()).strip()
    except BundleError:
        return ""


def _environment(**more: str) -> dict[str, str]:
    # What a person has set for daily work must not decide what is built here. The module proxy may be theirs.
    env = {"GOFLAGS": _FLAGS, "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}
    env.update({"GOOS": "linux", "GOARCH": "amd64", "GOAMD64": "v1", "GOEXPERIMENT": "", "LC_ALL": "C"})
    if "HOME" not in os.environ:
        env["HOME"] = pwd.getpwuid(os.getuid()).pw_dir
    env.update(more)
    return env


def toolchain(store: Store, pinned: dict[str, str]) -> str:
    """The pinned Go, as installed, or else got as a module by whatever Go there is."""
    installed = find_go(pinned["version"])
    if installed:
        return installed
    what = f"Go {pinned['version']}"
    helper = find_go()
    if not helper:
        raise BundleError(
            f"{what}: no go command is installed. Install the Debian package golang-go: any version will do"
        )

    def get(place: Path) -> Facts:
        cache = place / "modules"
        env = _environment(GOFLAGS="-modcacherw", GO111MODULE="on", GOMODCACHE=str(cache), GOTMPDIR=str(place))
        said = run(what, [helper, "mod", "download", "-json", pinned["module"]], place, env=env, cwd=place)
        found = json.loads(said)
        if found.get("Sum") != pinned["sum"]:
            raise BundleError(
                f"{what}: {pinned['module']} has the checksum {found.get('Sum')}, bundle.yml says {pinned['sum']}. "
                "Somebody changed it on the way: do not use it. Ask who runs the module proxy"
            )
        Path(found["Dir"]).rename(place / "go")
        shutil.rmtree(cache)
        for pattern in ("bin/*", "pkg/tool/*/*"):
            for program in (place / "go").glob(pattern):
                program.chmod(0o755)
        # A module cannot contain another go.mod, so this one travels under another name.
        for hidden in (place / "go" / "src").rglob("_go.mod"):
            shutil.copyfile(hidden, hidden.with_name("go.mod"))
        return Facts(origin=[f"{pinned['module']} {pinned['sum']}"], files=["go/bin/go"])

    item, _made = store.ensure(what, {"toolchain": pinned["module"], "sum": pinned["sum"]}, get)
    return str(item.path / "go" / "bin" / "go")


def inputs(artifact: Artifact, locks: Path, pinned: dict[str, str]) -> dict[str, Any]:
    """Everything that decides what comes out of a build."""
    folder = locks / artifact.name
    files = sorted(path for path in folder.rglob("*") if path.name in ("go.mod", "go.sum") or path.suffix == ".go")
    if folder / "go.mod" not in files:
        raise BundleError(f"{artifact.name}: there is no {folder}/go.mod. Run relock.py {artifact.name}")
    return {
        "programs": artifact.part("modules", "go"),
        "version": artifact.version,
        "lock": {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "go": pinned["version"],
        "flags": _FLAGS,
    }


def complete(name: str, recipe: Mapping[str, Any], folder: Path, go: str, place: Path) -> Path:
    """The lock files with the modules beside them of which only a part is taken, in a new directory of C(place).

    What the lock files have in such a module's directory stands in the place of what was left out.
    """
    source = place / "source"
    for part in recipe["partial"]:
        module, env = part["module"], _environment(GOFLAGS="", GO111MODULE="on")
        found = json.loads(run(name, [go, "mod", "download", "-json", module], place, env=env, cwd=place))
        if found.get("Sum") != part["sum"]:
            raise BundleError(f"{name}: {module} has the checksum {found.get('Sum')}, bundle.yml says {part['sum']}")
        target = source / part["directory"]
        shutil.copytree(found["Dir"], target)
        # Files of Go's module cache are read-only, and so are its directories.
        for directory, _directories, _files in os.walk(target):
            os.chmod(directory, 0o755)
        for left_out in part["without"]:
            shutil.rmtree(target / left_out)
    shutil.copytree(folder, source, dirs_exist_ok=True)
    return source


def program_file(package: str, module: str) -> str:
    """What the go command calls the program of a package: the last element that is not a major version."""
    parts = (module if package == "." else package).split("/")
    return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) and len(parts) > 1 else parts[-1]


def build(artifact: Artifact, locks: Path, go: str, place: Path) -> Facts:
    """Compile the programs of an artifact into an empty directory."""
    recipe = artifact.part("modules", "go")
    folder = locks / artifact.name
    module = re.search(r"^module (\S+)", (folder / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    stamps = " ".join(
        _stamp(name, fill_in(value, artifact.version)) for name, value in (recipe.get("stamps") or {}).items()
    )
    scratch = place / "scratch"
    scratch.mkdir()
    if recipe.get("partial"):
        folder = complete(f"{artifact.name} {artifact.version}", recipe, folder, go, scratch)
    if recipe["programs"]:
        argv = [go, "build", "-ldflags", f"-s -w {stamps}".strip(), "-o", f"{place}/"]
        if recipe.get("tags"):
            argv += ["-tags", ",".join(recipe["tags"])]
        argv += sorted(set(recipe["programs"].values()))
        run(f"{artifact.name} {artifact.version}", argv, place, env=_environment(GOTMPDIR=str(scratch)), cwd=folder)
    shutil.rmtree(scratch)
    for name, package in recipe["programs"].items():
        made = place / program_file(package, module.group(1) if module else "")
        if made.name != name:
            made.rename(place / name)
    for name, source in (recipe.get("trees") or {}).items():
        _tree(f"{artifact.name} {artifact.version}", recipe["require"], source, go, locks / artifact.name, place / name)
    for name, source in (recipe.get("joined") or {}).items():
        _join(artifact, source, locks / artifact.name, go, place / name)
    return Facts(origin=_origin(artifact, locks / artifact.name))


def _join(artifact: Artifact, source: Mapping[str, str], folder: Path, go: str, target: Path) -> None:
    """YAML files of a module, one after the other."""
    what = f"{artifact.name} {artifact.version}"
    said = run(what, [go, "mod", "download", "-json", source["module"]], target, env=_environment(), cwd=folder)
    files = sorted(Path(json.loads(said)["Dir"]).glob(source["files"]))
    if not files:
        raise BundleError(f"{what}: {source['module']} has no {source['files']}")
    target.write_text("---\n".join(path.read_text(encoding="utf-8") for path in files), encoding="utf-8")


def _stamp(name: str, value: str) -> str:
    # The go command splits this again, and knows quotes.
    return f"-X '{name}={value}'" if " " in value else f"-X {name}={value}"


def _tree(what: str, required: dict[str, str], source: str, go: str, folder: Path, target: Path) -> None:
    """A directory of a Go module, as a tar archive: the same bytes from the same module."""
    owners = [module for module in required if f"{source}/".startswith(f"{module}/")]
    if not owners:
        raise BundleError(f"{what}: trees: {source} is in none of the required modules")
    owner = max(owners, key=len)
    argv = [go, "list", "-m", "-f", "{{.Dir}}", owner]
    root = Path(run(what, argv, folder, env=_environment(), cwd=folder).strip()) / source[len(owner) + 1 :]
    if not root.is_dir():
        raise BundleError(f"{what}: trees: there is no directory {source}")
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            info = tarfile.TarInfo(str(path.relative_to(root)))
            info.mode, info.size = 0o644, path.stat().st_size
            with open(path, "rb") as stream:
                tar.addfile(info, stream)


def _origin(artifact: Artifact, folder: Path) -> list[str]:
    sums = (folder / "go.sum").read_text(encoding="utf-8") if (folder / "go.sum").exists() else ""
    found = []
    for name, version in (artifact.part("modules", "go").get("require") or {}).items():
        wanted = f"{name} {fill_in(version, artifact.version)} "
        found += [f"Go module {line}" for line in sums.splitlines() if line.startswith(wanted)]
    return found or [f"source in the collection: {artifact.name}"]
