# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One client in a process of its own: client.py KIND AT_ONCE, with the rack and the requests as JSON on its input.

`scan` is the project's. `threads` and `asyncio` are bare ones: they send the same requests over one kept connection a
BMC, parse every answer, and do nothing else. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import resource
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Rack = dict[str, Any]


def scan(rack: Rack, at_once: int) -> dict[str, Any]:
    from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options
    from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import scan as core

    common = {name: rack[name] for name in ("username", "password", "ca_path")}
    options = {address: Options(address=address, timeout=60, **common) for address in rack["addresses"]}
    found = core.scan(options, lambda bmc: bmc.hardware(), at_once)
    failed = [str(one.error) for one in found.values() if one.error]
    records = {json.dumps({**one.value, "requests": 0}, sort_keys=True) for one in found.values() if one.value}
    requests = [one.requests for one in found.values()]
    return {"failed": failed[:3], "failures": len(failed), "different": len(records), "requests_max": max(requests)}


def login(rack: Rack) -> bytes:
    return json.dumps({"UserName": rack["username"], "Password": rack["password"]}).encode()


def threads(rack: Rack, at_once: int) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=rack["ca_path"])
    body = login(rack)

    def one(address: str) -> None:
        host, port = address.split(":")
        connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=60)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        location = ""
        for method, path in rack["sent"]:
            connection.request(method, location if method == "DELETE" else path, body * (method == "POST"), headers)
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status in (200, 201, 204, 404), (path, answer.status)
            if method == "POST":
                headers["X-Auth-Token"], location = answer.headers["X-Auth-Token"], answer.headers["Location"]
            if data:
                json.loads(data)
        connection.close()

    sys.setswitchinterval(0.05)
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, rack["addresses"]))
    return {}


def asynchronous(rack: Rack, at_once: int) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=rack["ca_path"])
    body = login(rack)

    async def one(address: str, free: asyncio.Semaphore) -> None:
        host, port = address.split(":")
        async with free:
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context, limit=1 << 20)
            token = location = ""
            for method, path in rack["sent"]:
                data = body if method == "POST" else b""
                lines = [f"{method} {location if method == 'DELETE' else path} HTTP/1.1", f"Host: {address}"]
                lines += ["Content-Type: application/json", f"Content-Length: {len(data)}", f"X-Auth-Token: {token}"]
                writer.write("\r\n".join([*lines[: None if token else -1], "", ""]).encode() + data)
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                assert head[0].split()[1] in ("200", "201", "204", "404"), (path, head[0])
                headers = {name.lower(): value.strip() for name, _colon, value in (h.partition(":") for h in head[1:])}
                if method == "POST":
                    token, location = headers["x-auth-token"], headers["location"]
                if int(headers.get("content-length", 0)):
                    json.loads(await reader.readexactly(int(headers["content-length"])))
            writer.close()

    async def every() -> None:
        free = asyncio.Semaphore(at_once)
        await asyncio.gather(*(one(address, free) for address in rack["addresses"]))

    asyncio.run(every())
    return {}


def main() -> None:
    rack = json.load(sys.stdin)
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    result = {"scan": scan, "threads": threads, "asyncio": asynchronous}[sys.argv[1]](rack, int(sys.argv[2]))
    wall, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"wall": round(wall, 2), "cpu": round(cpu, 2), "rss_mb": used.ru_maxrss // 1024, **result}))


if __name__ == "__main__":
    main()
