# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images: keys, versions and publishing, with recipes of a few lines in place of the real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.errors import BundleError
from ansible_collections.kiban.baremetal.plugins.module_utils._bundle.store import Facts, Item
from ansible_collections.kiban.baremetal.plugins.module_utils._image import (
    Debian,
    Images,
    installed,
    kernel_version,
    missing_tools,
    recipe_digest,
)

STATUS = """Package: zstd
Status: install ok installed
Architecture: amd64
Version: 1.5.7+dfsg-1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: tzdata
Status: install ok installed
Version: 2025b-4
Architecture: all
Description: time zones
 Version: not a field
"""

# Resolves to the versions in the file "mirror", and builds an archive with a dpkg status of the file "archive".
ROOT_RECIPE = """set -eu
here=$(dirname "$0")
echo run >> "$here/../runs"
if [ "${RESOLVE:-}" = 1 ]; then cp "$here/../mirror" "$1"; exit; fi
tree=$(mktemp -d); mkdir -p "$tree/var/lib/dpkg"
while read -r name version arch; do
  printf 'Package: %s\\nStatus: install ok installed\\nVersion: %s\\nArchitecture: %s\\n\\n' "$name" "$version" "$arch"
done < "$here/../archive" > "$tree/var/lib/dpkg/status"
tar -C "$tree" --zstd -cf "$1" .
"""


@pytest.fixture
def images(tmp_path: Path) -> Images:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/debian-root.sh").write_text(ROOT_RECIPE)
    versions(tmp_path, "linux-image-6.12 1 amd64\nzstd 1 amd64\n")
    return Images(str(tmp_path / "work"), str(tmp_path / "recipes"))


def versions(place: Path, text: str) -> None:
    (place / "mirror").write_text(text)
    (place / "archive").write_text(text)


def runs(place: Path) -> int:
    path = place / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


DEBIAN = Debian(suite="trixie", components="main", packages=["zstd"], epoch=1754697600)


def test_installed_packages_are_read_from_the_status_file() -> None:
    assert installed(STATUS) == ["tzdata 2025b-4 all", "zstd 1.5.7+dfsg-1 amd64"]


def test_the_kernel_is_the_versioned_package() -> None:
    packages = [
        {"name": "linux-image-amd64", "version": "meta"},
        {"name": "linux-image-6.12.1-amd64", "version": "6.12.1-1"},
    ]
    assert kernel_version(packages) == "6.12.1-1"
    assert kernel_version([]) == ""


def test_missing_tools_are_named_by_their_package() -> None:
    assert missing_tools({"sh": "dash", "no-such-tool": "b", "none-either": "a", "third": "a"}) == ["a", "b"]


def test_a_recipe_is_its_names_contents_and_modes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "main.sh").write_text("one")
    (tmp_path / "sub/part").write_text("two")
    (tmp_path / "other").write_text("not asked for")
    first = recipe_digest(tmp_path, ["main.sh", "sub"])
    (tmp_path / "other").write_text("changed")
    assert recipe_digest(tmp_path, ["main.sh", "sub"]) == first
    (tmp_path / "sub/part").chmod(0o755)
    second = recipe_digest(tmp_path, ["main.sh", "sub"])
    (tmp_path / "sub/part").rename(tmp_path / "sub/renamed")
    assert len({first, second, recipe_digest(tmp_path, ["main.sh", "sub"])}) == 3


def test_a_root_is_made_once_and_its_versions_are_kept(images: Images, tmp_path: Path) -> None:
    first, made = images.root(DEBIAN, refresh=False)
    assert made
    assert first.packages[1] == {"name": "zstd", "version": "1", "architecture": "amd64"}
    count = runs(tmp_path)
    versions(tmp_path, "linux-image-6.12 1 amd64\nzstd 2 amd64\n")
    again, made = images.root(DEBIAN, refresh=False)
    assert (again.key, made, runs(tmp_path)) == (first.key, False, count), "no look at the mirror without refresh"
    newer, made = images.root(DEBIAN, refresh=True)
    assert made
    assert newer.key != first.key
    same, made = images.root(DEBIAN, refresh=True)
    assert (same.key, made) == (newer.key, False), "nothing newer, nothing made"


def test_another_mirror_gives_the_same_root(images: Images) -> None:
    first, _made = images.root(DEBIAN, refresh=False)
    other = Debian(**{**vars(DEBIAN), "mirror": "http://mirror.example.net/debian"})
    assert images.root(other, refresh=True) == (first, False)


