#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_files
short_description: Set of files under one root
version_added: 0.1.0
description:
  - Lays down a set of small files at once, in the running system or in a mounted one that has not booted yet.
  - Each file is replaced in one step, so that a killed run never leaves a half-written file.
  - Symbolic links on the way to a file are followed as the system under O(root) would see them; nothing outside of it
    is touched.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The content of a file with O(files[].secret=true) is never shown.
options:
  root:
    description: Directory that O(files[].path) and O(absent) are relative to, for example a mounted system.
    type: path
    default: /
  files:
    description: Files that shall exist. Directories on the way are made with mode V(0755).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path inside O(root).
        type: str
        required: true
      content:
        description: Text of the file. Exactly one of this and O(files[].link) is given.
        type: str
      link:
        description: Target of a symbolic link that the path shall be.
        type: str
      mode:
        description: Permissions in octal.
        type: str
        default: '0644'
      secret:
        description: Whether the content must not be shown.
        type: bool
        default: false
  absent:
    description:
      - Absolute paths inside O(root) that shall not exist. Only files and links are removed, never directories.
    type: list
    elements: str
    default: []
seealso:
  - module: kiban.baremetal.node_root
"""

EXAMPLES = r"""
- name: Make the installed system this server
  kiban.baremetal.node_files:
    root: /run/kiban/root
    files:
      - path: /etc/hostname
        content: "node1\n"
      - path: /etc/ssh/ssh_host_ed25519_key
        content: "{{ __host_key }}"
        mode: '0600'
        secret: true
    absent:
      - /etc/ssh/ssh_host_rsa_key
"""

RETURN = r"""
changed_paths:
  description: Paths that were changed or, in check mode, would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/hostname]
"""

import os
import stat
import tempfile
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule


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


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "content": {"type": "str"},
                    "link": {"type": "str"},
                    "mode": {"type": "str", "default": "0644"},
                    "secret": {"type": "bool", "default": False, "no_log": False},
                },
            },
            "absent": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
        # Keeps the parameters, and with them secret content, out of the system log.
        no_log=True,
    )
    params = module.params
    module.no_log_values.update(item["content"] for item in params["files"] if item["secret"] and item["content"])
    done: list[str] = []
    try:
        if not os.path.isdir(params["root"]):
            raise FilesError(f"root {params['root']} is not a directory; is the system mounted there?")
        wanted = wanted_files(params["files"], params["absent"])
        changes = [change for item in wanted if (change := compare(params["root"], item)) is not None]
        for change in changes if not module.check_mode else []:
            change.write()
            done.append(change.wanted.path)
    except (FilesError, OSError) as exc:
        module.fail_json(msg=f"{exc}. Written before: {', '.join(done) or 'nothing'}", changed_paths=done)
    module.exit_json(
        changed=bool(changes),
        changed_paths=[change.wanted.path for change in changes],
        diff=[
            {
                "before": change.before,
                "after": change.after,
                "before_header": change.wanted.path,
                "after_header": change.wanted.path,
            }
            for change in changes
        ],
    )


if __name__ == "__main__":
    main()
