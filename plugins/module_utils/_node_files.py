# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""Sets of small files under one root, each replaced in one step."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "OPTIONS",
    "Change",
    "FilesError",
    "Wanted",
    "compare",
    "differences",
    "secrets",
    "shown",
    "wanted_files",
    "write_all",
]

# The option 'files' of a module.
OPTIONS: dict[str, Any] = {
    "path": {"type": "str", "required": True},
    "content": {"type": "str"},
    "link": {"type": "str"},
    "mode": {"type": "str", "default": "0644"},
    "secret": {"type": "bool", "default": False, "no_log": False},
}


class FilesError(Exception):
    """A file that must not or cannot be written."""


@dataclass(frozen=True)
class Wanted:
    """One path as it shall be; neither content nor link means absent."""

    path: str
    content: bytes | None = None
    link: str | None = None
    mode: int = 0o644
    secret: bool = False


@dataclass(frozen=True)
class Change:
    wanted: Wanted
    target: str
    before: str
    after: str

    def write(self) -> None:
        wanted = self.wanted
        if wanted.content is None and wanted.link is None:
            os.unlink(self.target)
            return sync_directory(os.path.dirname(self.target))
        directory = os.path.dirname(self.target)
        make_directories(directory)
        handle, temporary = tempfile.mkstemp(prefix=".kiban-", dir=directory)
        try:
            with os.fdopen(handle, "wb") as file:
                if wanted.link is None:
                    file.write(wanted.content or b"")
                    file.flush()
                    os.fchmod(file.fileno(), wanted.mode)
                    os.fsync(file.fileno())
            if wanted.link is not None:
                os.unlink(temporary)
                os.symlink(wanted.link, temporary)
            os.replace(temporary, self.target)
        except BaseException:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise
        return sync_directory(directory)


def resolve(root: str, path: str) -> str:
    """Where path is for a system whose root directory is root; the last part is not followed."""
    if not path.startswith("/") or path.endswith("/"):
        raise FilesError(f"{path!r} is not the absolute path of a file")
    parts = path.strip("/").split("/")
    if ".." in parts or "." in parts or "\0" in path:
        raise FilesError(f"{path!r} leaves its root or is not plain: write it without '.' and '..'")
    root = os.path.realpath(root)
    done: list[str] = []
    todo = [part for part in parts if part][::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        here = os.path.join(root, *done, part)
        if todo and os.path.islink(here):
            links += 1
            if links > 40:
                raise FilesError(f"{path!r}: too many symbolic links")
            target = os.readlink(here)
            if target.startswith("/"):
                done = []
            todo += target.split("/")[::-1]
            continue
        done.append(part)
    return os.path.join(root, *done)


def compare(root: str, wanted: Wanted) -> Change | None:
    """What is different from what is wanted."""
    target = resolve(root, wanted.path)
    try:
        status = os.lstat(target)
    except FileNotFoundError:
        status = None
    except NotADirectoryError as exc:
        raise FilesError(f"{wanted.path}: a part of the path is a file, not a directory") from exc
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise FilesError(f"{wanted.path} is a directory: it is neither replaced nor removed")
    before = None if status is None else describe(target, status, wanted.secret)
    if wanted.link is not None:
        same = status is not None and stat.S_ISLNK(status.st_mode) and os.readlink(target) == wanted.link
        after = f"link to {wanted.link}\n"
    elif wanted.content is not None:
        same = (
            status is not None
            and stat.S_ISREG(status.st_mode)
            and stat.S_IMODE(status.st_mode) == wanted.mode
            and read(target) == wanted.content
        )
        after = show(wanted.mode, wanted.content, wanted.secret)
        if wanted.secret and not same and before == after:
            after = after.replace("hidden", "hidden, different")
    else:
        same, after = status is None, ""
    return None if same else Change(wanted, target, before or "", after)


def describe(target: str, status: os.stat_result, secret: bool) -> str:
    if stat.S_ISLNK(status.st_mode):
        return f"link to {os.readlink(target)}\n"
    if not stat.S_ISREG(status.st_mode):
        return "special file\n"
    return show(stat.S_IMODE(status.st_mode), read(target), secret)


def show(mode: int, content: bytes, secret: bool) -> str:
    if secret:
        return f"mode {mode:04o}\n(content hidden)\n"
    return f"mode {mode:04o}\n{content.decode('utf-8', 'replace')}"


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def make_directories(directory: str) -> None:
    if not os.path.isdir(directory):
        make_directories(os.path.dirname(directory))
        os.mkdir(directory)
        # Whatever umask this runs under: services without root have to get through.
        os.chmod(directory, 0o755)


def sync_directory(directory: str) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def wanted_files(files: list[dict[str, object]], absent: list[str]) -> list[Wanted]:
    """The options as objects; every mistake in them is found here."""
    result = []
    for item in files:
        path, content, link = str(item["path"]), item["content"], item["link"]
        if (content is None) == (link is None):
            raise FilesError(f"{path}: exactly one of content and link is needed")
        try:
            mode = int(str(item["mode"]), 8)
        except ValueError as exc:
            raise FilesError(f"{path}: mode must be octal digits in quotes, not {item['mode']!r}") from exc
        raw = None if content is None else str(content).encode()
        result.append(Wanted(path, raw, None if link is None else str(link), mode, bool(item["secret"])))
    result += [Wanted(path) for path in absent]
    paths = [item.path for item in result]
    if double := sorted({path for path in paths if paths.count(path) > 1}):
        raise FilesError(f"named more than once: {', '.join(double)}")
    return result


def secrets(files: Sequence[dict[str, Any]]) -> set[str]:
    """Contents that must not be shown, for AnsibleModule.no_log_values."""
    return {item["content"] for item in files if item["secret"] and item["content"]}


def differences(root: str, wanted: Sequence[Wanted]) -> list[Change]:
    """All that has to be done under root."""
    if not os.path.isdir(root):
        raise FilesError(f"root {root} is not a directory; is the system mounted there?")
    return [change for item in wanted if (change := compare(root, item)) is not None]


def write_all(changes: Sequence[Change]) -> None:
    """Does it; an error names what was done before."""
    done: list[str] = []
    for change in changes:
        try:
            change.write()
        except OSError as exc:
            before = ", ".join(done) or "nothing"
            raise FilesError(f"{change.wanted.path}: {exc}. Written before: {before}") from exc
        done.append(change.wanted.path)


def shown(changes: Sequence[Change]) -> list[dict[str, str]]:
    """The changes as Ansible's diff."""
    return [
        {
            "before": change.before,
            "after": change.after,
            "before_header": change.wanted.path,
            "after_header": change.wanted.path,
        }
        for change in changes
    ]
