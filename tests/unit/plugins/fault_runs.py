# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seeded runs of all modules on BMCs that fail in the middle. Each run is one number: the same number, the same run.

A run sets up a server, lets one or two requests fail in some way, runs a module, looks at what the BMC really did, then
runs the module again without faults. What must never be is counted: a request that is not idempotent done twice, a
session left open, "changed" without a change, a change that is not reported, a failure that does not say why, a second
run that does not end in what was asked for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.testing import patch_module_args

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import resource
from ansible_collections.kiban.baremetal.tests.simulator import PROFILES, Simulator
from ansible_collections.kiban.baremetal.tests.simulator.server import Loop

Params = dict[str, Any]
VENDOR = ("Vendor.1.0.Broken", "The widget is out of order.")


@dataclasses.dataclass
class Scenario:
    """Something to do on one BMC. `reached`: whether the server is as was asked for. `act`: each run is a change."""

    module: str
    params: Params
    reached: Callable[[], bool]
    act: bool = False


@dataclasses.dataclass
class Run:
    """How it went. `problems` should be empty; `ended`: how the module ended under faults."""

    seed: int
    profile: str
    module: str
    faults: list[str]
    ended: str = ""
    problems: list[str] = dataclasses.field(default_factory=list)


def run_module(name: str, params: Params, check_mode: bool = False) -> Params:
    module = importlib.import_module(f"ansible_collections.kiban.baremetal.plugins.modules.{name}")
    out = io.StringIO()
    options = {**params, "_ansible_check_mode": check_mode, "_ansible_diff": True}
    with patch_module_args(options), contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        module.main()
    lines = [line for line in out.getvalue().splitlines() if line.startswith("{")]
    found: Params = json.loads(lines[-1])
    return {"failed": False, "changed": False, **found}


# -- what is done


def certificates(bmc: Simulator) -> Iterator[Callable[[], Scenario | None]]:
    """The same for what needs a BMC with TLS."""
    subject = dict.fromkeys(("organization", "organizational_unit", "city", "state_or_province"), "Example")
    request = {"state": "requested", "subject": {**subject, "common_name": "bmc", "country": "DE"}}

    def requested() -> Scenario:
        known = len(bmc.bmc.keys)
        return Scenario("bmc_certificate", request, lambda: len(bmc.bmc.keys) >= max(1, known), act=True)

    def replaced() -> Scenario | None:
        asked = run_module("bmc_certificate", {**bmc.options, **request})
        if asked["failed"]:
            return None
        signed = bmc.pki.sign(asked["csr"]).strip()
        kept = lambda: [str(bmc.get(uri).get("CertificateString")).strip() for uri in bmc.find("Certificate")]  # noqa: E731
        return Scenario("bmc_certificate", {"certificate": signed}, lambda: signed in kept())

    yield from (requested, replaced, replaced)


