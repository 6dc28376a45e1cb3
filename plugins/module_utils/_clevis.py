# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""What opens a LUKS container without a person: Tang servers and the TPM, as Clevis notes them in its header. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "SLOTS",
    "Binding",
    "Found",
    "Tang",
    "Unlock",
    "bindings",
    "compact",
    "fits",
    "found_of",
    "pin_config",
    "read_jwe",
    "stated",
    "unit_name",
    "unit_text",
    "unlock_problems",
]

# Key slots of a container that are ours alone: the last two, so that what a person adds never stands there. A new
# binding takes the free one before the old one goes.
SLOTS = (30, 31)


@dataclass(frozen=True)
class Tang:
    url: str
    thumbprint: str
    """Of a key that signs the server's advertisement: RFC 7638 with SHA-256, base64url."""


@dataclass(frozen=True)
class Unlock:
    """So many (threshold) of these servers and the TPM together open a container."""

    tang: tuple[Tang, ...] = ()
    pcr_ids: tuple[int, ...] = ()
    """PCRs of the TPM that must be as they were; none: the TPM has no part in it."""
    pcr_bank: str = "sha256"
    threshold: int = 1

    def __str__(self) -> str:
        parts = [f"Tang {server.url}" for server in self.tang]
        parts += [f"TPM2 with PCR {', '.join(map(str, self.pcr_ids))}"] if self.pcr_ids else []
        return parts[0] if len(parts) == 1 else f"{self.threshold} of {', '.join(parts)}"


@dataclass(frozen=True)
class Found:
    """What a binding in a header says of itself."""

    tang: tuple[tuple[str, frozenset[str]], ...]
    """URL, and the thumbprints of the keys that signed its advertisement."""
    tpm2: tuple[str, str] | None
    """PCR bank and PCRs."""
    threshold: int


@dataclass(frozen=True)
class Binding:
    """A key slot of ours."""

    slot: int
    token: int | None = None
    """That of Clevis; without it, or without `found`, a killed run did not get to the end of it."""
    found: Found | None = None
    works: bool | None = None
    """Whether it gives the key now; None: was not tried, or cannot be told while a server does not answer."""


def stated(raw: Mapping[str, Any]) -> Unlock:
    """Of a module's parameters or a site file, from which what has a wrong shape was taken: tang, tpm2, threshold."""
    tpm2 = raw.get("tpm2")
    pcr_ids = [number for number in (tpm2 or {}).get("pcr_ids") or (7,) if number is not None]
    return Unlock(
        tuple(Tang(one.get("url", ""), one.get("thumbprint", "")) for one in raw.get("tang") or () if one),
        tuple(pcr_ids) if tpm2 is not None else (),
        (tpm2 or {}).get("pcr_bank") or "sha256",
        raw.get("threshold") or 1,
    )


def unlock_problems(unlock: Unlock) -> Iterator[str]:
    """What contradicts itself."""
    parts = len(unlock.tang) + bool(unlock.pcr_ids)
    if not parts:
        yield "its container is to be opened by nothing: name tang, tpm2, or both"
    elif not 1 <= unlock.threshold <= parts:
        yield f"its container is to be opened by {unlock.threshold} of {parts}: Tang servers and TPM"
    urls = [server.url for server in unlock.tang]
    yield from (f"the Tang server {url} is there twice" for url in sorted(set(urls)) if urls.count(url) > 1)


def pin_config(unlock: Unlock) -> str:
    """For `clevis encrypt sss`. With a thumbprint Clevis takes no other server's advertisement."""
    pins: dict[str, Any] = {}
    if unlock.tang:
        pins["tang"] = [{"url": server.url, "thp": server.thumbprint} for server in unlock.tang]
    if unlock.pcr_ids:
        pins["tpm2"] = {"pcr_bank": unlock.pcr_bank, "pcr_ids": _pcrs(unlock)}
    return json.dumps({"t": unlock.threshold, "pins": pins})


