# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dangerous command lines of membership, and what a token is made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.modules import bootstrap_token, node_membership


def test_a_first_attempt_ignores_nothing() -> None:
    command = node_membership.kubeadm_command("initialised", again=False)
    assert command == ["kubeadm", "init", "--config", "/etc/kubernetes/kiban/kubeadm.yaml", "--skip-token-print"]


def test_a_second_attempt_ignores_only_what_the_first_left() -> None:
    (ignored,) = [word for word in node_membership.kubeadm_command("joined", again=True) if word.startswith("--ignore")]
    names = ignored.partition("=")[2].split(",")
    assert "all" not in names
    assert set(names) == set(node_membership.LEFT_BEHIND["joined"])


@pytest.mark.parametrize("state", ["initialised", "joined"])
def test_nothing_is_ever_reset(state: str) -> None:
    assert "reset" not in node_membership.kubeadm_command(state, again=True)


def test_what_a_killed_run_had_half_written_goes_with_the_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_membership, "DIRECTORY", str(tmp_path))
    for name in ("kubeadm.yaml", "kubeadm.yaml.77.new", "discovery.yaml", "started"):
        (tmp_path / name).write_text("token: x")
    node_membership.forget_secrets()
    assert [path.name for path in tmp_path.iterdir()] == ["started"]


def test_a_token_ends_by_itself_and_only_joins_nodes() -> None:
    secret = bootstrap_token.secret("abcdef", "0123456789abcdef", "node1", expires=0)
    assert secret["metadata"] == {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}
    data = secret["stringData"]
    assert isinstance(data, dict)
    assert data["expiration"] == "1970-01-01T00:00:00Z"
    assert data["auth-extra-groups"] == "system:bootstrappers:kubeadm:default-node-token"


def test_discovery_holds_no_credentials(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: Q0E=\n    server: https://198.51.100.11:6443\n"
        "  name: lab\nusers:\n- name: admin\n  user:\n    client-key-data: U0VDUkVU\n"
    )
    text = bootstrap_token.discovery(str(kubeconfig))
    assert "U0VDUkVU" not in text
    assert json.loads(text)["clusters"][0]["cluster"] == {
        "certificate-authority-data": "Q0E=",
        "server": "https://198.51.100.11:6443",
    }


def test_a_kubeconfig_without_server_is_refused(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("clusters: []\n")
    with pytest.raises(ValueError, match="certificate-authority-data"):
        bootstrap_token.discovery(str(kubeconfig))
