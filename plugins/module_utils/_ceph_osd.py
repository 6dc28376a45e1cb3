# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is a private module utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

"""A Ceph OSD on a device: recognised by its label, made where the device is blank. Python 3.9, standard library.

The commands are those of C(ceph-volume raw), which takes block devices that udev knows and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ._ceph import CephError, Host, keyring, new_key

__all__ = ("BOOTSTRAP", "Osd", "ensure_osd", "release_lost")

BOOTSTRAP = "/var/lib/ceph/bootstrap-osd/ceph.keyring"
_AS_CEPH = ("--setuser=ceph", "--setgroup=ceph")


@dataclass(frozen=True)
class Osd:
    """An OSD of this server. C(id) is None for one that check mode would make."""

    device: str
    uuid: str | None = None
    id: int | None = None
    changed: bool = False
    replaced: tuple[int, ...] = ()
    """OSDs that were on this device before, on a disk that is gone: nothing of them is left on this server."""


def ensure_osd(host: Host, fsid: str, device: str, check_mode: bool = False) -> Osd:
    """The OSD on a device. What the device holds of anybody else is refused, and nothing is written then."""
    _refuse_unusable(host, device)
    plan = f"/var/lib/ceph/osd/.new-{device.strip('/').replace('/', '-')}"
    begun = json.loads(host.read(plan) or "{}")
    label = _label(host, device)
    if label and label.get("ready") == "ready":
        osd = _known(host, fsid, device, label, check_mode)
        if begun and not check_mode:
            os.unlink(host.path(plan))
        return osd
    if not begun:
        # With a plan of ours beside it, this is what our own killed run has left.
        _refuse_content(host, device, label)
    if check_mode:
        return Osd(device, changed=True)
    if not begun:
        begun = {"uuid": str(uuid.uuid4()), "key": new_key()}
        host.write(plan, json.dumps(begun), daemons=False)
    osd = _make(host, device, begun)
    os.unlink(host.path(plan))
    return replace(osd, replaced=tuple(_drop_others(host, device, osd.id)))


def _refuse_unusable(host: Host, device: str) -> None:
    try:
        mode = os.stat(host.path(device)).st_mode
    except OSError as exc:
        raise CephError(
            f"{device} is not there ({exc.strerror}). The role host_storage makes it from the profile's pool; see "
            "whether its disk is gone"
        ) from exc
    if not stat.S_ISBLK(mode) and not (host.files and stat.S_ISREG(mode)):
        raise CephError(f"{device} is no block device")


def _label(host: Host, device: str) -> dict[str, Any] | None:
    code, out, _err = host.run(["ceph-bluestore-tool", "show-label", f"--dev={device}"], None)
    if code:
        return None
    found: Mapping[str, Any] = json.loads(out)
    return dict(next(iter(found.values())))


def _refuse_content(host: Host, device: str, label: Mapping[str, Any] | None) -> None:
    # 2: blkid knows nothing of what it holds. See blkid(8).
    code, out, err = host.run(["blkid", "--probe", "--output=export", device], None)
    if code == 2 and not label:
        return
    said = "an OSD that was never finished" if label else " ".join((out or err).split()) or f"blkid ended with {code}"
    raise CephError(
        f"{device} holds something: {said}. Nothing was written. If nobody needs it, name the disk's serial number "
        "under the server's wipe, or clear the volume with wipefs"
    )


def _known(host: Host, fsid: str, device: str, label: Mapping[str, Any], check_mode: bool) -> Osd:
    number = int(label["whoami"])
    if label.get("ceph_fsid") != fsid:
        raise CephError(
            f"{device} holds OSD {number} of the Ceph cluster {label.get('ceph_fsid')}, and this site's cluster is "
            f"{fsid}. Nothing was written"
        )
    home = f"/var/lib/ceph/osd/ceph-{number}"
    block = host.path(f"{home}/block")
    if os.path.islink(block) and os.readlink(block) == device and os.path.exists(host.path(f"{home}/keyring")):
        return Osd(device, str(label["osd_uuid"]), number)
    if not check_mode:
        # A server that was installed anew: all of it is on the device.
        os.makedirs(host.path(home), mode=0o700, exist_ok=True)
        host.call("ceph-bluestore-tool", "prime-osd-dir", f"--dev={device}", f"--path={home}")
        _link(host, home, device)
        host.own(home)
    return Osd(device, str(label["osd_uuid"]), number, changed=True)


def _make(host: Host, device: str, begun: Mapping[str, str]) -> Osd:
    # The same UUID and key give the same number again.
    number = int(
        host.ceph(
            *("--name=client.bootstrap-osd", f"--keyring={BOOTSTRAP}", "osd", "new", begun["uuid"], "--in-file=-"),
            data=json.dumps({"cephx_secret": begun["key"]}),
        )["osdid"]
    )
    home = f"/var/lib/ceph/osd/ceph-{number}"
    os.makedirs(host.path(home), mode=0o700, exist_ok=True)
    for name in os.listdir(host.path(home)):
        # Of a run that was killed before, or of a disk that had this number and is gone.
        os.unlink(host.path(f"{home}/{name}"))
    _link(host, home, device)
    host.write(f"{home}/keyring", keyring({f"osd.{number}": begun["key"]}, with_caps=False))
    host.own(home)
    os.chown(host.path(device), *host.owner())
    host.call(
        *("ceph-osd", "--mkfs", f"--id={number}", f"--osd-uuid={begun['uuid']}", "--osd-objectstore=bluestore"),
        # Given so, the key is in the device's label too, and a server that is installed anew finds it there.
        *(f"--osd-data={home}", "--keyfile=-", *_AS_CEPH),
        data=begun["key"],
        said=f"OSD {number} could not be made on {device}",
    )
    return Osd(device, begun["uuid"], number, changed=True)


def _link(host: Host, home: str, device: str) -> None:
    block = host.path(f"{home}/block")
    if os.path.lexists(block):
        os.unlink(block)
    os.symlink(device, block)


def _drop_others(host: Host, device: str, number: int | None) -> Iterator[int]:
    """Of an OSD that was on this device, all but its keys was on the disk that is gone."""
    for other in [*_on(host, device)]:
        if other != number:
            shutil.rmtree(host.path(f"/var/lib/ceph/osd/ceph-{other}"))
            yield other


def release_lost(host: Host, device: str, check_mode: bool = False) -> bool:
    """Let go of a logical volume whose disk is gone, so that one on another disk can have its name.

    The kernel keeps the mapping of a disk that was pulled, and LVM, which does not see it any more, could not make it
    again. Nothing is touched while everything below the volume is there.
    """
    group, volume = (part.replace("-", "--") for part in device.split("/")[2:4])
    name = f"{group}-{volume}"
    code, out, _err = host.run(["dmsetup", "deps", "--options=devno", name], None)
    below = re.findall(r"\((\d+), (\d+)\)", out)
    if code or not below or all(os.path.exists(host.path(f"/sys/dev/block/{a}:{b}")) for a, b in below):
        return False
    if not check_mode:
        for number in _on(host, device):
            host.call("systemctl", "stop", f"ceph-osd@{number}.service")
        host.call("dmsetup", "remove", "--retry", name)
    return True


def _on(host: Host, device: str) -> Iterator[int]:
    """Numbers of OSDs that this server has had on a device."""
    homes = host.path("/var/lib/ceph/osd")
    for name in sorted(os.listdir(homes)) if os.path.isdir(homes) else ():
        kind, _dash, number = name.partition("-")
        block = os.path.join(homes, name, "block")
        if kind == "ceph" and os.path.islink(block) and os.readlink(block) == device:
            yield int(number)
