# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""What a control-plane server gets so that it announces the API server's address while its own API server is ready."""

from __future__ import annotations

import functools
from pathlib import Path

from .._site.kubeadm import API_PORT
from .._site.model import Server, Site

__all__ = ["endpoint_files"]

_PROGRAM = "/usr/local/lib/kiban/endpoint.py"
_CA = "/etc/kubernetes/pki/ca.crt"


def endpoint_files(site: Site, server: Server) -> dict[str, str]:
    """Path to content; none of a server that announces no such address."""
    if site.cluster.endpoint_by != "bgp" or "control_plane" not in server.roles:
        return {}
    address, own = site.cluster.endpoint, server.addresses["node"]
    unit = f"""[Unit]
Description=The cluster's API address, while the API server here is ready
After=frr.service

[Service]
ExecStart=/usr/bin/python3 {_PROGRAM} {address} {own} {API_PORT} {_CA}
ExecStopPost=-/usr/sbin/ip address delete {address}/32 dev lo
Restart=always
RestartSec=1
"""
    return {
        _PROGRAM: _program(),
        "/etc/systemd/system/kiban-endpoint.service": unit,
        # Whoever announces it starts it: to enable a service is not to write a file.
        "/etc/systemd/system/frr.service.d/20-kiban-endpoint.conf": "[Unit]\nWants=kiban-endpoint.service\n",
    }


@functools.cache
def _program() -> str:
    return Path(__file__).with_name("program.py").read_text(encoding="utf-8")