def scenarios(bmc: Simulator, rng: random.Random, directory: Path) -> Iterator[Callable[[], Scenario | None]]:
    """Makers of scenarios, each of which may prepare the BMC first. None: this BMC cannot do it."""

    def power() -> Scenario:
        state = rng.choice(["on", "off"])
        bmc.set_power("Off" if state == "on" else "On")
        done = {"on": "On", "off": "Off"}[state]
        return Scenario("bmc_power", {"state": state, "method": "forced"}, lambda: bmc.system["PowerState"] == done)

    def boot() -> Scenario:
        target = rng.choice(["pxe", "disk"])
        names = {"pxe": "Pxe", "disk": "Hdd"}

        def reached() -> bool:
            bodies = [
                bmc.system,
                *(bmc.get(uri) for uri, owner in bmc.bmc.settings.items() if owner == bmc.bmc.power.system),
            ]
            return any(body.get("Boot", {}).get("BootSourceOverrideTarget") == names[target] for body in bodies)

        return Scenario("bmc_boot", {"target": target}, reached)

    def secure_boot() -> Scenario | None:
        uri = next(iter(bmc.find("SecureBoot")), None)
        if uri is None:
            return None
        wanted = not bmc.get(uri).get("SecureBootEnable")
        return Scenario("bmc_boot", {"secure_boot": wanted}, lambda: bmc.get(uri)["SecureBootEnable"] is wanted)

    def media() -> Scenario:
        image = "http://192.0.2.2/a.iso"
        images = lambda: [bmc.get(uri).get("Image") for uri in bmc.find("VirtualMedia")]  # noqa: E731
        if rng.random() < 0.3:
            run_module("bmc_virtual_media", {**bmc.options, "image": image})
            return Scenario("bmc_virtual_media", {"state": "ejected"}, lambda: image not in images())
        return Scenario("bmc_virtual_media", {"image": image}, lambda: images().count(image) == 1)

    def bios(restart: str) -> Scenario | None:
        settings = next((s for s, owner in bmc.bmc.settings.items() if "/bios" in owner.lower()), None)
        if settings is None:
            return None
        owner = bmc.bmc.settings[settings]
        current = bmc.get(owner)["Attributes"]
        known = {
            entry["AttributeName"]: [item["ValueName"] for item in entry.get("Value") or []]
            for uri in bmc.find("AttributeRegistry")
            for entry in bmc.get(uri)["RegistryEntries"]["Attributes"]
            if entry.get("Type") == "Enumeration" and not entry.get("ReadOnly")
        }
        names = [n for n, values in sorted(known.items()) if current.get(n) in values and len(values) > 1]
        if not names:
            return None
        name = rng.choice(names[:20])
        value = next(v for v in known[name] if v != current[name])

        def reached() -> bool:
            now = bmc.get(owner)["Attributes"][name]
            later = (bmc.get(settings).get("Attributes") or {}).get(name, now)
            return bool((now if restart != "never" else later) == value)

        return Scenario("bmc_bios", {"attributes": {name: value}, "restart": restart}, reached)

    def volume(absent: bool) -> Scenario | None:
        for uri in bmc.find("Storage"):
            body = bmc.get(uri)
            drives = [bmc.get(item["@odata.id"]) for item in body.get("Drives", [])]
            free = [d["SerialNumber"] for d in drives if not (d.get("Links") or {}).get("Volumes")]
            if "Volumes" in body and len(free) > 1:
                break
        else:
            return None
        known = len(bmc.find("Volume"))
        common = {"controller": body["Id"], "name": "data", "restart": "forced"}
        mirror = {**common, "raid_type": "RAID1", "drives": free[:2]}
        if absent:
            made = run_module("bmc_volume", {**bmc.options, **mirror})
            if made["failed"]:
                return None
            return Scenario("bmc_volume", {**common, "state": "absent"}, lambda: len(bmc.find("Volume")) == known)
        return Scenario("bmc_volume", mirror, lambda: len(bmc.find("Volume")) == known + 1)

    def accounts(name: str) -> list[Params]:
        return [b for b in (bmc.get(uri) for uri in bmc.find("ManagerAccount")) if b.get("UserName") == name]

    def user(what: str) -> Scenario | None:
        if not bmc.find("ManagerAccount"):
            return None
        person = {"name": "watcher", "account_password": "canary-first-1", "role": "ReadOnly"}
        if what == "own":
            wanted = {"name": bmc.username, "account_password": "canary-own-22"}
            right = lambda: bmc.bmc.access.check(bmc.username, "canary-own-22") is not None  # noqa: E731
            return Scenario("bmc_user", wanted, right)
        if what != "new":
            run_module("bmc_user", {**bmc.options, **person})
        if what == "absent":
            return Scenario("bmc_user", {"name": "watcher", "state": "absent"}, lambda: not accounts("watcher"))
        if what == "password":
            person["account_password"] = "canary-other-3"
        secret = person["account_password"]

        def reached() -> bool:
            return len(accounts("watcher")) == 1 and bmc.bmc.access.check("watcher", secret) is not None

        return Scenario("bmc_user", person, reached)

    def firmware(push: bool) -> Scenario | None:
        uri = next((u for u in bmc.find("SoftwareInventory") if bmc.get(u).get("Version") and "Firmware" in u), None)
        if uri is None:
            return None
        ident = bmc.get(uri)["Id"]
        update = {"component": ident, "version": "9.9.1"}
        if push:
            image = directory / f"{ident}_9.9.1.bin"
            image.write_bytes(f"{image.name}\n".encode() + b"\x00" * 100_000)
            update["path"] = str(image)
        else:
            update["image"] = f"http://192.0.2.2/{ident}_9.9.1.bin"
        params = {"updates": [update], "restart": "forced"}
        return Scenario("bmc_firmware", params, lambda: bmc.get(uri)["Version"] == "9.9.1")

    def log() -> Scenario | None:
        found = run_module("bmc_log", bmc.options)
        if found["failed"]:
            return None
        bmc.add_log_entry("something happened", log=found["log"])
        entries = bmc.get(found["log"])["Entries"]["@odata.id"]
        return Scenario("bmc_log", {"state": "cleared"}, lambda: not bmc.get(entries)["Members"])

    def erase() -> Scenario | None:
        able = [bmc.get(uri) for uri in bmc.find("Drive")]
        able = [d for d in able if "#Drive.SecureErase" in d.get("Actions", {}) and not d["Links"].get("Volumes")]
        if not able:
            return None
        names = [drive["SerialNumber"] for drive in able[: rng.choice([1, 2])]]
        wanted = {drive["@odata.id"].lower() for drive in able[: len(names)]}
        return Scenario(
            "bmc_erase",
            {"state": "erased", "drives": names},
            lambda: wanted <= {uri.lower() for uri in bmc.erased},
            act=True,
        )

    def network() -> Scenario | None:
        found = run_module("bmc_network", bmc.options)
        if found["failed"]:
            return None
        protocols = found["network"]["protocols"]
        if "ssh" not in protocols:
            return None
        wanted = not protocols["ssh"]
        uri = bmc.find("ManagerNetworkProtocol")[0]
        params = {"protocols": {"ssh": wanted}, "hostname": "bmc-77"}
        return Scenario("bmc_network", params, lambda: bmc.get(uri)["SSH"]["ProtocolEnabled"] is wanted)

    yield from (power, boot, secure_boot, media, log, erase, network)
    yield from (lambda: bios("never"), lambda: bios("forced"), lambda: volume(False), lambda: volume(True))
    yield from (lambda: firmware(False), lambda: firmware(True))
    yield from (lambda w=w: user(w) for w in ("new", "password", "absent", "own"))


