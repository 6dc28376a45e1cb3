# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of a site and host certificates, with the real ssh-keygen."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.modules import node_root, site_keys, ssh_host_certificate


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_keys_are_made_once_and_private(tmp_path: Path) -> None:
    site = tmp_path / "site"
    first = site_keys.ensure(str(site), "lab", check_mode=False)
    assert first["changed"]
    assert mode(site) == 0o700
    assert [mode(site / "ssh" / name) for name in ("ca", "id_ed25519", "media_token")] == [0o600] * 3
    assert (site / "known_hosts").read_text() == f"@cert-authority * {first['ca_public_key']}\n"
    second = site_keys.ensure(str(site), "lab", check_mode=False)
    assert second == {**first, "changed": False}


def test_check_mode_makes_nothing(tmp_path: Path) -> None:
    assert site_keys.ensure(str(tmp_path / "site"), "lab", check_mode=True)["changed"]
    assert not (tmp_path / "site").exists()


def test_a_key_without_its_other_half_is_made_again(tmp_path: Path) -> None:
    site_keys.ensure(str(tmp_path), "lab", check_mode=False)
    (tmp_path / "ssh" / "id_ed25519").unlink()
    assert site_keys.ensure(str(tmp_path), "lab", check_mode=False)["changed"]
    assert (tmp_path / "ssh" / "id_ed25519").exists()


def test_private_keys_are_not_returned(tmp_path: Path) -> None:
    result = site_keys.ensure(str(tmp_path), "lab", check_mode=False)
    assert "PRIVATE" not in str(result)


def test_host_key_and_certificate(tmp_path: Path) -> None:
    site_keys.ensure(str(tmp_path / "site"), "lab", check_mode=False)
    root = tmp_path / "root"
    (root / "etc/ssh").mkdir(parents=True)
    changed, public = node_root.host_key(str(root))
    assert changed and public.startswith("ssh-ed25519 ")
    assert node_root.host_key(str(root)) == (False, public)
    assert mode(root / "etc/ssh/ssh_host_ed25519_key") == 0o600
    certificate = ssh_host_certificate.sign(
        str(tmp_path / "site/ssh/ca"), public, "node1", ["node1", "198.51.100.21"], valid_days=10
    )
    (tmp_path / "cert.pub").write_text(certificate)
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", str(tmp_path / "cert.pub")], check=True, capture_output=True, text=True
    ).stdout
    assert "host certificate" in shown
    assert 'Key ID: "node1"' in shown
    assert [line.strip() for line in shown.splitlines() if line.strip() in ("node1", "198.51.100.21")] == [
        "node1",
        "198.51.100.21",
    ]


def test_a_missing_authority_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        ssh_host_certificate.sign(str(tmp_path / "none"), "ssh-ed25519 AAAA", "node1", ["node1"], 10)
