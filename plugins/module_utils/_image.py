# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Images from Debian packages: each step is a recipe, and its result is kept by the key of everything that went in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._bundle.errors import BundleError, disk_trouble
from ._bundle.process import run
from ._bundle.store import Facts, File, Item, Store, digest_of, key_of, locked

__all__ = ["Debian", "Images", "debian_argument_spec", "installed", "kernel_version", "missing_tools", "recipe_digest"]

ID_LENGTH = 16


@dataclass(frozen=True)
class Debian:
    """A root file system from Debian packages."""

    suite: str
    components: str
    packages: list[str]
    epoch: int
    mirror: str = ""
    keyring: str = ""

    @classmethod
    def of(cls, params: dict[str, Any], packages: list[str]) -> Debian:
        """From the options of a module, and the packages that it wants."""
        same = {name: params[name] for name in ("suite", "epoch", "mirror", "keyring")}
        return cls(components=",".join(params["components"]), packages=sorted(set(packages)), **same)


def debian_argument_spec() -> dict[str, Any]:
    """The options that both kinds of images have."""
    return {
        "state": {"type": "str", "choices": ["present"], "default": "present"},
        "work": {"type": "path", "required": True},
        "recipes": {"type": "path", "required": True},
        "packages": {"type": "list", "elements": "str", "required": True},
        "suite": {"type": "str", "default": "trixie"},
        "components": {"type": "list", "elements": "str", "default": ["main"]},
        "mirror": {"type": "str", "default": ""},
        "keyring": {"type": "str", "default": "", "no_log": False},
        "epoch": {"type": "int", "default": 1754697600},
        "refresh": {"type": "bool", "default": False},
        "kernel_args": {"type": "str", "required": True},
        "compression_level": {"type": "int", "required": True},
    }


def missing_tools(tools: dict[str, str]) -> list[str]:
    """The Debian packages of the programs that are not there. Tools in sbin count even if it is not in PATH."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return sorted({package for tool, package in tools.items() if shutil.which(tool, path=path) is None})


def recipe_digest(folder: Path, names: list[str]) -> str:
    """Digest over files and directories of recipes: their names, contents and whether they can be run."""
    digest = hashlib.sha256()
    for name in names:
        top = folder / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file():
                digest.update(f"{path.relative_to(folder)} {path.stat().st_mode & 0o100} {digest_of(path)}\n".encode())
    return digest.hexdigest()


def installed(status: str) -> list[str]:
    """The packages of a dpkg status file, each as "name version architecture"."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version|Architecture): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            found.append(f"{fields['Package']} {fields['Version']} {fields['Architecture']}")
    return sorted(found)


def kernel_version(packages: list[dict[str, str]]) -> str:
    """The version of the kernel among the packages of a root."""
    return next((p["version"] for p in packages if re.match(r"linux-image-\d", p["name"])), "")


