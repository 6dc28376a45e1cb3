#!/usr/bin/python
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deploy_server
short_description: Web server on the control host that servers and BMCs fetch images from
version_added: 0.1.0
description:
  - Runs C(nginx) as this user with a configuration of its own, beside any other web server of the host.
  - The directory C(root) is served to everybody who knows a name; nothing is listed. Media hold keys of the servers, so
    the directory C(media) is served only below a token, which is in no output.
  - A server that is running already with the same configuration is kept.
author:
  - The kiban.baremetal contributors (@kiban)
extends_documentation_fragment:
  - kiban.baremetal.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  path:
    description:
      - Directory for configuration, pid file and logs. The directories C(root) and C(media) below it are served.
    type: path
    required: true
  port:
    description: TCP port.
    type: int
    default: 8080
  media_token_path:
    description:
      - File with the token, as M(kiban.baremetal.site_keys) makes it. The file C(media/x) is served as C(/TOKEN/x).
        Without it C(media) is not served.
    type: path
  addresses:
    description: Addresses to listen on. Empty means all.
    type: list
    elements: str
    default: []
  state:
    description: Whether the server should run.
    type: str
    choices: [started, stopped]
    default: started
"""

EXAMPLES = r"""
- name: Serve images
  kiban.baremetal.deploy_server:
    path: ~/.cache/kiban/sites/lab/deploy
    addresses: [198.51.100.2, 192.0.2.2]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
pid:
  description: Process id of the running server, null when there is none.
  type: int
  returned: success
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.module_utils._files import write_whole

CONFIG = """\
{user}worker_processes 1;
pid {path}/nginx.pid;
error_log {path}/error.log warn;
events {{ worker_connections 512; }}
http {{
  access_log off;
  server_tokens off;
  sendfile on;
  tcp_nopush on;
  types {{ }}
  default_type application/octet-stream;
  client_body_temp_path {path}/tmp;
  proxy_temp_path {path}/tmp;
  fastcgi_temp_path {path}/tmp;
  uwsgi_temp_path {path}/tmp;
  scgi_temp_path {path}/tmp;
  server {{
{listen}
    root {path}/root;
    autoindex off;
{media}  }}
}}
"""


class DeployServerError(Exception):
    pass


class DeployServer:
    """One nginx master process, known by its pid file and its command line."""

    def __init__(self, path: str, port: int, addresses: list[str], token: str = "") -> None:
        self.path = path
        self.config_path = os.path.join(path, "nginx.conf")
        listen = "\n".join(f"    listen {address}:{port};" for address in addresses) or f"    listen {port};"
        user = "user root;\n" if os.geteuid() == 0 else ""
        media = f"    location ^~ /{token}/ {{ alias {path}/media/; }}\n" if token else ""
        self.config = CONFIG.format(path=path, listen=listen, user=user, media=media)

    def pid(self) -> int | None:
        """The pid of our own running server; never that of a process which took over the number."""
        try:
            with open(os.path.join(self.path, "nginx.pid"), encoding="ascii") as handle:
                pid = int(handle.read())
        except (OSError, ValueError):
            return None
        return pid if self.runs_as(pid) else None

    def runs_as(self, pid: int) -> bool:
        """Also says no for a process that ended and that nobody waited for: it has no command line left."""
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as handle:
                return self.config_path.encode() in handle.read()
        except OSError:
            return False

    def same_config(self) -> bool:
        try:
            with open(self.config_path, encoding="utf-8") as handle:
                return handle.read() == self.config
        except FileNotFoundError:
            return False

    def start(self) -> int:
        for directory in ("root", "media", "tmp"):
            os.makedirs(os.path.join(self.path, directory), exist_ok=True)
        write_whole(self.config_path, self.config)
        # Debian has it in sbin, which is not in everybody's PATH.
        nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if nginx is None:
            raise DeployServerError("nginx is missing. Install the Debian package nginx-light")
        done = subprocess.run(
            [nginx, "-p", self.path, "-e", f"{self.path}/error.log", "-c", self.config_path],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DeployServerError(f"nginx did not start: {done.stderr.strip()}")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            pid = self.pid()
            if pid:
                return pid
            time.sleep(0.05)
        raise DeployServerError(f"nginx wrote no pid file within 10 s; see {self.path}/error.log")

    def stop(self, pid: int) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if not self.runs_as(pid):
                # It holds the token.
                os.unlink(self.config_path)
                return
            # Again and again: one that comes between nginx's pid file and its first wait for signals is acted upon
            # with the next only.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            time.sleep(0.1)
        raise DeployServerError(f"nginx (pid {pid}) did not end within 10 s of SIGTERM")


def read_token(path: str | None) -> str:
    if not path:
        return ""
    with open(path, encoding="ascii") as handle:
        token = handle.read().strip()
    if not token.isalnum():
        raise DeployServerError(f"{path} holds no token of letters and digits")
    return token


def ensure(server: DeployServer, state: str, check_mode: bool) -> tuple[bool, int | None]:
    pid = server.pid()
    keep = pid is not None and state == "started" and server.same_config()
    if keep or (pid is None and state == "stopped"):
        return False, pid
    if check_mode:
        return True, pid
    if pid is not None:
        server.stop(pid)
    return True, server.start() if state == "started" else None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "port": {"type": "int", "default": 8080},
            "media_token_path": {"type": "path", "no_log": False},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        token = read_token(params["media_token_path"])
        server = DeployServer(os.path.abspath(params["path"]), params["port"], params["addresses"], token)
        changed, pid = ensure(server, params["state"], module.check_mode)
    except (OSError, DeployServerError) as exc:
        module.fail_json(msg=f"web server for images in {params['path']}: {exc}")
    else:
        module.exit_json(changed=changed, pid=pid)


if __name__ == "__main__":
    main()
