# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Redfish over one transport: who we are, the one retry loop, and errors from answers.

GET is repeated within its deadline. A write is sent once: when it was surely not taken up (429, 503) or its answer was
lost, that is raised as BmcBusy or BmcUncertain, and the caller reads the state again before it decides.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import email.utils
import json
import re
import time
import typing as t
import urllib.parse

from .errors import (
    BmcAuthError,
    BmcBadAnswer,
    BmcBusy,
    BmcDenied,
    BmcError,
    BmcNotFound,
    BmcNotOffered,
    BmcRefused,
    BmcTimeout,
    BmcUncertain,
    BmcUnreachable,
)
from .message import extended_info, hide_credentials, one_sentence
from .options import Options
from .transport import Answer, Lost, Transport

__all__ = ("Form", "Session", "retry_after_seconds")

ROOT = "/redfish/v1/"
READS = 6  # tries of one GET
PAUSE = (0.2, 0.5, 1.0, 2.0, 4.0)
LOGOUT_TIMEOUT = 10.0
_REPEATABLE_STATUS = (429, 502, 503, 504)
# A BMC that has no SessionService, or no free session, answers the login so; basic authentication may still work.
_NO_SESSIONS_STATUS = (404, 405, 410, 429, 501, 503)
_NO_SESSIONS_IDS = ("SessionLimitExceeded", "RAC0218")
_PLAIN = re.compile(r"[!-~]+")  # what a request line takes as it is
_RESERVED = "!#$%&'()*+,/:;=?@[]~"


@dataclasses.dataclass(frozen=True)
class Form:
    """A body that is not JSON, made anew for each try. Its length is sent ahead: BMCs do not take chunks."""

    content_type: str
    length: int
    chunks: t.Callable[[], t.Iterator[bytes]]


