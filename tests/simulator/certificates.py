# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates: a request with a key that stays in the BMC, and a certificate that the BMC then really serves."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .messages import Json, Refusal, Reply
from .tree import clean, matches

if TYPE_CHECKING:
    from .bmc import Bmc, Call

_NAMES = {
    "CommonName": NameOID.COMMON_NAME,
    "Organization": NameOID.ORGANIZATION_NAME,
    "OrganizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "City": NameOID.LOCALITY_NAME,
    "State": NameOID.STATE_OR_PROVINCE_NAME,
    "Country": NameOID.COUNTRY_NAME,
}
_REQUIRED = ("CommonName", "Organization", "OrganizationalUnit", "City", "State", "Country", "CertificateCollection")


def generate_csr(bmc: Bmc, call: Call, uri: str) -> Reply:
    action = "CertificateService.GenerateCSR"
    for name in _REQUIRED:
        if not call.body.get(name):
            raise Refusal(400, "ActionParameterMissing", action, name)
    given = call.body["CertificateCollection"]
    collection = bmc.tree.key(clean(str(given.get("@odata.id") if isinstance(given, dict) else given)))
    if bmc.tree.get(collection) is None:
        raise Refusal(400, "ActionParameterValueNotInList", collection, "CertificateCollection", action)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(oid, call.body[name]) for name, oid in _NAMES.items()])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    alternatives = call.body.get("AlternativeNames") or []
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(name) for name in alternatives]), False)
    bmc.keys[collection] = key
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    return Reply(200, {"CSRString": pem, "CertificateCollection": {"@odata.id": collection}})


def replace(bmc: Bmc, call: Call, uri: str) -> Reply:
    action = "CertificateService.ReplaceCertificate"
    for name in ("CertificateString", "CertificateType", "CertificateUri"):
        if not call.body.get(name):
            raise Refusal(400, "ActionParameterMissing", action, name)
    kind = call.body["CertificateType"]
    if kind not in ("PEM", "PEMchain"):
        raise Refusal(400, "ActionParameterValueNotInList", kind, "CertificateType", action)
    given = call.body["CertificateUri"]
    target = bmc.tree.key(clean(str(given.get("@odata.id") if isinstance(given, dict) else given)))
    if bmc.tree.get(target) is None:
        raise Refusal(400, "ActionParameterValueNotInList", target, "CertificateUri", action)
    pem = call.body["CertificateString"].encode()
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise Refusal(400, "ActionParameterValueTypeError", "******", "CertificateString", action) from None
    if (
        matches("*/HTTPS/Certificates/*", target)
        or "networkprotocol" in target.lower()
        or "securityservice" in target.lower()
    ):
        pem += _key_of(bmc, certificate, pem)
        bmc.serve_certificate(pem)
    bmc.tree.edit(target).update(describe(certificate))
    return Reply(204)


def describe(certificate: x509.Certificate) -> Json:
    """The properties of a Certificate resource."""
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return {
        "CertificateString": pem,
        "CertificateType": "PEM",
        "Subject": _shown(certificate.subject),
        "Issuer": _shown(certificate.issuer),
        "ValidNotBefore": certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ValidNotAfter": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "SerialNumber": certificate.serial_number.to_bytes(20, "big").hex(":").upper(),
        "Fingerprint": certificate.fingerprint(hashes.SHA256()).hex(":"),
        "FingerprintHashAlgorithm": "TPM_ALG_SHA256",
    }


def _shown(name: x509.Name) -> dict[str, str]:
    found = {}
    for label, oid in _NAMES.items():
        values = name.get_attributes_for_oid(oid)
        if values:
            found[label] = str(values[0].value)
    return found


def _name(text: str) -> x509.GeneralName:

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _key_of(bmc: Bmc, certificate: x509.Certificate, pem: bytes) -> bytes:
    """The private key that fits: sent along, or kept from a request."""
    if b"PRIVATE KEY" in pem:
        return b""
    for key in bmc.keys.values():
        if key.public_key() == certificate.public_key():
            return bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
    raise Refusal(400, "PropertyValueConflict", "CertificateString", "the key of the last request")


ACTIONS = {"CertificateService.GenerateCSR": generate_csr, "CertificateService.ReplaceCertificate": replace}
