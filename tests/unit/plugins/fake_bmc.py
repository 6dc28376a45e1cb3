# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redfish service over HTTPS on loopback: a tree of resources, real sessions, and answers scripted per request.

It is strict. Every request is recorded in order, a write that nobody foresaw is refused and fails the test, and so
does a scripted answer that nobody asked for.
"""

from __future__ import annotations

import base64
import copy
import datetime
import gzip
import hashlib
import http.server
import ipaddress
import json
import re
import secrets
import socket
import socketserver
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USERNAME = "kiban"
PASSWORD = 'canary-"pass/w\u00f6rd'

Json = dict[str, Any]


@dataclass
class Reply:
    """What the service answers. C(drop): it does the work, then cuts the connection instead of answering."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False
    raw: bytes | None = None


@dataclass(frozen=True)
class Call:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


Scripted = Reply | Callable[[Call], Reply | None]


@dataclass
class Tls:
    """A CA, a certificate of it for 127.0.0.1, and a CA that has nothing to do with it."""

    directory: Path
    ca: Path
    other_ca: Path
    certificate: Path
    fingerprint: str

    @classmethod
    def make(cls, directory: Path) -> Tls:
        ca_key, ca_certificate = _certificate("BMC CA", None, None)
        _other_key, other_certificate = _certificate("Other CA", None, None)
        key, certificate = _certificate("bmc", ca_key, ca_certificate)
        pem = serialization.Encoding.PEM
        paths = {name: directory / f"{name}.pem" for name in ("ca", "other", "bmc")}
        paths["ca"].write_bytes(ca_certificate.public_bytes(pem))
        paths["other"].write_bytes(other_certificate.public_bytes(pem))
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        paths["bmc"].write_bytes(certificate.public_bytes(pem) + private)
        der = certificate.public_bytes(serialization.Encoding.DER)
        return cls(directory, paths["ca"], paths["other"], paths["bmc"], hashlib.sha256(der).hexdigest())


def _certificate(
    name: str, ca_key: ec.EllipticCurvePrivateKey | None, ca: x509.Certificate | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
    )
    if ca is not None:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = builder.add_extension(names, critical=False)
    return key, builder.sign(ca_key or key, hashes.SHA256())


