# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is rendered for FRR, on switches and servers of generated sites, is read by FRR's own parser."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.derive import intents
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.drivers import render
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.host import frr_config
from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.intent import FabricError
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import (
    dual_sites,
    sites,
    with_balancer,
    with_overlay,
    with_routed_servers,
)

VTYSH = shutil.which("vtysh", path="/usr/bin:/bin")


def loads(*texts: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        for text in texts:
            file.seek(0)
            file.truncate()
            file.write(text)
            file.flush()
            done = subprocess.run([str(VTYSH), "-C", "-f", file.name], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{text}"


@pytest.mark.skipif(not VTYSH, reason="not installed: vtysh")
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(sites(systems=("linux",)), dual_sites()))
def test_every_switch_and_server(data: dict[str, Any]) -> None:
    site = load_site(data)
    for one in (site, with_routed_servers(site), with_balancer(with_routed_servers(site))):
        try:
            found = intents(one)
        except FabricError:
            assert one is not site and one.fabric.server_asn is None
            continue
        texts = [render("linux", intent).text for intent in found.values()]
        if one.fabric.server_asn is not None:
            texts += [frr_config(one, server, found) for server in one.servers]
        loads(*texts)


@pytest.mark.skipif(not VTYSH, reason="not installed: vtysh")
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(sites(systems=("linux",)), dual_sites()))
def test_servers_with_an_overlay_and_an_address_of_the_api(data: dict[str, Any]) -> None:
    site = load_site(with_overlay(data))
    routed = with_routed_servers(replace(site, fabric=replace(site.fabric, server_asn=4200000000)))
    routed = replace(routed, cluster=replace(routed.cluster, endpoint="198.51.100.250", endpoint_by="bgp"))
    loads(*(frr_config(one, server) for one in (site, routed) for server in one.servers))


def test_a_parser_that_finds_a_mistake() -> None:
    if not VTYSH:
        pytest.skip("not installed: vtysh")
    with pytest.raises(AssertionError, match="maximum-paths"):
        loads("router bgp 65101\n address-family ipv4 unicast\n  maximum-paths many\n")
