# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""What a server boots without an override: boot order, boot mode and secure boot. All take effect at the next start."""

from __future__ import annotations

import time
import typing as t

from .errors import BmcOptionError, BmcUnsupported
from .resource import Json, Resources, dig, link, text
from .write import perform

__all__ = ("BootSettings",)

MODES = {"uefi": "UEFI", "legacy": "Legacy"}


class BootSettings:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.address = resources.address

    def read(self) -> Json:
        """`order`, `mode` and `secure_boot`, as they will be after the next start; None where the BMC does not tell."""
        boot = self._boot(fresh=True)[1]
        order = boot.get("BootOrder")
        mode = text(boot.get("BootSourceOverrideMode"))
        secure = self._secure(fresh=True)
        enable = secure.get("SecureBootEnable") if secure else None
        return {
            "order": [str(item) for item in order] if isinstance(order, list) else None,
            "mode": mode.lower() if mode else None,
            "secure_boot": enable if isinstance(enable, bool) else None,
        }

    def check(self, wanted: Json, now: Json) -> None:
        """Raise where the BMC says that it cannot; nothing is sent that changes something."""
        for name, words in (("order", "boot order"), ("mode", "boot mode"), ("secure_boot", "secure boot")):
            if wanted.get(name) is not None and now[name] is None:
                raise BmcUnsupported(
                    self.address,
                    f"its {words} cannot be set by Redfish",
                    hint="See whether bmc_bios has an attribute for it",
                )
        if wanted.get("order") is not None and sorted(wanted["order"]) != sorted(now["order"]):
            raise BmcOptionError(
                self.address,
                f"the boot order has to name each of its entries once, and these are {', '.join(now['order'])}",
                hint="Only their order can be changed",
            )

    def apply(self, wanted: Json, timeout: float = 60.0) -> None:
        """Set what differs, each by one request."""
        deadline = time.monotonic() + timeout
        now = self.read()
        boot: Json = {}
        if wanted.get("order") is not None and wanted["order"] != now["order"]:
            boot["BootOrder"] = wanted["order"]
        if wanted.get("mode") is not None and wanted["mode"] != now["mode"]:
            boot["BootSourceOverrideMode"] = MODES[wanted["mode"]]
        if boot:
            uri = self._boot()[0]
            # Where the order is in one object and the mode in another, each goes to its own.
            self._send(uri, {"Boot": boot}, wanted, ("order", "mode"), deadline)
        if wanted.get("secure_boot") is not None and wanted["secure_boot"] != now["secure_boot"]:
            secure = self._secure()
            uri = str(dig(secure, "@odata.id"))
            self._send(uri, {"SecureBootEnable": wanted["secure_boot"]}, wanted, ("secure_boot",), deadline)

    def _send(self, uri: str, body: Json, wanted: Json, names: t.Sequence[str], deadline: float) -> None:
        def shows() -> bool:
            now = self.read()
            return all(wanted.get(name) is None or now[name] == wanted[name] for name in names)

        what = "set " + " and ".join(name.replace("_", " ") for name in names if wanted.get(name) is not None)
        # Some BMCs make a job of it that waits for the next start.
        perform(
            self._resources,
            lambda: self._resources.patch(uri, body),
            uri,
            what,
            deadline,
            shows,
            works=True,
            until_scheduled=True,
        )

    def _boot(self, fresh: bool = False) -> tuple[str, Json]:
        """URI to write to, and the Boot object: what will be, where the BMC keeps that apart."""
        system = self._resources.system(fresh=fresh)
        settings = text(dig(system, "@Redfish.Settings", "SettingsObject", "@odata.id"))
        if settings is None and self._resources.behaviour.boot_by_settings:
            settings = str(system["@odata.id"]).rstrip("/") + "/SD"
        pending = self._resources.get(settings, fresh) if settings else {}
        now, later = dig(system, "Boot"), dig(pending, "Boot")
        now, later = (item if isinstance(item, dict) else {} for item in (now, later))
        if settings and later:
            return settings, {**now, **later}
        return str(system["@odata.id"]), now

    def _secure(self, fresh: bool = False) -> Json | None:
        uri = link(self._resources.system(), "SecureBoot")
        if uri is None:
            return None
        return self._resources.get(uri, fresh)
