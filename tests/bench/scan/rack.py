# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated BMCs in a process of their own: rack.py COUNT LATENCY PROFILE RECORDED.

Prints how to reach them as one line of JSON, and the figures of the first RECORDED of them for every line on its input.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from ansible_collections.kiban.baremetal.tests.simulator import PASSWORD, USERNAME, Fleet


def figures(bmcs: list[Any]) -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    answers = [
        {
            "requests": len(bmc.requests),
            "gets": sum(request.method == "GET" for request in bmc.requests),
            "connections": bmc.connections,
            "open_sessions": len(bmc.open_sessions),
            "sent": [(request.method, request.path) for request in bmc.requests],
        }
        for bmc in bmcs
    ]
    for bmc in bmcs:
        bmc.forget()
    return {"cpu": used.ru_utime + used.ru_stime, "bmcs": answers}


def main() -> None:
    count, latency, profile, recorded = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    with Fleet(count, profile=profile, latency=latency) as fleet:
        bmcs = list(fleet)
        for bmc in bmcs[recorded:]:
            bmc.keep_record(False)
        reach = {"addresses": [bmc.address for bmc in bmcs], "ca_path": str(fleet.ca_path)}
        reach["tree"] = "recorded" if bmcs[0].recorded else "synthetic"
        print(json.dumps({**reach, "username": USERNAME, "password": PASSWORD}), flush=True)
        for _line in sys.stdin:
            print(json.dumps(figures(bmcs[:recorded])), flush=True)


if __name__ == "__main__":
    main()
