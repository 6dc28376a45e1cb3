#!/usr/bin/env python3
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor: the same rack, the same image, the same kubeadm, and nothing else.

What a careful person would type into a shell, without checks, idempotence, limits or a drop of Ansible: curl to the
BMC, ssh, curl | zstd | dd, kubeadm. Runs in the control namespace; prints one JSON object: `seconds` until all nodes
are Ready, and `serving_seconds` until kube-proxy, cluster DNS and the storage driver run too, as a site run
waits for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers import cluster_dns, sds_local
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.kubeadm import (
    init_config,
    join_config,
    join_patches,
    patches,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.render import node_files

TOKEN = "abcdef.0123456789abcdef"
FETCH = "import shutil as s,sys,urllib.request as u; s.copyfileobj(u.urlopen(sys.argv[1]), sys.stdout.buffer, 1<<20)"


def tar(files: dict[str, str]) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size = len(content.encode())
            info.mode = 0o600 if ".ssh" in path else 0o644
            archive.addfile(info, BytesIO(content.encode()))
    return buffer.getvalue()


class Rack:
    def __init__(self, site_file: Path, work: Path, servers: list[str]) -> None:
        self.site = load_site(yaml.safe_load(site_file.read_text()))
        self.work, self.dir = work, work / "sites" / self.site.name
        self.servers = [self.site.server(name) for name in servers]
        self.image = json.loads((work / "image/manifest.json").read_text())
        self.bundle = json.loads((work / "bundle/manifest.json").read_text())
        self.password = (work / "lab/bmc_password").read_text().strip()
        self.key = (self.dir / "ssh/id_ed25519.pub").read_text().strip()
        (self.dir / "floor_known_hosts").unlink(missing_ok=True)
        self.began = time.monotonic()
        self.timeline: dict[str, dict[str, float]] = {name: {} for name in servers}

    def stamp(self, name: str, stage: str) -> None:
        self.timeline[name][stage] = round(time.monotonic() - self.began, 1)
        print(f"floor {self.timeline[name][stage]:7.1f} {name} {stage}", file=sys.stderr)

    def bmc(self, server, method: str, path: str, body: dict) -> None:
        subprocess.run(
            ["curl", "-sSf", "--cacert", str(self.work / "lab/ca.pem"), "-K", "-", "-X", method]
            + ["-H", "Content-Type: application/json", "-d", json.dumps(body), f"https://{server.bmc.address}{path}"],
            input=f'user = "kiban:{self.password}"\n', text=True, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def system(self, server) -> str:
        answer = subprocess.run(
            ["curl", "-sSf", "--cacert", str(self.work / "lab/ca.pem"), "-K", "-"]
            + [f"https://{server.bmc.address}/redfish/v1/Systems"],
            input=f'user = "kiban:{self.password}"\n', text=True, check=True, capture_output=True,
        )  # fmt: skip
        return json.loads(answer.stdout)["Members"][0]["@odata.id"]

    def ssh(self, server, script: str, check: bool = False, **options) -> subprocess.CompletedProcess:
        command = ["ssh", "-F", "none", "-i", str(self.dir / "ssh/id_ed25519"), "-o", "ConnectTimeout=2"]
        # Ramdisk and system have a key each, which a careful person would have compared with the console's.
        alias = f"{server.name}-{'system' if 'written' in self.timeline[server.name] else 'ramdisk'}"
        command += ["-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={self.dir}/floor_known_hosts"]
        command += ["-o", f"HostKeyAlias={alias}", "-o", "LogLevel=ERROR"]
        command += [f"root@{server.addresses['node']}", script]
        return subprocess.run(command, check=check, capture_output=True, **options)

    def wait(self, server, test: str) -> None:
        for _ in range(900):
            if self.ssh(server, test).returncode == 0:
                return
            time.sleep(0.5)
        raise SystemExit(f"{server.name} never came to: {test}")

    def seed(self, server) -> bytes:
        """The files that make the image this server, as one tar stream."""
        return tar(node_files(self.site, server, self.key))

    def install(self, server) -> None:
        system = self.system(server)
        media = f"http://{self.site.deploy.bmc_address}:{self.site.deploy.port}/floor/{server.name}.iso"
        image = f"http://{self.site.deploy.address}:{self.site.deploy.port}/{self.image['node']['file']}"
        slot = f"{system}/VirtualMedia/Cd/Actions/VirtualMedia"
        self.bmc(server, "POST", f"{slot}.InsertMedia", {"Image": media})
        self.bmc(
            server, "PATCH", system, {"Boot": {"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"}}
        )
        self.bmc(server, "POST", f"{system}/Actions/ComputerSystem.Reset", {"ResetType": "On"})
        self.wait(server, "test -e /etc/kiban/ramdisk")
        self.stamp(server.name, "ramdisk")
        fetch = f"curl -sSf {image}" if self.has_curl(server) else f'python3 -c "{FETCH}" {image}'
        write = "dd of=/dev/vda bs=1M iflag=fullblock oflag=direct conv=sparse status=none"
        done = self.ssh(server, f"{fetch} | zstd -dc | {write}")
        if done.returncode:
            raise SystemExit(f"{server.name}: {done.stderr.decode()}")
        done = self.ssh(
            server,
            "set -e; sgdisk -e /dev/vda >/dev/null; sfdisk -q --no-reread -N 2 /dev/vda <<<', +' || true; "
            "blockdev --rereadpt /dev/vda; mkdir -p /m; mount /dev/vda2 /m; tar -C /m -xf -; "
            "ssh-keygen -q -t ed25519 -N '' -f /m/etc/ssh/ssh_host_ed25519_key; umount /m; sync",
            input=self.seed(server),
        )
        if done.returncode:
            raise SystemExit(f"{server.name}: {done.stderr.decode()}")
        self.stamp(server.name, "written")
        self.bmc(server, "POST", f"{slot}.EjectMedia", {})
        self.bmc(
            server, "PATCH", system, {"Boot": {"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Once"}}
        )
        self.bmc(server, "POST", f"{system}/Actions/ComputerSystem.Reset", {"ResetType": "ForceRestart"})
        self.wait(server, "test ! -e /etc/kiban/ramdisk")
        self.stamp(server.name, "booted")

    def has_curl(self, server) -> bool:
        return self.ssh(server, "command -v curl").returncode == 0

    def init(self, server) -> None:
        tags = {e["name"]: e["reference"].rsplit(":", 1)[1] for e in self.bundle["artifacts"] if e["kind"] == "image"}
        config = init_config(self.site, server, {name: tags[name] for name in ("etcd", "coredns")})
        files = {"root/init.yaml": config}
        files |= {f"etc/kubernetes/kiban/patches/{name}": text for name, text in patches(self.site).items()}
        done = self.ssh(server, "tar -C / -xf -; kubeadm init --config /root/init.yaml", input=tar(files))
        if done.returncode:
            raise SystemExit(done.stderr.decode()[-2000:] + done.stdout.decode()[-2000:])
        self.stamp(server.name, "initialised")
        script = f"kubeadm token create {TOKEN} >/dev/null; cat /etc/kubernetes/admin.conf"
        admin = self.ssh(server, script, check=True).stdout
        (self.dir / "floor.conf").write_bytes(admin)

    def join(self, server) -> None:
        cluster = yaml.safe_load((self.dir / "floor.conf").read_text())["clusters"][0]
        discovery = {"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": cluster["cluster"]}]}
        kiban = "etc/kubernetes/kiban"
        files = {f"{kiban}/discovery.yaml": json.dumps(discovery)}
        files |= {"root/join.yaml": join_config(self.site, server, TOKEN)}
        files |= {f"{kiban}/patches/{name}": text for name, text in join_patches(self.site).items()}
        done = self.ssh(server, "tar -C / -xf -; kubeadm join --config /root/join.yaml", input=tar(files))
        if done.returncode:
            raise SystemExit(done.stderr.decode()[-2000:] + done.stdout.decode()[-2000:])
        self.stamp(server.name, "joined")

    def kubectl(self) -> list[str]:
        return [str(self.work / "bundle/bin/kubectl"), "--kubeconfig", str(self.dir / "floor.conf")]

    def services(self) -> None:
        """Cluster DNS and the storage driver, beside the joins."""
        references = {e["name"]: e["reference"] for e in self.bundle["artifacts"] if e["kind"] == "image"}
        images = sds_local.Images(references["local-path-provisioner"], references["agnhost"])
        objects = cluster_dns.manifests(self.site, references["coredns"])
        objects += sds_local.manifests({}, images, self.site.cluster.endpoint)
        subprocess.run(
            [*self.kubectl(), "apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-"],
            input=yaml.safe_dump_all(objects), text=True, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def serving(self) -> None:
        for namespace, name in (
            ("kube-system", "daemonset/kube-proxy"),
            ("kube-system", "deployment/coredns"),
            ("kiban-storage", "deployment/local-path-provisioner"),
        ):
            command = [*self.kubectl(), "rollout", "status", "--timeout=600s", "-n", namespace, name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def ready(self) -> None:
        command = [*self.kubectl(), "get", "nodes", "-o", "json"]
        missing = {server.name for server in self.servers}
        while missing:
            out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            for node in json.loads(out)["items"] if out else []:
                good = any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
                if good and node["metadata"]["name"] in missing:
                    missing.discard(node["metadata"]["name"])
                    self.stamp(node["metadata"]["name"], "ready")
            time.sleep(1)

    def each(self, work, servers) -> None:
        with ThreadPoolExecutor(max(1, len(servers))) as pool:
            # A part that fails ends the run with its reason; nobody waits for a node that can't come.
            for _done in pool.map(work, servers):
                pass

    def run(self) -> dict[str, float]:
        self.each(self.install, self.servers)
        self.each(self.init, [s for s in self.servers if "control_plane" in s.roles])
        services = threading.Thread(target=self.services)
        services.start()
        self.each(self.join, [s for s in self.servers if "control_plane" not in s.roles])
        self.ready()
        ready = time.monotonic() - self.began
        services.join()
        self.serving()
        return {"seconds": round(ready, 1), "serving_seconds": round(time.monotonic() - self.began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("site_file", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("servers", nargs="+")
    arguments = parser.parse_args()
    rack = Rack(arguments.site_file, arguments.work, arguments.servers)
    print(json.dumps({**rack.run(), "timeline": rack.timeline}))


if __name__ == "__main__":
    main()
