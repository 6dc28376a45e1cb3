# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""bundle.yml as objects: what the artifacts are and how each source gets them. No input, no output."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .errors import BundleError

__all__ = ["Artifact", "Recipe", "fill_in", "sources"]

FORMAT = 1
SOURCES = ("modules", "upstream")
_KEYS = {
    "programs": {"directory", "files", "modules", "upstream"},
    "image": {"reference", "modules", "upstream"},
    "packages": {"packages", "note"},
}
_COMMON = {"name", "kind", "version", "licence"}
_MARKS = {"optional"}


@dataclass(frozen=True)
class Artifact:
    """One artifact of bundle.yml."""

    name: str
    kind: str
    version: str
    licence: str
    spec: dict[str, Any]

    @property
    def files(self) -> dict[str, str]:
        """Program name -> its place in the bundle."""
        if self.kind != "programs":
            return {}
        return {name: f"{self.spec['directory']}/{name}" for name in self.spec["files"]}

    @property
    def reference(self) -> str:
        """The name under which nodes know the image."""
        return fill_in(self.spec["reference"], self.version)

    def part(self, source: str, name: str | None = None) -> Any:
        """The recipe of a source, or one part of it."""
        found = self.spec.get(source)
        return found if name is None or found is None else found.get(name)


@dataclass(frozen=True)
class Recipe:
    """The whole of bundle.yml."""

    toolchain: dict[str, str]
    debian: dict[str, str]
    artifacts: dict[str, Artifact]
    chosen: frozenset[str] = frozenset()
    """Optional artifacts that are wanted."""

    @classmethod
    def load(cls, data: dict[str, Any], chosen: Iterable[str] = ()) -> Recipe:
        """Read the data of bundle.yml; refuse what cannot be, all problems at once."""
        if data.get("format") != FORMAT:
            raise BundleError(f"bundle.yml: format is {data.get('format')!r}, this release reads format {FORMAT}")
        problems: list[str] = []
        artifacts: dict[str, Artifact] = {}
        for number, entry in enumerate(data.get("artifacts") or []):
            name = str(entry.get("name", f"number {number + 1}"))
            where = f"bundle.yml: artifacts: {name}"
            found = _problems(entry)
            problems += [f"{where}: {problem}" for problem in found]
            if name in artifacts:
                problems.append(f"{where}: the name is used twice")
            if not found:
                version, licence = str(entry.get("version", "")), str(entry["licence"])
                artifacts[name] = Artifact(name, entry["kind"], version, licence, entry)
        if not problems:
            problems = [f"bundle.yml: artifacts: {problem}" for problem in _references(artifacts)]
        optional = {name for name, artifact in artifacts.items() if artifact.spec.get("optional")}
        if not problems and not optional.issuperset(chosen):
            unknown, known = ", ".join(sorted(set(chosen) - optional)), ", ".join(sorted(optional))
            problems = [f"there is no optional artifact {unknown}; there are {known}"]
        if problems:
            raise BundleError("\n".join(problems))
        return cls(data["toolchain"], data["debian"], artifacts, frozenset(chosen))

    def wanted(self, names: list[str] | None) -> list[Artifact]:
        """The artifacts that are built or downloaded, optional ones where they are chosen; or those that are named."""
        made = {name: artifact for name, artifact in self.artifacts.items() if artifact.kind != "packages"}
        unknown = sorted(set(names or []) - set(made))
        if unknown:
            raise BundleError(f"there is no artifact {', '.join(unknown)}; there are {', '.join(sorted(made))}")
        if names:
            return [artifact for name, artifact in made.items() if name in names]
        left_out = {name for name, artifact in made.items() if artifact.spec.get("optional")} - self.chosen
        return [artifact for name, artifact in made.items() if name not in left_out]


def fill_in(text: str, version: str) -> str:
    """Replace {version} (v1.2.3) and {number} (1.2.3)."""
    return text.replace("{version}", version).replace("{number}", re.sub(r"^v", "", version))


def sources(artifact: Artifact) -> dict[str, str]:
    """What an image gets from other artifacts: its path there, to the artifact and what that builds."""
    image = artifact.part("modules", "image") or {}
    return {**(image.get("programs") or {}), **(image.get("trees") or {})}


def _problems(entry: dict[str, Any]) -> list[str]:
    kind = entry.get("kind")
    if kind not in _KEYS:
        return [f"kind: {kind!r} is none of {', '.join(_KEYS)}"]
    needed = _COMMON | (_KEYS[kind] - {"modules", "upstream", "note"})
    if kind == "packages":
        needed = needed - {"version"}
    problems = [f"{key}: missing" for key in sorted(needed - set(entry))]
    problems += [f"{key}: unknown key" for key in sorted(set(entry) - _COMMON - _MARKS - _KEYS[kind])]
    if kind != "packages" and not set(SOURCES) & set(entry):
        problems.append("neither modules nor upstream says where it comes from")
    return problems


def _references(artifacts: dict[str, Artifact]) -> list[str]:
    """Images are made from what other artifacts build; it must be there."""
    problems = []
    taken: dict[str, str] = {}
    for artifact in artifacts.values():
        for place in artifact.files.values():
            if place in taken:
                problems.append(f"{artifact.name}: {place} is also a file of {taken[place]}")
            taken[place] = artifact.name
        for path, source in sources(artifact).items():
            owner, _slash, made = source.partition("/")
            go = (artifacts[owner].part("modules", "go") if owner in artifacts else None) or {}
            if made not in {**(go.get("programs") or {}), **(go.get("trees") or {})}:
                problems.append(f"{artifact.name}: modules: image: {path}: nothing builds {source}")
    return problems
