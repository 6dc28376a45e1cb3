# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is a private module utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

"""The store of a Ceph monitor, and the keys of the daemons beside it. Python 3.9, standard library."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from ._ceph import CephError, Host, keyring, monitor_map

__all__ = ("ADMIN", "ensure_monitor")

ADMIN = "/etc/ceph/ceph.client.admin.keyring"
_MARK = "kiban-fsid"
"""Whose monitor it is: the cluster's name for itself."""


def ensure_monitor(
    host: Host, name: str, fsid: str, monitors: Mapping[str, str], keys: Mapping[str, str], check_mode: bool = False
) -> list[str]:
    """What was made, or would be. A monitor that is there is kept; one of another cluster is refused."""
    store, done = f"/var/lib/ceph/mon/ceph-{name}", []
    if os.path.isdir(host.path(store)):
        _refuse_strange(host, store, fsid)
    else:
        done.append(f"monitor {name}")
        if not check_mode:
            _make(host, name, fsid, monitors, keys, store)
    files = {
        ADMIN: ("client.admin", False),
        f"/var/lib/ceph/mgr/ceph-{name}/keyring": (f"mgr.{name}", True),
        f"/var/lib/ceph/mds/ceph-{name}/keyring": (f"mds.{name}", True),
    }
    for path, (entity, daemons) in files.items():
        if host.write(path, keyring({entity: keys[entity]}, with_caps=False), check_mode, daemons):
            done.append(f"key of {entity}")
        if daemons and not check_mode:
            host.own(os.path.dirname(path))
    return done


def _refuse_strange(host: Host, store: str, fsid: str) -> None:
    found = host.read(f"{store}/{_MARK}").strip()
    if found != fsid:
        whose = f"of the cluster {found}" if found else "that was not made here"
        raise CephError(
            f"{store} holds a monitor {whose}, and this site's cluster is {fsid}. Nothing was changed. If nobody "
            "needs that monitor, move its directory away and run again"
        )


def _make(host: Host, name: str, fsid: str, monitors: Mapping[str, str], keys: Mapping[str, str], store: str) -> None:
    """Beside its place, and moved there when it is whole: what a killed run leaves is never taken for a monitor."""
    host.owner()
    new = f"/var/lib/ceph/mon/.new-{name}"
    shutil.rmtree(host.path(new), ignore_errors=True)
    os.makedirs(host.path(new), mode=0o700)
    try:
        # All keys, so that a new cluster knows them from the start. Monitors that find a quorum take over its own.
        host.write(f"{new}/first", keyring(keys), daemons=False)
        monitor_map(host, fsid, monitors, f"{new}/map")
        host.call(
            *("ceph-mon", "--mkfs", f"--id={name}", f"--mon-data={new}/store"),
            *(f"--monmap={new}/map", f"--keyring={new}/first", f"--fsid={fsid}"),
            said=f"the store of the monitor {name} could not be made",
        )
        host.write(f"{new}/store/{_MARK}", f"{fsid}\n")
        host.own(f"{new}/store")
        os.rename(host.path(f"{new}/store"), host.path(store))
    finally:
        shutil.rmtree(host.path(new), ignore_errors=True)
