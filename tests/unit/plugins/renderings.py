# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything about networks that is rendered of a site, by name. As a program: the sums that a test compares with."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.kiban.baremetal.plugins.filter.lab import lab_layout
from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.cluster import images_of, manifests
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.kubeadm import init_config, join_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import node_files

INVENTORIES = ("lab", "lab-fabric", "lab-overlay")
SUMS = Path(__file__).with_name("single_stack.json")


def site_data(checkout: Path, inventory: str) -> dict[str, Any]:
    return dict(yaml.safe_load((checkout / f"inventories/{inventory}/site.yml").read_text("utf-8")))


def renderings(checkout: Path, data: dict[str, Any]) -> dict[str, str]:
    """Of servers, switches, the cluster and the lab that stands for them."""
    site = load_site(data)
    found = {
        f"{server.name}:{path}": text
        for server in site.servers
        for path, text in {
            **node_files(site, server, "ssh-ed25519 key"),
            "init": init_config(site, server, {}),
            "join": join_config(site, server, "abcdef.0123456789abcdef"),
        }.items()
    }
    for name, intent in intents(site).items():
        config = render(next(switch.os for switch in site.switches if switch.name == name), intent)
        found |= {f"{name}:tables": _text(config.tables), f"{name}:text": config.text}
    found["cluster"] = _text(manifests(site, {image: image for image in images_of(site)}))
    found["lab"] = _text(_lab(checkout, data, site))
    return found


def _lab(checkout: Path, data: dict[str, Any], site: Site) -> Any:
    defaults = yaml.safe_load((checkout / "roles/lab/defaults/main.yml").read_text("utf-8"))
    names = ("vlans", "uplink", "hardware", "router_daemons", "firmware", "firmware_variables")
    given = {name: defaults.get(f"lab_{name}") for name in names}
    return lab_layout(data, {"directory": "/srv/lab", "prefix": "kiban", **given})


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, default=dict)


def sums(checkout: Path) -> dict[str, dict[str, str]]:
    return {
        inventory: {
            name: hashlib.sha256(text.encode()).hexdigest()[:16]
            for name, text in renderings(checkout, site_data(checkout, inventory)).items()
        }
        for inventory in INVENTORIES
    }


if __name__ == "__main__":
    SUMS.write_text(json.dumps(sums(Path(sys.argv[1])), indent=1, sort_keys=True) + "\n", "utf-8")
