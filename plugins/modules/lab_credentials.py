#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_credentials
short_description: Certificates and password of the virtual BMCs
version_added: 0.1.0
description:
  - Keeps a certificate authority, one TLS certificate with an IP address for each BMC, and a random password with the
    C(htpasswd) file that BMCs check it with.
  - What is there and still good is kept. Nothing secret is returned.
options:
  directory:
    description: Directory of C(ca.pem), C(ca.key), C(bmc_password), C(htpasswd) and C(tls/<name>.pem).
    type: path
    required: true
  username:
    description: User that the BMCs know.
    type: str
    required: true
  python:
    description: Python interpreter that has the C(bcrypt) library.
    type: path
    required: true
  bmcs:
    description: BMCs that need a certificate.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the server.
        type: str
        required: true
      address:
        description: Address of its BMC.
        type: str
        required: true
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - The kiban.baremetal contributors (@kiban)
"""

EXAMPLES = r"""
- name: Certificate and password for one BMC
  kiban.baremetal.lab_credentials:
    directory: /var/tmp/rack
    username: kiban
    python: /var/tmp/rack/venv/bin/python
    bmcs:
      - {name: cp1, address: 192.0.2.11}
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one sentence each.
  returned: always
  type: list
  elements: str
  sample: ["make a certificate for cp1 (192.0.2.11)"]
"""

import os
import secrets
import tempfile

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._files import write_whole
from ansible_collections.kiban.baremetal.plugins.module_utils._lab import LabError, read_text, run

DAYS = "3650"
# The lowest cost that bcrypt allows: a BMC checks the password in each request, and the password is random.
HASH = "import bcrypt,sys; print(bcrypt.hashpw(sys.stdin.buffer.read(), bcrypt.gensalt(4)).decode())"
CHECK = "import bcrypt,sys; p, h = sys.stdin.buffer.read().split(b'\\n'); print(bcrypt.checkpw(p, h))"


class Credentials:
    def __init__(self, directory: str, username: str, python: str, check: bool) -> None:
        self.directory, self.username, self.python, self.check = directory, username, python, check
        self.actions: list[str] = []

    def path(self, *parts: str) -> str:
        return os.path.join(self.directory, *parts)

    def _todo(self, action: str) -> bool:
        self.actions.append(action)
        return not self.check

    def authority(self) -> None:
        key, certificate = self.path("ca.key"), self.path("ca.pem")
        if os.path.exists(key) and os.path.exists(certificate):
            return
        if self._todo("make a certificate authority"):
            os.makedirs(self.path("tls"), mode=0o700, exist_ok=True)
            write_whole(key, run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"]))
            config = (
                "[req]\ndistinguished_name=dn\nx509_extensions=ca\nprompt=no\n[dn]\nCN=kiban lab BMC CA\n"
                "[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
                "subjectKeyIdentifier=hash\n"
            )
            argv = ["openssl", "req", "-x509", "-new", "-key", key, "-days", DAYS, "-config", "/dev/stdin"]
            write_whole(certificate, run(argv, stdin=config), mode=0o644)

    def certificate(self, name: str, address: str) -> None:
        key, certificate = self.path("tls", f"{name}.key"), self.path("tls", f"{name}.pem")
        if self._good(key, certificate, address):
            return
        if not self._todo(f"make a certificate for {name} ({address})"):
            return
        os.makedirs(self.path("tls"), mode=0o700, exist_ok=True)
        write_whole(key, run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"]))
        request = run(["openssl", "req", "-new", "-key", key, "-subj", f"/CN={name}.bmc"])
        extensions = (
            f"subjectAltName=IP:{address}\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n"
            "keyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
        )
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            extfile = os.path.join(scratch, "extensions")
            write_whole(extfile, extensions)
            argv = ["openssl", "x509", "-req", "-days", DAYS, "-extfile", extfile, "-set_serial"]
            argv += [str(secrets.randbits(120)), "-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key")]
            write_whole(certificate, run(argv, stdin=request), mode=0o644)

    def _good(self, key: str, certificate: str, address: str) -> bool:
        if not (os.path.exists(key) and os.path.exists(certificate) and os.path.exists(self.path("ca.pem"))):
            return False
        argv = ["openssl", "verify", "-CAfile", self.path("ca.pem"), "-purpose", "sslserver"]
        try:
            run([*argv, "-verify_ip", address, "-attime", str(_in_a_month()), certificate])
            public = run(["openssl", "x509", "-in", certificate, "-noout", "-pubkey"])
            return public == run(["openssl", "pkey", "-in", key, "-pubout"])
        except LabError:
            return False

    def password(self) -> None:
        secret = (read_text(self.path("bmc_password")) or "").strip()
        if not secret:
            secret = secrets.token_urlsafe(24)
            if self._todo("make a password"):
                write_whole(self.path("bmc_password"), secret + "\n")
        user, _colon, digest = (read_text(self.path("htpasswd")) or "").strip().partition(":")
        known = user == self.username and digest.startswith("$2")
        if known and run([self.python, "-c", CHECK], stdin=f"{secret}\n{digest}").strip() == "True":
            return
        if self._todo(f"make the password file for {self.username}"):
            digest = run([self.python, "-c", HASH], stdin=secret).strip()
            write_whole(self.path("htpasswd"), f"{self.username}:{digest}\n")


def _in_a_month() -> int:
    import time

    return int(time.time()) + 30 * 86400


def main() -> None:
    bmc = {"name": {"type": "str", "required": True}, "address": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "username": {"type": "str", "required": True},
            "python": {"type": "path", "required": True},
            "bmcs": {"type": "list", "elements": "dict", "required": True, "options": bmc},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = Credentials(params["directory"], params["username"], params["python"], module.check_mode)
    try:
        wanted.authority()
        for item in params["bmcs"]:
            wanted.certificate(item["name"], item["address"])
        wanted.password()
    except LabError as problem:
        module.fail_json(msg=str(problem), actions=wanted.actions)
    module.exit_json(
        changed=bool(wanted.actions),
        actions=wanted.actions,
        diff={"before": "", "after": "".join(f"{action}\n" for action in wanted.actions)},
    )


if __name__ == "__main__":
    main()
