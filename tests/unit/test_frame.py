# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the house that no linter knows: role skeletons, one truth for each fact, nothing local in what ships."""

from __future__ import annotations

import ast
import os
import re
import stat
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import fragment_loader
from ansible.utils.plugin_docs import get_docstring

CHECKOUT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (CHECKOUT / "roles").glob("*") if any(path.rglob("*.yml")))
PLAYBOOKS = sorted((CHECKOUT / "playbooks").glob("*.yml"))
MODULES = sorted((CHECKOUT / "plugins" / "modules").glob("*.py"))
# An action plugin without code on the target has a module file for its documentation only.
ACTIONS = {path.stem for path in (CHECKOUT / "plugins" / "action").glob("*.py")}
PRUNED = {
    ".git",
    ".venv",
    ".ansible",
    "build",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
}

by_name = pytest.mark.parametrize


def load(path: Path) -> object:
    """A YAML file as Ansible reads it."""
    return DataLoader().load_from_file(str(path)) if path.exists() else None


def shipped_files() -> list[Path]:
    found = []
    for directory, names, files in os.walk(CHECKOUT):
        names[:] = [name for name in names if name not in PRUNED]
        found += [Path(directory) / name for name in files if not name.endswith((".pyc", ".tar.gz"))]
    return found


@by_name("role", ROLES, ids=lambda path: path.name)
class TestRole:
    def test_skeleton(self, role: Path) -> None:
        for part in ("README.md", "tasks/main.yml", "meta/main.yml", "meta/argument_specs.yml"):
            assert (role / part).is_file(), f"role {role.name} has no {part}"

    def test_defaults_are_the_argument_specs(self, role: Path) -> None:
        defaults = load(role / "defaults" / "main.yml") or {}
        specs = load(role / "meta" / "argument_specs.yml")
        options = {}
        for entry in specs["argument_specs"].values():
            options |= entry.get("options") or {}
        assert set(defaults) - set(options) == set(), "defaults that the argument specs do not describe"
        described = {name for name, spec in options.items() if not spec.get("required")}
        assert described - set(defaults) == set(), "optional arguments without a default in defaults/main.yml"
        for name, spec in options.items():
            assert spec.get("description"), f"{name} has no description"
            if "default" in spec:
                assert spec["default"] == defaults[name], f"{name}: the argument specs name another default"

    def test_names_carry_the_role(self, role: Path) -> None:
        wrong = [
            name
            for name in load(role / "defaults" / "main.yml") or {}
            if not name.startswith((f"{role.name}_", "kiban_"))
        ]
        wrong += [name for name in load(role / "vars" / "main.yml") or {} if not name.startswith(f"_{role.name}_")]
        assert wrong == []

    def test_main_is_short_and_reads_as_steps(self, role: Path) -> None:
        tasks = load(role / "tasks" / "main.yml")
        assert len(tasks) <= 20
        assert all("name" in task for task in tasks)

    def test_conditions_are_short(self, role: Path) -> None:
        for file in (role / "tasks").rglob("*.yml"):
            for task in walk_tasks(load(file) or []):
                when = task.get("when", [])
                terms = when if isinstance(when, list) else re.split(r"\s(?:and|or)\s", str(when))
                assert len(terms) <= 2, f"{file.relative_to(CHECKOUT)}: {task.get('name')}: {len(terms)} conditions"

    def test_metadata(self, role: Path) -> None:
        info = load(role / "meta" / "main.yml")["galaxy_info"]
        assert info["license"] == "GPL-3.0-or-later"
        assert info["min_ansible_version"] == "2.19"
        assert info["description"]


def walk_tasks(tasks: list[dict]) -> list[dict]:
    found = []
    for task in tasks:
        found.append(task)
        for part in ("block", "rescue", "always"):
            found += walk_tasks(task.get(part, []))
    return found


@by_name("module", MODULES, ids=lambda path: path.stem)
class TestModule:
    def test_documented(self, module: Path) -> None:
        doc, examples, returns, _metadata = get_docstring(
            str(module), fragment_loader, collection_name="kiban.baremetal"
        )
        assert doc["module"] == module.stem
        assert doc["version_added"]
        assert yaml.safe_load(examples), "EXAMPLES shows nothing"
        assert f"kiban.baremetal.{module.stem}:" in examples, "the examples do not use the full name"
        foreign = set(re.findall(r"\b(?!kiban\.|ansible\.builtin)[a-z_]+\.[a-z_]+\.[a-z_]+(?= ?[:(])", examples))
        assert not foreign, "the examples use collections that are no dependency"
        assert returns, "RETURN says nothing"
        for mode in ("check_mode", "diff_mode"):
            assert doc["attributes"][mode]["support"] in {"full", "partial", "none", "N/A"}

    def test_short(self, module: Path) -> None:
        # Past this a module has a layer in it that belongs into module_utils.
        text = module.read_text()
        assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
        documentation = sum(node.end_lineno - node.lineno for node in assigned if node.targets[0].id.isupper())
        assert len(text.splitlines()) - documentation <= 300

    def test_bmc_modules_share_one_group_of_defaults(self, module: Path) -> None:
        groups = (load(CHECKOUT / "meta" / "runtime.yml").get("action_groups")) or {}
        members = [name for name in groups.get("bmc", []) if isinstance(name, str)]
        assert (module.stem in members) == module.stem.startswith("bmc_")


