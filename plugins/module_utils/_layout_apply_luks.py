# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.


"""Does the steps of LUKS2 containers: cryptsetup, and Clevis for what opens them at boot."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable

from ansible_collections.kiban.baremetal.plugins.module_utils import _clevis, _disks
from ansible_collections.kiban.baremetal.plugins.module_utils._layout import Step
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_read_luks import UNITS
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_tools import LayoutError, device_of, run

__all__ = ["STEPS"]


def _luks_format(step: Step, key: str | None) -> None:
    run("wipefs", "-a", "-q", device_of(step))
    words = ["--type", "luks2", "--batch-mode", "--uuid", str(step.args["uuid"]), "--key-file=-"]
    run("cryptsetup", "luksFormat", *words, device_of(step), key=_needed(key, step))


def _luks_open(step: Step, key: str | None) -> None:
    device, name = device_of(step, str(step.args["device"])), os.path.basename(step.target)
    try:
        run("cryptsetup", "open", "--type", "luks2", "--key-file=-", device, name, key=_needed(key, step))
    except LayoutError:
        # The unit that opens it at boot may have been faster.
        holders = _disks.listed(f"/sys/class/block/{os.path.basename(os.path.realpath(device))}/holders")
        if os.path.basename(os.path.realpath(step.target)) not in holders:
            raise


def _luks_resize(step: Step, key: str | None) -> None:
    run("cryptsetup", "resize", "--key-file=-", os.path.basename(step.target), key=_needed(key, step))


def _needed(key: str | None, step: Step) -> str:
    if not key:
        raise LayoutError(f"there is no key for pool {step.pool}")
    return key


def _luks_bind(step: Step, key: str | None) -> None:
    """A key slot first, then the token that Clevis reads. What a kill leaves of it has no token, and is removed."""
    device, slot, own = device_of(step), str(step.args["slot"]), secrets.token_urlsafe(48)
    # One character more than the key would open nothing: Clevis hands on what it gets.
    jwe = run("timeout", "180", "clevis", "encrypt", "sss", str(step.args["config"]), key=own).strip()
    new = os.memfd_create("key")
    try:
        os.write(new, own.encode())
        # It is random, so there is nothing to be made slow.
        words = ["--key-file=-", "--new-key-slot", slot, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
        words += ["--batch-mode", device, f"/proc/self/fd/{new}"]
        os.lseek(new, 0, os.SEEK_SET)
        run("cryptsetup", "luksAddKey", *words, key=_needed(key, step), files=(new,))
    finally:
        os.close(new)
    names = ("protected", "encrypted_key", "iv", "ciphertext", "tag")
    parts = {name: part for name, part in zip(names, jwe.split(".")) if part}
    token = json.dumps({"type": "clevis", "keyslots": [slot], "jwe": parts})
    run("cryptsetup", "token", "import", "--json-file=-", device, key=token)


def _luks_unbind(step: Step, key: str | None) -> None:
    device, slot, token = device_of(step), str(step.args["slot"]), step.args["token"]
    if token is not None:
        run("cryptsetup", "token", "remove", "--token-id", str(token), device)
    # The key has to be that of another slot: the last one is never removed.
    run("cryptsetup", "luksKillSlot", "--key-file=-", device, slot, key=_needed(key, step))


def _luks_unit(step: Step, _key: str | None) -> None:
    unit, text = _clevis.unit_name(step.target), step.args["text"]
    path = f"{UNITS}/{unit}"
    if os.path.exists(path):
        run("systemctl", "disable", "--quiet", unit)
    if text is None:
        os.remove(path)
    else:
        temporary = f"{UNITS}/.{unit}"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(str(text))
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        run("systemctl", "enable", "--quiet", unit)
    run("systemctl", "daemon-reload")


STEPS: dict[str, Callable[[Step, str | None], None]] = {
    "luks_format": _luks_format,
    "luks_open": _luks_open,
    "luks_resize": _luks_resize,
    "luks_bind": _luks_bind,
    "luks_unbind": _luks_unbind,
    "luks_unit": _luks_unit,
}