def test_a_mirror_that_changes_meanwhile_is_noticed(images: Images, tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("linux-image-6.12 1 amd64\nzstd 2 amd64\n")
    with pytest.raises(BundleError, match=r"mirror changed .*zstd 2 amd64.*Run again"):
        images.root(DEBIAN, refresh=False)
    assert images.known_root(DEBIAN) is None
    assert [path.name for path in images.store.root.iterdir() if not path.name.startswith(".lock")] == []


def test_a_package_that_only_the_installation_knows_is_no_change(images: Images, tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("linux-image-6.12 1 amd64\nlsb-base 1 all\nzstd 1 amd64\n")
    _item, made = images.root(DEBIAN, refresh=False)
    assert made


def test_a_recipe_that_fails_leaves_nothing_and_says_what_it_said(images: Images, tmp_path: Path) -> None:
    (tmp_path / "recipes/debian-root.sh").write_text("echo half > $1; echo 'E: no such package' >&2; exit 100")
    with pytest.raises(BundleError, match="E: no such package"):
        images.root(DEBIAN, refresh=False)
    assert [path.name for path in images.store.root.iterdir() if not path.name.startswith(".lock")] == []


def result(images: Images, content: str) -> Item:
    def fill(place: Path) -> Facts:
        (place / "disk").write_text(content)
        return Facts()

    return images.store.ensure("a disk", {"content": content}, fill)[0]


def publish(images: Images, item: Item, check_mode: bool = False) -> tuple[bool, dict[str, str]]:
    name = images.identity(item.key)
    data = {"id": name, "dir": f"node-{name}"}
    return images.publish("node", data, {f"node-{name}/disk": item.files["disk"]}, "node-*", check_mode)


def test_publishing_describes_what_is_there_and_keeps_one_older(images: Images) -> None:
    items = [result(images, content) for content in ("first", "second", "third one")]
    names = [f"node-{images.identity(item.key)}" for item in items]
    assert publish(images, items[0])[0]
    assert publish(images, items[0]) == (False, {"before": "", "after": ""})
    (images.place / "ramdisk-1").mkdir()
    publish(images, items[1])
    changed, diff = publish(images, items[2])
    assert changed
    assert names[1] in diff["before"]
    assert names[2] in diff["after"]
    there = {path.name for path in images.place.iterdir() if not path.name.startswith(".")}
    assert there == {"manifest.json", "ramdisk-1", *names[1:]}
    assert (images.place / names[2] / "disk").read_text() == "third one"


def test_check_mode_publishes_nothing(images: Images) -> None:
    assert publish(images, result(images, "disk"), check_mode=True)[0]
    assert not images.place.exists()


def test_a_file_that_is_gone_or_cut_short_is_published_again(images: Images) -> None:
    item = result(images, "whole")
    publish(images, item)
    path = images.place / f"node-{images.identity(item.key)}/disk"
    os.unlink(path)
    path.write_text("who")
    assert publish(images, item)[0]
    assert path.read_text() == "whole"


def test_the_other_section_of_the_manifest_stays(images: Images) -> None:
    images.place.mkdir(parents=True)
    (images.place / "manifest.json").write_text(json.dumps({"ramdisk": {"id": "r"}}))
    publish(images, result(images, "disk"))
    assert images.manifest()["ramdisk"] == {"id": "r"}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_killed_run_leaves_neither_mounts_nor_processes(images: Images, tmp_path: Path) -> None:
    place = tmp_path / "there"
    steps = [f"mkdir {place}", f"mount -t tmpfs tmpfs {place}", f"touch {tmp_path}/mounted", f"sleep 300.{os.getpid()}"]
    (tmp_path / "recipes/mounts.sh").write_text("\n".join(steps))
    child = os.fork()
    if child == 0:
        images.recipe("a recipe", "mounts.sh", [], tmp_path, {})
        os._exit(0)
    for _ in range(100):
        if (tmp_path / "mounted").exists():
            break
        time.sleep(0.1)
    sleeps = ["pgrep", "-f", f"^sleep 300.{os.getpid()}"]
    assert subprocess.run(sleeps, check=False, capture_output=True).returncode == 0, "the recipe runs"
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for _ in range(50):
        if subprocess.run(sleeps, check=False, capture_output=True).returncode != 0:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process of the recipe lives on")
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
