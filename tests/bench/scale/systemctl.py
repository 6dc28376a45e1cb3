# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In the place of systemctl and networkctl on a simulated server, where no systemd runs.

Services are lines of a file. To start systemd-networkd makes the simulated kernel's network as its files say.
"""

from __future__ import annotations

import os
import shutil
import sys

OWN = os.environ["TARGET_ROOT"]
ETC = "/etc/systemd/system"


def change(unit: str, active: str) -> None:
    path = f"{OWN}/units"
    with open(path) as file:
        rows = [line.split(None, 4) for line in file]
    for row in rows:
        if row[0] == unit:
            row[2] = active
    with open(f"{path}.new", "w") as file:
        file.writelines(" ".join(row).rstrip() + "\n" for row in rows)
    os.replace(f"{path}.new", path)


def active(unit: str) -> str:
    with open(f"{OWN}/units") as file:
        return next((line.split()[2] for line in file if line.split()[0] == unit), "inactive")


def apply_network() -> None:
    for part in ("sys/class/net", "proc/net"):
        shutil.rmtree(f"{OWN}/{part}")
        shutil.copytree(f"{OWN}/pristine/{part}", f"{OWN}/{part}", symlinks=True)


def main() -> int:
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    verb, unit = words[0], (words[1:] or [""])[0]
    wanted, masked = f"{ETC}/multi-user.target.wants/{unit}", os.path.realpath(f"{ETC}/{unit}") == "/dev/null"
    if verb == "show":
        load = "masked" if masked else "loaded"
        enabled = "enabled" if os.path.lexists(wanted) else "disabled"
        print(f"Id={unit}\nLoadState={load}\nActiveState={active(unit)}\nUnitFileState={enabled}")
    elif verb == "is-enabled":
        print("masked" if masked else "enabled" if os.path.lexists(wanted) else "disabled")
        return 0 if os.path.lexists(wanted) and not masked else 1
    elif verb in ("start", "restart", "reload"):
        if masked:
            print(f"Unit {unit} is masked.", file=sys.stderr)
            return 1
        if unit in ("systemd-networkd.service", ""):
            apply_network()
        if unit:
            change(unit, "active")
    elif verb == "enable":
        with open(wanted, "w"):
            pass
    elif verb == "daemon-reload":
        pass
    elif verb == "unmask":
        os.unlink(f"{ETC}/{unit}")
    else:
        print(f"the simulated server does not know {' '.join(sys.argv[1:])}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
