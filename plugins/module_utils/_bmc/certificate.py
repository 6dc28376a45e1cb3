# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""The HTTPS certificate of a BMC: a request for one, and its replacement, proved by what the BMC then presents."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import re
import time
import typing as t

from .change import Change
from .errors import BmcOptionError, BmcUnsupported
from .resource import Json, Resources, dig, link, links, text
from .transport import Transport
from .wait import wait_for
from .write import perform

__all__ = ("Certificates", "fingerprint_of")

RENEW = 120.0  # some BMCs restart for a new certificate
_SUBJECT = {
    "common_name": "CommonName",
    "organization": "Organization",
    "organizational_unit": "OrganizationalUnit",
    "city": "City",
    "state_or_province": "State",
    "country": "Country",
}


def fingerprint_of(pem: str) -> str | None:
    """SHA-256 of the first certificate in a PEM text, None where there is none."""
    found = re.search(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", pem, re.DOTALL)
    try:
        return (
            hashlib.sha256(base64.b64decode("".join(found.group(1).split()), validate=True)).hexdigest()
            if found
            else None
        )
    except (binascii.Error, ValueError):
        return None


class Certificates:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.address = resources.address

    def presented(self) -> str:
        """SHA-256 fingerprint of the certificate that the BMC presents now. Nothing is sent to it for that."""
        options = dataclasses.replace(self._resources.session.options, validate_certs=False, fingerprint=None)
        transport = Transport(options)
        try:
            found = transport.peer_fingerprint(time.monotonic() + options.timeout)
        finally:
            transport.drop()
        if found is None:
            raise BmcOptionError(self.address, "it is reached by http, so it presents no certificate")
        return found

    def plan(self, pem: str) -> Change:
        """What has to be done; nothing is sent that changes something."""
        wanted = fingerprint_of(pem)
        if wanted is None:
            raise BmcOptionError(self.address, "the certificate is not PEM", hint="It begins with BEGIN CERTIFICATE")
        now = self.presented()
        if now != wanted:
            self._way()
        return Change({"fingerprint": now}, {"fingerprint": wanted})

    def replace(self, pem: str, private_key: str | None, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        wanted = fingerprint_of(pem)
        session = self._resources.session
        content = pem.strip() + "\n" + (private_key.strip() + "\n" if private_key else "")
        if private_key:
            session.hide(private_key.strip())
        target, body = self._way(content)

        def shows() -> bool:
            return self.presented() == wanted

        def send() -> t.Any:
            return session.post(target, body)

        def patiently() -> bool:
            return wait_for(shows, bool, min(RENEW, max(1.0, deadline - time.monotonic()))).ready

        perform(self._resources, send, target, "replaced the certificate", deadline, patiently, wait="shown")
        # What follows has to meet the new one.
        session.renewed(wanted or "")

    def check_request(self) -> str:
        """The action that makes a request; raises where there is none."""
        service = self._service()
        target = text(dig(service, "Actions", "#CertificateService.GenerateCSR", "target"))
        if target is None:
            raise BmcUnsupported(
                self.address,
                "it makes no certificate signing requests",
                hint="Give certificate and private_key instead",
            )
        self._collection()
        return target

    def request(self, subject: t.Mapping[str, t.Any], names: t.Sequence[str], timeout: float) -> str:
        """A certificate signing request for a new key that stays in the BMC."""
        target = self.check_request()
        body: Json = {_SUBJECT[k]: v for k, v in subject.items() if v}
        body["CertificateCollection"] = {"@odata.id": self._collection()}
        if names:
            body["AlternativeNames"] = list(names)
        answer = self._resources.session.post(target, body, timeout=timeout)
        found = text(dig(answer.loose, "CSRString"))
        if found is None:
            raise BmcUnsupported(
                self.address,
                "it made a certificate signing request, but does not give it",
                hint="Fetch it on its own page",
            )
        return found

    # -- below

    def _service(self) -> Json:
        uri = link(self._resources.session.root, "CertificateService")
        return self._resources.get(uri) if uri else {}

    def _collection(self) -> str:
        """Where the certificates of its HTTPS server are."""
        for manager in self._resources.needed_managers():
            named = link(manager, "NetworkProtocol")
            protocol = self._resources.get(named) if named else {}
            uri = link(dig(protocol, "HTTPS"), "Certificates")
            if uri:
                return uri
        raise BmcUnsupported(
            self.address, "it does not tell where its HTTPS certificate is", hint="Replace it on its own page"
        )

    def _way(self, content: str = "") -> tuple[str, Json]:
        """The action that replaces the certificate, and what to send to it."""
        unusual = self._resources.behaviour.certificate_import
        if unusual:
            for manager in self._resources.needed_managers():
                body = self._resources.maybe(str(manager["@odata.id"]).rstrip("/") + unusual["path"])
                target = text(dig(body, "Actions", unusual["action"], "target"))
                if target:
                    return target, {unusual["parameter"]: content}
        target = text(dig(self._service(), "Actions", "#CertificateService.ReplaceCertificate", "target"))
        if target is None:
            raise BmcUnsupported(
                self.address, "its certificate cannot be replaced by Redfish", hint="Replace it on its own page"
            )
        members = links(self._resources.get(self._collection()).get("Members"))
        if not members:
            raise BmcUnsupported(self.address, "it shows no HTTPS certificate that could be replaced")
        body = {"CertificateString": content, "CertificateType": "PEM", "CertificateUri": {"@odata.id": members[0]}}
        return target, body
