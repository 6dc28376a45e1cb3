# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a node in QEMU: containers that a Tang server or the TPM opens without a person. Prints JSON."""

from __future__ import annotations

import glob
import os
import threading
import time
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks
from ansible_collections.kiban.baremetal.tests.rack.disks.layout_guest import (
    CONFIG,
    KEYS,
    endures,
    erase,
    fails,
    layout,
    main,
    no_change,
    pool,
    put,
    tool,
    volume,
    whole,
)

MOUNTS = ("/srv/vault", "/srv/sealed")


def unlock(thumbprint: str | None = None, tpm2: bool = False, threshold: int = 1) -> dict[str, Any]:
    tang = [{"url": CONFIG["tang"], "thumbprint": thumbprint}] if thumbprint else []
    return {"tang": tang, "tpm2": {"pcr_ids": [7], "pcr_bank": "sha256"} if tpm2 else None, "threshold": threshold}


def vault(**more: Any) -> Any:
    """A Tang server opens it."""
    volumes = [volume("data", None, filesystem="ext4", mount="/srv/vault")]
    opened = unlock(CONFIG["thumbprint"])
    return pool("vault", "DATA-SCSI", **{"luks": True, "unlock": opened, "volumes": volumes, **more})


def sealed() -> Any:
    """The TPM opens it."""
    return pool("sealed", "BIG-VIRTIO", luks=True, unlock=unlock(tpm2=True), filesystem="xfs", mount="/srv/sealed")


class Watched:
    """Looks at the command lines and environments of all processes as fast as it can: no key may be there."""

    def __enter__(self) -> Watched:
        self.seen: list[str] = []
        self.looks, self.over = 0, False
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self) -> None:
        while not self.over:
            for path in (*glob.glob("/proc/[0-9]*/cmdline"), *glob.glob("/proc/[0-9]*/environ")):
                try:
                    with open(path, "rb") as file:
                        text = file.read()
                except OSError:
                    continue
                self.seen += [path for key in KEYS.values() if key.encode() in text]
            self.looks += 1
            time.sleep(0.05)

    def __exit__(self, *_error: object) -> None:
        self.over = True
        self.thread.join()
        assert not self.seen, self.seen


def slots(device: str) -> list[int]:
    lines = tool("cryptsetup", "luksDump", device).partition("Keyslots:")[2].partition("Tokens:")[0]
    return [int(line.split(":")[0]) for line in lines.splitlines() if line.endswith(": luks2")]


def waited(*mounts: str, seconds: int = 180) -> bool:
    end = time.monotonic() + seconds
    while not all(map(os.path.ismount, mounts)) and time.monotonic() < end:
        time.sleep(1)
    return all(map(os.path.ismount, mounts))


def node(serial: str) -> str:
    return _disks.part_node(_disks.find_path(serial), 1)


def bind() -> Any:
    # The emulated TPM takes three power cuts, those of servers some thirty.
    tool("tpm2_dictionarylockout", "--setup-parameters", "--max-tries=32", "--recovery-time=600", "--clear-lockout")
    with Watched() as watched:
        done = layout(vault(), sealed())["steps"]
    for mount in MOUNTS:
        put(f"{mount}/precious", mount)
    no_change(vault(), sealed())
    assert slots(node("DATA-SCSI")) == slots(node("BIG-VIRTIO")) == [0, 30]
    # The thumbprint is that of no key of the server.
    other = vault(unlock=unlock("A" * 43))
    told = fails("clevis", other)
    assert not [key for key in KEYS.values() if key in told]
    assert slots(node("DATA-SCSI")) == [0, 30]
    return {"steps": done, "looks": watched.looks, "other_key": told}


def opened() -> Any:
    """Nobody was there."""
    assert waited(*MOUNTS), tool("systemctl", "status", "--no-pager", "-l", "kiban-luks-*", ok=False)
    whole(*MOUNTS)
    no_change(vault(), sealed())
    return tool("systemd-analyze", "time").splitlines()[:1]


def tang_absent() -> Any:
    """What needs the server stays closed and says so; a run opens it with the key."""
    assert waited("/srv/sealed")
    time.sleep(30)
    assert not os.path.ismount("/srv/vault") and not os.path.exists("/dev/mapper/vault-luks0")
    said = tool("journalctl", "-b", "-u", "kiban-luks-vault-luks0", "--no-pager", "-o", "cat", ok=False)
    assert "Error communicating with server" in said, said
    foreseen = layout(vault(), sealed(), check=True)["steps"]
    done = layout(vault(), sealed())["steps"]
    whole(*MOUNTS)
    no_change(vault(), sealed())
    return {"foreseen": foreseen, "steps": done, "journal": sorted(set(said.splitlines()))}


def closed() -> Any:
    """As at boot, while the server is away."""
    tool("umount", "/srv/vault")
    tool("vgchange", "-an", "vault")
    tool("cryptsetup", "close", "vault-luks0")
    tool("systemctl", "start", "--no-block", "kiban-luks-vault-luks0")
    time.sleep(15)
    assert not os.path.exists("/dev/mapper/vault-luks0")
    return None


def tang_back() -> Any:
    begun = time.monotonic()
    assert waited("/srv/vault")
    whole("/srv/vault")
    return time.monotonic() - begun


def rebind() -> Any:
    """The server has other keys, and the PCR another value: the model names the new key, and both are bound anew."""
    tool("tpm2_pcrextend", f"7:sha256={'ab' * 32}")
    done = layout(vault(), sealed())["steps"]
    assert len([step for step in done if "let T" in step]) == 2, done
    no_change(vault(), sealed())
    assert slots(node("DATA-SCSI")) == slots(node("BIG-VIRTIO")) == [0, 31]
    return done


def other_pcr() -> Any:
    """After a restart the PCR is as before: the TPM does not open it, and a run binds it anew."""
    assert waited("/srv/vault")
    time.sleep(30)
    assert not os.path.ismount("/srv/sealed")
    done = layout(vault(), sealed())["steps"]
    whole(*MOUNTS)
    no_change(vault(), sealed())
    return done


def both() -> Any:
    """Server and TPM together, then neither any more."""
    wanted = vault(unlock=unlock(CONFIG["thumbprint"], tpm2=True, threshold=2))
    steps = [layout(wanted)["steps"]]
    no_change(wanted)
    steps.append(layout(vault(unlock=None))["steps"])
    no_change(vault(unlock=None))
    assert slots(node("DATA-SCSI")) == [0]
    whole("/srv/vault")
    return steps


def kills() -> Any:
    """Bindings that follow on one another, on a container that is made anew now and then."""
    wanted = [
        vault(),
        vault(unlock=unlock(tpm2=True)),
        vault(unlock=unlock(CONFIG["thumbprint"], tpm2=True, threshold=2)),
        vault(unlock=None),
    ]
    left = iter(wanted * 20)
    ends = 0

    def ended() -> None:
        nonlocal ends
        ends += 1
        expected = 1 if ends % len(wanted) == 0 else 2
        assert len(slots(node("DATA-SCSI"))) == expected
        if ends % len(wanted) == 0:
            erase()

    return endures(left, 60, ended)


if __name__ == "__main__":
    main(globals())