class FakeBmc:
    """The service. Options change how it behaves; `on()` scripts single answers."""

    def __init__(
        self,
        tls: Tls,
        tree: Json,
        *,
        expand: str = "absent",
        basic: bool = True,
        max_sessions: int = 4,
        any_case: bool = False,
        etags: bool = False,
        read_only: bool = False,
        address: str = "127.0.0.1",
    ) -> None:
        # A large tree that nothing changes need not be copied.
        self.tree: Json = {
            _key(uri, any_case): body for uri, body in (tree if read_only else copy.deepcopy(tree)).items()
        }
        self.expand = expand
        self.basic = basic
        self.max_sessions = max_sessions
        self.any_case = any_case
        self.etags = etags
        self.calls: list[Call] = []
        self.connections = 0
        self.sessions: dict[str, str] = {}
        self.opened = 0
        self.password_tries = 0
        self.problems: list[str] = []
        self.actions: dict[str, Callable[[Call], Reply]] = {}
        self.patches: dict[str, Callable[[Call], Reply]] = {}
        self._scripts: dict[tuple[str, str], list[Scripted]] = {}
        self._lock = threading.RLock()
        self._tls = tls
        self._server = _Server((address, 0), self, _context(tls))
        self.port = self._server.server_address[1]
        self.address = f"{address}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    # -- for tests

    @property
    def options(self) -> Json:
        """Options of the modules that reach this service."""
        return {"address": self.address, "username": USERNAME, "password": PASSWORD, "ca_path": str(self._tls.ca)}

    def on(self, method: str, path: str, *replies: Scripted) -> None:
        """The next requests of this kind get these answers, in this order. All of them have to be asked for."""
        self._scripts.setdefault((method, _key(path, self.any_case)), []).extend(replies)

    def sent(self, *methods: str) -> list[str]:
        """Requests that arrived, as "METHOD path"; all methods where none is named."""
        return [str(call) for call in self.calls if not methods or call.method in methods]

    def writes(self) -> list[str]:
        """Requests that change something, without those of sessions."""
        return [line for line in self.sent("POST", "PATCH", "PUT", "DELETE") if "/Sessions" not in line]

    def resource(self, uri: str) -> Json:
        found = self.tree[_key(uri, self.any_case)]
        assert isinstance(found, dict)
        return found

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def check(self) -> None:
        """Fails where the service was asked for something unforeseen, or not asked for what was scripted."""
        assert not self.problems, self.problems
        left = {" ".join(key): len(replies) for key, replies in self._scripts.items() if replies}
        assert not left, f"scripted but never asked for: {left}"

    # -- for the handler

    def answer(self, call: Call) -> Reply:
        with self._lock:
            self.calls.append(call)
            path = _key(urllib.parse.urlsplit(call.path).path, self.any_case)
            script = self._scripts.get((call.method, path))
            if script:
                step = script.pop(0)
                reply = step(call) if callable(step) else step
                if reply is not None:
                    return reply
            return self._plain(call, path)

    def _plain(self, call: Call, path: str) -> Reply:
        sessions = _key(self._sessions_uri(), self.any_case)
        if call.method == "POST" and sessions and path == sessions:
            return self._login(call)
        if path != "/redfish/v1" and not self._authenticated(call):
            return error(401, "Base.1.8.InsufficientPrivilege", "no valid credentials")
        if call.method == "GET":
            return self._get(call, path)
        if call.method == "DELETE" and path in {_key(uri, self.any_case) for uri in self.sessions.values()}:
            self.sessions = {t: uri for t, uri in self.sessions.items() if _key(uri, self.any_case) != path}
            return Reply(204)
        if call.method == "DELETE" and sessions and path.startswith(f"{sessions}/"):
            return error(404, "Base.1.8.ResourceMissingAtURI", f"there is no {path}")
        if call.method == "POST" and path in self.actions:
            return self.actions[path](call)
        if call.method == "PATCH" and path in self.patches:
            return self.patches[path](call)
        self.problems.append(f"unforeseen {call}")
        return error(405, "Base.1.8.ActionNotSupported", f"{call} is not foreseen")

    def _get(self, call: Call, path: str) -> Reply:
        body = self.tree.get(path)
        if body is None:
            return error(404, "Base.1.8.ResourceMissingAtURI", f"there is no {path}")
        query = urllib.parse.unquote(urllib.parse.urlsplit(call.path).query)
        if "$expand" in query:
            if self.expand == "error":
                return error(501, "Base.1.8.NotImplemented", "no query parameters here")
            body = self._expanded(copy.deepcopy(body), query)
        headers = {"ETag": self.etag(path)} if self.etags else {}
        return Reply(200, body, headers)

    def etag(self, path: str) -> str:
        body = json.dumps(self.tree[_key(path, self.any_case)], sort_keys=True)
        return f'"{hashlib.sha256(body.encode()).hexdigest()[:12]}"'

    def _expanded(self, body: Any, query: str) -> Any:
        """The body as this kind of BMC expands it: right, ignored, cut (members without Id and Name), short."""
        if self.expand in ("absent", "ignored"):
            return body
        found = re.search(r"\$expand=([.*~])(?:\(\$levels=(\d+)\))?", query)
        assert found, f"not an $expand: {query}"
        advertised = self.tree["/redfish/v1"]["ProtocolFeaturesSupported"]["ExpandQuery"]
        levels = int(found.group(2) or 1)
        assert levels <= advertised["MaxLevels"], f"{levels} levels are more than advertised"
        assert advertised[{".": "NoLinks", "*": "ExpandAll", "~": "Links"}[found.group(1)]], (
            f"{query} is not advertised"
        )
        body = self._fill(body, levels, found.group(1) == ".")
        if self.expand == "cut":
            for member in body.get("Members", []):
                member.pop("Name", None)
        if self.expand == "short" and body.get("Members"):
            body["Members"].pop()
        return body

    def _fill(self, value: Any, levels: int, no_links: bool) -> Any:
        if isinstance(value, list):
            return [self._fill(item, levels, no_links) for item in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"@odata.id"} and levels > 0:
            inner = self.tree.get(_key(value["@odata.id"].split("#")[0], self.any_case))
            return self._fill(copy.deepcopy(inner), levels - 1, no_links) if isinstance(inner, dict) else value
        skip = {"Links", "Actions", "Oem"} if no_links else {"Actions", "Oem"}
        return {name: item if name in skip else self._fill(item, levels, no_links) for name, item in value.items()}

    def _sessions_uri(self) -> str:
        root = self.tree.get("/redfish/v1", {})
        return str(root.get("Links", {}).get("Sessions", {}).get("@odata.id", ""))

    def _login(self, call: Call) -> Reply:
        self.password_tries += 1
        if call.body != {"UserName": USERNAME, "Password": PASSWORD}:
            return error(401, "Base.1.8.ResourceAtUriUnauthorized", "wrong user name or password")
        if len(self.sessions) >= self.max_sessions:
            return error(503, "IDRAC.2.8.RAC0218", "the maximum number of user sessions is reached")
        token = "canary-token-" + secrets.token_hex(8)
        self.opened += 1
        uri = f"{self._sessions_uri()}/{self.opened}"
        self.sessions[token] = uri
        return Reply(201, {"@odata.id": uri, "Id": str(self.opened)}, {"X-Auth-Token": token, "Location": uri})

    def _authenticated(self, call: Call) -> bool:
        token = call.headers.get("x-auth-token")
        if token is not None:
            return token in self.sessions
        given = call.headers.get("authorization", "")
        if not given.startswith("Basic "):
            return False
        self.password_tries += 1
        pair = base64.b64decode(given[6:]).decode()
        return self.basic and pair == f"{USERNAME}:{PASSWORD}"