TARGET_SIDE = [
    path
    for path in [*MODULES, *(CHECKOUT / "plugins" / "module_utils").rglob("*.py")]
    if path.stem not in ACTIONS or path.parent.name != "modules"
]


@by_name("path", TARGET_SIDE, ids=lambda path: str(path.relative_to(CHECKOUT / "plugins")))
def test_target_side_needs_only_the_standard_library(path: Path) -> None:
    allowed = {*sys.stdlib_module_names, "ansible", "ansible_collections"}
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] in allowed, f"{name} is not there on a server"
            if name.startswith("ansible"):
                assert name.startswith(
                    ("ansible.module_utils.", "ansible_collections.kiban.baremetal.plugins.module_utils")
                )


def test_target_side_code_keeps_to_python_3_9() -> None:
    for path in TARGET_SIDE:
        ast.parse(path.read_text(), feature_version=(3, 9))


@by_name("path", sorted((CHECKOUT / "plugins" / "module_utils").rglob("_*.py")), ids=lambda path: path.stem)
def test_module_utils_say_that_they_are_private(path: Path) -> None:
    if path.stem == "__init__" and path.stat().st_size == 0:
        pytest.skip("an empty package file")
    text = path.read_text()
    assert re.search(r"[Pp]rivate (to|module)", text[:600]), "say in two lines that it is private"


@by_name("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_playbook_parses_and_names_its_plays(playbook: Path) -> None:
    plays = load(playbook)
    assert isinstance(plays, list)
    assert all("name" in play for play in plays)


@by_name(
    "path",
    sorted([*(CHECKOUT / "playbooks").rglob("*.yml"), *(path for role in ROLES for path in role.rglob("*.yml"))]),
    ids=lambda path: str(path.relative_to(CHECKOUT)),
)
def test_templates_have_no_escapes(path: Path) -> None:
    """Ansible takes a backslash in a template as it is: a new line is one only where YAML has made it."""

    def texts(value: object) -> list[str]:
        if isinstance(value, dict):
            return [text for part in value.values() for text in texts(part)]
        if isinstance(value, list):
            return [text for part in value for text in texts(part)]
        return [value] if isinstance(value, str) else []

    found = [text for text in texts(load(path)) if re.search(r"\{\{((?!\}\}).)*\\n", text, re.DOTALL)]
    assert not found


def test_version_is_ahead_of_the_changelog() -> None:
    version = load(CHECKOUT / "galaxy.yml")["version"]
    released = load(CHECKOUT / "changelogs" / "changelog.yaml")["releases"]
    fragments = list((CHECKOUT / "changelogs" / "fragments").glob("*.yml"))
    newest = max(released, key=lambda text: [int(part) for part in text.split(".")], default="0.0.0")
    ahead = [int(part) for part in version.split(".")] > [int(part) for part in newest.split(".")]
    assert ahead if fragments else version == newest, f"galaxy.yml says {version}, the newest release is {newest}"


def test_readme_names_the_two_commands() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    for page in [CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md"), *(CHECKOUT / "roles").glob("*/README.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.relative_to(CHECKOUT)} links to {target}"


def test_every_documentation_page_is_in_the_index() -> None:
    index = (CHECKOUT / "docs" / "README.md").read_text()
    missing = [
        page.name for page in (CHECKOUT / "docs").glob("*.md") if page.name != "README.md" and page.name not in index
    ]
    assert missing == []


# Written in pieces, so that this file does not hold what it looks for.
FORBIDDEN = [
    "/" + "work/main",
    "/" + "work/shared",
    "/tmp/" + "kiban/",
    "proxy." + "golang.org",
    "py" + "pi.org",
    "deb." + "debian.org",
    "registry." + "npmjs.org",
]
UNSAFE = ["StrictHostKeyChecking=" + "no", "StrictHostKeyChecking " + "no", "host_key_checking = " + "false"]


def test_nothing_local_and_nothing_unsafe_is_shipped() -> None:
    found = []
    for path in shipped_files():
        text = path.read_bytes().decode("utf-8", "replace")
        name = path.relative_to(CHECKOUT)
        words = FORBIDDEN if name.parts[0] == "tests" else FORBIDDEN + UNSAFE
        found += [f"{name}: {word}" for word in words if word in text]
    assert found == []


def test_python_files_carry_the_licence() -> None:
    for path in shipped_files():
        if path.suffix == ".py" and path.stat().st_size:
            head = path.read_text()[:600]
            assert "SPDX-License-Identifier: GPL-3.0-or-later" in head, path.relative_to(CHECKOUT)


def test_scripts_can_be_run() -> None:
    for path in shipped_files():
        executable = path.stat().st_mode & stat.S_IXUSR
        # Files of a role are copied with their mode stated.
        if executable and "files" not in path.parts:
            assert path.read_bytes().startswith(b"#!"), f"{path.relative_to(CHECKOUT)} is executable without a shebang"


def test_make_help_names_every_target() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", makefile, re.M).group(1).replace("\\\n", " ").split()
    helped = re.findall(r"^([a-z.-]+):.*## ", makefile, re.M)
    assert sorted(set(phony) - {"root", "packages"}) == sorted(helped)
