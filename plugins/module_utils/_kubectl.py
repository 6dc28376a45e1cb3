# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs kubectl: safe repeats while the API server is busy, no secrets in what comes back, errors for a person."""

# This is a private module utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from typing import Any

__all__ = [
    "FIELD_MANAGER",
    "ApiUnreachable",
    "KubeError",
    "Kubectl",
    "NotServed",
    "kube_argument_spec",
    "label",
    "mask_object",
    "secret_values",
]

FIELD_MANAGER = "kiban"
HIDDEN = "********"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# What an API server says, or does not say, while it starts, is overloaded or is being replaced.
_BUSY = re.compile(
    r"connection refused|connection reset by peer|TLS handshake timeout|i/o timeout|no route to host"
    r"|: EOF|unexpected EOF"
    r"|etcdserver: |currently unable to handle the request|Client\.Timeout exceeded|client connection lost"
    r"|context deadline exceeded|request canceled while waiting|ServiceUnavailable|TooManyRequests"
)
# How kubectl ends when it has waited for others itself; it says "deadline exceeded" of that too.
_WAITED = re.compile(r"error when waiting for pod|global timeout reached")
_UNSERVED = re.compile(
    r"namespaces \"[^\"]+\" not found|no matches for kind|the server could not find the requested resource"
)
_HINTS = (
    (
        r"Apply failed with \d+ conflict",
        "Somebody else set these fields: take the change back there, or set force_conflicts.",
    ),
    (
        r"Unauthorized|must be logged in|to provide credentials",
        "This API server does not accept the kubeconfig: was the cluster made anew?",
    ),
    (
        r"x509: |certificate signed by unknown",
        "The kubeconfig does not trust this API server: is it another cluster?",
    ),
    (r"[Ff]orbidden", "The user of the kubeconfig lacks this right."),
)


class KubeError(Exception):
    """A kubectl run that failed; the text is for a person."""


class ApiUnreachable(KubeError):
    """The API server did not answer in time."""


class NotServed(KubeError):
    """The object's namespace or kind is not there (yet)."""


@dataclass(frozen=True)
class Output:
    rc: int
    stdout: str
    stderr: str


def kube_argument_spec() -> dict[str, Any]:
    return {
        "kubeconfig": {"type": "path", "required": True},
        "kubectl": {"type": "path", "default": "kubectl"},
    }


def label(obj: dict[str, Any]) -> str:
    """Names an object the way a person would look it up."""
    meta = obj.get("metadata") or {}
    name = f"{obj.get('kind', '?')}/{meta.get('name', '?')}"
    return f"{name} in {meta['namespace']}" if meta.get("namespace") else name


def secret_values(docs: list[dict[str, Any]]) -> set[str]:
    """Every value of the Secrets among the objects, as it may turn up in an error text."""
    values: set[str] = set()
    for doc in docs:
        if doc.get("kind") == "Secret":
            for part in ("data", "stringData"):
                values.update(str(value) for value in (doc.get(part) or {}).values())
    return {value for value in values if len(value) > 3}


def mask_object(obj: dict[str, Any]) -> dict[str, Any]:
    """A copy without secret values and without the server's bookkeeping."""
    masked = copy.deepcopy(obj)
    meta = masked.get("metadata") or {}
    meta.pop("managedFields", None)
    if masked.get("kind") == "Secret":
        for part in ("data", "stringData"):
            if masked.get(part):
                masked[part] = dict.fromkeys(masked[part], HIDDEN)
        if LAST_APPLIED in (meta.get("annotations") or {}):
            meta["annotations"][LAST_APPLIED] = HIDDEN
    return masked