def error(status: int, message_id: str, message: str, **extra: Any) -> Reply:
    """An error body as the standard shapes it."""
    item = {"MessageId": message_id, "Message": message, "Severity": "Critical", **extra}
    body = {"error": {"code": "Base.1.8.GeneralError", "message": "See ExtendedInfo", "@Message.ExtendedInfo": [item]}}
    return Reply(status, body)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], bmc: FakeBmc, context: ssl.SSLContext) -> None:
        self.bmc = bmc
        self.context = context
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    wbufsize = -1  # one packet an answer

    def setup(self) -> None:
        self.request.settimeout(30)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        with self.server.bmc._lock:
            self.server.bmc.connections += 1
            self.number = self.server.bmc.connections
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def log_message(self, *_args: Any) -> None:
        pass

    def _handle(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        data = self.rfile.read(length)
        body = json.loads(data) if data else None
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.bmc.answer(Call(self.command, self.path, headers, body, self.number))
        if reply.delay:
            time.sleep(reply.delay)
        if reply.drop:
            self.close_connection = True
            return
        data = reply.raw if reply.raw is not None else b""
        if reply.raw is None and reply.body is not None:
            data = json.dumps(reply.body).encode()
        if reply.headers.get("Content-Encoding") == "gzip":
            data = gzip.compress(data)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if reply.status != 204:
            self.wfile.write(data)
        self.wfile.flush()
        if reply.headers.get("Connection") == "close":
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _handle


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate)
    return context


def _key(uri: str, any_case: bool) -> str:
    uri = uri.rstrip("/")
    return uri.lower() if any_case and uri.lower() != "/redfish/v1" else uri


# -- a small server that behaves


SYSTEM = "/redfish/v1/Systems/1"
MANAGER = "/redfish/v1/Managers/1"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
RESETS = ["On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart"]
TARGETS = ["None", "Pxe", "Cd", "Hdd", "UefiHttp"]


def reference(uri: str) -> Json:
    return {"@odata.id": uri}


def resource(uri: str, kind: str, **properties: Any) -> Json:
    ident = uri.rsplit("/", 1)[-1]
    return {
        "@odata.id": uri,
        "@odata.type": f"#{kind}.v1_0_0.{kind}",
        "Id": ident,
        "Name": f"{kind} {ident}",
        **properties,
    }


def collection(uri: str, *members: str) -> Json:
    return {
        "@odata.id": uri,
        "@odata.type": "#Collection.Collection",
        "Name": uri.rsplit("/", 1)[-1],
        "Members": [reference(member) for member in members],
        "Members@odata.count": len(members),
    }


def media(uri: str, *kinds: str, actions: bool = True, **properties: Any) -> Json:
    own: Json = {"MediaTypes": list(kinds), "Image": None, "Inserted": False, **properties}
    if actions:
        names = ("InsertMedia", "EjectMedia")
        own["Actions"] = {f"#VirtualMedia.{name}": {"target": f"{uri}/Actions/VirtualMedia.{name}"} for name in names}
    return resource(uri, "VirtualMedia", **own)


