# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""The steps from bundle.yml to finished results in the store, each made at most once."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from . import debian, golang, image, upstream
from .recipe import Artifact, Recipe, sources
from .store import Facts, File, Item, Store, key_of

__all__ = ["Builder", "Settings", "Step"]


@dataclass(frozen=True)
class Settings:
    """What a person may choose."""

    source: str
    locks: Path
    debian_mirror: str | None = None
    checksums: dict[str, str] = field(default_factory=dict)
    mirrors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One thing that was done, or found done."""

    name: str
    version: str
    what: str
    action: str
    seconds: float

    def __str__(self) -> str:
        took = f"in {self.seconds:.1f} s" if self.action != "cached" else f"(took {self.seconds:.1f} s then)"
        return f"{self.name} {self.version}: {self.what} {self.action} {took}"


class Builder:
    """Finds or makes the results of artifacts from one source."""

    def __init__(self, recipe: Recipe, store: Store, settings: Settings) -> None:
        self.recipe = recipe
        self.store = store
        self.settings = settings
        self.steps: list[Step] = []

    def find(self, artifact: Artifact) -> Item | None:
        """The finished result of an artifact, if it is there. Builds nothing."""
        if self._is_downloaded(artifact):
            return self.store.get(key_of(upstream.inputs(artifact, self.settings.checksums)))
        if artifact.kind == "programs":
            return self.store.get(key_of(self._go_inputs(artifact)))
        programs = self._programs(artifact, lambda owner: self.store.get(key_of(self._go_inputs(owner))))
        names = self._package_names(artifact)
        packages = self.store.get(key_of(self._package_inputs(names))) if names else None
        if programs is None or (names and packages is None):
            return None
        return self.store.get(key_of(image.inputs(artifact, programs, packages)))

    def note(self, artifact: Artifact, item: Item) -> None:
        """Say that an artifact was there already."""
        self.steps.append(Step(artifact.name, artifact.version, artifact.kind, "cached", item.seconds))

    def needs(self, missing: list[Artifact]) -> list[str]:
        """Debian packages that must be installed before the missing artifacts can be made."""
        found: list[str] = []
        if not missing:
            return found
        if not os.path.exists("/etc/ssl/certs/ca-certificates.crt"):
            found.append("ca-certificates")
        downloaded = [artifact for artifact in missing if self._is_downloaded(artifact)]
        if any(artifact.kind == "image" for artifact in downloaded) and not shutil.which("skopeo"):
            found.append("skopeo")
        if len(downloaded) < len(missing) and not golang.find_go():
            found.append("golang-go")
        return found

    def make(self, artifact: Artifact) -> Item:
        """The result of an artifact, made if it is not there."""
        if self._is_downloaded(artifact):
            return self._download(artifact)
        if artifact.kind == "programs":
            return self._go(artifact)
        programs = self._programs(artifact, self._go)
        if programs is None:
            raise AssertionError
        packages = self._packages(artifact)
        origin = [line for owner in self._owners(artifact) for line in self._go(owner).origin]
        return self._step(
            artifact,
            "image",
            image.inputs(artifact, programs, packages),
            lambda place: image.build(artifact, programs, packages, origin, place),
        )

    def _is_downloaded(self, artifact: Artifact) -> bool:
        """What nobody else publishes is compiled, whatever the source."""
        return self.settings.source == "upstream" and artifact.part("upstream") is not None

    def _step(self, artifact: Artifact, what: str, wanted: dict[str, Any], fill: Callable[[Path], Facts]) -> Item:
        start = time.monotonic()
        item, made = self.store.ensure(f"{artifact.name} {artifact.version}", wanted, fill)
        action = ("downloaded" if self._is_downloaded(artifact) else "built") if made else "cached"
        seconds = time.monotonic() - start if made else item.seconds
        step = Step(artifact.name, artifact.version, what, action, round(seconds, 1))
        if not any((done.name, done.what) == (step.name, step.what) for done in self.steps):
            self.steps.append(step)
        return item

    def _go_inputs(self, artifact: Artifact) -> dict[str, Any]:
        return golang.inputs(artifact, self.settings.locks, self.recipe.toolchain)

    def _go(self, artifact: Artifact) -> Item:
        def fill(place: Path) -> Facts:
            go = golang.toolchain(self.store, self.recipe.toolchain)
            return golang.build(artifact, self.settings.locks, go, place)

        return self._step(artifact, "programs", self._go_inputs(artifact), fill)

    def _programs(self, artifact: Artifact, get: Callable[[Artifact], Item | None]) -> dict[str, File] | None:
        """The programs and trees of an image by their path in it."""
        found = {}
        for path, source in sources(artifact).items():
            owner, _slash, program = source.partition("/")
            item = get(self.recipe.artifacts[owner])
            if item is None:
                return None
            found[path] = item.files[program]
        return found

    def _owners(self, artifact: Artifact) -> list[Artifact]:
        """The artifacts that an image takes programs from."""
        names = dict.fromkeys(source.split("/")[0] for source in sources(artifact).values())
        return [self.recipe.artifacts[name] for name in names]

    @staticmethod
    def _package_names(artifact: Artifact) -> list[str]:
        return list(artifact.part("modules", "image").get("packages") or [])

    def _package_inputs(self, names: list[str]) -> dict[str, Any]:
        return debian.inputs(names, self.recipe.debian["suite"])

    def _packages(self, artifact: Artifact) -> Item | None:
        names = self._package_names(artifact)
        if not names:
            return None
        suite, mirror = self.recipe.debian["suite"], self.settings.debian_mirror
        what = f"{artifact.name} {artifact.version}"
        return self._step(
            artifact,
            "Debian packages",
            self._package_inputs(names),
            lambda place: debian.get_packages(what, names, suite, mirror, place),
        )

    def _download(self, artifact: Artifact) -> Item:
        wanted = upstream.inputs(artifact, self.settings.checksums)
        if artifact.kind == "image":
            return self._step(
                artifact,
                "image",
                wanted,
                lambda place: upstream.get_image(artifact, wanted, self.settings.mirrors, place),
            )
        files = wanted["files"]
        return self._step(
            artifact,
            "programs",
            wanted,
            lambda place: upstream.get_programs(artifact, files, self.settings.mirrors, place),
        )
