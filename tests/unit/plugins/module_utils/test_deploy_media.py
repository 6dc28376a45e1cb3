# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a medium gets for its server, checked with the tools that will read it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._deploy_media import (
    Server,
    boot_entry,
    digest,
    entries,
    newc,
    problems,
)

SERVER = Server(
    name="node1",
    address="198.51.100.21/24",
    gateway="198.51.100.1",
    vlan=20,
    mtu=9000,
    dns=["192.0.2.53", "192.0.2.54"],
    authorized_keys=["ssh-ed25519 AAAA admin"],
)


def test_a_good_server_has_no_problems() -> None:
    assert problems(SERVER) == []
    assert problems(replace(SERVER, gateway="", vlan=None, dns=[])) == []
    assert problems(replace(SERVER, address="2001:db8::21/64", gateway="2001:db8::1")) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "node1'; reboot"}, "not a host name"),
        ({"address": "198.51.100.21"}, "with the length of its network"),
        ({"address": "198.51.100.256/24"}, "with the length of its network"),
        ({"gateway": "router"}, "gateway 'router' is not an IP address"),
        ({"dns": ["192.0.2.53", "$(id)"]}, "dns '\\$\\(id\\)' is not an IP address"),
        ({"vlan": 4095}, "from 1 to 4094"),
        ({"mtu": 100}, "from 576 to 9216"),
        ({"authorized_keys": [" "]}, "nobody could log in"),
        ({"authorized_keys": ["ssh-ed25519 AAAA\nssh-ed25519 BBBB"]}, "more than one line"),
        ({"kernel_args": "a\nlinux /other"}, "more than one line"),
    ],
)
def test_each_problem_is_said(change: dict, said: str) -> None:
    found = problems(replace(SERVER, **change))
    assert len(found) == 1
    assert re.search(said, found[0])


def test_all_problems_are_said_at_once() -> None:
    assert len(problems(replace(SERVER, name="A", address="x", vlan=0, mtu=1))) == 4


def test_the_digest_changes_with_each_input() -> None:
    base = digest(SERVER, "ramdisk", "ssh-ed25519 CCCC site")
    assert base == digest(replace(SERVER), "ramdisk", "ssh-ed25519 CCCC another comment")
    others = [
        digest(replace(SERVER, mtu=1500), "ramdisk", "ssh-ed25519 CCCC site"),
        digest(replace(SERVER, authorized_keys=["ssh-ed25519 BBBB"]), "ramdisk", "ssh-ed25519 CCCC site"),
        digest(SERVER, "newer", "ssh-ed25519 CCCC site"),
        digest(SERVER, "ramdisk", "ssh-ed25519 DDDD site"),
    ]
    assert len({base, *others}) == 5


def test_cpio_unpacks_the_archive(tmp_path: Path) -> None:
    archive = newc(entries(SERVER, "ramdisk", b"key\n", b"public\n", b"certificate\n"))
    subprocess.run(["cpio", "-id", "--quiet"], input=archive, cwd=tmp_path, check=True)
    ssh = tmp_path / "server/etc/ssh"
    assert (ssh / "ssh_host_ed25519_key").read_bytes() == b"key\n"
    assert (ssh / "ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (ssh / "ssh_host_ed25519_key-cert.pub").read_bytes() == b"certificate\n"
    assert (tmp_path / "server/root/.ssh").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "server/etc/kiban/ramdisk").read_text() == '{"id": "ramdisk", "name": "node1"}\n'


def test_a_shell_reads_the_environment(tmp_path: Path) -> None:
    archive = newc(entries(SERVER, "ramdisk", b"", b"", b""))
    subprocess.run(["cpio", "-id", "--quiet"], input=archive, cwd=tmp_path, check=True)
    script = '. server/etc/kiban/ramdisk.env; echo "$NAME|$ADDRESS|$GATEWAY|$VLAN|$MTU|$DNS"'
    done = subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "node1|198.51.100.21/24|198.51.100.1|20|9000|192.0.2.53 192.0.2.54\n"


def test_an_untagged_server_has_an_empty_vlan() -> None:
    env = next(e for e in entries(replace(SERVER, vlan=None), "r", b"", b"", b"") if e.path.endswith("ramdisk.env"))
    assert env.data is not None
    assert b"VLAN=''\n" in env.data


def test_the_start_entry_has_both_archives_and_all_arguments() -> None:
    text = boot_entry(replace(SERVER, kernel_args=" kiban.shell "), "console=ttyS0 quiet")
    assert text.splitlines()[2:] == [
        "initrd /kiban/initrd",
        "initrd /kiban/server",
        "options console=ttyS0 quiet kiban.shell",
    ]
