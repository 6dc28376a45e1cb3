# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""The face of one BMC: what modules, the inventory and the bulk reader use."""

from __future__ import annotations

import typing as t

from .account import Accounts
from .bios import Bios
from .boot import Boot
from .certificate import Certificates
from .drive import Drives
from .errors import BmcOptionError
from .firmware import Firmware
from .hardware import SUBSETS, Hardware
from .log import Logs
from .media import Media
from .message import hide_credentials
from .network import Network
from .options import DRIVERS, Options
from .power import Power, power_state
from .quirk import load
from .resource import Resources, dig, text
from .secure_boot import BootSettings
from .sensors import read_sensors
from .session import Session
from .volume import Volumes

__all__ = ("Bmc", "connect")


class Bmc:
    """One BMC, one connection, one session; the session ends with the `with` block.

    Nothing is sent before something is asked. Not for several threads at once; one per thread is right.
    """

    def __init__(self, options: Options, quirks: t.Sequence[t.Mapping[str, t.Any]] = ()) -> None:
        self.session = Session(options)
        self.address = self.session.address
        if options.driver != "redfish":
            raise BmcOptionError(
                self.address, f"the driver {options.driver} is not known", hint=f"Use one of {', '.join(DRIVERS)}"
            )
        if not options.timeout > 0:
            raise BmcOptionError(self.address, "the timeout must be greater than 0")
        self.resources = Resources(self.session, quirks)
        self.power = Power(self.resources)
        self.boot = Boot(self.resources)
        self.media = Media(self.resources)
        self.bios = Bios(self.resources, self.power)
        self.accounts = Accounts(self.resources)
        self.boot_settings = BootSettings(self.resources)
        self.certificates = Certificates(self.resources)
        self.drives = Drives(self.resources)
        self.firmware = Firmware(self.resources, self.power)
        self.logs = Logs(self.resources)

    def __enter__(self) -> Bmc:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.session.close()

    @property
    def requests(self) -> int:
        """HTTP requests so far."""
        return self.session.requests

    @property
    def notes(self) -> list[str]:
        """What went other than usual without being an error, each once."""
        return list(dict.fromkeys(self.session.notes))

    def volumes(self, controller: str | None = None) -> Volumes:
        """The volumes of one controller, named by its Id or name; None: the only one that has volumes."""
        return Volumes(self.resources, self.power, controller)

    def network(self, interface: str | None = None) -> Network:
        """The network of the BMC itself, at the interface of this Id; None: the one that leads to the network."""
        return Network(self.resources, interface)

    def status(self, media: bool = True) -> dict[str, t.Any]:
        """What a plan needs to know of a server, in as few requests as the BMC allows."""
        system = self.resources.system()
        images = [hide_credentials(image) for image in self.media.inserted()] if media else []
        return {
            "power_state": power_state(system),
            "health": text(dig(system, "Status", "Health")),
            "manufacturer": text(system.get("Manufacturer")),
            "model": text(system.get("Model")),
            "serial_number": text(system.get("SerialNumber")),
            "uuid": _uuid(system),
            "media": images,
            "requests": self.requests,
        }

    def hardware(self, subset: t.Collection[str] = SUBSETS) -> dict[str, t.Any]:
        """The normalised record of the server, as bmc_info documents it."""
        with self.resources.lenient():
            record = Hardware(self.resources).read(subset)
            if "sensors" in subset:
                record["sensors"] = read_sensors(self.resources)
        return {**record, "requests": self.requests}


def connect(options: Options, quirks: t.Sequence[t.Mapping[str, t.Any]] = ()) -> Bmc:
    """`with connect(Options(address=..., username=..., password=...)) as bmc:`"""
    if options.driver == "ipmi":
        from .ipmi import IpmiBmc  # it builds on what is above

        return IpmiBmc(options)
    own = load(options.address, options.quirks_path) if options.quirks_path else ()
    return Bmc(options, (*quirks, *own))


def _uuid(system: t.Mapping[str, t.Any]) -> str | None:
    value = text(system.get("UUID"))
    return value.lower() if value else None
