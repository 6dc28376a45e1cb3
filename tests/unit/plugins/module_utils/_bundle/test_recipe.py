# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.module_utils._bundle import golang
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.errors import BundleError
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.recipe import Artifact, Recipe, fill_in

ROLE = Path(__file__).resolve().parents[5] / "roles" / "bundle"
DATA: dict[str, Any] = yaml.safe_load((ROLE / "files" / "bundle.yml").read_text(encoding="utf-8"))
RECIPE = Recipe.load(DATA)
LOCKS = ROLE / "files" / "go"
LOCKED = [artifact for artifact in RECIPE.artifacts.values() if artifact.part("modules", "go")]


@pytest.fixture
def data() -> dict[str, Any]:
    return copy.deepcopy(DATA)


@pytest.mark.parametrize("artifact", LOCKED, ids=lambda artifact: artifact.name)
def test_versions_agree_with_the_lock_files(artifact: Artifact) -> None:
    required = {module: fill_in(version, artifact.version) for module, version in _go(artifact)["require"].items()}
    text = (LOCKS / artifact.name / "go.mod").read_text(encoding="utf-8")
    direct = dict(re.findall(r"^(?:require)?\s*(\S+) (v\S+)$", text, re.MULTILINE))
    assert required.items() <= direct.items(), f"run relock.py {artifact.name}"
    sums = LOCKS / artifact.name / "go.sum"
    for module, version in required.items():
        assert f"{module} {version} h1:" in sums.read_text(encoding="utf-8")


@pytest.mark.parametrize("artifact", LOCKED, ids=lambda artifact: artifact.name)
def test_lock_files_hold_what_is_built(artifact: Artifact) -> None:
    packages = set(_go(artifact)["programs"].values()) - {"."}
    tools = LOCKS / artifact.name / "tools.go"
    imported = set(re.findall(r'_ "(\S+)"', tools.read_text(encoding="utf-8"))) if tools.exists() else set()
    assert imported == packages, f"run relock.py {artifact.name}"


def _go(artifact: Artifact) -> dict[str, Any]:
    return {"require": {}, **artifact.part("modules", "go")}


def test_every_lock_directory_is_used() -> None:
    assert {path.name for path in LOCKS.iterdir()} == {artifact.name for artifact in LOCKED}


def test_staged_modules_have_the_version_of_kubernetes() -> None:
    kubernetes = RECIPE.artifacts["kubernetes"]
    assert kubernetes.part("modules", "go")["staging"] == kubernetes.version.replace("v1.", "v0.")
    stamps = kubernetes.part("modules", "go")["stamps"]
    minor = kubernetes.version.split(".")[1]
    assert {value for name, value in stamps.items() if name.endswith("gitMinor")} == {minor}


def test_the_kinds_of_the_gateway_api_are_those_that_traefik_is_compiled_with() -> None:
    version = RECIPE.artifacts["gateway-api"].version
    assert f"sigs.k8s.io/gateway-api {version}\n" in (LOCKS / "traefik" / "go.mod").read_text().replace(
        " // indirect", ""
    )


def test_the_toolchain_module_is_of_its_version() -> None:
    assert RECIPE.toolchain["module"] == f"golang.org/toolchain@v0.0.1-go{RECIPE.toolchain['version']}.linux-amd64"


def test_images_have_the_names_that_kubeadm_expects() -> None:
    names = {artifact.reference for artifact in RECIPE.artifacts.values() if artifact.kind == "image"}
    kubernetes = RECIPE.artifacts["kubernetes"].version
    for name in ("apiserver", "controller-manager", "scheduler", "proxy"):
        assert f"registry.k8s.io/kube-{name}:{kubernetes}" in names
    assert {"registry.k8s.io/coredns/coredns:v1.14.2", "registry.k8s.io/pause:3.10.2"} <= names
    assert "registry.k8s.io/etcd:3.6.16-0" in names


