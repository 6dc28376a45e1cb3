# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Query parameters: $expand as each kind of BMC has it, $select, $top, $skip, only."""

from __future__ import annotations

import copy
import re
import urllib.parse
from typing import TYPE_CHECKING, Any

from .messages import Json, Refusal
from .tree import ROOT, clean, dig, encode, schema

if TYPE_CHECKING:
    from .bmc import Bmc

KNOWN = ("$expand", "$select", "$top", "$skip", "$filter", "only", "excerpt")
_EXPAND = re.compile(r"([.*~])(?:\(\$levels=(\d+)\))?$")
_FEATURE = {".": "NoLinks", "*": "ExpandAll", "~": "Links"}


def answer(bmc: Bmc, uri: str, query: str) -> bytes:
    """The body of a GET with query parameters."""
    key = (uri, f"{bmc.profile.expand} {query}")
    found = bmc.tree.base.cache.get(key)
    if found is not None and found[1].isdisjoint(bmc.tree.changed()):
        return found[0]
    used: set[str] = {uri}
    data = encode(_queried(bmc, uri, query, used))
    if used.isdisjoint(bmc.tree.changed()):
        bmc.tree.base.cache[key] = (data, frozenset(used))
    return data


def _queried(bmc: Bmc, uri: str, query: str, used: set[str]) -> Any:
    body: Any = bmc.tree.shown(uri)
    wanted = urllib.parse.parse_qs(query, keep_blank_values=True)
    for name in wanted:
        if name.startswith("$") and name not in KNOWN:
            raise Refusal(501, "QueryNotSupported")
    features = dig(bmc.tree.need(ROOT), "ProtocolFeaturesSupported")
    features = features if isinstance(features, dict) else {}
    if "only" in wanted and features.get("OnlyMemberQuery"):
        if wanted["only"] != [""]:
            raise Refusal(400, "QueryParameterValueFormatError", wanted["only"][0], "only")
        if len(wanted) > 1:
            raise Refusal(400, "QueryCombinationInvalid")
        if "Members" not in body:
            raise Refusal(400, "QueryNotSupportedOnResource")
        if len(body["Members"]) == 1:
            only = bmc.tree.key(body["Members"][0]["@odata.id"])
            used.add(only)
            body = bmc.tree.shown(only)
    if "$filter" in wanted and not features.get("FilterQuery"):
        raise Refusal(501, "QueryNotSupported")
    if "$skip" in wanted or "$top" in wanted:
        body = _page(body, wanted)
    if schema(body) == "LogEntryCollection" and bmc.profile.logs_expanded:
        entries = [bmc.tree.key(member["@odata.id"]) for member in body["Members"]]
        used.update(entries)
        body = {**body, "Members": [bmc.tree.shown(uri) for uri in entries if bmc.tree.get(uri)]}
    if "$expand" in wanted:
        body = _expand(bmc, body, wanted["$expand"][0], features, used)
    if "$select" in wanted and features.get("SelectQuery"):
        body = _select(body, wanted["$select"][0])
    return body


def _page(body: Json, wanted: dict[str, list[str]]) -> Json:
    if "Members" not in body:
        raise Refusal(400, "QueryNotSupportedOnResource")
    numbers = {}
    for name in ("$skip", "$top"):
        given = wanted.get(name, ["0" if name == "$skip" else str(len(body["Members"]))])[0]
        if not given.isdigit():
            raise Refusal(400, "QueryParameterValueFormatError", given, name)
        numbers[name] = int(given)
    body = dict(body)
    end = numbers["$skip"] + numbers["$top"]
    rest = len(body["Members"]) > end
    body["Members"] = body["Members"][numbers["$skip"] : end]
    if rest and numbers["$top"]:
        body["Members@odata.nextLink"] = f"{body['@odata.id']}?$skip={end}&$top={numbers['$top']}"
    return body


def _expand(bmc: Bmc, body: Json, given: str, features: Json, used: set[str]) -> Json:
    mode = bmc.profile.expand
    if mode in ("absent", "ignored"):
        return body
    if mode == "refused":
        raise Refusal(501, "QueryNotSupported")
    found = _EXPAND.match(urllib.parse.unquote(given))
    if found is None:
        raise Refusal(400, "QueryParameterValueFormatError", given, "$expand")
    offered = features.get("ExpandQuery")
    offered = offered if isinstance(offered, dict) else {}
    if not offered.get(_FEATURE[found.group(1)]):
        raise Refusal(400, "QueryParameterValueFormatError", given, "$expand")
    levels = int(found.group(2) or 1)
    most = int(offered.get("MaxLevels") or 1)
    if levels < 1 or levels > most:
        raise Refusal(400, "QueryParameterOutOfRange", levels, "$expand", f"1-{most}")
    whole = copy.deepcopy(_fill(bmc, body, levels, found.group(1), used))
    members = whole.get("Members")
    if isinstance(members, list):
        if mode == "short" and members:
            members.pop()
        for member in members if mode == "cut" else ():
            for name in ("Id", "Name", "ChassisType"):
                member.pop(name, None)
    return whole


def _fill(bmc: Bmc, value: Any, levels: int, kind: str, used: set[str], inside: bool = False) -> Any:
    """`inside`: below Links, where `.` does not expand and only there `~` does."""
    if isinstance(value, list):
        return [_fill(bmc, item, levels, kind, used, inside) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"@odata.id"} and isinstance(value["@odata.id"], str):
        if kind == "*" or (kind == ".") is not inside:
            uri = bmc.tree.key(clean(value["@odata.id"]))
            used.add(uri)
            if "#" not in value["@odata.id"] and bmc.tree.get(uri) is not None:
                body = bmc.tree.shown(uri)
                return _fill(bmc, body, levels - 1, kind, used) if levels > 1 else body
        return value
    return {
        name: item
        if name in ("Actions", "@Redfish.Settings")
        else _fill(bmc, item, levels, kind, used, inside or name == "Links")
        for name, item in value.items()
    }


def _select(body: Json, given: str) -> Json:
    names = {name.strip().split("/")[0] for name in given.split(",")}
    return {
        name: value
        for name, value in body.items()
        if name in names or name.split("@")[0] in names or name.startswith("@odata.")
    }