# -- what fails


KINDS = (
    *("drop-before", "drop-after", "drop-half") * 2,
    *("busy", "busy-date", "throttled", "refused", "broken", "broken-after", "stale", "restart", "expired"),
    *("task-fails", "task-purged", "get-drop", "get-busy", "get-broken", "get-missing", "no-session"),
)


def break_something(bmc: Simulator, rng: random.Random) -> str:
    """One fault, at a request of the module that is not a login. Says what it was."""
    own = lambda call: "/Sessions" not in call.path and call.uri != "/redfish/v1"  # noqa: E731
    writes = lambda call: own(call) and call.method != "GET"  # noqa: E731
    nth = rng.choice([1, 1, 1, 2, 3])
    kind = rng.choice(KINDS)
    if kind.startswith("drop"):
        bmc.fault(when=writes, nth=nth, drop=kind.removeprefix("drop-"))
    elif kind in ("busy", "busy-date"):
        bmc.fault(when=writes, nth=nth, status=503, retry_after=0, message=VENDOR, times=rng.choice([1, 2]))
    elif kind == "throttled":
        bmc.fault(when=writes, nth=nth, status=429, times=rng.choice([1, 3]))
    elif kind == "refused":
        bmc.fault(when=writes, nth=nth, status=400, message=VENDOR)
    elif kind == "broken":
        bmc.fault(when=writes, nth=nth, status=500, message=VENDOR)
    elif kind == "broken-after":
        bmc.fault(when=writes, nth=nth, status=500, message=VENDOR, work=True)
    elif kind == "stale":
        bmc.fault(when=lambda call: writes(call) and call.method in ("PATCH", "DELETE"), status=412)
    elif kind == "restart":
        bmc.fault(when=writes if rng.random() < 0.5 else own, nth=nth, refuse=rng.choice([5.0, 60.0]))
    elif kind == "task-fails":
        bmc.task("* *", "Exception", message=VENDOR)
        bmc.task("POST *", "Exception", message=VENDOR)
        bmc.task("PATCH *", "Exception", message=VENDOR)
        bmc.task("DELETE *", "Exception", message=VENDOR)
    elif kind == "task-purged":
        for method in ("POST", "PATCH", "DELETE"):
            bmc.task(f"{method} *", "Completed", purged=True)
    elif kind == "expired":
        bmc.fault(when=own, nth=rng.randint(2, 9), status=401, message=("NoValidSession", ""))
    elif kind == "get-drop":
        bmc.fault("GET", when=own, nth=rng.randint(1, 12), drop=rng.choice(["before", "after", "half"]))
    elif kind == "get-busy":
        bmc.fault("GET", when=own, nth=rng.randint(1, 12), status=503, retry_after=0, times=rng.choice([1, 2]))
    elif kind == "get-broken":
        bmc.fault("GET", when=own, nth=rng.randint(1, 12), status=500, message=VENDOR)
    elif kind == "get-missing":
        bmc.fault("GET", when=own, nth=rng.randint(1, 12), status=404)
    else:
        bmc.fault("POST", "*/Sessions", status=503, message=("IDRAC.2.8.RAC0218", "No session is free."))
    return f"{kind} (request {nth})"


# -- one run