@pytest.mark.parametrize("artifact", list(RECIPE.wanted(None)), ids=lambda artifact: artifact.name)
def test_both_sources_give_the_same_files(artifact: Artifact) -> None:
    upstream = artifact.part("upstream")
    if upstream is None:
        # A program of ours that nobody else publishes.
        assert artifact.part("modules", "go")["programs"] == {artifact.name: "."}
        return
    if artifact.kind == "image":
        assert set(upstream) <= {"image", "digest"}
        return
    given = {name for entry in upstream for name in entry.get("members") or {entry["file"]: ""}}
    assert given == set(artifact.spec["files"]) <= set(artifact.part("modules", "go")["programs"])


def test_all_problems_are_named_at_once(data: dict[str, Any]) -> None:
    data["artifacts"] += [
        {"name": "a", "kind": "rpm"},
        {"name": "b", "kind": "image", "colour": "red"},
        data["artifacts"][0],
    ]
    with pytest.raises(BundleError) as caught:
        Recipe.load(data)
    text = str(caught.value)
    assert "artifacts: a: kind: 'rpm' is none of programs, image, packages" in text
    assert "artifacts: b: colour: unknown key" in text
    assert "artifacts: b: reference: missing" in text
    assert "artifacts: kubernetes: the name is used twice" in text


def test_an_image_of_an_unknown_program_is_refused(data: dict[str, Any]) -> None:
    image = next(entry for entry in data["artifacts"] if entry["name"] == "etcd")
    image["modules"]["image"]["programs"]["/x"] = "etcd-tools/nothing"
    with pytest.raises(BundleError, match=r"etcd: modules: image: /x: nothing builds etcd-tools/nothing"):
        Recipe.load(data)


def test_two_artifacts_with_one_file_are_refused(data: dict[str, Any]) -> None:
    data["artifacts"].append({**data["artifacts"][0], "name": "other", "files": ["kubelet"]})
    with pytest.raises(BundleError, match=r"other: bin/kubelet is also a file of kubernetes"):
        Recipe.load(data)


def test_another_format_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"format is 2, this release reads format 1"):
        Recipe.load({**data, "format": 2})


def test_an_unknown_artifact_is_refused() -> None:
    with pytest.raises(BundleError, match=r"there is no artifact helm; there are agnhost, .* pause"):
        RECIPE.wanted(["helm"])


def test_optional_artifacts_are_wanted_where_they_are_chosen(data: dict[str, Any]) -> None:
    plain = {artifact.name for artifact in RECIPE.wanted(None)}
    assert "kubernetes" in plain and "metallb-speaker" not in plain
    chosen = Recipe.load(data, ["metallb-speaker"])
    assert {artifact.name for artifact in chosen.wanted(None)} == plain | {"metallb-speaker"}
    assert [artifact.name for artifact in RECIPE.wanted(["metallb-speaker"])] == ["metallb-speaker"]
    with pytest.raises(BundleError, match=r"there is no optional artifact helm; there are .*kube-network-policies, "):
        Recipe.load(data, ["helm"])


def test_the_key_of_a_build_follows_its_lock_file_and_its_toolchain(tmp_path: Path) -> None:
    artifact = RECIPE.artifacts["pause"]
    for name in ("go.mod", "main.go"):
        (tmp_path / "pause").mkdir(exist_ok=True)
        (tmp_path / "pause" / name).write_bytes((LOCKS / "pause" / name).read_bytes())
    here = golang.inputs(artifact, LOCKS, RECIPE.toolchain)
    assert golang.inputs(artifact, tmp_path, RECIPE.toolchain) == here
    (tmp_path / "pause" / "main.go").write_text("package main\n")
    assert golang.inputs(artifact, tmp_path, RECIPE.toolchain) != here
    assert golang.inputs(artifact, LOCKS, {**RECIPE.toolchain, "version": "1.0"}) != here


def test_a_missing_lock_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"pause: there is no .*/pause/go.mod. Run relock.py pause"):
        golang.inputs(RECIPE.artifacts["pause"], tmp_path, RECIPE.toolchain)


@pytest.mark.parametrize(
    ("package", "program"),
    [
        (".", "hello"),
        ("k8s.io/kubernetes/cmd/kubeadm", "kubeadm"),
        ("go.etcd.io/etcd/server/v3", "server"),
        ("example.com/v2x", "v2x"),
    ],
)
def test_names_of_programs(package: str, program: str) -> None:
    assert golang.program_file(package, "kiban.test/bundle/hello") == program
