# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Clevis notes in the header of a container: tokens that it made itself, and headers as they are on a disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _clevis
from ansible_collections.kiban.baremetal.plugins.module_utils._clevis import Binding, Tang, Unlock, bindings, fits
from ansible_collections.kiban.baremetal.plugins.module_utils._luks_header import luks_header

# By clevis 20, tang 11 and tpm2-tools 5.7, for a container that was thrown away.
TOKENS = json.loads(Path(__file__).with_name("clevis_tokens.json").read_text())
THUMBPRINT = "CH61bZo8-Xxxndbd3V5iYq4lA7ozYVaX4RNWqc1e4vQ"
SERVER = Unlock((Tang("http://10.0.2.2:7777", THUMBPRINT),))
TPM = Unlock(pcr_ids=(7,))


def header(*tokens: dict[str, Any], slots: tuple[int, ...] = (0, 30)) -> dict[str, Any]:
    return {"keyslots": {str(slot): {} for slot in slots}, "tokens": {str(n): one for n, one in enumerate(tokens)}}


def test_bindings_that_clevis_made_are_recognised() -> None:
    for token, unlock in zip(TOKENS, (SERVER, TPM), strict=True):
        [one] = bindings(header(token))
        assert (one.slot, one.token) == (30, 0) and one.found and fits(unlock, one.found)


@pytest.mark.parametrize(
    "other",
    [
        replace(SERVER, tang=(Tang("http://10.0.2.2:7777", "A" * 43),)),
        replace(SERVER, tang=(Tang("http://10.0.2.3:7777", THUMBPRINT),)),
        replace(SERVER, tang=(*SERVER.tang, Tang("http://10.0.2.3:7777", THUMBPRINT))),
        replace(SERVER, threshold=2),
        replace(SERVER, pcr_ids=(7,)),
        TPM,
    ],
)
def test_another_wish_fits_not(other: Unlock) -> None:
    [one] = bindings(header(TOKENS[0]))
    assert one.found and not fits(other, one.found)


@pytest.mark.parametrize("other", [Unlock(pcr_ids=(7, 8)), Unlock(pcr_ids=(7,), pcr_bank="sha1"), SERVER])
def test_another_tpm_fits_not(other: Unlock) -> None:
    [one] = bindings(header(TOKENS[1]))
    assert one.found and not fits(other, one.found)


def test_a_key_that_does_not_sign_is_no_thumbprint_to_trust() -> None:
    [one] = bindings(header(TOKENS[0]))
    # That of its exchange key, which Clevis wrote into the JWE as kid.
    assert one.found and len(one.found.tang[0][1]) == 2 and THUMBPRINT in one.found.tang[0][1]


@pytest.mark.parametrize(
    ("tokens", "slots", "expected"),
    [
        ((), (0,), ()),
        ((), (0, 1, 29), ()),
        ((), (0, 31), (Binding(31),)),
        (({**TOKENS[0], "keyslots": ["1"]},), (0, 1), ()),
        (({**TOKENS[0], "keyslots": []},), (0, 30), (Binding(30),)),
        (({**TOKENS[0], "type": "systemd-tpm2"},), (0, 30), (Binding(30),)),
        (({**TOKENS[0], "jwe": {"protected": "e30"}},), (0, 30), (Binding(30, 0),)),
        (({**TOKENS[0], "jwe": {"protected": "%"}},), (0, 30), (Binding(30, 0),)),
        (({"type": "clevis", "keyslots": ["30"]},), (0, 30), (Binding(30, 0),)),
    ],
)
def test_key_slots_without_a_binding_of_ours(tokens: Any, slots: Any, expected: tuple[Binding, ...]) -> None:
    assert bindings(header(*tokens, slots=slots)) == expected


def test_a_jwe_becomes_the_line_that_clevis_decrypts() -> None:
    jwe = TOKENS[0]["jwe"]
    assert _clevis.compact(jwe) == f"{jwe['protected']}..{jwe['iv']}.{jwe['ciphertext']}.{jwe['tag']}"


def raw(area: bytes, magic: bytes = b"LUKS\xba\xbe", version: int = 2, size: int = 16384) -> bytes:
    return (magic + version.to_bytes(2, "big") + size.to_bytes(8, "big")).ljust(4096, b"\0") + area.ljust(size, b"\0")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (raw(json.dumps(header()).encode()), header()),
        (raw(b"{"), {}),
        (raw(b"[]"), {}),
        (raw(b"{}"), {}),
        (raw(json.dumps(header()).encode(), version=1), {}),
        (raw(json.dumps(header()).encode(), magic=b"SKUL\xba\xbe"), {}),
        (b"", {}),
    ],
)
def test_the_header_of_a_container(data: bytes, expected: dict[str, Any]) -> None:
    assert luks_header(data) == expected


def test_the_config_names_the_key_that_is_trusted() -> None:
    both = replace(SERVER, pcr_ids=(8, 7), threshold=2)
    assert json.loads(_clevis.pin_config(both)) == {
        "t": 2,
        "pins": {
            "tang": [{"url": "http://10.0.2.2:7777", "thp": THUMBPRINT}],
            "tpm2": {"pcr_bank": "sha256", "pcr_ids": "7,8"},
        },
    }
    assert str(both) == "2 of Tang http://10.0.2.2:7777, TPM2 with PCR 8, 7" and str(TPM) == "TPM2 with PCR 7"


def test_the_unit_waits_for_the_device_and_leaves_an_open_container_alone() -> None:
    text = _clevis.unit_text("fast-luks0", "88a6f646-813a-5288-bbda-0df5a1e44fc6")
    assert r"WantedBy=dev-disk-by\x2duuid-88a6f646\x2d813a\x2d5288\x2dbbda\x2d0df5a1e44fc6.device" in text
    assert "ExecCondition=/usr/bin/test ! -e /dev/mapper/fast-luks0" in text
