# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA for simulated BMCs, a certificate for their addresses, and a CA that has nothing to do with them."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


@dataclass
class Pki:
    ca: Path
    other_ca: Path
    ca_key: Key
    ca_certificate: x509.Certificate
    pem: bytes  # certificate of the BMCs and its key
    fingerprint: str

    @classmethod
    def make(cls, directory: Path, addresses: Iterable[str]) -> Pki:
        ca_key, ca_certificate = _ca("BMC CA")
        _key, other = _ca("Other CA")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = issue(ca_key, ca_certificate, key.public_key(), "bmc", addresses)
        paths = directory / "ca.pem", directory / "other-ca.pem"
        for path, found in zip(paths, (ca_certificate, other), strict=True):
            path.write_bytes(found.public_bytes(serialization.Encoding.PEM))
        fingerprint = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
        return cls(*paths, ca_key, ca_certificate, pem(certificate, key), fingerprint)

    def sign(self, request: str) -> str:
        """A certificate of this CA for a certificate request; both PEM."""
        csr = x509.load_pem_x509_csr(request.encode())
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        name = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        return _pem(issue(self.ca_key, self.ca_certificate, key, str(name), ["127.0.0.1"])).decode()


def context(directory: Path, chain: bytes) -> ssl.SSLContext:
    """A TLS context of a server. The chain holds the key too."""
    path = directory / f"chain-{hashlib.sha256(chain).hexdigest()[:12]}.pem"
    path.write_bytes(chain)
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(path)
    return found


def issue(
    ca_key: Key, ca: x509.Certificate, public_key: ec.EllipticCurvePublicKey, name: str, addresses: Iterable[str]
) -> x509.Certificate:
    names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    builder = _builder(name, ca.subject, public_key, ca_key.public_key(), is_ca=False)
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(ca_key, hashes.SHA256())


def pem(certificate: x509.Certificate, key: Key) -> bytes:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return _pem(certificate) + private


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _ca(name: str) -> tuple[Key, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return key, _builder(name, issuer, key.public_key(), key.public_key(), is_ca=True).sign(key, hashes.SHA256())


def _builder(
    name: str,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    is_ca: bool,
) -> x509.CertificateBuilder:
    """All that strict verification asks for (RFC 5280), which newer Python versions do by default."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        .add_extension(x509.KeyUsage(True, False, False, False, False, is_ca, is_ca, False, False), critical=True)
    )