def one(seed: int, loop: Loop, directory: Path) -> Run | None:
    """None: this BMC cannot do what was drawn."""
    rng = random.Random(seed)
    resource._lies.clear()
    profile = rng.choice(sorted(PROFILES))
    tls = rng.random() < 0.1
    with Simulator(profile, loop=loop, tls=tls, power="On") as bmc:
        makers = list(certificates(bmc) if tls else scenarios(bmc, rng, directory))
        scenario = rng.choice(makers)()
        if scenario is None:
            return None
        bmc.advance(700)
        params = {**bmc.options, "timeout": 5, **scenario.params}
        planned = run_module(scenario.module, params, check_mode=True)
        if planned["failed"]:
            return None  # what it does not offer is the ladder's business
        run = Run(seed, profile, scenario.module, [break_something(bmc, rng) for _ in range(rng.choice([1, 1, 2]))])
        bmc.advance(1)
        before = _state(bmc)
        bmc.forget()
        result = run_module(scenario.module, params)
        run.problems += _requests(bmc)
        bmc.advance(700)
        run.ended = result["failure"]["kind"] if result["failed"] else "changed" if result["changed"] else "same"
        run.problems += _honest(result, _state(bmc) != before, scenario)
        bmc.clear_faults()
        bmc.bmc.tasks.outcomes.clear()
        bmc.advance(700)
        _listens(bmc)
        run.problems += _converges(bmc, scenario, params)
        return run


def _listens(bmc: Simulator) -> None:
    """A BMC that refused connections takes a moment of real time until it takes them again."""
    for _try in range(100):
        with contextlib.suppress(OSError), socket.create_connection((bmc.host, bmc.port), 1):
            return
        time.sleep(0.02)


def _state(bmc: Simulator) -> tuple[Any, ...]:
    logs = [len(bmc.get(uri).get("Members", [])) for uri in bmc.find("LogEntryCollection")]
    ignored = ("LastResetTime", "BootProgress")
    state = {u: {k: v for k, v in (b or {}).items() if k not in ignored} for u, b in bmc.state().items()}
    waiting = [work.name for work in bmc.bmc.tasks.waiting()]
    keys = [key.public_key().public_numbers() for key in bmc.bmc.keys.values()]
    return state, list(bmc.erased), logs, len(bmc.boots), dict(bmc.bmc.access.passwords), waiting, keys


def _requests(bmc: Simulator) -> list[str]:
    problems = [f"a session was left open: {uri}" for uri in bmc.open_sessions]
    done = Counter(
        (request.path, json.dumps(request.body, default=str))
        for request in bmc.requests
        if request.method == "POST" and request.is_write and request.done
    )
    problems += [f"done {count} times: POST {path}" for (path, _body), count in done.items() if count > 1]
    problems += [f"repeated blindly: {line}" for line in bmc.blind_repeats()]
    return problems


def _honest(result: Params, different: bool, scenario: Scenario) -> list[str]:
    if not result["failed"]:
        problems = []
        if result["changed"] and not different:
            problems.append("changed, without a change")
        if not result["changed"] and different:
            problems.append("a change that was not reported")
        return problems
    failure = result["failure"]
    problems = []
    if result["changed"] is not bool(failure["done"]):
        problems.append("changed and what was done disagree")
    if result["changed"] and not different and not scenario.act:  # what began to be erased is not as it was
        problems.append(f"failed as changed, without a change: {failure['done']}")
    if not result["changed"] and different and failure["kind"] != "uncertain":
        problems.append(f"a failure hides a change ({failure['kind']}: {failure['message']})")
    if not failure["message"] or failure["address"] not in result["msg"]:
        problems.append("a failure without a reason")
    if failure["kind"] in ("refused", "not_found", "busy", "auth") and not failure["status"]:
        problems.append("a refusal without its HTTP status")
    if VENDOR[1] in str(failure["messages"]) and VENDOR[1].rstrip(".") not in result["msg"]:
        problems.append("what the BMC said is not in the message")
    return problems


def _converges(bmc: Simulator, scenario: Scenario, params: Params) -> list[str]:
    again = run_module(scenario.module, params)
    if again["failed"]:
        return [f"running again fails: {again['msg'][:300]}"]
    bmc.advance(700)
    if not scenario.reached():
        return ["running again does not reach what was asked for"]
    if scenario.act:
        return []
    check = run_module(scenario.module, params, check_mode=True)
    if check["failed"] or check["changed"]:
        return [f"a third run would change something again: {check.get('diff') or check.get('msg')}"]
    return [f"a session was left open: {uri}" for uri in bmc.open_sessions]


def many(seeds: Iterable[int]) -> Iterator[Run]:
    loop = Loop()
    try:
        with tempfile.TemporaryDirectory() as directory:
            for seed in seeds:
                run = one(seed, loop, Path(directory))
                if run is not None:
                    yield run
    finally:
        loop.stop()
