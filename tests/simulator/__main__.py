# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run simulated BMCs until interrupted: `python -m tests.simulator --profile dell-idrac9 --count 3`."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
from pathlib import Path

from .profiles import PROFILES
from .simulator import PASSWORD, USERNAME, Fleet


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--profile", default="well-behaved", choices=sorted(PROFILES))
    parser.add_argument("--count", type=int, default=1, help="how many BMCs")
    parser.add_argument("--spread", action="store_true", help="one address each, from 127.16.0.1 on, at --port")
    parser.add_argument("--first", default="127.16.0.1", help="first address with --spread")
    parser.add_argument("--port", type=int, default=0, help="with --spread, or for one BMC; 0: a free one")
    parser.add_argument("--no-tls", dest="tls", action="store_false")
    parser.add_argument("--tree", default="auto", choices=("auto", "recorded", "synthetic"))
    parser.add_argument("--username", default=USERNAME)
    parser.add_argument("--password", default=PASSWORD)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds an answer takes")
    parser.add_argument("--speed", type=float, default=10.0, help="simulated seconds in a real one")
    parser.add_argument("--ca", type=Path, help="write the CA certificate to this file")
    parser.add_argument("--power", help="power state at the start, as Redfish says it: On, Off")
    parser.add_argument("--hears", type=Path, help="JSON: for each BMC a switch and its port that the first port hears")
    parser.add_argument("--no-record", dest="record", action="store_false", help="do not keep the requests")
    arguments = parser.parse_args()
    with Fleet(
        arguments.count,
        spread=arguments.spread,
        port=arguments.port,
        first=arguments.first,
        profile=arguments.profile,
        tls=arguments.tls,
        tree=arguments.tree,
        username=arguments.username,
        password=arguments.password,
        latency=arguments.latency,
        speed=arguments.speed,
        power=arguments.power,
    ) as fleet:
        heard = json.loads(arguments.hears.read_text()) if arguments.hears else []
        for bmc in fleet:
            bmc.keep_record(arguments.record)
        for bmc, (switch, port) in zip(fleet, heard, strict=False):
            bmc.hear({0: (switch, port), 1: None})
        ca = None
        if arguments.tls:
            ca = str(arguments.ca or fleet.ca_path)
            if arguments.ca:
                shutil.copy(fleet.ca_path, arguments.ca)
        print(json.dumps({"addresses": [bmc.address for bmc in fleet], "ca_path": ca, "username": arguments.username}))
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, lambda *_args: sys.exit(0))
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