def small_tree(media_under: str = MANAGER, media_actions: bool = True, expand: bool = False) -> Json:
    """A server with one system, one manager and two virtual drives."""
    drives = f"{media_under}/VirtualMedia"
    root = resource(
        "/redfish/v1",
        "ServiceRoot",
        RedfishVersion="1.11.0",
        Systems=reference("/redfish/v1/Systems"),
        Managers=reference("/redfish/v1/Managers"),
        SessionService=reference("/redfish/v1/SessionService"),
        Links={"Sessions": reference("/redfish/v1/SessionService/Sessions")},
    )
    if expand:
        query = {"NoLinks": True, "ExpandAll": True, "Links": True, "Levels": True, "MaxLevels": 1}
        root["ProtocolFeaturesSupported"] = {"ExpandQuery": query}
    system = resource(
        SYSTEM,
        "ComputerSystem",
        Manufacturer="Example",
        Model="M1",
        SerialNumber="SN1",
        UUID="4C4C4544-0034-3010-8052-B4C04F4A4D31",
        PowerState="Off",
        Status={"State": "Enabled", "Health": "OK"},
        Boot={
            "BootSourceOverrideEnabled": "Disabled",
            "BootSourceOverrideTarget": "None",
            "BootSourceOverrideTarget@Redfish.AllowableValues": list(TARGETS),
            "BootSourceOverrideMode": "UEFI",
        },
        Links={"ManagedBy": [reference(MANAGER)]},
        Actions={"#ComputerSystem.Reset": {"target": RESET, "ResetType@Redfish.AllowableValues": list(RESETS)}},
    )
    manager = resource(MANAGER, "Manager", FirmwareVersion="1.0")
    owner = system if media_under == SYSTEM else manager
    owner["VirtualMedia"] = reference(drives)
    floppy = media(f"{drives}/1", "Floppy", "USBStick", actions=media_actions)
    cd = media(f"{drives}/2", "CD", "DVD", actions=media_actions)
    bodies = [
        root,
        collection("/redfish/v1/Systems", SYSTEM),
        system,
        collection("/redfish/v1/Managers", MANAGER),
        manager,
        collection(drives, f"{drives}/1", f"{drives}/2"),
        floppy,
        cd,
    ]
    return {body["@odata.id"]: body for body in bodies}


def behave(bmc: FakeBmc) -> FakeBmc:
    """Give a service with the small tree the behaviour of its server: power, boot override, virtual media."""
    system = bmc.resource(SYSTEM)

    def reset(call: Call) -> Reply:
        kind = call.body["ResetType"]
        if kind not in RESETS:
            return error(400, "Base.1.8.ActionParameterNotSupported", f"no {kind}")
        system["PowerState"] = "Off" if kind in ("ForceOff", "GracefulShutdown") else "On"
        return Reply(204)

    def patch_system(call: Call) -> Reply:
        if bmc.etags and call.headers.get("if-match") != bmc.etag(SYSTEM):
            return error(412, "Base.1.8.PreconditionFailed", "the ETag does not match")
        boot = dict(call.body["Boot"])
        assert set(boot) <= {"BootSourceOverrideEnabled", "BootSourceOverrideTarget", "BootSourceOverrideMode"}
        system["Boot"].update(boot)
        return Reply(200, system)

    bmc.actions[RESET] = reset
    bmc.patches[SYSTEM] = patch_system
    for uri, body in list(bmc.tree.items()):
        if body.get("@odata.type", "").startswith("#VirtualMedia.v1"):
            for name, action in body.get("Actions", {}).items():
                bmc.actions[action["target"]] = _media_action(body, name.endswith("InsertMedia"))
            bmc.patches[uri] = _media_patch(body)
    return bmc


def _media_action(body: Json, insert: bool) -> Callable[[Call], Reply]:
    def act(call: Call) -> Reply:
        assert isinstance(call.body, dict), "actions need a JSON object"
        if insert and body["Inserted"]:
            return error(400, "Base.1.8.ResourceInUse", "an image is inserted already")
        body["Image"] = call.body["Image"] if insert else None
        body["Inserted"] = insert
        return Reply(204)

    return act


def _media_patch(body: Json) -> Callable[[Call], Reply]:
    def act(call: Call) -> Reply:
        body.update(call.body)
        return Reply(200, body)

    return act