class Images:
    """The directory of images and the store that they are made in."""

    def __init__(self, work: str, recipes: str) -> None:
        self.store = Store(Path(work).expanduser() / "store")
        self.place = Path(work).expanduser() / "image"
        self.recipes = Path(recipes)

    # Debian roots

    def root_inputs(self, debian: Debian, versions: list[str]) -> dict[str, Any]:
        return {
            "kind": "debian-root",
            "suite": debian.suite,
            "packages": debian.packages,
            "versions": versions,
            "epoch": debian.epoch,
            "recipe": recipe_digest(self.recipes, ["debian-root.sh"]),
        }

    def known_root(self, debian: Debian) -> Item | None:
        """The root with the package versions that were found when it was last made."""
        try:
            versions = json.loads(self._versions_file(debian).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return self.store.get(key_of(self.root_inputs(debian, versions)))

    def root(self, debian: Debian, refresh: bool) -> tuple[Item, bool]:
        """The root; versions are looked up on the mirror only when it is missing or they shall be refreshed."""
        known = None if refresh else self.known_root(debian)
        if known is not None:
            return known, False
        versions = self._resolve(debian)
        item, made = self.store.ensure(
            "the Debian root",
            self.root_inputs(debian, versions),
            lambda place: self._debootstrap(debian, versions, place),
        )
        _write(self._versions_file(debian), json.dumps(versions))
        return item, made

    def _versions_file(self, debian: Debian) -> Path:
        spec = key_of({"suite": debian.suite, "components": debian.components, "packages": debian.packages})
        return self.store.root / f"versions-{spec}.json"

    @staticmethod
    def environment(place: Path) -> dict[str, str]:
        """What every recipe gets, whatever the person who calls it has set."""
        return {"LC_ALL": "C.UTF-8", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "TMPDIR": str(place)}

    def _debian_environment(self, debian: Debian, place: Path) -> dict[str, str]:
        return {
            **self.environment(place),
            "SOURCE_DATE_EPOCH": str(debian.epoch),
            "SUITE": debian.suite,
            "MIRROR": debian.mirror,
            "COMPONENTS": debian.components,
            "KEYRING": debian.keyring,
            "PACKAGES": ",".join(debian.packages),
        }

    def _resolve(self, debian: Debian) -> list[str]:
        place = self.store.root / f".tmp-versions-{os.getpid()}"
        with disk_trouble("package versions", self.store.root):
            try:
                place.mkdir(parents=True)
                environment = {**self._debian_environment(debian, place), "RESOLVE": "1"}
                self.recipe("package versions", "debian-root.sh", [str(place / "list")], place, environment)
                return sorted((place / "list").read_text(encoding="utf-8").splitlines())
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def _debootstrap(self, debian: Debian, versions: list[str], place: Path) -> Facts:
        tar = place / "root.tar.zst"
        self.recipe("the Debian root", "debian-root.sh", [str(tar)], place, self._debian_environment(debian, place))
        found = installed(_member(tar, "./var/lib/dpkg/status"))
        # A simulation knows less of what provides what, so the names may differ; the versions may not.
        expected = {tuple(line.split()[::2]): line for line in versions}
        differ = [line for line in found if expected.get(tuple(line.split()[::2]), line) != line]
        if differ:
            raise BundleError(f"the mirror changed while the Debian root was made ({', '.join(differ[:6])}). Run again")
        packages = [dict(zip(("name", "version", "architecture"), line.split())) for line in found]
        return Facts(packages=packages, files=[tar.name])

    # recipes and results

    def recipe(self, what: str, name: str, arguments: list[str], place: Path, environment: dict[str, str]) -> str:
        """Run a recipe. Its processes and mounts are its own and go with us, however we end.

        Otherwise a killed run would leave /dev/shm and more mounted below a directory that the next run removes.
        """
        command = ["bash", str(self.recipes / name), *arguments]
        if os.geteuid() == 0:
            space = [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ]
            # unshare itself does not listen to SIGTERM
            command = ["setpriv", "--pdeathsig", "KILL", *space, *command]
        return run(what, command, place, environment)

    @staticmethod
    def identity(key: str) -> str:
        """The name of a published result."""
        return key[:ID_LENGTH]

    def manifest(self) -> dict[str, Any]:
        """What is published."""
        try:
            found = json.loads((self.place / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def publish(
        self, section: str, data: dict[str, Any], files: dict[str, File], stale: str, check_mode: bool
    ) -> tuple[bool, dict[str, str]]:
        """Put the files of a result into the directory of images, describe them there, and remove older ones."""
        known = self.manifest().get(section)
        fresh = [name for name, file in files.items() if not _stands(self.place / name, file)]
        if known == data and not fresh:
            return False, {"before": "", "after": ""}
        if not check_mode:
            with disk_trouble("the images", self.place), locked(self.place / ".lock"):
                for name in fresh:
                    _put(files[name].path, self.place / name)
                manifest = {**self.manifest(), section: data}
                _write(self.place / "manifest.json", json.dumps(manifest, indent=2, sort_keys=True))
                # What was published until now stays once more: servers may be reading it.
                kept = {name.split("/")[0] for name in files}
                kept |= {str(known[key]) for key in ("file", "dir") if known and key in known}
                for path in self.place.glob(stale):
                    if path.name not in kept:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True, {"before": _text(known), "after": _text(data)}


def _stands(path: Path, file: File) -> bool:
    try:
        return path.stat().st_size == file.size_bytes
    except OSError:
        return False


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    new.unlink(missing_ok=True)
    try:
        os.link(source, new)
    except OSError:  # another file system
        shutil.copyfile(source, new)
    os.replace(new, target)
    new.unlink(missing_ok=True)  # renaming onto a hard link of the same file does nothing


def _text(data: Any) -> str:
    return json.dumps(data, indent=2, sort_keys=True) + "\n" if data else ""


def _member(tar: Path, name: str) -> str:
    """One file of a compressed archive."""
    done = subprocess.run(["tar", "-xOf", str(tar), name], capture_output=True, check=False)
    if done.returncode != 0:
        raise BundleError(f"{tar} has no {name}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text + "\n", encoding="utf-8")
    os.replace(new, path)