class Session:
    """Use as a context manager: what it opened on the BMC is closed whatever happens."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.transport = Transport(options)
        self.address = self.transport.address
        self.notes: list[str] = []
        self._root: dict[str, t.Any] | None = None
        self._token: str | None = None
        self._session_uri: str | None = None
        self._basic: str | None = None
        self._answered = False
        self._secrets: list[str] = []
        # The account's own URI, where the login said that its password has to be changed before anything else.
        self.change_first: str | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def requests(self) -> int:
        return self.transport.requests

    @property
    def root(self) -> dict[str, t.Any]:
        """The service root, which is readable without logging in."""
        if self._root is None:
            answer = self._read(ROOT, self._deadline(), authenticated=False)
            if answer.status == 401:
                # Against the specification, but some do ask. No session link is known yet, so credentials go along.
                self._use_basic()
                answer = self._read(ROOT, self._deadline(), authenticated=True)
            self._root = self._checked(answer).json
        return self._root

    def hide(self, secret: str) -> None:
        """A secret of the caller: it will not be in any error, even where the BMC quotes it."""
        self._secrets.append(secret)

    def adopt(self, password: str) -> None:
        """The password of this login has been changed; what comes after uses the new one."""
        self.hide(self.options.password)
        self.options = dataclasses.replace(self.options, password=password)
        if self._basic:
            self._use_basic()

    def renewed(self, fingerprint: str) -> None:
        """The certificate of the BMC has been replaced by this one, so it is the one to trust for the rest."""
        self.transport.pin(fingerprint)

    def move(self, options: Options) -> None:
        """The BMC has another address now; it is the same BMC, so its session is closed there."""
        self.transport.drop()
        self.options, self.transport = options, Transport(options)

    # -- the verbs

    def get(self, uri: str, timeout: float | None = None) -> Answer:
        """Read a resource; repeated within the deadline when the BMC is busy or the connection breaks."""
        self._log_in()
        deadline = self._deadline(timeout)
        answer = self._read(uri, deadline, authenticated=True)
        if answer.status == 401 and self._token:
            self._renew()
            answer = self._read(uri, deadline, authenticated=True)
        return self._checked(answer)

    def post(self, uri: str, body: t.Mapping[str, t.Any] | Form, timeout: float | None = None) -> Answer:
        return self._write("POST", uri, body, None, timeout)

    def patch(
        self, uri: str, body: t.Mapping[str, t.Any], etag: str | None = None, timeout: float | None = None
    ) -> Answer:
        return self._write("PATCH", uri, body, etag, timeout)

    def delete(self, uri: str, etag: str | None = None, timeout: float | None = None) -> Answer:
        return self._write("DELETE", uri, None, etag, timeout)

    def close(self) -> None:
        """Log out and close the connection. A logout that fails is noted, not raised: the work before it counts."""
        uri, token = self._session_uri, self._token
        self._token = self._session_uri = None
        try:
            if uri and token:
                self._log_out(uri, token)
        finally:
            self.transport.drop()

    # -- identity

    def _log_in(self) -> None:
        if self._token or self._basic:
            return
        uri = self._sessions_uri()
        if self._basic:  # the root asked for it
            return
        if self.options.auth == "basic" or uri is None:
            self._use_basic()
            return
        body = {"UserName": self.options.username, "Password": self.options.password}
        answer = self._once("POST", uri, body, None, self._deadline(), authenticated=False)
        token = answer.headers.get("x-auth-token")
        if answer.ok and token:
            self._token = token
            location = answer.headers.get("location")
            if not location and isinstance(answer.loose, dict):
                location = answer.loose.get("@odata.id")
            with contextlib.suppress(ValueError):
                self._session_uri = _path_of(str(location)) if location else None
            if self._session_uri is None:
                self.notes.append(
                    "the BMC did not say which session it opened, so it cannot be closed; it ends by its time-out"
                )
            self._note_change_required(extended_info(answer.loose))
            return
        messages = extended_info(answer.loose)
        ids = " ".join(str(item.get("MessageId")) for item in messages)
        if answer.status in _NO_SESSIONS_STATUS or any(name in ids for name in _NO_SESSIONS_IDS):
            self.notes.append(f"no session could be opened (HTTP {answer.status}); basic authentication is used")
            self._use_basic()
            return
        if answer.status in (401, 403) or (answer.status == 400 and "nauthorized" in ids):
            raise self._login_refused(answer)
        self._checked(answer)
        raise BmcRefused(
            self.address,
            f"the login was answered with HTTP {answer.status} but without a token",
            status=answer.status,
            hint="The session service of this BMC is broken; a BMC reset may help",
            request=answer.request,
        )

    def _note_change_required(self, messages: t.Sequence[t.Mapping[str, t.Any]]) -> None:
        for item in messages:
            args = item.get("MessageArgs")
            if str(item.get("MessageId") or "").endswith("PasswordChangeRequired"):
                uris = [str(a) for a in args if str(a).startswith("/")] if isinstance(args, list) else []
                self.change_first = uris[0] if uris else ""

    def _sessions_uri(self) -> str | None:
        links = self.root.get("Links")
        sessions = links.get("Sessions") if isinstance(links, dict) else None
        if isinstance(sessions, dict) and isinstance(sessions.get("@odata.id"), str):
            return str(sessions["@odata.id"])
        service = self.root.get("SessionService")
        if isinstance(service, dict) and isinstance(service.get("@odata.id"), str):
            return str(service["@odata.id"]).rstrip("/") + "/Sessions"
        return None

    def _use_basic(self) -> None:
        pair = f"{self.options.username}:{self.options.password}".encode()
        self._basic = "Basic " + base64.b64encode(pair).decode("ascii")

    def _renew(self) -> None:
        """The BMC has ended our session (some do after 30 s without a request); what it refused was not done."""
        old = self._session_uri
        self._token = self._session_uri = None
        self._log_in()
        if old and self._token:
            # Only a BMC that was mistaken has it still; it must not stay open.
            self._log_out(old, self._token, gone_is_fine=True)

    def _log_out(self, uri: str, token: str, gone_is_fine: bool = False) -> None:
        """To close a session twice is the same as once, so this write may be repeated."""
        deadline = time.monotonic() + LOGOUT_TIMEOUT
        for pause in (*PAUSE, None):
            try:
                answer = self.transport.exchange("DELETE", uri, self._headers({"X-Auth-Token": token}), None, deadline)
            except (Lost, BmcError) as exc:
                timed_out = isinstance(exc, Lost) and exc.timed_out
                if pause is None or timed_out or time.monotonic() + pause >= deadline:
                    self.notes.append(
                        f"the session could not be closed: {getattr(exc, 'message', exc)}; it ends by its time-out"
                    )
                    return
                time.sleep(pause)
                continue
            if answer.status in _REPEATABLE_STATUS and pause is not None and time.monotonic() + pause < deadline:
                time.sleep(pause)
                continue
            if not answer.ok and answer.status not in (401, 404) and not gone_is_fine:
                self.notes.append(f"the session could not be closed (HTTP {answer.status}); it ends by its time-out")
            return

    def _login_refused(self, answer: Answer) -> BmcAuthError:
        messages = extended_info(answer.loose)
        said = one_sentence(messages)
        said = f" It says: {self._without_secrets(said)}." if said else ""
        common: dict[str, t.Any] = {
            "status": answer.status,
            "messages": self._clean(messages),
            "request": answer.request,
        }
        ids = " ".join(str(item.get("MessageId")) for item in messages)
        if "PasswordChangeRequired" in ids:
            return self._change_required(said, common)
        return BmcAuthError(
            self.address,
            f"it does not accept this user name and password (user {self.options.username}, HTTP"
            f" {answer.status}).{said}",
            hint=(
                "It was tried once, so the account is not locked by this. Check username and password, and that the"
                " account may use Redfish"
            ),
            **common,
        )

    def _change_required(self, said: str, common: dict[str, t.Any]) -> BmcAuthError:
        return BmcDenied(
            self.address,
            f"the password of {self.options.username} has to be changed before it can be used.{said}",
            hint="Change it with bmc_user (name and username the same), then use the new one",
            **common,
        )

    # -- one exchange, and the retry loop around reads

    def _write(
        self, method: str, uri: str, body: t.Mapping[str, t.Any] | Form | None, etag: str | None, timeout: float | None
    ) -> Answer:
        self._log_in()
        deadline = self._deadline(timeout)
        answer = self._once(method, uri, body, etag, deadline, authenticated=True)
        if answer.status == 401 and self._token:
            self._renew()
            answer = self._once(method, uri, body, etag, deadline, authenticated=True)
        return self._checked(answer)

    def _once(
        self,
        method: str,
        uri: str,
        body: t.Mapping[str, t.Any] | Form | None,
        etag: str | None,
        deadline: float,
        authenticated: bool,
    ) -> Answer:
        extra = {"If-Match": etag} if etag else {}
        data: bytes | t.Iterator[bytes] | None = None
        if isinstance(body, Form):
            data = body.chunks()
            extra.update({"Content-Type": body.content_type, "Content-Length": str(body.length)})
        elif body is not None:
            data = json.dumps(body).encode()
            extra["Content-Type"] = "application/json"
        uri = self._own(uri)
        try:
            answer = self.transport.exchange(method, uri, self._headers(extra, authenticated), data, deadline)
        except Lost as exc:
            raise BmcUncertain(
                self.address,
                f"{method} {uri} was sent once, but its answer was lost ({exc})",
                hint=(
                    "It is not known whether the BMC did it. Run again: the state is read first and nothing is done"
                    " twice"
                ),
                request=f"{method} {uri}",
            ) from exc
        self._answered = True
        return answer

    def _read(self, uri: str, deadline: float, authenticated: bool) -> Answer:
        uri = self._own(uri)
        extra: dict[str, str] = {}
        redirects = 0
        trial = 0
        while True:
            trial += 1
            pause: float | None
            try:
                answer = self.transport.exchange("GET", uri, self._headers(extra, authenticated), None, deadline)
            except BmcUnreachable:
                # A BMC that has never answered is reported at once; one that just did may be busy or starting again.
                if not self._answered or trial >= READS:
                    raise
                pause = None
                failure: Exception | None = None
            except Lost as exc:
                if exc.timed_out or trial >= READS or time.monotonic() >= deadline:
                    raise self._lost_read(uri, exc) from exc
                pause = 0.0 if trial == 1 else None  # some BMCs reset a reused connection: at once on a fresh one
                failure = exc
            else:
                self._answered = True
                location = answer.headers.get("location")
                if answer.status in (301, 302, 307, 308) and location and redirects < 3:
                    redirects += 1
                    uri = self._own(location)
                    continue
                if answer.status == 406 and not extra:
                    extra = {"Accept-Encoding": "gzip"}  # some HPE resources exist only compressed
                    continue
                if answer.status not in _REPEATABLE_STATUS or trial >= READS:
                    return answer
                pause = retry_after_seconds(answer.headers.get("retry-after"))
                if pause is not None and time.monotonic() + pause >= deadline:
                    return answer
                failure = None
            if pause is None:
                pause = PAUSE[min(trial, len(PAUSE)) - 1]
            if time.monotonic() + pause >= deadline:
                if failure is None:
                    failure = Lost("the BMC stayed busy or unreachable", True)
                raise self._lost_read(uri, failure)
            time.sleep(pause)

    def _lost_read(self, uri: str, exc: Exception) -> BmcTimeout:
        return BmcTimeout(
            self.address,
            f"GET {uri} was not answered ({exc})",
            hint=(
                "The BMC may be overloaded or starting. Try again, with a longer timeout if it is known to be slow; "
                "if it stays so, reset the BMC"
            ),
            request=f"GET {uri}",
        )

    def _headers(self, extra: t.Mapping[str, str], authenticated: bool = False) -> dict[str, str]:
        headers = {
            "Host": self.transport.address,
            "Accept": "application/json",
            "OData-Version": "4.0",
            "User-Agent": "kiban.baremetal",
        }
        if authenticated and self._token:
            headers["X-Auth-Token"] = self._token
        elif authenticated and self._basic:
            headers["Authorization"] = self._basic
        headers.update(extra)
        return headers

    def _own(self, uri: str) -> str:
        """Only ever talk to the BMC that was named: of an absolute URL, only the path is used."""
        try:
            path = _path_of(uri)
        except ValueError as exc:
            raise BmcBadAnswer(
                self.address,
                f"it names a resource by {uri!r}, which is no URI ({exc})",
                hint="This is a defect of the BMC; newer firmware may help",
            ) from exc
        return path if path.startswith("/") else ROOT + path

    def _deadline(self, timeout: float | None = None) -> float:
        return time.monotonic() + (self.options.timeout if timeout is None else timeout)

    # -- from answers to errors

    def _checked(self, answer: Answer) -> Answer:
        if answer.ok:
            return answer
        messages = extended_info(answer.loose)
        said = one_sentence(messages) or "it gives no reason"
        said = self._without_secrets(said)
        common: dict[str, t.Any] = {
            "status": answer.status,
            "messages": self._clean(messages),
            "request": answer.request,
        }
        what = f"{answer.request} was refused with HTTP {answer.status}: {said}"
        if answer.status == 401:
            raise self._login_refused(answer)
        if answer.status == 403 and any("PasswordChangeRequired" in str(item.get("MessageId")) for item in messages):
            self._note_change_required(messages)
            raise self._change_required(f" It says: {said}.", common)
        if answer.status == 403:
            raise BmcDenied(
                self.address,
                f"{answer.request} is not allowed for the user {self.options.username} (HTTP 403): {said}",
                hint="Give the account the role Administrator, or check the licence of the BMC",
                **common,
            )
        if answer.status == 404:
            raise BmcNotFound(
                self.address, what, hint="The BMC does not have this resource; its firmware may be too old", **common
            )
        if answer.status in (429, 503):
            busy = BmcBusy(self.address, what, hint="The BMC is busy or starting. Wait and run again", **common)
            busy.retry_after = retry_after_seconds(answer.headers.get("retry-after"))
            raise busy
        refused = BmcNotOffered if answer.status in (405, 501) else BmcRefused
        hint = next((str(item["Resolution"]) for item in messages if item.get("Resolution")), "")
        raise refused(self.address, what, hint=self._without_secrets(" ".join(hint.split())), **common)

    def _without_secrets(self, text: str) -> str:
        """Some BMCs quote the request in their errors."""
        secrets = [
            *self._secrets,
            self.options.password,
            self._token,
            self._basic.split(" ", 1)[1] if self._basic else None,
        ]
        for secret in secrets:
            for form in (secret, json.dumps(secret)[1:-1]) if secret else ():
                text = text.replace(form, "********")
        return hide_credentials(text)

    def _clean(self, value: t.Any) -> t.Any:
        if isinstance(value, str):
            return self._without_secrets(value)
        if isinstance(value, list):
            return [self._clean(item) for item in value]
        if isinstance(value, dict):
            return {key: self._clean(item) for key, item in value.items()}
        return value


def retry_after_seconds(header: str | None) -> float | None:
    """Retry-After is a number of seconds or a date. None where it is absent or unreadable."""
    if not header:
        return None
    header = header.strip()
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(header)
    except (TypeError, ValueError, IndexError):
        return None
    return max(0.0, date.timestamp() - time.time())


def _path_of(uri: str) -> str:
    """Path and query of a URI. A fragment points into a resource and is not sent."""
    parts = urllib.parse.urlsplit(uri)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    # Some BMCs name resources with spaces, as they are.
    return path if _PLAIN.fullmatch(path) else urllib.parse.quote(path, safe=_RESERVED, errors="replace")
