# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BMCs against interoperability profiles, by the DMTF's redfish_interop_validator 3.

A program of its own, for a Python that has the validator: a job as JSON on stdin, the result as JSON on stdout. What
decides is the validator. What reads is the client of this collection, since the validator's own does not verify
certificates, wants the password on its command line and reads the whole BMC once for each profile. Here the BMC is
read once, and only where a profile names what it leads to.
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import contextlib
import io
import json
import logging
import multiprocessing
import re
import sys
from pathlib import Path
from typing import Any

# Of large collections the first members tell enough.
LIMITS = {"LogEntry": 2, "SoftwareInventory": 10, "Memory": 4, "Processor": 2, "Port": 4, "ManagerAccount": 4}


def main() -> int:
    job = json.load(sys.stdin)
    sys.path.insert(0, job["collections"])
    try:
        _prepare()
    except ImportError as exc:
        print(f"{sys.executable} has no redfish_interop_validator: {exc}", file=sys.stderr)
        return 3
    # Processes, since the validator keeps what it is doing in its modules. Forked: they begin with all of it loaded.
    workers = max(1, min(job["at_once"], len(job["servers"])))
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        asked = {name: pool.apply_async(_one, (options, job["profiles"])) for name, options in job["servers"].items()}
        json.dump({name: result.get() for name, result in asked.items()}, sys.stdout)
    return 0


def _prepare() -> None:
    from redfish_interop_validator import logger

    logger.logger = logging.getLogger("kiban.contract")
    logger.logger.addHandler(logging.NullHandler())
    logger.logger.propagate = False


def _one(options: dict[str, Any], profiles: list[str]) -> dict[str, Any]:
    from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcError

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return check(options, [Path(path) for path in profiles])
    except BmcError as exc:
        return {"failure": exc.as_dict()}
    except Exception as exc:  # pylint: disable=broad-exception-caught
        # A BMC that makes the validator fall over must not cost the others their results.
        return {"failure": {"kind": "bad_answer", "message": f"the validator broke off: {type(exc).__name__}: {exc}"}}


def check(params: dict[str, Any], paths: list[Path]) -> dict[str, Any]:
    import redfish
    from redfish_interop_validator import profile

    from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options, connect

    named = {"Members"} | {name for path in paths for name in _names(json.loads(path.read_text()))}
    areas = {}
    with connect(Options.from_params(params)) as bmc:
        context = Context(bmc.session)
        redfish.redfish_client = lambda **_options: context
        for path in paths:
            profile._parsed_profiles.clear()
            profile.load_profile(str(path.parent), path.name)
            areas[path.name] = _check_one(named)
            if context.broken is not None:
                raise context.broken
    return {"profiles": areas, "requests": bmc.requests, "root": _identity(context)}


def _check_one(named: set[str]) -> dict[str, Any]:
    from redfish_interop_validator.system_under_test import SystemUnderTest
    from redfish_interop_validator.validate import Result

    class Sut(SystemUnderTest):
        """Follows what the profiles name, instead of everything."""

        def find_uris(self, payload: Any, *rest: Any) -> None:
            if isinstance(payload, dict) and "@odata.type" in payload:
                payload = {key: value for key, value in payload.items() if key in named}
            super().find_uris(payload, *rest)

    limits = [str(item) for pair in LIMITS.items() for item in pair]
    sut = Sut("https://bmc", "", "", None, "Basic", None, None, None, limits, True)
    start = "/redfish/v1/"
    sut.validate(None, start, start)
    sut.apply_global_checks()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for uri, body in sut._resources.items():
        for place, result in body["Results"].items():
            if result["Result"] == Result.FAIL:
                _add(found, sut.get_resource_type(uri)[0] or "", uri, place, result["Message"])
    for kind, result in sut._service_resource_results["Results"].items():
        if result["Result"] == Result.FAIL:
            _add(found, kind, "", "", result["Message"])
    return {"passed": sut.pass_count, "warned": sut.warn_count, "problems": list(found.values())}


def _add(found: dict[tuple[str, str], dict[str, Any]], kind: str, uri: str, place: str, message: str) -> None:
    """What many resources of a kind have in common is one problem, with the first of them as an example."""
    place = re.sub(r"/\d+(?=/|$)", "", place)
    text = re.sub(r"; Profile: .*", "", message.splitlines()[0])
    one = found.setdefault(
        (kind, place + text), {"kind": kind, "property": place, "message": text, "uri": uri, "count": 0}
    )
    one["count"] += 1


def _names(node: Any) -> set[str]:
    """All properties that requirements are about."""
    if isinstance(node, list):
        return {name for item in node for name in _names(item)}
    if not isinstance(node, dict):
        return set()
    inside = node.get("PropertyRequirements", {})
    return set(inside) | {name for item in node.values() for name in _names(item)}


def _identity(context: Context) -> dict[str, Any]:
    root = context.root_resp.dict
    return {name: root.get(name) for name in ("Vendor", "Product", "RedfishVersion")}


class Context:
    """What the validator takes for its HTTP client: each resource is read once, by ours."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._answers: dict[str, Any] = {}
        # The validator takes every exception for a resource that is not there; so the first is kept.
        self.broken: Exception | None = None
        self.root_resp = self.get("/redfish/v1/")

    def login(self, **_options: Any) -> None:
        """The session of the collection's client logs in by itself."""

    def logout(self) -> None:
        """And out, at the end of the whole check."""

    def get(self, uri: str, *_args: Any, **_options: Any) -> Any:
        import redfish

        from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcBusy, BmcError, BmcRefused

        key = uri.rstrip("/")
        if key not in self._answers:
            try:
                answer = self._session.get(key + "/" if key == "/redfish/v1" else uri)
                status, headers, content = answer.status, dict(answer.headers), answer.body.decode("utf-8", "replace")
            except BmcError as exc:
                if not isinstance(exc, BmcRefused) or isinstance(exc, BmcBusy) or exc.status == 401:
                    self.broken = self.broken or exc
                    raise
                status, headers, content = exc.status, {}, ""
            self._answers[key] = (status, headers, content)
        status, headers, content = self._answers[key]
        return redfish.rest.v1.StaticRestResponse(Status=status, Headers=headers, Content=content)


if __name__ == "__main__":
    sys.exit(main())
