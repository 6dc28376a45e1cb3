# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""How to reach one BMC."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t
import urllib.parse

from .errors import BmcOptionError

__all__ = ("DRIVERS", "Endpoint", "Options")

DRIVERS = ("redfish", "ipmi")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a user says about one BMC. `password` never appears in its representation."""

    address: str
    username: str
    password: str = dataclasses.field(repr=False)
    validate_certs: bool = True
    ca_path: str | None = None
    fingerprint: str | None = None
    timeout: float = 30.0
    connect_timeout: float = 10.0
    driver: str = "redfish"
    quirks_path: str | None = None
    # session: log in where the service offers it; basic: credentials with every request.
    auth: str = "session"

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Options:
        """From module parameters, or from the `bmc` mapping of a site model with credentials added."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in params.items() if key in known and value is not None})


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """The address, taken apart."""

    host: str
    port: int
    tls: bool
    system: str | None  # URI of the one system that is meant

    @property
    def name(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @classmethod
    def parse(cls, options: Options) -> Endpoint:
        address = options.address.strip()

        def wrong(message: str) -> BmcOptionError:
            shown = re.sub(r"//[^/@]*@", "//", address) or "(empty)"
            return BmcOptionError(shown, message, hint="Give a host, host:port or an https:// URL as address")

        if not address:
            raise wrong("the address is empty")
        if "://" not in address:
            try:
                bare_ipv6 = ipaddress.ip_address(address).version == 6
            except ValueError:
                bare_ipv6 = False
            address = f"https://[{address}]" if bare_ipv6 else f"https://{address}"
        try:
            url = urllib.parse.urlsplit(address)
            port = url.port
        except ValueError as exc:
            raise wrong(f"the address cannot be read: {exc}") from None
        if url.scheme not in ("https", "http"):
            raise wrong(f"the scheme {url.scheme} is not known")
        if url.username is not None or url.password is not None:
            raise wrong("the address must not hold a user name or a password")
        if not url.hostname:
            raise wrong("the address has no host")
        if url.scheme == "http" and (options.validate_certs or options.fingerprint):
            raise wrong("plain http would send the password unprotected; it is only taken with validate_certs: false")
        path = url.path.rstrip("/")
        if path and not re.fullmatch(r"/redfish(/v1(/Systems/[^/]+)?)?", path, re.IGNORECASE):
            raise wrong(f"the path {path} is neither /redfish/v1 nor one system below /redfish/v1/Systems")
        return cls(
            host=url.hostname,
            port=port or (443 if url.scheme == "https" else 80),
            tls=url.scheme == "https",
            system=path if "/systems/" in path.lower() else None,
        )
