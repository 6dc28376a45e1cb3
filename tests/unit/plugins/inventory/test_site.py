# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin through Ansible's own inventory manager."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible.template import Templar
from ansible.vars.manager import VariableManager

from ansible_collections.kiban.baremetal.plugins.filter.site import FilterModule
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site import load
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import SiteError

CHECKOUT = Path(__file__).resolve().parents[4]
LAB = CHECKOUT / "inventories" / "lab" / "site.yml"


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "work"
    monkeypatch.setenv("KIBAN_WORK", str(path))
    return path


class Inventory:
    """What a play would see."""

    def __init__(self, source: Path) -> None:
        self.loader = DataLoader()
        self.manager = InventoryManager(loader=self.loader, sources=[str(source)])
        self.variables = VariableManager(loader=self.loader, inventory=self.manager)

    def hosts(self, group: str) -> list[str]:
        return [host.name for host in self.manager.get_hosts(group)]

    def vars(self, host: str) -> dict[str, Any]:
        found: dict[str, Any] = self.variables.get_vars(host=self.manager.get_host(host))
        return found

    def rendered(self, host: str, name: str) -> Any:
        variables = self.vars(host)
        return Templar(loader=self.loader, variables=variables).template(variables[name])


def copy_of(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = LAB.read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "my-site.yml"
    path.write_text(text)
    return path


def parse_error(path: Path) -> str:
    plugin = inventory_loader.get("kiban.baremetal.site")
    assert plugin.verify_file(str(path))
    with pytest.raises(AnsibleParserError) as caught:
        plugin.parse(InventoryData(), DataLoader(), str(path))
    return str(caught.value)


@pytest.mark.parametrize("source", ["lab", "example"])
@pytest.mark.parametrize("as_directory", [True, False])
def test_shipped_inventories_load(source: str, as_directory: bool) -> None:
    path = CHECKOUT / "inventories" / source
    inventory = Inventory(path if as_directory else path / "site.yml")
    assert inventory.hosts("control_plane") == ["cp1"]
    assert len(inventory.hosts("servers")) == {"lab": 3, "example": 61}[source]


def test_groups() -> None:
    inventory = Inventory(LAB)
    assert inventory.hosts("servers") == ["cp1", "node1", "node2"]
    assert inventory.hosts("workers") == ["node1", "node2"]
    assert inventory.hosts("rack_a01") == ["cp1", "node1", "node2"]
    assert inventory.hosts("profile_compute") == ["cp1", "node1", "node2"]


def test_groups_are_there_when_they_are_empty(tmp_path: Path) -> None:
    path = copy_of(tmp_path, ('- {name: "node[1:2]"', '# - {name: "node[1:2]"'), ("name: a01", "name: a-01"))
    inventory = Inventory(path)
    assert inventory.hosts("workers") == []
    assert {"workers", "rack_a_01"} <= set(inventory.manager.groups)


def test_switches_are_hosts() -> None:
    inventory = Inventory(CHECKOUT / "inventories" / "example" / "site.yml")
    assert inventory.hosts("switches_eos") == ["mgmt-a01", "spine1"]
    assert "tor-a02" in inventory.hosts("switches")
    assert not set(inventory.hosts("switches")) & set(inventory.hosts("servers"))
    variables = inventory.vars("tor-a01a")
    assert variables["ansible_host"] == "192.0.2.3"
    assert (variables["kiban_switch"]["os"], variables["kiban_switch"]["rack"]) == ("sonic", "a01")
    assert Inventory(LAB).hosts("switches_linux") == []


def test_host_variables(work: Path) -> None:
    variables = Inventory(LAB).vars("node2")
    assert variables["ansible_host"] == "198.51.100.22"
    assert variables["ansible_user"] == "root"
    assert variables["ansible_python_interpreter"] == "/usr/bin/python3"
    assert variables["ansible_ssh_private_key_file"] == f"{work}/sites/lab/ssh/id_ed25519"
    server = variables["kiban_server"]
    assert (server["name"], server["rack"], server["pod_cidr"]) == ("node2", "a01", "10.244.22.0/24")
    assert server["bmc"]["address"] == "192.0.2.22"
    assert server["profile"]["disks"]["system"]["count"] == 1
    json.dumps(server)


def test_site_variables_also_for_localhost(work: Path) -> None:
    inventory = Inventory(LAB)
    for host in ("cp1", "localhost"):
        variables = inventory.vars(host)
        assert variables["kiban_work"] == str(work)
        assert variables["kiban_site_dir"] == f"{work}/sites/lab"
        assert variables["kiban_site"]["site"]["name"] == "lab"
    assert [server.name for server in load_site(variables["kiban_site"]).servers] == ["cp1", "node1", "node2"]


def test_a_site_comes_back_out_of_templated_variables() -> None:
    inventory = Inventory(LAB)
    assert load_site(inventory.rendered("cp1", "kiban_site")) == load_site(inventory.vars("cp1")["kiban_site"])


def test_filters_know_a_site_by_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """They run in forks of the process that has read the inventory, so that none has to load the site again."""
    inventory = Inventory(LAB)
    text, data = inventory.rendered("cp1", "kiban_site_json"), inventory.vars("cp1")["kiban_site"]
    monkeypatch.setattr(load, "_load", lambda *_unused: pytest.fail("the site was loaded again"))
    known = load.load_text(text)
    monkeypatch.undo()
    assert known == load_site(data) and known is load.load_text(text)
    for name, arguments in FILTERS.items():
        call = FilterModule().filters()[name]
        assert call(text, *arguments) == call(data, *arguments)


def test_node_objects_have_nothing_but_labels() -> None:
    labels = {"node1": {"a/b": "c"}, "node2": {}}
    made = FilterModule().filters()["node_label_manifests"](labels, ["node1"])
    assert made == [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1", "labels": {"a/b": "c"}}}]


FILTERS: dict[str, tuple[Any, ...]] = {
    "address6": ("198.51.100.11",),
    "cluster_manifests": ({"artifacts": [{"kind": "image", "name": "coredns", "reference": "x/coredns:v1"}]},),
    "kubeadm_init_config": ("cp1",),
    "kubeadm_join_config": ("node1", "abcdef.0123456789abcdef"),
    "kubeadm_patches": ("node1",),
    "sdn_capabilities": (),
    "server_files": ("node1", "ssh-ed25519 AAAA"),
    "site_artifacts": (),
    "unwanted_manifests": (),
}


@pytest.mark.parametrize("text", ["no JSON", "[1]", "{}"])
def test_a_text_that_is_no_site_is_refused(text: str) -> None:
    with pytest.raises(SiteError):
        load.load_text(text)


def test_a_changed_structure_is_never_taken_for_the_site_of_the_inventory() -> None:
    data = json.loads(Inventory(LAB).vars("cp1")["kiban_site_json"])
    data["site"]["domain"] = "other.example.net"
    assert load.load_text(json.dumps(data)).domain == load_site(data).domain == "other.example.net"


def test_work_dir_without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KIBAN_WORK")
    assert Inventory(LAB).vars("cp1")["kiban_work"] == os.path.expanduser("~/.cache/kiban")


def test_texts_of_the_file_are_never_templates(tmp_path: Path) -> None:
    text = "{{ 1 + 1 }}"
    path = copy_of(
        tmp_path, ("addresses: {node: 198.51.100.11}}", f'addresses: {{node: 198.51.100.11}}, wipe: ["{text}"]}}')
    )
    inventory = Inventory(path)
    assert inventory.rendered("cp1", "kiban_server")["wipe"] == [text]
    assert inventory.rendered("cp1", "kiban_site")["racks"][0]["servers"][0]["wipe"] == [text]


def ssh_options(arguments: str, *more: str) -> dict[str, str]:
    """What OpenSSH makes of the arguments."""
    command = ["ssh", "-F", "/dev/null", "-G", *shlex.split(arguments), *more, "198.51.100.22"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)


@pytest.mark.skipif(not shutil.which("ssh"), reason="needs OpenSSH")
@pytest.mark.parametrize("name", ["work", "my work"])
def test_ssh_checks_host_keys_of_the_site_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("KIBAN_WORK", str(tmp_path / name))
    options = ssh_options(Inventory(LAB).vars("node2")["ansible_ssh_common_args"])
    known_hosts = f"{tmp_path / name}/sites/lab/known_hosts"
    assert options["userknownhostsfile"] in (known_hosts, f'"{known_hosts}"')
    assert options["globalknownhostsfile"] == "/dev/null"
    assert options["stricthostkeychecking"] == "true"
    assert options["hostkeyalias"] == "node2"
    assert options["updatehostkeys"] == "false"
    assert options["identitiesonly"] == "yes"
    assert options["controlmaster"] == "auto"


@pytest.mark.parametrize(
    ("name", "ours"),
    [("site.yml", True), ("a.site.yaml", True), ("site.json", False), ("sites.yml", False), ("hosts.yml", False)],
)
def test_verify_file(tmp_path: Path, name: str, ours: bool) -> None:
    (tmp_path / name).write_text("plugin: kiban.baremetal.site\n")
    assert inventory_loader.get("kiban.baremetal.site").verify_file(str(tmp_path / name)) is ours


def test_no_such_file(tmp_path: Path) -> None:
    assert not inventory_loader.get("kiban.baremetal.site").verify_file(str(tmp_path / "site.yml"))


def test_all_problems_in_one_error(tmp_path: Path) -> None:
    path = copy_of(
        tmp_path, ("gateway:", "gatway:"), ("profile: compute, bmc: 192.0.2.11", "profile: x, bmc: 10.0.0.1")
    )
    lines = parse_error(path).splitlines()
    assert lines[0] == f"The site file {path} has 3 problems:"
    assert "- networks.node.gatway: unknown key; did you mean 'gateway'?" in lines
    assert "- racks[0].servers[0].profile: there is no profile 'x'; known: compute" in lines
    assert any(line.startswith("- racks[0].servers[0].bmc: 10.0.0.1 is outside networks.bmc") for line in lines)


def test_a_key_twice(tmp_path: Path) -> None:
    path = copy_of(tmp_path, ("  name: lab\n", "  name: lab\n  name: lab2\n"))
    assert "- site.name: the key is there twice, in line" in parse_error(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a mapping"),
        ("site: {}", "must state plugin: kiban.baremetal.site"),
        ("[]", "must be a mapping"),
        ("plugin: other", "must state plugin: kiban.baremetal.site"),
        ("plugin: [", "is not valid YAML"),
    ],
)
def test_not_a_site_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "site.yml"
    path.write_text(text)
    assert words in parse_error(path)


def test_ca_path_is_relative_to_the_file(tmp_path: Path) -> None:
    for written, used in [
        ("ca.pem", tmp_path / "ca.pem"),
        ("/etc/ca.pem", "/etc/ca.pem"),
        ("~/ca.pem", Path.home() / "ca.pem"),
    ]:
        path = copy_of(tmp_path, ("profiles:\n", f'bmc_defaults: {{ca_path: "{written}"}}\nprofiles:\n'))
        assert Inventory(path).vars("cp1")["kiban_server"]["bmc"]["ca_path"] == str(used)


class TestLabCredentials:
    def test_from_the_lab(self, work: Path) -> None:
        (work / "lab").mkdir(parents=True)
        (work / "lab" / "bmc_password").write_text("of-the-lab\n")
        inventory = Inventory(LAB.parent)
        assert inventory.rendered("cp1", "kiban_bmc_username") == "kiban"
        assert inventory.rendered("cp1", "kiban_bmc_password") == "of-the-lab"
        assert inventory.rendered("localhost", "kiban_bmc_ca_path") == f"{work}/lab/ca.pem"

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KIBAN_BMC_USERNAME", "somebody")
        monkeypatch.setenv("KIBAN_BMC_PASSWORD", "of-the-environment")
        inventory = Inventory(LAB.parent)
        assert inventory.rendered("cp1", "kiban_bmc_username") == "somebody"
        assert inventory.rendered("cp1", "kiban_bmc_password") == "of-the-environment"
