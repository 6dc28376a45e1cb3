# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client on a tree in memory: all of it but the wire, so that thousands of trees can be read in a test."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options, connect
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.client import Bmc
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.transport import Answer

Json = dict[str, Any]


def client(tree: Mapping[str, Any], any_case: bool = False, **options: Any) -> Bmc:
    """A client that is connected with this tree. $expand is answered as the specification says, where it is offered."""
    bmc = connect(Options(address="bmc.invalid", username="kiban", password="canary-memory", **options))
    wire = _Wire(tree, any_case)
    bmc.session.transport.exchange = wire.exchange  # type: ignore[method-assign]
    return bmc


class _Wire:
    def __init__(self, tree: Mapping[str, Any], any_case: bool) -> None:
        self._any_case = any_case
        self._tree = {self._key(uri): body for uri, body in tree.items()}

    def _key(self, uri: str) -> str:
        uri = uri.partition("#")[0].rstrip("/")
        return uri.lower() if self._any_case else uri

    def exchange(self, method: str, path: str, _headers: Any, _body: Any, _deadline: float) -> Answer:
        url = urllib.parse.urlsplit(urllib.parse.unquote(path))
        if method == "POST":
            headers = {"x-auth-token": "canary-token", "location": "/redfish/v1/SessionService/Sessions/1"}
            return Answer("bmc.invalid", f"{method} {path}", 201, headers, b"{}")
        if method == "DELETE":
            return Answer("bmc.invalid", f"{method} {path}", 204, {}, b"")
        body = self._tree.get(self._key(urllib.parse.unquote(path))) or self._tree.get(self._key(url.path))
        if body is None:
            return Answer("bmc.invalid", f"{method} {path}", 404, {}, b"{}")
        sign = re.search(r"\$expand=([.*])", url.query)
        if sign and isinstance(body, dict):
            body = {name: self._filled(name, value, sign[1]) for name, value in body.items()}
        return Answer("bmc.invalid", f"{method} {path}", 200, {}, json.dumps(body).encode())

    def _filled(self, name: str, value: Any, sign: str) -> Any:
        if name in ("Actions", "Oem") or (name == "Links" and sign == "."):
            return value
        if isinstance(value, list):
            return [self._filled("", item, sign) for item in value]
        if isinstance(value, dict):
            uri = value.get("@odata.id")
            if len(value) == 1 and isinstance(uri, str):
                found = self._tree.get(self._key(uri))
                return found if isinstance(found, dict) else value
            return {key: self._filled(key, item, sign) for key, item in value.items()}
        return value
