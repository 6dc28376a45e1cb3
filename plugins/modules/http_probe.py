#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: http_probe
short_description: Asks a URL many times and measures how it serves
version_added: 0.1.0
description:
  - Sends GET requests from the host where it runs, each on a connection of its own, so that a load balancer decides
    anew for each.
  - Fails when fewer than O(min_ok) were answered. Nothing is asked a second time unless O(retries) says so, and what
    was asked a second time is counted.
  - No proxy is used and no redirection followed.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
    details:
      - Nothing is asked in check mode, as what would answer was not made.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
options:
  url:
    description: What to ask, V(http://...) or V(https://...).
    type: str
    required: true
    version_added: 0.1.0
  name:
    description:
      - The name that is asked for, by the header C(Host) and by TLS, where the URL has only the address of a server
        that serves many names.
    type: str
    version_added: 0.1.0
  ca:
    description: Certificates in PEM form, one of which must vouch for the server. Without it, those of the host.
    type: str
    version_added: 0.1.0
  count:
    description: How many requests. Without it and O(duration), one.
    type: int
    version_added: 0.1.0
  duration:
    description: Seconds to go on asking.
    type: float
    version_added: 0.1.0
  interval:
    description: Seconds from one request's start to the next one's, at least.
    type: float
    default: 0.1
    version_added: 0.1.0
  timeout:
    description: Seconds that one request may take.
    type: float
    default: 3
    version_added: 0.1.0
  retries:
    description: How often a request that failed is sent again, at once, before it counts as failed.
    type: int
    default: 0
    version_added: 0.1.0
  ready_timeout:
    description:
      - Seconds to wait until it serves before the measurement begins. Requests until then are not counted.
      - It serves when O(ready_count) requests in a row were answered, with O(min_bodies) different bodies among them.
    type: float
    default: 0
    version_added: 0.1.0
  ready_count:
    description: How many right answers in a row end the wait of O(ready_timeout).
    type: int
    default: 1
    version_added: 0.1.0
  expect:
    description: A regular expression that each body must match somewhere. Any body of status 200 is right without it.
    type: str
    version_added: 0.1.0
  min_ok:
    description: How many requests must be answered. All of them where it is absent.
    type: int
    version_added: 0.1.0
  min_bodies:
    description: How many different bodies there must be, as from the replicas of an application that tell their names.
    type: int
    default: 1
    version_added: 0.1.0
"""

EXAMPLES = r"""
- name: A Service answers from both replicas
  kiban.baremetal.http_probe:
    url: http://10.96.12.7/hostname
    count: 40
    min_bodies: 2
    ready_timeout: 30

- name: One of many names of a server answers by TLS
  kiban.baremetal.http_probe:
    url: https://203.0.113.130/
    name: shop.example.net
    ca: "{{ lookup('ansible.builtin.file', 'ca.pem') }}"
"""

RETURN = r"""
requests:
  description: How many requests were sent, without second tries.
  type: int
  returned: always
ok:
  description: How many were answered as expected.
  type: int
  returned: always
lost:
  description: How many were not.
  type: int
  returned: always
retried:
  description: How many second tries there were.
  type: int
  returned: always
longest_gap_ms:
  description:
    - The longest time without a right answer, in milliseconds, between two of them, before the first or after the last.
  type: int
  returned: always
slowest_ms:
  description: The longest time that a right answer took, in milliseconds.
  type: int
  returned: always
bodies:
  description: The different bodies, at most fifty, each cut after 200 characters.
  type: list
  elements: str
  returned: always
counts:
  description: How often each of RV(bodies) came.
  type: dict
  returned: always
first_error:
  description: What the first request that failed met, and when; empty where none failed.
  type: str
  returned: always
seconds:
  description: How long the measurement took.
  type: float
  returned: always
"""

import http.client
import re
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Callable
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

MOST_BODIES = 50
BODY_LENGTH = 200


class ProbeError(Exception):
    """A request that was not answered as expected."""


def get(
    url: str, timeout: float, expect: str | None, name: str | None = None, tls: ssl.SSLContext | None = None
) -> str:
    """One request on one connection; the body, or why not."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        if tls:
            plain = socket.create_connection((host, port), timeout)
            connection.sock = tls.wrap_socket(plain, server_hostname=name or host)
        connection.request("GET", target, headers={"Connection": "close", "Host": name or parts.netloc})
        response = connection.getresponse()
        body = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as exc:
        raise ProbeError(f"{type(exc).__name__}: {exc}") from exc
    finally:
        connection.close()
    if response.status != 200:
        raise ProbeError(f"status {response.status}: {body[:BODY_LENGTH]}")
    if expect is not None and not re.search(expect, body):
        raise ProbeError(f"the body does not match {expect!r}: {body[:BODY_LENGTH]!r}")
    return body[:BODY_LENGTH]


@dataclass
class Record:
    """What a measurement saw. Times are seconds since its start."""

    requests: int = 0
    ok: int = 0
    retried: int = 0
    first_error: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    last_ok: float = 0.0
    longest_gap: float = 0.0
    slowest: float = 0.0

    def right(self, body: str, at: float, took: float) -> None:
        self.ok += 1
        if body in self.counts or len(self.counts) < MOST_BODIES:
            self.counts[body] = self.counts.get(body, 0) + 1
        self.slowest = max(self.slowest, took)
        self.end(at)
        self.last_ok = at

    def wrong(self, error: str, at: float) -> None:
        self.first_error = self.first_error or f"after {at:.1f} s: {error}"

    def end(self, at: float) -> None:
        self.longest_gap = max(self.longest_gap, at - self.last_ok)

    def result(self, seconds: float) -> dict:
        return {
            "changed": False,
            "requests": self.requests,
            "ok": self.ok,
            # Not "failed": that word is Ansible's own.
            "lost": self.requests - self.ok,
            "retried": self.retried,
            "longest_gap_ms": round(self.longest_gap * 1000),
            "slowest_ms": round(self.slowest * 1000),
            "bodies": sorted(self.counts),
            "counts": self.counts,
            "first_error": self.first_error,
            "seconds": round(seconds, 1),
        }


def wait_until_ready(ask: Callable[[], str], timeout: float, interval: float, count: int, bodies: int) -> str:
    """Asks until so many requests in a row had so many different answers; what is missing where that never came."""
    end = time.monotonic() + timeout
    answers: list[str] = []
    while True:
        try:
            answers.append(ask())
            missing = f"{len(answers)} answers in a row, {len(set(answers))} of them different"
            if len(answers) >= count and len(set(answers)) >= bodies:
                return ""
        except ProbeError as exc:
            missing, answers = str(exc), []
        if time.monotonic() + interval > end:
            return missing
        time.sleep(interval)


def measure(ask: Callable[[], str], count: int | None, duration: float | None, interval: float, retries: int) -> dict:
    record, start = Record(), time.monotonic()
    while True:
        began = time.monotonic()
        record.requests += 1
        for attempt in range(retries + 1):
            try:
                body = ask()
                record.right(body, time.monotonic() - start, time.monotonic() - began)
                break
            except ProbeError as exc:
                record.wrong(str(exc), time.monotonic() - start)
                record.retried += 1 if attempt < retries else 0
        spent = time.monotonic() - start
        if (count is not None and record.requests >= count) or (duration is not None and spent >= duration):
            break
        time.sleep(max(0.0, began + interval - time.monotonic()))
    record.end(time.monotonic() - start)
    return record.result(time.monotonic() - start)


def complaint(result: dict, min_ok: int | None, min_bodies: int) -> str:
    needed = result["requests"] if min_ok is None else min_ok
    if result["ok"] < needed:
        answered = f"{result['ok']} of {result['requests']} requests were answered"
        return f"{answered}, {needed} must be. {result['first_error']}"
    if len(result["bodies"]) < min_bodies:
        return f"{len(result['bodies'])} different answers came, {min_bodies} must: {', '.join(result['bodies'])}"
    return ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "name": {"type": "str"},
            "ca": {"type": "str"},
            "count": {"type": "int"},
            "duration": {"type": "float"},
            "interval": {"type": "float", "default": 0.1},
            "timeout": {"type": "float", "default": 3},
            "retries": {"type": "int", "default": 0},
            "ready_timeout": {"type": "float", "default": 0},
            "ready_count": {"type": "int", "default": 1},
            "expect": {"type": "str"},
            "min_ok": {"type": "int"},
            "min_bodies": {"type": "int", "default": 1},
        },
        supports_check_mode=True,
    )
    params = module.params
    url = params["url"]
    if not re.match(r"https?://[^/]", url):
        module.fail_json(msg=f"url must begin with http:// or https:// and name a host: {url}")
    if module.check_mode:
        module.exit_json(**Record().result(0.0))

    try:
        tls = ssl.create_default_context(cadata=params["ca"]) if url.startswith("https") else None
    except (ssl.SSLError, ValueError) as exc:
        module.fail_json(msg=f"ca holds no certificate in PEM form: {exc}")

    def ask() -> str:
        return get(url, params["timeout"], params["expect"], params["name"], tls)

    count = params["count"] if params["count"] or params["duration"] else 1
    if params["ready_timeout"]:
        wanted = (params["ready_count"], params["min_bodies"])
        error = wait_until_ready(ask, params["ready_timeout"], max(params["interval"], 0.2), *wanted)
        if error:
            module.fail_json(
                msg=f"{url}: not ready within {params['ready_timeout']:g} s: {error}",
                **dict(Record(first_error=error).result(params["ready_timeout"])),
            )
    result = measure(ask, count, params["duration"], params["interval"], params["retries"])
    wrong = complaint(result, params["min_ok"], params["min_bodies"])
    if wrong:
        module.fail_json(msg=f"{url}: {wrong}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
