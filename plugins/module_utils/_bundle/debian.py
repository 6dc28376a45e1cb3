# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Files from Debian packages, without installing them: resolved by apt in a state of its own, verified by apt."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import BundleError
from .process import run
from .store import Facts, digest_of

__all__ = ["find_mirror", "get_packages", "inputs", "members"]

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MERGED = ("bin", "sbin", "lib", "lib64")


def find_mirror(etc: Path = Path("/etc/apt")) -> str | None:
    """The Debian mirror that this machine uses."""
    texts = []
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if path.suffix in (".list", ".sources") and path.is_file():
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    lines = [line.split("#")[0] for text in texts for line in text.splitlines()]
    for line in lines:
        for word in line.split():
            if urlsplit(word).scheme in ("http", "https") and re.search(r"/debian/?$", urlsplit(word).path):
                return word.rstrip("/")
    return None


def inputs(packages: list[str], suite: str) -> dict[str, Any]:
    """The mirror decides the versions, so they are not part of the key; they stay what they were when first got."""
    return {"packages": sorted(packages), "suite": suite, "architecture": "amd64"}


def get_packages(what: str, packages: list[str], suite: str, mirror: str | None, place: Path) -> Facts:
    """Download packages with everything that they depend on, as .deb files."""
    mirror = mirror or find_mirror()
    if not mirror:
        raise BundleError(f"{what}: no Debian mirror found in /etc/apt. Set bundle_debian_mirror")
    if not Path(_KEYRING).exists():
        raise BundleError(f"{what}: {_KEYRING} is missing. Install the package debian-archive-keyring")
    apt = place / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "empty"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    suites = [suite, f"{suite}-updates"]
    sources = "".join(f"deb [arch=amd64 signed-by={_KEYRING}] {mirror} {name} main\n" for name in suites)
    (apt / "sources.list").write_text(sources, encoding="utf-8")
    settings = {
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Get::AllowUnauthenticated": "false",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "" if os.getuid() else "root",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Debug::NoLocking": "true",
        "Dir::Cache": f"{apt}/cache",
        "Dir::Etc::preferencesparts": f"{apt}/empty",
        "Dir::Etc::sourcelist": f"{apt}/sources.list",
        "Dir::Etc::sourceparts": f"{apt}/empty",
        "Dir::State": str(apt),
        "Dir::State::lists": f"{apt}/lists",
        "Dir::State::status": f"{apt}/status",
    }
    options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    env = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    run(f"{what} (Debian {suite} at {mirror})", ["apt-get", "-qq", "update", *options], place, env=env)
    argv = ["apt-get", "-qq", "-y", "install", "--download-only", *packages, *options]
    run(f"{what} (Debian {suite} at {mirror})", argv, place, env=env)
    found = []
    for path in sorted((apt / "cache" / "archives").glob("*.deb")):
        shown = run(what, ["dpkg-deb", "--show", "--showformat=${Package} ${Version}", str(path)], place)
        name, version = shown.split()
        target = place / f"{name}.deb"
        path.rename(target)
        found.append({"name": name, "version": version, "suite": suite, "sha256": digest_of(target)})
    _remove_tree(apt)
    return Facts(origin=[f"Debian {suite}"], packages=found)


def members(what: str, package: Path, place: Path) -> Iterator[tuple[str, tarfile.TarInfo, bytes]]:
    """Files and links of a package, under the merged /usr that the distribution uses."""
    content = place / f"{package.stem}.tar"
    run(what, ["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" > "$2"', "sh", str(package), str(content)], place)
    try:
        with tarfile.open(content) as tar:
            for member in tar:
                name = re.sub(r"^(\./|/)+", "", member.name)
                if name.split("/")[0] in _MERGED:
                    name = f"usr/{name}"
                if member.isreg() or member.islnk():
                    stream = tar.extractfile(member)
                    yield name, member, stream.read() if stream else b""
                elif member.issym():
                    yield name, member, b""
    finally:
        content.unlink()


def _remove_tree(path: Path) -> None:
    for folder, _names, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
