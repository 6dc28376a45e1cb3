# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""IPMI by the program ipmitool: one process for each thing that is asked, so one BMC cannot disturb another.

pyghmi, the library, was set aside: it sends a reset again when its answer is lost, or does not show the answer at all,
and asks some BMCs for more over HTTPS without looking at their certificate.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import typing as t

from .errors import (
    BmcAuthError,
    BmcBadAnswer,
    BmcBusy,
    BmcDenied,
    BmcError,
    BmcOptionError,
    BmcRefused,
    BmcTimeout,
    BmcUncertain,
    BmcUnreachable,
    BmcUnsupported,
)
from .options import Options
from .quirk import Behaviour

__all__ = ("IpmiTool", "failure_of")

# Best first. What a BMC offers is tried out: asking for the list costs 10 s where it cannot be asked for.
SUITES = (17, 3)
_PORT = 623
# Lengths that IPMI 2.0 allows (sections 22.28 and 22.30).
_LONGEST_NAME, _LONGEST_PASSWORD = 16, 20
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class IpmiTool:
    """One BMC. The password is in the environment of the program only, where other users cannot read it."""

    behaviour = Behaviour()

    def __init__(self, options: Options) -> None:
        self.host, self.port = _place(options)
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.address = host if self.port == _PORT else f"{host}:{self.port}"
        for what, value, longest in (
            ("user name", options.username, _LONGEST_NAME),
            ("password", options.password, _LONGEST_PASSWORD),
        ):
            if len(value.encode()) > longest:
                raise BmcOptionError(
                    self.address,
                    f"the {what} is longer than the {longest} bytes that IPMI knows",
                    hint="Use another account of this BMC for the driver ipmi",
                )
        self._options = options
        self._suites = list(SUITES)
        self.requests = 0

    def raw(self, *data: int, once: bool = False) -> bytes:
        """Send one command (network function, command, data); the data of the answer, without the completion code.

        `once`: never sent again, for what must not happen twice. BmcUncertain says that its answer was lost.
        """
        text = self.run("raw", *(f"0x{byte:02x}" for byte in data), once=once)
        try:
            return bytes(int(byte, 16) for byte in text.split())
        except ValueError:
            raise BmcBadAnswer(self.address, f"ipmitool gave something else than bytes: {text[:80]}") from None

    def run(self, *command: str, once: bool = False) -> str:
        """What ipmitool prints for a command."""
        while True:
            ended = self._start(command, once)
            if ended.returncode == 0:
                return ended.stdout
            if len(self._suites) > 1 and _wants_other_suite(ended.stderr):
                self._suites.pop(0)
                continue
            if command[0] != "raw" and "Unable to establish" in ended.stderr:
                suites = len(self._suites)
                self.raw(0x06, 0x01)  # says why, or finds the other suite
                if len(self._suites) < suites:
                    continue
            raise failure_of(self.address, f"ipmitool {' '.join(command)}", ended.stdout + ended.stderr, once)

    def _start(self, command: t.Sequence[str], once: bool) -> subprocess.CompletedProcess[str]:
        program = shutil.which("ipmitool", path=f"{os.environ.get('PATH', '')}:{_PATH}")
        if program is None:
            raise BmcOptionError(
                self.address,
                "the driver ipmi needs the program ipmitool, which is not installed",
                hint="Install it where this task runs: apt-get install ipmitool",
            )
        patience = (
            ("-N", str(max(1, min(10, int(self._options.timeout)))), "-R", "1") if once else ("-N", "1", "-R", "3")
        )
        arguments = [
            *(program, "-I", "lanplus", "-H", self.host, "-p", str(self.port), "-U", self._options.username, "-E"),
            # -v tells why there is no session, but changes the form of all answers but the raw ones.
            *("-C", str(self._suites[0]), *patience, "-Z", *(["-v"] if command[0] == "raw" else []), *command),
        ]
        environment = {"PATH": _PATH, "LC_ALL": "C", "IPMI_PASSWORD": self._options.password}
        self.requests += 1
        try:
            return subprocess.run(
                arguments,
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                timeout=self._options.timeout,
            )
        except subprocess.TimeoutExpired:
            pass  # its text holds nothing more
        kind = BmcUncertain if once else BmcTimeout
        raise kind(self.address, f"no whole answer within {self._options.timeout:.0f} s", request=" ".join(command))


def failure_of(address: str, request: str, said: str, once: bool) -> BmcError:
    """What ipmitool said, as an error of this collection."""
    code = re.search(r"rsp=0x([0-9a-f]{2})\)", said)
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    hint = "Look whether IPMI over LAN is switched on for this BMC, and which UDP port it has"
    if "RAKP 2 HMAC is invalid" in said or "unauthorized name" in said or "Invalid user name" in said:
        return BmcAuthError(address, "user name or password is not accepted", request=request)
    if code and code.group(1) == "d4":
        return BmcDenied(
            address, "the account may not do this", request=request, hint="The driver ipmi needs an administrator"
        )
    if "insufficient resources" in said:
        return BmcBusy(address, "it has no session left", request=request)
    if "does not support IPMI v2" in said:
        return BmcUnsupported(address, "it knows only IPMI 1.5, which has no encryption", request=request)
    if "Address lookup" in said:
        return BmcUnreachable(address, "its name cannot be resolved", request=request)
    if "Unable to establish" in said or "Could not open socket" in said:
        return BmcUnreachable(address, "no IPMI session can be opened", hint=hint, request=request)
    if code is None and ("Invalid command" in said or "Device not present" in said):
        return BmcUnsupported(address, f"it does not know this ({last})", request=request)
    if code is None:
        return (BmcUncertain if once else BmcTimeout)(address, f"its answer was lost ({last})", request=request)
    # Completion codes: IPMI 2.0, table 5-2.
    number = int(code.group(1), 16)
    if number in (0xC0, 0xC3, 0xCF, 0xD2):
        return BmcBusy(address, f"it is busy ({last})", request=request)
    if number in (0xC1, 0xC2, 0xC9, 0xCB, 0xCC, 0xD6):
        return BmcUnsupported(address, f"it cannot do this ({last})", request=request)
    return BmcRefused(address, f"it refused ({last})", request=request)


def _wants_other_suite(said: str) -> bool:
    # Some BMCs refuse a suite, others answer with the one that they have.
    refused = r"open session response.*(invalid|illegal|no matching|no cipher)|algorithm .* is not what we requested"
    return bool(re.search(refused, said, re.IGNORECASE))


def _place(options: Options) -> tuple[str, int]:
    address = options.address.strip()
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:/@\s\[\]]+))(?::(\d{1,5}))?", address)
    if found:
        return found.group(1) or found.group(2), int(found.group(3) or _PORT)
    if re.fullmatch(r"[0-9A-Fa-f:.]+", address):
        return address, _PORT
    raise BmcOptionError(
        re.sub(r"//[^/@]*@", "//", address) or "(empty)",
        "the driver ipmi takes no URL",
        hint="Give a host or host:port; the port is that of IPMI, 623 by default",
    )