class Kubectl:
    """One kubectl and one kubeconfig. Objects go in on standard input, so nothing secret is in the process list."""

    def __init__(self, kubectl: str, kubeconfig: str, timeout: float = 60, interval: float = 2) -> None:
        self.kubectl = kubectl
        self.kubeconfig = kubeconfig
        self.timeout = timeout
        self.interval = interval
        self.secrets: set[str] = set()
        self._env = {key: value for key, value in os.environ.items() if key != "KUBECTL_EXTERNAL_DIFF"}
        # The cache belongs to the site's state, not to the home directory of who runs this.
        self._env["KUBECACHEDIR"] = os.path.join(os.path.dirname(os.path.abspath(kubeconfig)), ".kube-cache")
        self._env["LC_ALL"] = "C"

    def run(
        self,
        args: list[str],
        docs: list[dict[str, Any]] | None = None,
        text: str | None = None,
        ok: tuple[int, ...] = (0,),
    ) -> Output:
        """Runs kubectl until it gives a real answer. Only for what may be repeated: reads, apply, delete."""
        stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": docs}) if docs is not None else text
        end = time.monotonic() + self.timeout
        while True:
            out = self._once(args, stdin, max(end - time.monotonic(), 1))
            # Another code than 0 is an answer only with an answer's text: kubectl diff's 1 can also mean a failure.
            if out.rc in ok and (out.rc == 0 or out.stdout.strip()):
                return out
            if _WAITED.search(out.stderr) or not _BUSY.search(out.stderr):
                raise self._error(out)
            if time.monotonic() + self.interval >= end:
                raise ApiUnreachable(
                    f"The API server did not answer within {self.timeout:g} s (kubeconfig {self.kubeconfig}): "
                    f"{self._said(out)}"
                )
            time.sleep(self.interval)

    def read_yaml(self, text: str) -> list[dict[str, Any]]:
        """The documents of a YAML text. kubectl reads them without a server, so no YAML library is needed here."""
        command = [self.kubectl, "patch", "--local", "--type=merge", "--patch={}", "--output=json", "--filename=-"]
        out = self._call(command, text, 60)
        if out.rc:
            raise KubeError(f"manifests: {self._said(out).replace('STDIN', 'the text')}")
        docs: list[dict[str, Any]] = []
        decoder, rest = json.JSONDecoder(), out.stdout.strip()
        while rest:
            doc, end = decoder.raw_decode(rest)
            docs.append(doc)
            rest = rest[end:].lstrip()
        return docs

    def get(self, args: list[str], namespace: str | None = None) -> list[dict[str, Any]]:
        """The objects that there are; none is no error."""
        scope = ["--namespace", namespace] if namespace else []
        out = self.run(["get", *args, *scope, "--output=json", "--ignore-not-found"])
        if not out.stdout.strip():
            return []
        found: dict[str, Any] = json.loads(out.stdout)
        return list(found["items"]) if str(found.get("kind", "")).endswith("List") else [found]

    def _once(self, args: list[str], stdin: str | None, timeout: float) -> Output:
        flags = [f"--kubeconfig={self.kubeconfig}", f"--request-timeout={max(int(timeout), 1)}s"]
        return self._call([self.kubectl, *flags, *args], stdin, timeout)

    def _call(self, command: list[str], stdin: str | None, timeout: float) -> Output:
        try:
            done = subprocess.run(
                command,
                input=stdin or "",
                capture_output=True,
                text=True,
                timeout=timeout + 5,
                check=False,
                env=self._env,
            )
        except FileNotFoundError:
            raise KubeError(f"There is no kubectl at {self.kubectl}: make the bundle, or name another.") from None
        except OSError as exc:
            raise KubeError(f"{self.kubectl} cannot be run: {exc.strerror}") from exc
        except subprocess.TimeoutExpired:
            return Output(-1, "", f"i/o timeout: kubectl did not end within {timeout:.0f} s")
        return Output(done.returncode, done.stdout, self.scrub(done.stderr))

    def scrub(self, text: str) -> str:
        for value in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
        return text

    def _error(self, out: Output) -> KubeError:
        said = self._said(out)
        if _UNSERVED.search(out.stderr):
            return NotServed(said)
        hint = next((hint for pattern, hint in _HINTS if re.search(pattern, out.stderr)), "")
        return KubeError(f"{said} {hint}".strip())

    @staticmethod
    def _said(out: Output) -> str:
        lines = [line.strip() for line in out.stderr.splitlines() if line.strip() and not line.startswith("Warning: ")]
        # Discovery repeats one complaint a group (a log line each); the last line is the answer.
        lines = [line for line in lines if not re.match(r"[EWI]\d{4} ", line)] or lines[-1:]
        return "\n".join(dict.fromkeys(lines)) or f"kubectl ended with {out.rc} and said nothing"