def fits(unlock: Unlock, found: Found) -> bool:
    """Whether a binding is what is wanted."""
    servers = dict(found.tang)
    return (
        found.threshold == unlock.threshold
        and found.tpm2 == ((unlock.pcr_bank, _pcrs(unlock)) if unlock.pcr_ids else None)
        and len(found.tang) == len(unlock.tang)
        and all(server.thumbprint in servers.get(server.url, ()) for server in unlock.tang)
    )


def found_of(unlock: Unlock) -> Found:
    """What a binding that was made for this says of itself."""
    tang = tuple((server.url, frozenset({server.thumbprint})) for server in unlock.tang)
    return Found(tang, (unlock.pcr_bank, _pcrs(unlock)) if unlock.pcr_ids else None, unlock.threshold)


def _pcrs(unlock: Unlock) -> str:
    return ",".join(str(number) for number in sorted(unlock.pcr_ids))


def bindings(header: Mapping[str, Any]) -> tuple[Binding, ...]:
    """Those in our key slots."""
    found = {slot: Binding(slot) for slot in SLOTS if str(slot) in (header.get("keyslots") or {})}
    for number, token in (header.get("tokens") or {}).items():
        slots = token.get("keyslots") or []
        if token.get("type") == "clevis" and len(slots) == 1 and int(slots[0]) in found:
            slot = int(slots[0])
            found[slot] = Binding(slot, int(number), read_jwe(token.get("jwe") or {}))
    return tuple(found[slot] for slot in sorted(found))


def read_jwe(jwe: Mapping[str, Any]) -> Found | None:
    """What the JWE of a token says; None where it is not one of ours."""
    try:
        sss = _header(jwe["protected"])["clevis"]["sss"]
        tang: list[tuple[str, frozenset[str]]] = []
        tpm2: list[tuple[str, str]] = []
        for part in sss["jwe"]:
            clevis = _header(part.split(".", 1)[0])["clevis"]
            pin = clevis[clevis["pin"]]
            if clevis["pin"] == "tang":
                tang.append((pin["url"], frozenset(_thumbprints(pin["adv"]["keys"]))))
            else:
                tpm2.append((pin["pcr_bank"], pin["pcr_ids"]))
        return Found(tuple(tang), tpm2[0] if tpm2 else None, int(sss["t"])) if len(tpm2) < 2 else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def compact(jwe: Mapping[str, Any]) -> str:
    """A JWE in one line, as `clevis decrypt` reads it. RFC 7516, 7.1, has the order."""
    return ".".join(jwe.get(part) or "" for part in ("protected", "encrypted_key", "iv", "ciphertext", "tag"))


def _header(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _thumbprints(keys: list[Mapping[str, Any]]) -> Iterator[str]:
    """Of keys that sign, by RFC 7638: SHA-256, and SHA-1 as older servers have it."""
    for key in keys:
        if "verify" in key.get("key_ops", ()):
            plain = {name: key[name] for name in ("crv", "kty", "x", "y")}
            text = json.dumps(plain, separators=(",", ":"), sort_keys=True).encode()
            for digest in (hashlib.sha256(text), hashlib.sha1(text)):
                yield base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def unit_name(container: str) -> str:
    return f"kiban-luks-{container}.service"


def unit_text(container: str, uuid: str) -> str:
    """A unit that opens a container whenever its device appears, and tries again until it is open."""
    device = r"dev-disk-by\x2duuid-{}.device".format(uuid.replace("-", r"\x2d"))
    return f"""\
# Written by kiban.baremetal.disk_layout
[Unit]
Description=Open the LUKS container {container} by its Clevis binding
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecCondition=/usr/bin/test ! -e /dev/mapper/{container}
ExecStart=/usr/bin/clevis luks unlock -d /dev/disk/by-uuid/{uuid} -n {container}
TimeoutStartSec=300
Restart=on-failure
RestartSec=10

[Install]
WantedBy={device}
"""
